//! One group commit in PostgreSQL: every table's rows as arrays in one statement (`unnest`), so that a batch of any
//! size costs the same few round trips.
//!
//! It lives on the writer's thread with a small runtime of its own. Its connection holds the lock that keeps a
//! second process off this node's chain: a writer that lost its connection writes nothing before it has it again.

use std::collections::BTreeMap;
use std::time::Duration;

use hexa_model::audit::RelayStates;
use hexa_model::{RelayState, TimeMs};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, Row as _};
use tokio::runtime::Runtime;

use super::backend::Backend;
use super::batch::{Cost, Outcome};
use super::{Committed, HotWrite, Seen, mover};
use crate::chain::{ChainHead, ChainedRow, Gate, NEWEST};
use crate::db::{PATIENCE, Row};
use crate::error::StoreError;
use crate::open::postgres::{Fence, Refused};

/// How long a new connection may take. Writes wait meanwhile.
const CONNECT: Duration = Duration::from_secs(2);

/// A relay that is set n times in a batch is written once with its version raised by n.
const UPSERT: &str = "insert into relay_states (device_id, relay, state, version, updated_at) \
     select * from unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::bigint[], $5::bigint[]) \
     on conflict (device_id, relay) do update set state = excluded.state, \
     version = relay_states.version + excluded.version, updated_at = excluded.updated_at \
     returning device_id, relay, version";

const APPEND: &str = "insert into audit_tail (seq, chain, at, actor_kind, actor_id, source, action, device_id, \
     command_id, follow_up, outcome, relay, state, latency_ms, changes, details, prev, hash) \
     select seq, $2, at, actor_kind, actor_id, source, action, device_id, command_id, follow_up, outcome, relay, \
     state, latency_ms, changes, details, prev, hash from unnest($1::bigint[], $3::bigint[], $4::text[], \
     $5::bigint[], $6::text[], $7::text[], $8::bigint[], $9::bytea[], $10::boolean[], $11::text[], $12::bigint[], \
     $13::boolean[], $14::bigint[], $15::text[], $16::text[], $17::bytea[], $18::bytea[]) \
     as t(seq, at, actor_kind, actor_id, source, action, device_id, command_id, follow_up, outcome, relay, state, \
     latency_ms, changes, details, prev, hash)";

const SAVE_DURABLE: &str = "update devices d set driver_durable = n.blob, driver_version = n.version \
     from unnest($1::bigint[], $2::bytea[], $3::text[]) as n(id, blob, version) where d.id = n.id";

const SAVE_SEEN: &str = "update devices d set last_seen_at = n.at, last_ip = coalesce(n.ip, d.last_ip), \
     firmware_version = coalesce(n.firmware, d.firmware_version), \
     connected_at = case when n.online then n.at else d.connected_at end, \
     disconnected_at = case when not n.online then n.at else d.disconnected_at end \
     from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::boolean[]) \
     as n(id, at, ip, firmware, online) where d.id = n.id";

/// PostgreSQL's side of the hot writer.
pub(crate) struct PostgresBackend {
    runtime: Runtime,
    link: Link,
}

struct Link {
    options: PgConnectOptions,
    fence: Fence,
    node: String,
    connection: Option<PgConnection>,
}

impl PostgresBackend {
    /// Connects when it is first used, and again whenever the connection broke.
    ///
    /// # Errors
    /// When the small runtime cannot be made.
    pub(crate) fn new(options: PgConnectOptions, fence: Fence, node: String) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, link: Link { options, fence, node, connection: None } })
    }
}

impl Backend for PostgresBackend {
    fn start(&mut self) {
        if let Err(error) = self.runtime.block_on(self.link.connect()) {
            tracing::warn!(%error, "the writer has no connection yet");
        }
    }

    /// Gives the fence back at once: the server would do so only when it has noticed that the connection is gone.
    fn stop(&mut self) {
        if let Some(mut connection) = self.link.connection.take() {
            self.runtime.block_on(async {
                self.link.fence.give_back(&mut connection).await;
                let _ = tokio::time::timeout(CONNECT, connection.close()).await;
            });
        }
    }

    fn commit(&mut self, gate: &mut Gate, writes: &[&HotWrite], cost: &mut Cost) -> Result<Vec<Outcome>, StoreError> {
        self.runtime.block_on(self.link.commit(gate, writes, cost))
    }

