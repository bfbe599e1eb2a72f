//! Reading the audit: what became of a command, pages for admins, and whether the chain holds. Reads look in the tail
//! and in the table.

mod checkpoint;
mod list;
mod reader;
mod verify;

use hexa_model::audit::RelayStates;
use hexa_model::{CommandId, DeviceKey, Outcome, RelayState, Source, TimeMs, UserKey};

use crate::Store;
use crate::chain::ChainedRow;
use crate::db::{Row, plan_column, query};
use crate::error::StoreError;

pub use list::{ActionFilter, AuditFilter, AuditPlace, ListedRow};
pub use reader::AuditReader;
pub use verify::{AuditCheck, AuditHead, ChainCheck, Wrong};

/// What the audit says of one command.
#[derive(Clone, Debug)]
pub struct CommandRow {
    /// Id of the command, unique over all devices.
    pub command: CommandId,
    /// Key of the device that was asked; its row may be gone.
    pub device: Option<DeviceKey>,
    /// When it ended, by the wall clock of the server that wrote the row.
    pub at: TimeMs,
    /// Key of the account that asked; none when no account did.
    pub actor_id: Option<UserKey>,
    /// Where the command came from, such as the REST API.
    pub source: Source,
    /// Name of the action: `set_relay`, `set_all_relays`, `identify` or `custom_command`.
    pub action: String,
    /// How the command ended, without its follow-up.
    pub outcome: Outcome,
    /// Milliseconds from acceptance to the end.
    pub latency_ms: Option<u32>,
    /// The states that it stored.
    pub changes: RelayStates,
    /// The relay asked for; none = all.
    pub relay: Option<u16>,
    /// The state asked for.
    pub state: Option<bool>,
    /// Further facts as a JSON object; none when there are none.
    pub details: Option<String>,
    /// What came after the end: outcome, time, states.
    pub follow_up: Option<(Outcome, TimeMs, RelayStates)>,
}

/// One row as it is shown.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// Place in the chain.
    pub seq: i64,
    /// When it ended, by the wall clock of the server that wrote the row.
    pub at: TimeMs,
    /// Who did it: `user`, `device` or `system`.
    pub actor_kind: String,
    /// Key of the account that did it; none when no account did.
    pub actor_id: Option<UserKey>,
    /// Where it came from: a name of `Source`, such as `api`.
    pub source: String,
    /// What was done, such as `set_relay` or `device.claimed`.
    pub action: String,
    /// Key of the device that it is about; none when it is about none.
    pub device: Option<DeviceKey>,
    /// Id of the command that it is about; none when it is about none.
    pub command: Option<CommandId>,
    /// Whether it follows up a command.
    pub follow_up: bool,
    /// How it ended: a name of `Outcome`, such as `executed`.
    pub outcome: String,
    /// The states that it stored.
    pub changes: RelayStates,
    /// Further facts as a JSON object; none when there are none.
    pub details: Option<String>,
}

const BOTH: &str = "(select * from audit_tail union all select * from audit) as both_parts";

fn command_id(row: &Row) -> Result<Option<[u8; 16]>, StoreError> {
    let bytes: Option<Vec<u8>> = row.get("command_id")?;
    let fixed = bytes.map(<[u8; 16]>::try_from).transpose();
    fixed.map_err(|_| StoreError::Corrupt("audit.command_id has not 16 bytes".into()))
}

fn changes(row: &Row) -> Result<RelayStates, StoreError> {
    let (at, text): (i64, Option<String>) = (row.get("at")?, row.get("changes")?);
    let Some(text) = text else { return Ok(RelayStates::new()) };
    let list: Vec<(u16, u8, u64)> =
        serde_json::from_str(&text).map_err(|e| StoreError::Corrupt(format!("audit.changes: {e}")))?;
    let state = |(index, on, version)| RelayState { index, on: on == 1, version, updated_at: TimeMs(at) };
    Ok(list.into_iter().map(state).collect())
}

fn outcome(row: &Row) -> Result<Outcome, StoreError> {
    let text: String = row.get("outcome")?;
    Outcome::parse(&text).ok_or_else(|| StoreError::Corrupt(format!("audit.outcome {text:?}")))
}

/// The last row of each table.
const NEWEST_AUDIT: [&str; 2] = [
    "select seq, at from audit_tail where chain = $1 order by seq desc limit 1",
    "select seq, at from audit where chain = $1 order by seq desc limit 1",
];

