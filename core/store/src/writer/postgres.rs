//! One group commit in PostgreSQL: every table's rows as arrays in one statement (`unnest`), so that a batch of any
//! size costs the same few round trips.
//!
//! It lives on the writer's thread with a small runtime of its own. Its connection holds the lock that keeps a
//! second process off this node's chain: a writer that lost its connection writes nothing before it has it again.

mod claims;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hexa_model::audit::RelayStates;
use hexa_model::{RelayState, TimeMs};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, Row as _};
use tokio::runtime::Runtime;

use super::backend::Backend;
use super::batch::{Cost, Outcome};
use super::{Committed, DevicePresence, HotWrite, mover};
use crate::chain::{ChainHead, ChainLock, ChainedRow, is_head, somebody_else};
use crate::db::{COMMIT, QUERY_TIMEOUT};
use crate::error::StoreError;
use crate::open::generation::{Generation, Transaction};
use crate::open::postgres::{Fence, Refused};

/// How long a new connection may take. Writes wait meanwhile.
const CONNECT: Duration = Duration::from_secs(2);
/// For how long it is asked what became of a commit, and the pause between.
const ASK_FOR: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(200);

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
    generation: Generation,
    node: String,
    connection: Option<PgConnection>,
    patience: Duration,
}

impl PostgresBackend {
    /// Connects when it is first used, and again whenever the connection broke.
    ///
    /// # Errors
    /// When the small runtime cannot be made.
    pub(crate) fn new(
        options: PgConnectOptions,
        fence: Fence,
        generation: Generation,
        node: String,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, link: Link { options, fence, generation, node, connection: None, patience: QUERY_TIMEOUT } })
    }
}

impl Backend for PostgresBackend {
    fn patience(&mut self, patience: Duration) {
        self.link.patience = patience;
    }

    fn start(&mut self) {
        match self.runtime.block_on(self.link.connect()) {
            Ok(connection) => self.link.connection = Some(connection),
            Err(error) => tracing::warn!(%error, "the writer has no connection yet"),
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

    fn commit(
        &mut self,
        gate: &mut ChainLock,
        writes: &[&HotWrite],
        cost: &mut Cost,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.runtime.block_on(self.link.commit(gate, writes, cost))
    }

    fn save_notes(&mut self, gate: &mut ChainLock, notes: &[&DevicePresence]) -> Result<(), StoreError> {
        let work = async |connection: &mut PgConnection, _: &mut ChainHead| save_notes(connection, notes).await;
        self.runtime.block_on(self.link.transaction(gate, work))
    }

    fn move_tail(&mut self, gate: &mut ChainLock) -> Result<u64, StoreError> {
        let node = self.link.node.clone();
        let work = async |connection: &mut PgConnection, _: &mut ChainHead| move_chunk(connection, &node).await;
        self.runtime.block_on(self.link.transaction(gate, work))
    }
}

impl Link {
    async fn connect(&mut self) -> Result<PgConnection, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let opened = tokio::time::timeout(CONNECT, async {
            let mut connection = self.dial().await?;
            match self.fence.take(&mut connection).await {
                Ok(()) => Ok(connection),
                Err(Refused::Store(error)) => Err(error),
                Err(Refused::Held(by)) => {
                    self.generation.check(&mut connection).await?;
                    Err(StoreError::unavailable(format!("another hexa process ({by}) writes to this database")))
                }
            }
        });
        opened.await.map_err(|_| StoreError::unavailable("PostgreSQL does not answer"))?
    }

    /// A connection without the fence: it asks, and writes nothing.
    async fn dial(&self) -> Result<PgConnection, StoreError> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        crate::open::postgres::writable(&mut connection).await?;
        Ok(connection)
    }

