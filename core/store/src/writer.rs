//! The hot writer: group commit.
//!
//! One OS thread with a connection of its own drains everything that is queued into one transaction (natural
//! batching), loops over prepared statements, and answers each writer after the commit. A thread and a loop because
//! that was measured to cost a third of one round trip per statement (docs/adr/0004). When the last batch was
//! busy, it lingers for 300 µs to gather more; an idle system commits one write at once.

mod backend;
mod batch;
mod mover;
mod postgres;
mod thread;
mod wal;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};

use hexa_model::audit::{AuditEntry, RelaySet, RelaySets, RelayStates};
use hexa_model::{DeviceKey, TimeMs};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::idempotency::CommandClaim;

pub(crate) use backend::Backend;
pub(crate) use batch::SqliteBackend;
pub use batch::{INSERT_AUDIT, UPSERT_RELAY};
pub(crate) use postgres::PostgresBackend;
pub(crate) use thread::{ThreadConfig, run};

/// Writes that may wait; the next one is refused with `Busy`.
const QUEUE: usize = 8192;
/// Writes per transaction at the most: returns flatten after 256.
const MAX_BATCH: usize = 512;

/// One write: what it changes, the audit row of its cause, a command's key. All of it or none.
#[derive(Debug)]
pub struct HotWrite {
    /// The device that it is about.
    pub device: DeviceKey,
    /// The epoch of the device's session under which it was made: a write of a session that another holder of the device
    /// has followed ends as `Fenced`. 0 while one process holds every device: nothing is compared.
    pub epoch: u64,
    /// What it changes, in this order.
    pub effects: SmallVec<[Effect; 2]>,
    /// Its row gets the versions of the relay states as `changes`.
    pub audit: Option<AuditEntry>,
    /// Taken in the same transaction; one that was used, or that is one too many, refuses the whole write.
    pub claim: Option<Box<CommandClaim>>,
}

/// One thing that a write changes.
#[derive(Debug)]
pub enum Effect {
    /// Each of these relay states is stored with its version raised by one.
    Relays(RelaySets),
    /// Replaces the driver's stored state.
    DriverState(DurableState),
}

impl HotWrite {
    /// Of a device, with nothing to write yet.
    pub fn of(device: DeviceKey) -> Self {
        Self { device, epoch: 0, effects: SmallVec::new(), audit: None, claim: None }
    }

    /// An audit row that stands alone.
    pub fn row(device: DeviceKey, entry: AuditEntry) -> Self {
        Self { audit: Some(entry), ..Self::of(device) }
    }

    /// With this effect as well.
    #[must_use]
    pub fn with(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    /// The relay states that it stores.
    pub fn relays(&self) -> impl Iterator<Item = RelaySet> + '_ {
        self.effects
            .iter()
            .flat_map(|effect| match effect {
                Effect::Relays(sets) => sets.as_slice(),
                Effect::DriverState(_) => &[],
            })
            .copied()
    }

    /// The driver state that it stores.
    pub(crate) fn driver_state(&self) -> Option<&DurableState> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::DriverState(state) => Some(state),
            Effect::Relays(_) => None,
        })
    }
}

/// A write that was not stored, or of which nobody knows: given back, so that whoever holds the device can write it later.
#[derive(Debug)]
pub struct NotWritten {
    /// Why. `Fenced`: another process, or another holder of the device, has taken this one's place.
    pub error: StoreError,
    /// The whole write as it was submitted.
    pub write: Box<HotWrite>,
}

/// What a driver wants to find again after a restart.
#[derive(Debug)]
pub struct DurableState {
    /// Bytes in a form that only the driver knows.
    pub blob: Vec<u8>,
    /// `plugin@version` that wrote it.
    pub version: String,
}

/// A write that is on the disk.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The stored states with their versions.
    pub relays: RelayStates,
    /// The audit row's time, or 0 without one.
    pub at: TimeMs,
}

/// Called once, after the commit or with the write and the reason why there was none; on the writer's thread, so it must not block.
pub type Completion = Box<dyn FnOnce(Result<Committed, NotWritten>) + Send>;

