//! What became of a command: open here, ended in the audit, or cut off by a crash and unknown.

use std::time::Duration;

use hexa_model::audit::RelayStates;
use hexa_model::{Actor, CommandId, DeviceUid, ErrorCode, Outcome, RelayAction};
use hexa_store::{CommandRow, StoreError};
use serde_json::Value;

use crate::Services;
use crate::auth::principal::Principal;
use crate::error::{Error, Result};
use crate::relay::ending::{self, relays_json};
use crate::relay::path::Done;

/// How a command ended, as its door answered or would have: read from its audit row, so that it is the same whenever it
/// is asked for. Without a row the server was cut off while it was open, and nobody knows.
///
/// # Errors
/// When the store cannot be read; how the command ended is the inner result.
pub async fn outcome(services: &Services, id: CommandId) -> Result<Result<Done>> {
    let with_id = |error: Error| error.detail("command_id", id.to_string());
    let of = |code: ErrorCode, what: String| Err(with_id(Error::new(code, what)));
    let row = match row(services, id).await? {
        Some(Known::Stored(row)) => row,
        // A success is said once it is on the disk, and not before.
        Some(Known::Waiting(row)) if matches!(row.outcome, Outcome::Executed | Outcome::Noop) => {
            return Ok(Err(with_id(ending::not_stored(row.outcome, StoreError::unavailable("not stored yet")))));
        }
        Some(Known::Waiting(row)) => row,
        None => {
            let what = "the server stopped while the command was open: whether the relay moved is unknown until the device reports";
            return Ok(of(ErrorCode::DeviceTimeout, what.to_owned()));
        }
    };
    let details: Value = row.details.as_deref().and_then(|d| serde_json::from_str(d).ok()).unwrap_or_default();
    let reason = details["reason"].as_str().unwrap_or_default();
    Ok(match row.outcome {
        Outcome::Executed | Outcome::Noop => Ok(Done {
            command: id,
            outcome: row.outcome,
            relays: relays_of(services, &row).await?,
            latency: Duration::from_millis(u64::from(row.latency_ms.unwrap_or(0))),
            row_latency: None,
        }),
        Outcome::Timeout => Err(with_id(ending::timed_out(details["sent"] != false))),
        Outcome::Offline => of(ErrorCode::DeviceOffline, "the device is not connected; nothing was sent".into()),
        Outcome::Mismatch => {
            let what = "the device acknowledged another state than asked for; the reported one is stored";
            of(ErrorCode::DeviceStateMismatch, what.into())
                .map_err(|e: Error| e.detail("relays", relays_json(&row.changes)))
        }
        Outcome::Rejected => {
            let words = details["detail"].as_str().map_or_else(String::new, |d| format!(" ({d})"));
            of(ErrorCode::DeviceRejected, format!("the device refused: {reason}{words}"))
                .map_err(|e: Error| e.detail("reason", reason).detail("detail", details["detail"].clone()))
        }
        _ => {
            let code = ErrorCode::ALL.iter().find(|c| c.name() == reason).copied().unwrap_or(ErrorCode::InternalError);
            of(code, code.meaning().to_owned()).map_err(|e| match details["sent"].as_bool() {
                Some(sent) => e.detail("sent", sent),
                None => e,
            })
        }
    })
}

/// What is known of a command that has ended.
enum Known {
    Stored(CommandRow),
    /// The database has not taken its row yet.
    Waiting(CommandRow),
}

/// The row of a command. What waits is looked at first: a row goes from there to the database and never back.
async fn row(services: &Services, id: CommandId) -> Result<Option<Known>> {
    let (primary, follow_up) = services.audit.waiting.of(id);
    let stored = match services.store.command_result(id).await {
        // What waits is known without the database.
        Err(_) if primary.is_some() => None,
        read => read?,
    };
    if let Some(mut row) = stored {
        if row.follow_up.is_none() {
            row.follow_up = follow_up.map(|entry| (entry.outcome, entry.at, RelayStates::new()));
        }
        return Ok(Some(Known::Stored(row)));
    }
    Ok(primary.map(|entry| {
        Known::Waiting(CommandRow {
            command: id,
            device: entry.device,
            at: entry.at,
            actor_id: match entry.actor {
                Actor::User { key, .. } => Some(key),
                Actor::Device | Actor::System => None,
            },
            source: entry.source,
            action: entry.action.to_owned(),
            outcome: entry.outcome,
            latency_ms: entry.latency_ms,
            changes: RelayStates::new(),
            relay: entry.relay,
            state: entry.state,
            details: entry.details,
            follow_up: follow_up.map(|entry| (entry.outcome, entry.at, RelayStates::new())),
        })
    }))
}

/// What the command stored; for one that changed nothing, the relays it was about as they are known.
async fn relays_of(services: &Services, row: &CommandRow) -> Result<RelayStates> {
    if row.outcome == Outcome::Executed && !row.changes.is_empty() {
        return Ok(row.changes.clone());
    }
    let Some(device) = row.device else { return Ok(RelayStates::new()) };
    let mut states = services.store.relay_states(device).await?;
    states.retain(|s| row.relay.is_none_or(|r| r == s.index));
    Ok(states)
}

/// A command as its owner may see it.
#[derive(Debug)]
pub enum CommandView {
    /// Neither acknowledged nor timed out yet.
    Open {
        /// Where.
        device: DeviceUid,
        /// What.
        action: RelayAction,
    },
    /// It has its audit row, or has it as soon as the database takes it.
    Ended {
        /// Where; none when the device was deleted.
        device: Option<DeviceUid>,
        /// Its row, with the follow-up.
        row: Box<CommandRow>,
    },
}

/// Finds a command that the principal gave, or that went to a device the principal may see.
///
/// # Errors
/// `not_found`: unknown, foreign, or cut off by a crash before it ended.
pub async fn find(services: &Services, by: &Principal, id: CommandId) -> Result<CommandView> {
    let none = || Error::new(ErrorCode::NotFound, "there is no such command, or it is not yours");
    let open = services.open_command(id);
    let Some(Known::Stored(row) | Known::Waiting(row)) = row(services, id).await? else {
        return match open {
            Some((live, action)) if services.sight(by.actor(), &live).is_ok() => {
                Ok(CommandView::Open { device: live.uid.clone(), action })
            }
            _ => Err(none()),
        };
    };
    let device = match row.device {
        Some(key) => services.store.device_by_key(key).await?,
        None => None,
    };
    let own = row.actor_id == Some(by.account.key);
    let owner = device.as_ref().is_some_and(|d| d.owner == Some(by.account.key));
    if !(own || owner || by.is_admin()) {
        return Err(none());
    }
    Ok(CommandView::Ended { device: device.map(|d| d.uid), row: Box::new(row) })
}
