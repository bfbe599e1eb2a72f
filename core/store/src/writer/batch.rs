//! One group commit in SQLite: a loop over prepared statements inside one transaction.

use std::path::Path;
use std::time::Duration;

use hexa_model::audit::RelayStates;
use hexa_model::{RelayState, TimeMs};
use rusqlite::{Connection, params};
use tokio::sync::Mutex;

use super::backend::Backend;
use super::wal::Wal;
use super::{Committed, DevicePresence, HotWrite, mover};
use crate::chain::{ChainHead, ChainLock, is_head, somebody_else};
use crate::error::StoreError;
use crate::idempotency::{COUNT_KEYS, CommandClaim, MAX_KEYS, TAKE_KEY, full, used};

/// Raises the version with every stored state; `returning` gives it back. Parameters: device, relay, state, time.
pub const UPSERT_RELAY: &str = "insert into relay_states (device_id, relay, state, version, updated_at) \
     values ($1, $2, $3, 1, $4) on conflict (device_id, relay) do update \
     set state = excluded.state, version = relay_states.version + 1, updated_at = excluded.updated_at returning version";

/// Appends to the audit's tail. Parameters in column order.
pub const INSERT_AUDIT: &str = "insert into audit_tail (seq, chain, at, actor_kind, actor_id, source, action, \
     device_id, command_id, follow_up, outcome, relay, state, latency_ms, changes, details, prev, hash) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";

// `?N`, because SQLite takes `$N` for a name and numbers it by its first appearance.
const SAVE_DURABLE: &str = "update devices set driver_durable = ?2, driver_version = ?3 where id = ?1";

const SAVE_SEEN: &str = "update devices set last_seen_at = ?2, last_ip = coalesce(?3, last_ip), \
     firmware_version = coalesce(?4, firmware_version), \
     connected_at = case when ?5 = 1 then ?2 else connected_at end, \
     disconnected_at = case when ?5 = 0 then ?2 else disconnected_at end where id = ?1";

/// How one write of a batch went.
pub(crate) type Outcome = Result<Committed, StoreError>;

/// What a batch cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) statements: u64,
    pub(crate) audit_rows: u64,
}

/// SQLite's side of the hot writer.
pub(crate) struct SqliteBackend {
    connection: Connection,
    wal: Wal,
}

impl SqliteBackend {
    /// On a connection of its own to the file at `path`.
    pub(crate) fn new(connection: Connection, path: &Path) -> Self {
        Self { connection, wal: Wal::of(path) }
    }
}

impl Backend for SqliteBackend {
    fn commit(
        &mut self,
        gate: &mut ChainLock,
        writes: &[&HotWrite],
        cost: &mut Cost,
    ) -> Result<Vec<Outcome>, StoreError> {
        match attempt(&self.connection, gate, writes, false, cost) {
            Err(StoreError::Conflict(_)) => attempt(&self.connection, gate, writes, true, cost),
            done => done,
        }
    }

    fn patience(&mut self, patience: Duration) {
        // What cannot be set stays as it was, which is only slower.
        let _ = self.connection.busy_timeout(patience);
    }

    fn start(&mut self) {
        self.wal.make_room();
    }

    fn tidy(&mut self, gate: &Mutex<ChainLock>, idle: bool) {
        if !idle && !self.wal.due() {
            return;
        }
        let done = self.wal.need(&self.connection, idle).and_then(|need| {
            if need.room {
                let _others_wait = gate.blocking_lock();
                self.wal.make_room();
            }
            if need.fold { Wal::fold(&self.connection) } else { Ok(()) }
        });
        if let Err(error) = done {
            tracing::warn!(%error, "the write-ahead log was not folded into the database");
        }
    }

    fn save_notes(&mut self, _: &mut ChainLock, notes: &[&DevicePresence]) -> Result<(), StoreError> {
        save_notes(&self.connection, notes)
    }

    fn move_tail(&mut self, gate: &mut ChainLock) -> Result<u64, StoreError> {
        mover::move_chunk(&self.connection, &gate.head.node)
    }
}

