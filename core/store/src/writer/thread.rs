//! The writer's thread: drain, commit, complete; between batches the notes and the tail.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::RecvTimeoutError;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, oneshot};

use super::backend::Backend;
use super::batch::Cost;
use super::{DevicePresence, HotWrite, Job, MAX_BATCH, QueuedWrite, WriterEnd, mover};
use crate::chain::ChainLock;
use crate::db::QUERY_TIMEOUT;
use crate::error::StoreError;
use crate::health::WriteHealth;

/// A batch of at least so many makes the next one worth waiting for.
const BUSY_BATCH: usize = 4;
/// So many make a batch that is worth its sync: nothing is gained by waiting for more.
const ENOUGH: usize = 32;
/// Devices whose notes are written in one transaction.
const NOTES: usize = 1_000;
/// Without a write for so long, housekeeping may run.
const IDLE: Duration = Duration::from_secs(1);
/// For how long the database is waited for while the process stops.
const HURRY: Duration = Duration::from_millis(500);

pub(crate) struct ThreadConfig {
    pub(crate) linger: Duration,
    pub(crate) note_flush: Duration,
}

struct Thread {
    end: WriterEnd,
    backend: Box<dyn Backend>,
    gate: Arc<Mutex<ChainLock>>,
    health: Arc<WriteHealth>,
    config: ThreadConfig,
    noted: Instant,
    /// Notes that are being written, a piece after each batch.
    noting: Vec<DevicePresence>,
    /// When the audit's tail was last moved.
    moved: Instant,
    batch: Vec<QueuedWrite>,
    flushes: Vec<oneshot::Sender<()>>,
    stopping: bool,
    /// For how long the gate and the database are waited for.
    patience: Duration,
}

/// Runs until told to stop, then writes what is queued and noted, and drops its connection.
pub(crate) fn run(
    end: WriterEnd,
    mut backend: Box<dyn Backend>,
    (gate, health): (Arc<Mutex<ChainLock>>, Arc<WriteHealth>),
    config: ThreadConfig,
    started: impl FnOnce(),
) {
    let batch = Vec::with_capacity(MAX_BATCH);
    let noted = Instant::now();
    backend.start();
    started();
    let mut thread = Thread {
        end,
        backend,
        gate,
        health,
        config,
        noted,
        noting: Vec::new(),
        moved: noted,
        batch,
        flushes: Vec::new(),
        stopping: false,
        patience: QUERY_TIMEOUT,
    };
    thread.run();
}

/// Another writer's transaction has no end: its database is away.
fn held() -> StoreError {
    StoreError::unavailable("another write waits for the database")
}