    /// Runs one transaction; a connection that failed is given up. A commit without an answer is looked up before
    /// anything is said of it.
    async fn transaction<T>(
        &mut self,
        gate: &mut ChainLock,
        work: impl AsyncFnOnce(&mut PgConnection, &mut ChainHead) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let timeout = || StoreError::unavailable("PostgreSQL did not answer in time");
        let mut connection = self.connect().await?;
        let prepared = tokio::time::timeout(self.patience, async {
            let (mut head, transaction) = self.generation.begin(&mut connection, gate).await?;
            let done = work(&mut connection, &mut head).await;
            Ok::<_, StoreError>((head, transaction, done))
        });
        let (head, transaction, done) = prepared.await.map_err(|_| timeout())??;
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                if matches!(error, StoreError::Conflict(_))
                    && crate::db::within(sqlx::raw_sql("rollback").execute(&mut connection)).await.is_ok()
                {
                    self.connection = Some(connection);
                }
                gate.stale = true;
                return Err(error);
            }
        };
        gate.stale = true;
        let error = match tokio::time::timeout(self.patience, sqlx::raw_sql(COMMIT).execute(&mut connection)).await {
            Ok(Ok(_)) => {
                gate.head = head;
                gate.stale = false;
                self.connection = Some(connection);
                return Ok(done);
            }
            Ok(Err(error)) => StoreError::from(error),
            Err(_) => timeout(),
        };
        drop(connection);
        // The answer to the commit was lost. Whoever waits deserves to know what became of it.
        match self.find_out(&transaction).await {
            Some(true) => {
                gate.head = head;
                gate.stale = false;
                Ok(done)
            }
            Some(false) => Err(error),
            None => Err(StoreError::Unknown),
        }
    }

    /// What became of it. Asked without the fence, which another process may have by now: what was stored before is
    /// known to the database all the same.
    async fn find_out(&self, transaction: &Transaction) -> Option<bool> {
        let since = Instant::now();
        while since.elapsed() < ASK_FOR {
            let asked = async {
                let mut connection = self.dial().await?;
                let end = transaction.end(&mut connection).await?;
                let _ = connection.close().await;
                Ok::<_, StoreError>(end)
            };
            match tokio::time::timeout(CONNECT, asked).await {
                Ok(Ok(Some(stored))) => return Some(stored),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "what became of a group commit is not known yet"),
                Err(_) => tracing::warn!("PostgreSQL does not say what became of a group commit"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        None
    }

    async fn commit(
        &mut self,
        gate: &mut ChainLock,
        writes: &[&HotWrite],
        cost: &mut Cost,
    ) -> Result<Vec<Outcome>, StoreError> {
        let mut spent = Cost { statements: 2, audit_rows: 0 };
        let all = async |connection: &mut PgConnection, head: &mut ChainHead| {
            bulk(connection, head, writes, &mut spent).await
        };
        let done = match self.transaction(gate, all).await {
            Err(StoreError::Conflict(_)) => {
                spent = Cost { statements: 2, audit_rows: 0 };
                let each = async |connection: &mut PgConnection, head: &mut ChainHead| {
                    halves(connection, head, writes, &mut spent).await
                };
                self.transaction(gate, each).await
            }
            done => done,
        };
        if done.is_ok() {
            cost.statements += spent.statements;
            cost.audit_rows += spent.audit_rows;
        }
        done
    }
}

/// The writes in halves behind savepoints, and those of a half that conflicts in halves again, so that one that
/// conflicts fails alone and costs the others few round trips.
async fn halves(
    tx: &mut PgConnection,
    head: &mut ChainHead,
    writes: &[&HotWrite],
    cost: &mut Cost,
) -> Result<Vec<Outcome>, StoreError> {
    let mut outcomes = Vec::with_capacity(writes.len());
    // From the left to the right, so that the chain's order is that of the writes.
    let mut open = vec![writes];
    while let Some(some) = open.pop() {
        let before = head.clone();
        let spent = *cost;
        sqlx::raw_sql("savepoint half").execute(&mut *tx).await?;
        match bulk(tx, head, some, cost).await {
            Ok(done) => {
                sqlx::raw_sql("release savepoint half").execute(&mut *tx).await?;
                outcomes.extend(done);
            }
            Err(StoreError::Conflict(on)) if is_head(&on) => return Err(somebody_else(before.seq)),
            Err(conflict @ StoreError::Conflict(_)) => {
                sqlx::raw_sql("rollback to savepoint half; release savepoint half").execute(&mut *tx).await?;
                *head = before;
                *cost = spent;
                if some.len() == 1 {
                    outcomes.push(Err(conflict));
                } else {
                    let (left, right) = some.split_at(some.len() / 2);
                    open.extend([right, left]);
                }
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
) -> Result<Vec<Outcome>, StoreError> {
    let mut refused = claims::take(tx, writes, cost).await?;
    let kept: Vec<_> = writes.iter().enumerate().filter(|(at, _)| !refused.contains_key(at)).map(|(_, w)| *w).collect();
    let mut versions = upsert(tx, &kept, cost).await?;
    let commands = || kept.iter().filter_map(|w| w.audit.as_ref()).any(|a| a.command.is_some());
    hexa_model::crash_point!("cmd.in_tx_after_state", if commands());
    let mut rows = Vec::with_capacity(writes.len());
    let mut done = Vec::with_capacity(writes.len());
    let mut durable = BTreeMap::new();
    for (place, write) in writes.iter().enumerate() {
        if let Some(why) = refused.remove(&place) {
            done.push(Err(why));
            continue;
        }
        let at = write.audit.as_ref().map_or(TimeMs(0), |a| a.at);
        let mut relays = RelayStates::new();
        for set in write.relays() {
            let next = versions.get_mut(&(write.device.0, i64::from(set.index)));
            let next = next.ok_or_else(|| StoreError::Corrupt("a relay's new version did not come back".into()))?;
            relays.push(RelayState { index: set.index, on: set.on, version: *next as u64, updated_at: at });
            *next += 1;
        }
        if let Some(entry) = &write.audit {
            rows.push(head.append(entry, &relays));
        }
        if let Some(state) = write.driver_state() {
            durable.insert(write.device.0, state);
        }
        done.push(Ok(Committed { relays, at }));
    }
    append(tx, &head.node, rows, cost).await?;
    hexa_model::crash_point!("cmd.in_tx_after_audit", if commands());
    hexa_model::crash_point!(
        "report.in_tx",
        if kept.iter().filter_map(|w| w.audit.as_ref()).any(|a| a.action == "state_report")
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
        for set in write.relays() {
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

async fn save_notes(connection: &mut PgConnection, notes: &[&DevicePresence]) -> Result<(), StoreError> {
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
    let oldest: Option<i64> = sqlx::query("select min(seq) as oldest from audit_tail where chain = $1")
        .bind(node)
        .fetch_one(&mut *connection)
        .await?
        .try_get("oldest")?;
    let Some(oldest) = oldest else { return Ok(0) };
    let until = oldest + mover::CHUNK;
    let copy = "insert into audit select * from audit_tail where chain = $1 and seq < $2 order by device_id, at, seq";
    sqlx::query(copy).bind(node).bind(until).execute(&mut *connection).await?;
    let delete = sqlx::query("delete from audit_tail where chain = $1 and seq < $2").bind(node).bind(until);
    Ok(delete.execute(connection).await?.rows_affected())
}