/// What a session knows of its device; coalesced, so that the last one counts.
#[derive(Clone, Debug)]
pub struct DevicePresence {
    /// Key of the device whose row is updated.
    pub device: DeviceKey,
    /// Last frame or pong.
    pub last_seen_at: TimeMs,
    /// Peer address; none = leave.
    pub ip: Option<String>,
    /// Firmware version; none = leave.
    pub firmware: Option<String>,
    /// true: it connected, false: it disconnected, none: neither.
    pub online: Option<bool>,
}

/// What the writer has done since it started.
#[derive(Clone, Debug, Default)]
pub struct WriterStats {
    /// Group commits that were tried; a failed one counts too.
    pub batches: u64,
    /// Writes in these groups, stored or not.
    pub rows: u64,
    /// Transactions of the hot writer (batches, note flushes, tail moves).
    pub hot_transactions: u64,
    /// Transactions of changes (`change.rs`); one may hold several changes.
    pub cold_transactions: u64,
    /// Statements in group commits.
    pub statements: u64,
    /// Writes that wait for the next group now.
    pub queued: u64,
    /// Audit rows not yet moved to the indexed table.
    pub tail_rows: u64,
    /// Batches by size: index i counts sizes from 2^i to 2^(i+1) - 1.
    pub batch_sizes: Vec<u64>,
}

/// A write on its way, with whoever learns of its end. One that is dropped unwritten, because the thread ended with it in
/// the queue or broke off, completes all the same.
pub(crate) struct QueuedWrite(Option<(HotWrite, Completion)>);

impl QueuedWrite {
    fn new(write: HotWrite, complete: Completion) -> Self {
        Self(Some((write, complete)))
    }
    /// What is to be written; none once it has ended.
    fn write(&self) -> Option<&HotWrite> {
        self.0.as_ref().map(|(write, _)| write)
    }
    /// Whoever gave it learns how it ended.
    fn end(mut self, end: Result<Committed, StoreError>) {
        self.complete(end);
    }
    fn complete(&mut self, end: Result<Committed, StoreError>) {
        if let Some((write, complete)) = self.0.take() {
            complete(end.map_err(|error| NotWritten { error, write: Box::new(write) }));
        }
    }
}

impl Drop for QueuedWrite {
    fn drop(&mut self) {
        self.complete(Err(StoreError::closed()));
    }
}

enum Job {
    Write(Box<QueuedWrite>),
    Flush(oneshot::Sender<()>),
    Stop,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    batches: AtomicU64,
    rows: AtomicU64,
    hot: AtomicU64,
    cold: AtomicU64,
    statements: AtomicU64,
    queued: AtomicU64,
    tail: AtomicU64,
    sizes: [AtomicU64; 10],
}

/// A handle to the writer's thread.
pub struct Writer {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    /// Whoever waits must hear soon.
    hurry: AtomicBool,
    counters: Counters,
    notes: Mutex<HashMap<DeviceKey, DevicePresence>>,
}

impl Shared {
    /// A group of changes was stored, with so many rows for the audit; so many left its tail.
    pub(crate) fn cold_committed(&self, audit_rows: u64, left_tail: u64) {
        self.counters.cold.fetch_add(1, Ordering::Relaxed);
        self.counters.tail.fetch_add(audit_rows, Ordering::Relaxed);
        self.counters.leave_tail(left_tail);
    }
}