    fn save_notes(&mut self, notes: &[&Seen]) -> Result<(), StoreError> {
        self.runtime.block_on(self.link.guarded(async |connection| save_notes(connection, notes).await))
    }

    fn move_tail(&mut self) -> Result<u64, StoreError> {
        let node = self.link.node.clone();
        self.runtime.block_on(self.link.guarded(async |connection| move_chunk(connection, &node).await))
    }
}

/// How an attempt failed.
struct Failed {
    error: StoreError,
    /// Set when it was at the commit itself: then the rows are there, with this head, or they are not.
    at_commit: Option<(ChainHead, Vec<Outcome>)>,
}

impl<E: Into<StoreError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { error: error.into(), at_commit: None }
    }
}

impl Link {
    /// The connection; true when it is a new one, so that nothing is known of what the old one left behind.
    async fn connect(&mut self) -> Result<bool, StoreError> {
        if self.connection.is_some() {
            return Ok(false);
        }
        let slow = || StoreError::Unavailable { source: "PostgreSQL does not answer".into() };
        let opened = tokio::time::timeout(CONNECT, async {
            let mut connection = PgConnection::connect_with(&self.options).await.map_err(StoreError::from)?;
            self.fence.take(&mut connection).await.map_err(|refused| match refused {
                Refused::Store(error) => error,
                Refused::Held(by) => StoreError::Unavailable {
                    source: format!("another hexa process ({by}) writes to this database").into(),
                },
            })?;
            Ok::<_, StoreError>(connection)
        });
        self.connection = Some(opened.await.map_err(|_| slow())??);
        Ok(true)
    }

    async fn head(&mut self) -> Result<ChainHead, StoreError> {
        let node = self.node.clone();
        let newest = self
            .guarded(async |connection| {
                let rows = sqlx::query(NEWEST).bind(node.as_str()).fetch_all(connection).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect::<Vec<_>>())
            })
            .await?;
        ChainHead::of(&self.node, &newest)
    }

    /// Runs something on the connection within [`PATIENCE`]; a connection that failed is given up.
    async fn guarded<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.connect().await?;
        // Taken out meanwhile: when the time is up in the middle of an answer, the connection is useless.
        let Some(mut connection) = self.connection.take() else { return Err(StoreError::closed()) };
        match tokio::time::timeout(PATIENCE, work(&mut connection)).await {
            Ok(Ok(done)) => {
                self.connection = Some(connection);
                Ok(done)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Unavailable { source: "PostgreSQL did not answer in time".into() }),
        }
    }

    async fn commit(
        &mut self,
        gate: &mut Gate,
        writes: &[&HotWrite],
        cost: &mut Cost,
    ) -> Result<Vec<Outcome>, StoreError> {
        if self.connect().await? || gate.stale {
            gate.head = self.head().await?;
            gate.stale = false;
        }
        let failed = match self.attempt(gate, writes, false, cost).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(Failed { error: StoreError::Conflict(_), at_commit: None }) => {
                match self.attempt(gate, writes, true, cost).await {
                    Ok(outcomes) => return Ok(outcomes),
                    Err(failed) => failed,
                }
            }
            Err(failed) => failed,
        };
        self.connection = None;
        gate.stale = true;
        let Some((head, outcomes)) = failed.at_commit else { return Err(failed.error) };
        // The answer to the commit was lost. Whoever waits deserves to know what became of it.
        match self.head().await {
            Ok(found) if found.hash == head.hash => {
                gate.head = head;
                gate.stale = false;
                Ok(outcomes)
            }
            Ok(_) => Err(failed.error),
            Err(_) => Err(StoreError::Unavailable {
                source: "the connection to PostgreSQL broke at the commit; whether it was stored is not known".into(),
            }),
        }
    }

    async fn attempt(
        &mut self,
        gate: &mut Gate,
        writes: &[&HotWrite],
        savepoints: bool,
        cost: &mut Cost,
    ) -> Result<Vec<Outcome>, Failed> {
        let Some(connection) = self.connection.as_mut() else { return Err(StoreError::closed().into()) };
        let timeout = || StoreError::Unavailable { source: "PostgreSQL did not answer in time".into() };
        let mut next = gate.head.clone();
        let mut spent = Cost { statements: 2, audit_rows: 0 };
        let prepared = tokio::time::timeout(PATIENCE, async {
            let mut tx = connection.begin().await?;
            let outcomes = if savepoints {
                one_by_one(&mut tx, &mut next, writes, &mut spent).await?
            } else {
                let done = bulk(&mut tx, &mut next, writes, &mut spent).await?;
                done.into_iter().map(Ok).collect()
            };
            Ok::<_, StoreError>((tx, outcomes))
        });
        let (tx, outcomes) = prepared.await.map_err(|_| timeout())??;
        let committed = tokio::time::timeout(PATIENCE, tx.commit()).await;
        let error = match committed {
            Ok(Ok(())) => {
                gate.head = next;
                cost.statements += spent.statements;
                cost.audit_rows += spent.audit_rows;
                return Ok(outcomes);
            }
            Ok(Err(error)) => StoreError::from(error),
            Err(_) => timeout(),
        };
        Err(Failed { error, at_commit: Some((next, outcomes)) })
    }
}