/// Takes the gate, or gives up after this time: a change whose commit has no answer holds it until there is one, and
/// whoever waits behind it must hear something.
fn lock_within(gate: &Mutex<ChainLock>, patience: Duration) -> Option<MutexGuard<'_, ChainLock>> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    if let Ok(free) = gate.try_lock() {
        return Some(free);
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut locking = pin!(gate.lock());
    let until = Instant::now() + patience;
    loop {
        if let Poll::Ready(locked) = locking.as_mut().poll(&mut context) {
            return Some(locked);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}

impl Thread {
    fn run(&mut self) {
        let mut last_batch = 0;
        while !self.stopping {
            let wait = if self.noting.is_empty() { IDLE.min(self.config.note_flush) } else { Duration::ZERO };
            match self.end.jobs.recv_timeout(wait) {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {
                    self.idle();
                    last_batch = 0;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.drain();
            if last_batch >= BUSY_BATCH && !self.config.linger.is_zero() && self.batch.len() < ENOUGH {
                std::thread::sleep(self.config.linger);
                self.drain();
            }
            last_batch = self.batch.len();
            self.commit();
            self.backend.tidy(&self.gate, false);
            let tail = self.end.shared.counters.tail.load(Relaxed);
            let quiet = last_batch < BUSY_BATCH && self.moved.elapsed() >= IDLE;
            if tail >= mover::FULL_TAIL || quiet && tail > mover::IDLE_TAIL {
                self.move_tail();
            }
            if !self.flushes.is_empty() || self.stopping {
                self.save_all_notes();
            } else if self.noting.is_empty() && self.noted.elapsed() >= self.config.note_flush {
                self.collect_notes();
            } else {
                self.save_some_notes();
            }
            for flushed in self.flushes.drain(..) {
                let _ = flushed.send(());
            }
        }
        self.save_all_notes();
        self.backend.stop();
        // Nobody may queue behind the stop: what did is told so.
        while let Ok(job) = self.end.jobs.try_recv() {
            if let Job::Write(refused) = job {
                refused.end(Err(StoreError::closed()));
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Write(write) => self.batch.push(*write),
            Job::Flush(done) => self.flushes.push(done),
            Job::Stop => self.stopping = true,
        }
    }

    fn drain(&mut self) {
        while self.batch.len() < MAX_BATCH {
            let Ok(job) = self.end.jobs.try_recv() else { return };
            self.take(job);
        }
    }

    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.look_at_hurry();
        let counters = &self.end.shared.counters;
        let size = self.batch.len();
        counters.queued.fetch_sub(size as u64, Relaxed);
        let writes: Vec<&HotWrite> = self.batch.iter().filter_map(QueuedWrite::write).collect();
        let mut cost = Cost::default();
        let done = self.health.check().and_then(|()| {
            let mut gate = lock_within(&self.gate, self.patience).ok_or_else(held)?;
            self.backend.commit(&mut gate, &writes, &mut cost)
        });
        drop(writes);
        counters.batches.fetch_add(1, Relaxed);
        counters.hot.fetch_add(1, Relaxed);
        counters.rows.fetch_add(size as u64, Relaxed);
        counters.statements.fetch_add(cost.statements, Relaxed);
        counters.tail.fetch_add(cost.audit_rows, Relaxed);
        let bucket = (size.ilog2() as usize).min(counters.sizes.len() - 1);
        counters.sizes[bucket].fetch_add(1, Relaxed);
        match done {
            Ok(outcomes) => {
                self.health.stored();
                for (queued, outcome) in self.batch.drain(..).zip(outcomes) {
                    queued.end(outcome);
                }
            }
            Err(error) => {
                let lost = matches!(error, StoreError::Unknown);
                let stored = if lost { "whether it was stored is not known" } else { "nothing of it was stored" };
                tracing::error!(%error, writes = size, "group commit failed, {stored}");
                self.health.failed(&error);
                for queued in self.batch.drain(..) {
                    queued.end(Err(error.again()));
                }
            }
        }
    }

    /// A stop has little time for a database that takes nothing.
    fn look_at_hurry(&mut self) {
        if self.patience != HURRY && self.end.shared.hurry.load(Relaxed) {
            self.patience = HURRY;
            self.backend.patience(HURRY);
        }
    }

    fn idle(&mut self) {
        self.look_at_hurry();
        if self.noting.is_empty() && self.noted.elapsed() >= self.config.note_flush {
            self.collect_notes();
        }
        self.save_some_notes();
        if self.end.shared.counters.tail.load(Relaxed) > mover::IDLE_TAIL {
            self.move_tail();
        }
        self.backend.tidy(&self.gate, true);
    }

    fn move_tail(&mut self) {
        self.moved = Instant::now();
        let counters = &self.end.shared.counters;
        let Some(mut head) = lock_within(&self.gate, self.patience) else { return };
        counters.hot.fetch_add(1, Relaxed);
        match self.backend.move_tail(&mut head) {
            Ok(moved) => counters.leave_tail(moved),
            Err(error) => tracing::error!(%error, "audit tail not moved"),
        }
    }

    fn collect_notes(&mut self) {
        self.noted = Instant::now();
        let notes = std::mem::take(&mut *self.end.shared.notes.lock());
        self.noting.extend(notes.into_values());
        // By key, the last one first: rows of one page are written together, and pieces are taken from the end.
        self.noting.sort_unstable_by_key(|seen| std::cmp::Reverse(seen.device));
    }

    /// Writes a piece of what was collected: a fleet's notes in one transaction would hold up every command.
    fn save_some_notes(&mut self) {
        if self.noting.is_empty() {
            return;
        }
        let piece = self.noting.split_off(self.noting.len().saturating_sub(NOTES));
        self.end.shared.counters.hot.fetch_add(1, Relaxed);
        let saved = self.health.check().and_then(|()| {
            let mut gate = lock_within(&self.gate, self.patience).ok_or_else(held)?;
            self.backend.save_notes(&mut gate, &piece.iter().collect::<Vec<_>>())
        });
        if let Err(error) = saved {
            tracing::warn!(%error, devices = piece.len(), "last seen times not stored, will retry");
            self.health.failed(&error);
            let mut waiting = self.end.shared.notes.lock();
            for seen in piece.into_iter().chain(self.noting.drain(..)) {
                waiting.entry(seen.device).or_insert(seen);
            }
        }
    }

    fn save_all_notes(&mut self) {
        self.collect_notes();
        while !self.noting.is_empty() {
            self.save_some_notes();
        }
    }
}