fn newest(connection: &Connection, node: &str) -> Result<ChainHead, StoreError> {
    use rusqlite::OptionalExtension;
    let row = connection.query_row(crate::chain::NEWEST, [node], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (seq, hash) = row.unwrap_or((0, crate::chain::GENESIS));
    Ok(ChainHead { node: node.to_owned(), seq, hash })
}

fn attempt(
    connection: &Connection,
    gate: &mut ChainLock,
    writes: &[&HotWrite],
    savepoints: bool,
    cost: &mut Cost,
) -> Result<Vec<Outcome>, StoreError> {
    let mut next = gate.head.clone();
    let mut spent = Cost { statements: 2, audit_rows: 0 };
    let done = run(connection, (&mut next, gate.stale), writes, savepoints, &mut spent);
    let done = match done {
        Err(StoreError::Conflict(on)) if is_head(&on) => Err(somebody_else(gate.head.seq)),
        done => done,
    };
    if done.is_err() && !connection.is_autocommit() {
        // A failed rollback leaves nothing to roll back: SQLite has done it by itself (disk full, I/O error).
        let _ = connection.execute_batch("rollback");
    }
    gate.stale = done.is_err();
    if done.is_ok() {
        gate.head = next;
        cost.statements += spent.statements;
        cost.audit_rows += spent.audit_rows;
    }
    done
}

fn run(
    connection: &Connection,
    (head, stale): (&mut ChainHead, bool),
    writes: &[&HotWrite],
    savepoints: bool,
    cost: &mut Cost,
) -> Result<Vec<Outcome>, StoreError> {
    let mut outcomes = Vec::with_capacity(writes.len());
    connection.prepare_cached("begin immediate")?.execute([])?;
    if stale {
        // Inside of the transaction: before it, another writer's commit could be on its way.
        *head = newest(connection, &head.node)?;
    }
    for write in writes {
        if !savepoints {
            outcomes.push(one(connection, head, write, cost)?);
            continue;
        }
        let before = head.clone();
        connection.prepare_cached("savepoint item")?.execute([])?;
        match one(connection, head, write, cost) {
            Ok(outcome) => {
                connection.prepare_cached("release item")?.execute([])?;
                outcomes.push(outcome);
            }
            Err(StoreError::Conflict(on)) if is_head(&on) => return Err(StoreError::Conflict(on)),
            Err(conflict @ StoreError::Conflict(_)) => {
                connection.execute_batch("rollback to item; release item")?;
                *head = before;
                outcomes.push(Err(conflict));
            }
            Err(other) => return Err(other),
        }
    }
    connection.prepare_cached("commit")?.execute([])?;
    Ok(outcomes)
}

/// One write; a conflict that is an error has left something behind, one that is an outcome has not.
fn one(
    connection: &Connection,
    head: &mut ChainHead,
    write: &HotWrite,
    cost: &mut Cost,
) -> Result<Outcome, StoreError> {
    if let Some(claim) = &write.claim
        && let Some(refused) = take_key(connection, claim, cost)?
    {
        return Ok(Err(refused));
    }
    let at = write.audit.as_ref().map_or(TimeMs(0), |a| a.at);
    let mut relays = RelayStates::new();
    for set in write.relays() {
        let mut upsert = connection.prepare_cached(UPSERT_RELAY)?;
        let version: i64 = upsert.query_row(params![write.device.0, set.index, set.on, at.0], |row| row.get(0))?;
        relays.push(RelayState { index: set.index, on: set.on, version: version as u64, updated_at: at });
        cost.statements += 1;
    }
    hexa_model::crash_point!(
        "cmd.in_tx_after_state",
        if !relays.is_empty() && write.audit.as_ref().is_some_and(|a| a.command.is_some())
    );
    if let Some(entry) = &write.audit {
        let row = head.append(entry, &relays);
        connection.prepare_cached(INSERT_AUDIT)?.execute(params![
            row.seq,
            head.node,
            row.at,
            row.actor_kind,
            row.actor_id,
            row.source,
            row.action,
            row.device_id,
            row.command_id,
            row.follow_up,
            row.outcome,
            row.relay,
            row.state,
            row.latency_ms,
            row.changes,
            row.details,
            row.prev,
            row.hash,
        ])?;
        cost.statements += 1;
        cost.audit_rows += 1;
        hexa_model::crash_point!("cmd.in_tx_after_audit", if entry.command.is_some());
        hexa_model::crash_point!("report.in_tx", if entry.action == "state_report");
    }
    if let Some(durable) = write.driver_state() {
        connection.prepare_cached(SAVE_DURABLE)?.execute(params![write.device.0, durable.blob, durable.version])?;
        cost.statements += 1;
    }
    Ok(Ok(Committed { relays, at }))
}

/// Takes a command's key, before anything else of its write is done; gives why it was not taken.
fn take_key(
    connection: &Connection,
    CommandClaim { claim, command }: &CommandClaim,
    cost: &mut Cost,
) -> Result<Option<StoreError>, StoreError> {
    if claim.counted {
        let count: i64 = connection.prepare_cached(COUNT_KEYS)?.query_row([claim.scope], |row| row.get(0))?;
        cost.statements += 1;
        if count >= MAX_KEYS {
            return Ok(Some(full()));
        }
    }
    let taken = connection.prepare_cached(TAKE_KEY)?.execute(params![
        claim.scope,
        claim.key,
        claim.fingerprint,
        claim.request_id,
        command.0.as_bytes(),
        None::<Vec<u8>>,
        claim.at.0,
        claim.expires_at.0,
    ])?;
    cost.statements += 1;
    Ok((taken != 1).then(used))
}

fn save_notes(connection: &Connection, notes: &[&DevicePresence]) -> Result<(), StoreError> {
    let done = (|| {
        connection.prepare_cached("begin immediate")?.execute([])?;
        let mut save = connection.prepare_cached(SAVE_SEEN)?;
        for seen in notes {
            save.execute(params![seen.device.0, seen.last_seen_at.0, seen.ip, seen.firmware, seen.online])?;
        }
        connection.prepare_cached("commit")?.execute([])?;
        Ok(())
    })();
    if done.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("rollback");
    }
    done
}