/// Each write behind a savepoint, so that one that conflicts fails alone.
async fn one_by_one(
    tx: &mut PgConnection,
    head: &mut ChainHead,
    writes: &[&HotWrite],
    cost: &mut Cost,
) -> Result<Vec<Outcome>, StoreError> {
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        let before = head.clone();
        let mut savepoint = tx.begin().await?;
        match bulk(&mut savepoint, head, std::slice::from_ref(write), cost).await {
            Ok(done) => {
                savepoint.commit().await?;
                outcomes.extend(done.into_iter().map(Ok));
            }
            Err(conflict @ StoreError::Conflict(_)) => {
                savepoint.rollback().await?;
                *head = before;
                outcomes.push(Err(conflict));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(outcomes)
}

/// All writes with one statement per table.
async fn bulk(
    tx: &mut PgConnection,
    head: &mut ChainHead,
    writes: &[&HotWrite],
    cost: &mut Cost,
) -> Result<Vec<Committed>, StoreError> {
    let mut versions = upsert(tx, writes, cost).await?;
    let commands = || writes.iter().filter_map(|w| w.audit.as_ref()).any(|a| a.command.is_some());
    hexa_model::crash_point!("cmd.in_tx_after_state", if commands());
    let mut rows = Vec::with_capacity(writes.len());
    let mut done = Vec::with_capacity(writes.len());
    let mut durable = BTreeMap::new();
    for write in writes {
        let at = write.audit.as_ref().map_or(TimeMs(0), |a| a.at);
        let mut relays = RelayStates::new();
        for set in &write.relays {
            let next = versions.get_mut(&(write.device.0, i64::from(set.index)));
            let next = next.ok_or_else(|| StoreError::Corrupt("a relay's new version did not come back".into()))?;
            relays.push(RelayState { index: set.index, on: set.on, version: *next as u64, updated_at: at });
            *next += 1;
        }
        if let Some(entry) = &write.audit {
            rows.push(head.append(entry, &relays));
        }
        if let Some(state) = &write.durable {
            durable.insert(write.device.0, state);
        }
        done.push(Committed { relays, at });
    }
    append(tx, &head.node, rows, cost).await?;
    hexa_model::crash_point!("cmd.in_tx_after_audit", if commands());
    hexa_model::crash_point!(
        "report.in_tx",
        if writes.iter().filter_map(|w| w.audit.as_ref()).any(|a| a.action == "state_report")
    );
    if !durable.is_empty() {
        let blobs: Vec<&[u8]> = durable.values().map(|d| d.blob.as_slice()).collect();
        let made_by: Vec<&str> = durable.values().map(|d| d.version.as_str()).collect();
        let keys: Vec<i64> = durable.keys().copied().collect();
        sqlx::query(SAVE_DURABLE).bind(keys).bind(blobs).bind(made_by).execute(&mut *tx).await?;
        cost.statements += 1;
    }
    Ok(done)
}

/// The relay states of a batch, each relay once, in the order of the keys so that no two transactions wait for each
/// other. Gives the first new version of each.
async fn upsert(
    tx: &mut PgConnection,
    writes: &[&HotWrite],
    cost: &mut Cost,
) -> Result<BTreeMap<(i64, i64), i64>, StoreError> {
    let mut last: BTreeMap<(i64, i64), (bool, i64, i64)> = BTreeMap::new();
    for write in writes {
        let at = write.audit.as_ref().map_or(0, |a| a.at.0);
        for set in &write.relays {
            let slot = last.entry((write.device.0, i64::from(set.index))).or_default();
            *slot = (set.on, slot.1 + 1, at);
        }
    }
    if last.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (devices, relays): (Vec<i64>, Vec<i64>) = last.keys().copied().unzip();
    let states: Vec<bool> = last.values().map(|v| v.0).collect();
    let counts: Vec<i64> = last.values().map(|v| v.1).collect();
    let times: Vec<i64> = last.values().map(|v| v.2).collect();
    let upsert = sqlx::query(UPSERT).bind(devices).bind(relays).bind(states).bind(counts).bind(times);
    let stored = upsert.fetch_all(&mut *tx).await?;
    cost.statements += 1;
    let mut first = BTreeMap::new();
    for row in stored {
        let key = (row.try_get("device_id")?, row.try_get("relay")?);
        let raised = last.get(&key).map_or(0, |v| v.1);
        first.insert(key, row.try_get::<i64, _>("version")? - raised + 1);
    }
    Ok(first)
}

async fn append(tx: &mut PgConnection, node: &str, rows: Vec<ChainedRow>, cost: &mut Cost) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    fn column<'a, T>(rows: &'a [ChainedRow], of: impl Fn(&'a ChainedRow) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    sqlx::query(APPEND)
        .bind(column(&rows, |r| r.seq))
        .bind(node)
        .bind(column(&rows, |r| r.at))
        .bind(column(&rows, |r| r.actor_kind.as_str()))
        .bind(column(&rows, |r| r.actor_id))
        .bind(column(&rows, |r| r.source.as_str()))
        .bind(column(&rows, |r| r.action.as_str()))
        .bind(column(&rows, |r| r.device_id))
        .bind(column(&rows, |r| r.command_id.as_ref().map(|c| c.to_vec())))
        .bind(column(&rows, |r| r.follow_up))
        .bind(column(&rows, |r| r.outcome.as_str()))
        .bind(column(&rows, |r| r.relay))
        .bind(column(&rows, |r| r.state))
        .bind(column(&rows, |r| r.latency_ms))
        .bind(column(&rows, |r| r.changes.as_deref()))
        .bind(column(&rows, |r| r.details.as_deref()))
        .bind(column(&rows, |r| r.prev.to_vec()))
        .bind(column(&rows, |r| r.hash.to_vec()))
        .execute(tx)
        .await?;
    cost.statements += 1;
    cost.audit_rows += rows.len() as u64;
    Ok(())
}

async fn save_notes(connection: &mut PgConnection, notes: &[&Seen]) -> Result<(), StoreError> {
    let mut notes = notes.to_vec();
    notes.sort_unstable_by_key(|n| n.device.0);
    let save = sqlx::query(SAVE_SEEN)
        .bind(notes.iter().map(|n| n.device.0).collect::<Vec<_>>())
        .bind(notes.iter().map(|n| n.last_seen_at.0).collect::<Vec<_>>())
        .bind(notes.iter().map(|n| n.ip.as_deref()).collect::<Vec<_>>())
        .bind(notes.iter().map(|n| n.firmware.as_deref()).collect::<Vec<_>>())
        .bind(notes.iter().map(|n| n.online).collect::<Vec<_>>());
    save.execute(connection).await?;
    Ok(())
}

async fn move_chunk(connection: &mut PgConnection, node: &str) -> Result<u64, StoreError> {
    let mut tx = connection.begin().await?;
    let oldest: Option<i64> = sqlx::query("select min(seq) as oldest from audit_tail where chain = $1")
        .bind(node)
        .fetch_one(&mut *tx)
        .await?
        .try_get("oldest")?;
    let Some(oldest) = oldest else { return Ok(0) };
    let until = oldest + mover::CHUNK;
    let copy = "insert into audit select * from audit_tail where chain = $1 and seq < $2 order by device_id, at, seq";
    sqlx::query(copy).bind(node).bind(until).execute(&mut *tx).await?;
    let delete = sqlx::query("delete from audit_tail where chain = $1 and seq < $2").bind(node).bind(until);
    let moved = delete.execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(moved)
}