impl Counters {
    /// Rows left the audit's tail; a count that was wrong is not made absurd.
    pub(crate) fn leave_tail(&self, rows: u64) {
        let less = |tail: u64| Some(tail.saturating_sub(rows));
        let _ = self.tail.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

impl Writer {
    /// The queue's two ends; [`thread::run`] takes the receiver.
    pub(crate) fn channel() -> (Self, WriterEnd) {
        let (queue, jobs) = std::sync::mpsc::sync_channel(QUEUE);
        let shared =
            Arc::new(Shared { hurry: AtomicBool::new(false), counters: Counters::default(), notes: Mutex::default() });
        (Self { queue, shared: Arc::clone(&shared) }, WriterEnd { jobs, shared })
    }

    /// Queues a write. Writes are committed in the order of these calls. `complete` always runs: with `Busy` at once
    /// when the queue is full.
    pub fn submit(&self, write: HotWrite, complete: Completion) {
        self.shared.counters.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(refused) = self.queue.try_send(Job::Write(Box::new(QueuedWrite::new(write, complete)))) {
            self.shared.counters.queued.fetch_sub(1, Ordering::Relaxed);
            let (job, error) = match refused {
                TrySendError::Full(job) => (job, StoreError::Busy),
                TrySendError::Disconnected(job) => (job, StoreError::closed()),
            };
            if let Job::Write(refused) = job {
                refused.end(Err(error));
            }
        }
    }

    /// As [`Writer::submit`], with a receiver to wait on. The write is queued when this returns.
    pub fn send(&self, write: HotWrite) -> oneshot::Receiver<Result<Committed, StoreError>> {
        let (tx, rx) = oneshot::channel();
        self.submit(write, Box::new(move |end| drop(tx.send(end.map_err(|not| not.error)))));
        rx
    }

    /// Queues a write and waits for its commit.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`, or `Conflict` for a command that has its row already, a device that is gone, or a key that
    /// was used.
    pub async fn commit(&self, write: HotWrite) -> Result<Committed, StoreError> {
        self.send(write).await.unwrap_or_else(|_| Err(StoreError::closed()))
    }

    /// Remembers what a session knows; written with a later transaction, the last word per device.
    pub fn note(&self, seen: DevicePresence) {
        let seen = DevicePresence { firmware: seen.firmware.map(crate::db::storable), ..seen };
        let mut notes = self.shared.notes.lock();
        match notes.entry(seen.device) {
            std::collections::hash_map::Entry::Vacant(e) => drop(e.insert(seen)),
            std::collections::hash_map::Entry::Occupied(mut e) => {
                let old = e.get_mut();
                old.last_seen_at = seen.last_seen_at;
                old.ip = seen.ip.or(old.ip.take());
                old.firmware = seen.firmware.or(old.firmware.take());
                old.online = seen.online.or(old.online);
            }
        }
    }

    /// Waits until everything queued and noted before is written.
    pub async fn flush(&self) {
        let (tx, rx) = oneshot::channel();
        let mut job = Job::Flush(tx);
        // A full queue drains within milliseconds; a stopped one has nothing left to flush.
        while let Err(refused) = self.queue.try_send(job) {
            match refused {
                TrySendError::Full(back) => job = back,
                TrySendError::Disconnected(_) => return,
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let _ = rx.await;
    }

    /// From now on a database that does not take a write is given up soon: the process stops, and whoever waits is to hear
    /// what became of their write before it ends.
    pub fn hurry(&self) {
        self.shared.hurry.store(true, Ordering::Release);
    }

    pub(crate) fn stop(&self) {
        // Blocks until there is room; called while closing, off the async threads.
        let _ = self.queue.send(Job::Stop);
    }

    pub(crate) fn tail_is(&self, rows: u64) {
        self.shared.counters.tail.store(rows, Ordering::Relaxed);
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What it has done so far.
    pub fn stats(&self) -> WriterStats {
        let c = &self.shared.counters;
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        WriterStats {
            batches: get(&c.batches),
            rows: get(&c.rows),
            hot_transactions: get(&c.hot),
            cold_transactions: get(&c.cold),
            statements: get(&c.statements),
            queued: get(&c.queued),
            tail_rows: get(&c.tail),
            batch_sizes: c.sizes.iter().map(get).collect(),
        }
    }
}

/// The thread's end of the queue.
pub(crate) struct WriterEnd {
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_nobody_takes_comes_back_to_whoever_gave_it() {
        let (tell, told) = std::sync::mpsc::sync_channel(2);
        let complete: Completion = Box::new(move |end| drop(tell.send(end)));
        drop(QueuedWrite::new(HotWrite::of(DeviceKey(7)), complete));
        let not = told.try_recv().unwrap().unwrap_err();
        assert_eq!(not.write.device, DeviceKey(7));
        assert!(matches!(not.error, StoreError::Unavailable { .. }), "{}", not.error);
        assert!(told.try_recv().is_err(), "once");
    }
}