impl Store {
    /// The time of this node's last row, which need not be the latest that any row has: the clock may have been ahead. None
    /// when there is no row.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn newest_audit(&self, node: &str) -> Result<Option<TimeMs>, StoreError> {
        let mut newest = None;
        // Each by its index: of both together the database would sort every row.
        for sql in NEWEST_AUDIT {
            if let Some(row) = query(sql).bind(node.to_owned()).fetch_optional(self.reader()).await? {
                newest = newest.max(Some((row.get::<i64>("seq")?, row.get::<i64>("at")?)));
            }
        }
        Ok(newest.map(|(_, at)| TimeMs(at)))
    }

    /// Whether PostgreSQL or SQLite finds the last rows of [`Store::newest_audit`] without looking at others: their plans.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn newest_audit_plans(&self, node: &str) -> Result<Vec<String>, StoreError> {
        let mut plans = Vec::new();
        for sql in NEWEST_AUDIT {
            let sqlite = self.reader().is_sqlite();
            let rows = query(sql).bind(node.to_owned()).explained(sqlite).fetch_all(self.reader()).await?;
            let lines = rows.iter().map(|row| row.get::<String>(plan_column(sqlite)));
            plans.push(lines.collect::<Result<Vec<_>, _>>()?.join("\n"));
        }
        Ok(plans)
    }

    /// What became of a command; none when it never ended here.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn command_result(&self, id: CommandId) -> Result<Option<CommandRow>, StoreError> {
        let sql = "select * from audit_tail where command_id = $1 union all select * from audit where command_id = $1 \
             order by follow_up";
        let rows = query(sql).bind(id.0.as_bytes().to_vec()).fetch_all(self.reader()).await?;
        let Some(primary) = rows.first() else { return Ok(None) };
        if primary.get::<bool>("follow_up")? {
            return Ok(None);
        }
        let source: String = primary.get("source")?;
        let follow_up = match rows.get(1) {
            None => None,
            Some(row) => Some((outcome(row)?, TimeMs(row.get("at")?), changes(row)?)),
        };
        Ok(Some(CommandRow {
            command: id,
            device: primary.get::<Option<i64>>("device_id")?.map(DeviceKey),
            at: TimeMs(primary.get("at")?),
            actor_id: primary.get::<Option<i64>>("actor_id")?.map(UserKey),
            source: Source::parse(&source).ok_or_else(|| StoreError::Corrupt(format!("audit.source {source:?}")))?,
            action: primary.get("action")?,
            outcome: outcome(primary)?,
            latency_ms: primary.get::<Option<i64>>("latency_ms")?.map(|ms| ms as u32),
            changes: changes(primary)?,
            relay: primary.get::<Option<i64>>("relay")?.and_then(|r| u16::try_from(r).ok()),
            state: primary.get("state")?,
            details: primary.get("details")?,
            follow_up,
        }))
    }

    /// A device's rows in this node's chain, newest first, below `before`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn audit_rows_for_device(
        &self,
        device: DeviceKey,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "select * from {BOTH} where device_id = $1 and chain = $2 and seq < $3 order by seq desc limit $4"
        ));
        let (chain, before) = (self.inner.config.node.as_str(), before.unwrap_or(i64::MAX));
        let rows = query(sql).bind(device.0).bind(chain).bind(before).bind(limit).fetch_all(self.reader()).await?;
        rows.iter().map(shown).collect()
    }
}

fn shown(row: &Row) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        seq: row.get("seq")?,
        at: TimeMs(row.get("at")?),
        actor_kind: row.get("actor_kind")?,
        actor_id: row.get::<Option<i64>>("actor_id")?.map(UserKey),
        source: row.get("source")?,
        action: row.get("action")?,
        device: row.get::<Option<i64>>("device_id")?.map(DeviceKey),
        command: command_id(row)?.map(|b| CommandId(uuid::Uuid::from_bytes(b))),
        follow_up: row.get("follow_up")?,
        outcome: row.get("outcome")?,
        changes: changes(row)?,
        details: row.get("details")?,
    })
}

/// Reads a column that holds a hash, which has 32 bytes.
fn hash(row: &Row, name: &str) -> Result<[u8; 32], StoreError> {
    let bytes: Vec<u8> = row.get(name)?;
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("audit.{name} has not 32 bytes")))
}

fn chained(row: &Row) -> Result<ChainedRow, StoreError> {
    let follow_up = row.flag("follow_up")?;
    Ok(ChainedRow {
        seq: row.get("seq")?,
        at: row.get("at")?,
        actor_kind: row.get("actor_kind")?,
        actor_id: row.get("actor_id")?,
        source: row.get("source")?,
        action: row.get("action")?,
        device_id: row.get("device_id")?,
        command_id: command_id(row)?,
        follow_up: follow_up.ok_or_else(|| StoreError::Corrupt("audit.follow_up is null".into()))?,
        outcome: row.get("outcome")?,
        relay: row.get("relay")?,
        state: row.flag("state")?,
        latency_ms: row.get("latency_ms")?,
        changes: row.get("changes")?,
        details: row.get("details")?,
        prev: hash(row, "prev")?,
        hash: hash(row, "hash")?,
    })
}
