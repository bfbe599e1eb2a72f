//! The writer's thread: drain, commit, complete; between batches the notes and the tail.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, oneshot};

use super::backend::Backend;
use super::batch::Cost;
use super::{Completion, HotWrite, Job, MAX_BATCH, Seen, WriterEnd, mover};
use crate::chain::Gate;
use crate::error::StoreError;

/// A batch of at least so many makes the next one worth waiting for.
const BUSY_BATCH: usize = 4;
/// So many make a batch that is worth its sync: nothing is gained by waiting for more.
const ENOUGH: usize = 32;
/// Without a write for so long, housekeeping may run.
const IDLE: Duration = Duration::from_secs(1);

pub(crate) struct ThreadConfig {
    pub(crate) linger: Duration,
    pub(crate) note_flush: Duration,
}

struct Thread {
    end: WriterEnd,
    backend: Box<dyn Backend>,
    gate: Arc<Mutex<Gate>>,
    config: ThreadConfig,
    noted: Instant,
    batch: Vec<(HotWrite, Completion)>,
    flushes: Vec<oneshot::Sender<()>>,
    stopping: bool,
}

/// Runs until told to stop, then writes what is queued and noted, and drops its connection.
pub(crate) fn run(
    end: WriterEnd,
    mut backend: Box<dyn Backend>,
    gate: Arc<Mutex<Gate>>,
    config: ThreadConfig,
    started: impl FnOnce(),
) {
    let batch = Vec::with_capacity(MAX_BATCH);
    let noted = Instant::now();
    backend.start();
    started();
    let mut thread = Thread { end, backend, gate, config, noted, batch, flushes: Vec::new(), stopping: false };
    thread.run();
}

impl Thread {
    fn run(&mut self) {
        let mut last_batch = 0;
        while !self.stopping {
            let wait = IDLE.min(self.config.note_flush);
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
            if self.end.shared.counters.tail.load(Relaxed) >= mover::FULL_TAIL {
                self.move_tail();
            }
            if self.noted.elapsed() >= self.config.note_flush || !self.flushes.is_empty() || self.stopping {
                self.save_notes();
            }
            for flushed in self.flushes.drain(..) {
                let _ = flushed.send(());
            }
        }
        self.save_notes();
        self.backend.stop();
        // Nobody may queue behind the stop: what did is told so.
        while let Ok(job) = self.end.jobs.try_recv() {
            if let Job::Write(write) = job {
                (write.1)(Err(StoreError::closed()));
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
        let counters = &self.end.shared.counters;
        let size = self.batch.len();
        counters.queued.fetch_sub(size as u64, Relaxed);
        let writes: Vec<&HotWrite> = self.batch.iter().map(|(write, _)| write).collect();
        let mut cost = Cost::default();
        let done = {
            let mut gate = self.gate.blocking_lock();
            self.backend.commit(&mut gate, &writes, &mut cost)
        };
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
                for ((_, complete), outcome) in self.batch.drain(..).zip(outcomes) {
                    complete(outcome);
                }
            }
            Err(error) => {
                tracing::error!(%error, writes = size, "group commit failed, nothing of it was stored");
                let why = error.to_string();
                for (_, complete) in self.batch.drain(..) {
                    complete(Err(StoreError::Unavailable { source: why.clone().into() }));
                }
            }
        }
    }

    fn idle(&mut self) {
        self.save_notes();
        if self.end.shared.counters.tail.load(Relaxed) > mover::IDLE_TAIL {
            self.move_tail();
        }
        self.backend.tidy(&self.gate, true);
    }

    fn move_tail(&mut self) {
        let counters = &self.end.shared.counters;
        let _head = self.gate.blocking_lock();
        counters.hot.fetch_add(1, Relaxed);
        match self.backend.move_tail() {
            Ok(moved) => drop(counters.tail.fetch_sub(moved, Relaxed)),
            Err(error) => tracing::error!(%error, "audit tail not moved"),
        }
    }

    fn save_notes(&mut self) {
        self.noted = Instant::now();
        let notes = std::mem::take(&mut *self.end.shared.notes.lock());
        if notes.is_empty() {
            return;
        }
        self.end.shared.counters.hot.fetch_add(1, Relaxed);
        let saved = {
            let _head = self.gate.blocking_lock();
            let notes: Vec<&Seen> = notes.values().collect();
            self.backend.save_notes(&notes)
        };
        if let Err(error) = saved {
            tracing::warn!(%error, devices = notes.len(), "last seen times not stored, will retry");
            let mut waiting = self.end.shared.notes.lock();
            for (device, seen) in notes {
                waiting.entry(device).or_insert(seen);
            }
        }
    }
}
