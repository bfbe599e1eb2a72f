//! The task that makes changes: one group after the other.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::RwLock;
use tokio::sync::{Mutex, MutexGuard, mpsc};

use super::link::{End, Link};
use super::{Fact, Job, Observer, Stage};
use crate::Tx;
use crate::chain::ChainLock;
use crate::error::StoreError;
use crate::health::WriteHealth;
use crate::writer::Shared;

/// Changes in one transaction.
const MOST: usize = 128;
/// A group takes no further change after so long: a relay command that waits for it has been waiting since then.
const BUDGET: Duration = Duration::from_millis(4);
/// Callers hear after so long that it is not known whether their change was stored; it is found out all the same.
const TELL_AFTER: Duration = Duration::from_secs(5);
/// Between two tries to find it out.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What callers hear behind a commit that has no answer.
fn away() -> StoreError {
    StoreError::unavailable("another change waits for the database")
}

/// What the worker shares with the rest of the store.
pub(crate) struct Outfit {
    pub(crate) gate: Arc<Mutex<ChainLock>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) health: Arc<WriteHealth>,
    pub(crate) observers: Arc<RwLock<Vec<Arc<dyn Observer>>>>,
}

/// Makes changes until the last caller is gone.
pub(crate) struct Worker {
    jobs: mpsc::Receiver<Box<dyn Job>>,
    link: Link,
    outfit: Outfit,
}

/// A change that ran in the open transaction.
struct Ran {
    job: Box<dyn Job>,
    /// What is to be applied; none when it refused, and was undone.
    facts: Option<Vec<Fact>>,
}

impl Worker {
    pub(crate) fn new(jobs: mpsc::Receiver<Box<dyn Job>>, link: Link, outfit: Outfit) -> Self {
        Self { jobs, link, outfit }
    }

    /// Runs until no more changes can come; gives the connection back.
    pub(crate) async fn run(mut self) -> Link {
        while let Some(first) = self.jobs.recv().await {
            self.group(first).await;
        }
        self.link
    }

    /// Makes a change, and with it those that come while it runs.
    async fn group(&mut self, first: Box<dyn Job>) {
        let lock = Arc::clone(&self.outfit.gate);
        let mut gate = lock.lock().await;
        let began = match self.outfit.health.check() {
            Ok(()) => self.link.begin(&mut gate).await,
            Err(error) => Err(error),
        };
        let tx = match began {
            Ok(tx) => tx,
            Err(error) => {
                drop(gate);
                self.outfit.health.failed(&error);
                self.refuse(first, &error);
                return;
            }
        };
        let (tx, ran) = self.work(tx, first).await;
        let Some(tx) = tx else { return };
        self.commit(&mut gate, tx, ran).await;
    }

    /// The database takes nothing: whoever waits need not find that out one after the other.
    fn refuse(&mut self, first: Box<dyn Job>, error: &StoreError) {
        self.refuse_all(Some(first), error);
    }

    /// Those that have not begun, and this one; nothing of them was stored. All are taken before the first one hears:
    /// whoever tries again then is not told of a failure that was before.
    fn refuse_all(&mut self, first: Option<Box<dyn Job>>, error: &StoreError) {
        let mut refused: Vec<_> = first.into_iter().collect();
        while let Ok(job) = self.jobs.try_recv() {
            refused.push(job);
        }
        for job in refused {
            job.fail(error.again());
        }
    }

    /// Runs changes in the transaction; none of it is left when nothing is to be committed.
    async fn work(&mut self, mut tx: Tx, first: Box<dyn Job>) -> (Option<Tx>, Vec<Ran>) {
        let began = Instant::now();
        let mut ran: Vec<Ran> = Vec::new();
        let mut next = Some(first);
        while let Some(mut job) = next {
            job.at(Stage::Working);
            // The first one has the transaction to itself until it succeeded, and needs no savepoint.
            let alone = ran.is_empty();
            let before = tx.mark();
            if !alone && let Err(error) = tx.savepoint().await {
                self.give_up(tx, ran, Some(job), &error).await;
                return (None, Vec::new());
            }
            let facts = AssertUnwindSafe(job.work(&mut tx)).catch_unwind().await.unwrap_or_default();
            if let Some(error) = tx.fenced() {
                self.give_up(tx, ran, Some(job), &error).await;
                return (None, Vec::new());
            }
            if facts.is_none() && alone {
                job.finish();
                self.link.roll_back(tx).await;
                return (None, Vec::new());
            }
            if !alone {
                let done = if facts.is_some() { tx.release().await } else { tx.back_to(before).await };
                if let Err(error) = done {
                    self.give_up(tx, ran, Some(job), &error).await;
                    return (None, Vec::new());
                }
            }
            ran.push(Ran { job, facts });
            let more = ran.len() < MOST && began.elapsed() < BUDGET;
            next = if more { self.jobs.try_recv().ok() } else { None };
        }
        (Some(tx), ran)
    }

    /// The connection broke in the middle: nothing of it was stored.
    async fn give_up(&mut self, tx: Tx, ran: Vec<Ran>, last: Option<Box<dyn Job>>, error: &StoreError) {
        self.outfit.health.failed(error);
        for job in ran.into_iter().map(|r| r.job).chain(last) {
            job.fail(error.again());
        }
        self.link.roll_back(tx).await;
    }

    async fn commit(&mut self, gate: &mut MutexGuard<'_, ChainLock>, tx: Tx, ran: Vec<Ran>) {
        for one in &ran {
            one.job.at(Stage::Committing);
        }
        hexa_model::crash_point!("change.before_commit");
        let (rows, left_tail) = tx.tail_changes();
        let mut jobs: Vec<_> = ran.into_iter().map(|r| (Some(r.job), r.facts)).collect();
        let since = Instant::now();
        let end = match self.link.commit(gate, tx).await {
            End::Unknown(lost) => {
                let mut told = false;
                loop {
                    match self.link.find_out(gate, &lost).await {
                        End::Unknown(_) => {}
                        known => break known,
                    }
                    if !told && since.elapsed() >= TELL_AFTER {
                        told = true;
                        self.outfit.health.failed(&StoreError::Unknown);
                        for (job, _) in &mut jobs {
                            if let Some(job) = job.take() {
                                job.fail(StoreError::Unknown);
                            }
                        }
                    }
                    if told {
                        self.refuse_all(None, &away());
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
            known => known,
        };
        match end {
            End::Stored => {
                hexa_model::crash_point!("change.after_commit");
                self.outfit.health.stored();
                self.outfit.shared.cold_committed(rows, left_tail);
                for (job, facts) in &jobs {
                    if let Some(job) = job {
                        job.at(Stage::Following);
                    }
                    let Some(facts) = facts.as_ref().filter(|facts| !facts.is_empty()) else { continue };
                    for observer in self.outfit.observers.read().iter() {
                        observer.apply(facts);
                    }
                }
                for job in jobs.into_iter().filter_map(|(job, _)| job) {
                    job.finish();
                }
            }
            End::Undone(error) => {
                self.outfit.health.failed(&error);
                for job in jobs.into_iter().filter_map(|(job, _)| job) {
                    job.fail(error.again());
                }
            }
            // The loop above ends with something that is known.
            End::Unknown(_) => {}
        }
    }
}
