//! What became of a command: open here, ended in the audit, or cut off by a crash and unknown.

use std::time::Duration;

use hexa_model::audit::RelayStates;
use hexa_model::{Action, Actor, CommandId, CommandResult, DeviceUid, ErrorCode, Outcome, ResultData};
use hexa_store::{CommandRow, StoreError};
use serde_json::Value;

use crate::Devices;
use crate::command::answer;
use hexa_platform::error::{Error, Result};
use hexa_platform::principal::Principal;

/// How a command ended, as its entry point answered or would have: read from its audit row, so that it is the same
/// whenever it is asked for. Without a row the server was cut off while it was open, and how it ended is unknown.
///
/// # Errors
/// When the store cannot be read; how the command ended is the inner result.
pub async fn outcome(services: &Devices, id: CommandId) -> Result<Result<CommandResult>> {
    let row = match row(services, id).await? {
        Some(Known::Stored(row)) => row,
        // A success is said once it is on the disk, and not before.
        Some(Known::Waiting(row)) if matches!(row.outcome, Outcome::Executed | Outcome::Noop) => {
            let unstored = answer::not_stored(row.outcome, StoreError::unavailable("not stored yet"));
            return Ok(Err(unstored.of_command(id)));
        }
        Some(Known::Waiting(row)) => row,
        None => return Ok(Err(answer::cut_off().of_command(id))),
    };
    let details: Value = row.details.as_deref().and_then(|d| serde_json::from_str(d).ok()).unwrap_or_default();
    let ended = match row.outcome {
        Outcome::Executed | Outcome::Noop => Ok(CommandResult {
            command: id,
            outcome: row.outcome,
            data: data_of(services, &row).await?,
            latency: Duration::from_millis(u64::from(row.latency_ms.unwrap_or(0))),
            row_latency: None,
        }),
        Outcome::Timeout => Err(answer::timed_out(is_about_relays(&row), details["sent"] != false)),
        Outcome::Offline => Err(answer::offline()),
        Outcome::Mismatch => Err(answer::mismatch(&row.changes)),
        Outcome::Rejected => {
            let reason = details["reason"].as_str().unwrap_or_default();
            Err(answer::rejected(reason, details["detail"].as_str()))
        }
        _ => Err(answer::other(&details)),
    };
    Ok(ended.map_err(|error: Error| error.of_command(id)))
}

/// Whether the command asked for relay states: then its row says which.
fn is_about_relays(row: &CommandRow) -> bool {
    row.state.is_some()
}

/// What is known of a command that has ended.
enum Known {
    Stored(CommandRow),
    /// The database has not taken its row yet.
    Waiting(CommandRow),
}

/// The row of a command. What waits is looked at first: a row goes from there to the database and never back.
async fn row(services: &Devices, id: CommandId) -> Result<Option<Known>> {
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
async fn data_of(services: &Devices, row: &CommandRow) -> Result<ResultData> {
    if !is_about_relays(row) {
        return Ok(ResultData::None);
    }
    if row.outcome == Outcome::Executed && !row.changes.is_empty() {
        return Ok(ResultData::Relays(row.changes.clone()));
    }
    let Some(device) = row.device else { return Ok(ResultData::Relays(RelayStates::new())) };
    let mut states = services.store.relay_states(device).await?;
    states.retain(|s| row.relay.is_none_or(|r| r == s.index));
    Ok(ResultData::Relays(states))
}

/// A command as its owner may see it.
#[derive(Debug)]
pub enum CommandView {
    /// Neither acknowledged nor timed out yet.
    Open {
        /// The device that is to act.
        device: DeviceUid,
        /// What is asked of it.
        action: Action,
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
pub async fn find(services: &Devices, by: &Principal, id: CommandId) -> Result<CommandView> {
    let none = || Error::new(ErrorCode::NotFound, "there is no such command, or it is not yours");
    let open = services.open.get(id).await;
    let Some(Known::Stored(row) | Known::Waiting(row)) = row(services, id).await? else {
        return match open {
            Some(open) => match services.registry.find(&open.device).await? {
                Some(live) if services.sight(by.actor(), &live).is_ok() => {
                    Ok(CommandView::Open { device: open.device, action: open.action })
                }
                _ => Err(none()),
            },
            None => Err(none()),
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
