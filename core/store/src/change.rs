//! The one way to make changes: whatever is written beside the hot path goes through [`Store::change`].
//!
//! A change is given as work on an open transaction. It runs in the store's own task, not in its caller's: a caller that
//! goes away changes nothing about it. The task holds the gate from the beginning of the transaction until the end of
//! COMMIT is known, then has every committed change applied to the memory of this process, and only then lets the next
//! writer in, so that nobody ever sees a database and a memory that disagree and then acts on it (docs/adr/0027).
//! Changes that wait together share one transaction, each behind a savepoint, so that a burst of small ones costs few
//! commits and a relay command waits for one group of them at the most.

mod link;
mod worker;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use hexa_model::{Change, DeviceKey, Grant, UserKey};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::{Store, Tx};

pub(crate) use link::{Link, head_of};
pub(crate) use worker::{Outfit, Worker};

/// Changes that may wait; the next one is refused with `Busy`.
const QUEUE: usize = 1024;

/// Work on an open transaction.
pub type Work<'t, T, E> = Pin<Box<dyn Future<Output = Result<Changed<T>, E>> + Send + 't>>;

/// What work gives: it is committed, and then these changes are applied.
#[derive(Debug)]
pub struct Changed<T> {
    /// What the caller hears after the commit.
    pub answer: T,
    /// What it means for the memory of every process.
    pub changes: Vec<Change>,
}

impl<T> Changed<T> {
    /// Of something that no process keeps in memory.
    pub fn only(answer: T) -> Self {
        Self { answer, changes: Vec::new() }
    }
}

/// A committed change with what the database says of it: what there is to apply.
#[derive(Debug)]
pub enum Fact {
    /// A change that says all there is to apply.
    Plain(Change),
    /// Of a device, with its access as it is now.
    Device(Change, Option<DeviceAccess>),
}

impl Fact {
    /// The change that was committed.
    pub fn change(&self) -> &Change {
        match self {
            Self::Plain(change) | Self::Device(change, _) => change,
        }
    }
}

/// Who may do what with a device, as it is stored.
#[derive(Clone, Debug)]
pub struct DeviceAccess {
    /// Raised with each change of it.
    pub version: i64,
    /// The owner; none while it is unclaimed.
    pub owner: Option<UserKey>,
    /// Whether it may connect; false when an admin disabled it.
    pub active: bool,
    /// Grants that have not ended, in the order in which they were made.
    pub grants: Vec<Grant>,
}

/// Keeps the memory of a process in step with what it commits.
pub trait Observer: Send + Sync + 'static {
    /// Applies committed changes, in the order of their commits. Called while every other writer waits: it must not
    /// block, wait or write. Applying one late or twice does no harm.
    fn apply(&self, facts: &[Fact]);
}

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It waits for changes before it.
    Waiting,
    /// Its statements are being run.
    Working,
    /// COMMIT was sent and has not been answered.
    Committing,
    /// It is stored and is being applied.
    Following,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Working, Self::Committing, Self::Following];

    /// The value of the metrics' label `stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Working => "working",
            Self::Committing => "committing",
            Self::Following => "following",
        }
    }
}

/// The end that callers hold.
pub(crate) struct Changes {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    /// Changes whose caller went away before their end, by stage.
    abandoned: Arc<[AtomicU64; 4]>,
}

impl Changes {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Box<dyn Job>>) {
        let (queue, jobs) = mpsc::channel(QUEUE);
        (Self { queue: Mutex::new(Some(queue)), abandoned: Arc::default() }, jobs)
    }

    /// No change is taken any more; those that wait are still made.
    pub(crate) fn close(&self) {
        *self.queue.lock() = None;
    }

    fn send(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let queue = self.queue.lock();
        match queue.as_ref().map(|queue| queue.try_send(job)) {
            Some(Ok(())) => Ok(()),
            Some(Err(mpsc::error::TrySendError::Full(_))) => Err(StoreError::Busy),
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => Err(StoreError::closed()),
        }
    }
}

/// A change as the worker sees it, whatever its types are.
pub(crate) trait Job: Send {
    /// Runs its statements; `None` when it refused, so that they are undone.
    fn work<'t>(&'t mut self, tx: &'t mut Tx) -> Pin<Box<dyn Future<Output = Option<Vec<Fact>>> + Send + 't>>;
    /// Notes how far it is.
    fn at(&self, stage: Stage);
    /// Gives its caller what the work gave.
    fn finish(self: Box<Self>);
    /// Gives its caller this error instead.
    fn fail(self: Box<Self>, error: StoreError);
}

struct Typed<T, E, F> {
    work: Option<F>,
    given: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
    stage: Arc<AtomicU8>,
}

impl<T, E, F> Job for Typed<T, E, F>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T, E> + Send + 'static,
{
    fn work<'t>(&'t mut self, tx: &'t mut Tx) -> Pin<Box<dyn Future<Output = Option<Vec<Fact>>> + Send + 't>> {
        Box::pin(async move {
            let work = self.work.take()?;
            let (given, facts) = match work(tx).await {
                Ok(changed) => match tx.facts(changed.changes).await {
                    Ok(facts) => (Ok(changed.answer), Some(facts)),
                    Err(error) => (Err(error.into()), None),
                },
                Err(error) => (Err(error), None),
            };
            self.given = Some(given);
            facts
        })
    }
    fn at(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }
    fn finish(self: Box<Self>) {
        let given = self.given.unwrap_or_else(|| Err(StoreError::Panicked.into()));
        // Whoever is gone needs no answer.
        let _ = self.answer.send(given);
    }
    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.answer.send(Err(error.into()));
    }
}

/// Counts a caller that goes away before its change has ended.
struct Waiting {
    stage: Arc<AtomicU8>,
    abandoned: Arc<[AtomicU64; 4]>,
    ended: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.ended
            && let Some(count) = self.abandoned.get(usize::from(self.stage.load(Ordering::Acquire)))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Store {
    /// Makes a change. The work runs with others in one transaction, each behind a savepoint; an error that it gives
    /// undoes what it did and nothing else. It gives back every error of the database: PostgreSQL takes no statement after
    /// one, and the whole group would fail. It must await nothing but the store, and must not make another change.
    ///
    /// Whether the caller waits for the end or not makes no difference to the change.
    ///
    /// # Errors
    /// What the work gives; `Busy` when too many changes wait, `Unavailable` when nothing was changed, `Unknown` when the
    /// database fell silent at the commit.
    pub async fn change<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let stage = Arc::new(AtomicU8::new(Stage::Waiting as u8));
        let changes = &self.inner.changes;
        changes.send(Box::new(Typed { work: Some(work), given: None, answer, stage: Arc::clone(&stage) }))?;
        let mut waiting = Waiting { stage, abandoned: Arc::clone(&changes.abandoned), ended: false };
        let given = answered.await;
        waiting.ended = true;
        given.unwrap_or_else(|_| Err(StoreError::closed().into()))
    }

    /// From now on `observer` is given every committed change, after those that were there before it.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.inner.observers.write().push(observer);
    }

    /// What the database says of a change that was heard of from elsewhere.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn fact(&self, change: Change) -> Result<Fact, StoreError> {
        let Change::Device { device, .. } = &change else { return Ok(Fact::Plain(change)) };
        let access = self.device_access(*device).await?;
        Ok(Fact::Device(change, access))
    }

    /// Who may do what with a device now; none when it is gone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn device_access(&self, device: DeviceKey) -> Result<Option<DeviceAccess>, StoreError> {
        let Some(row) = crate::devices::access(device, self.reader()).await? else { return Ok(None) };
        Ok(Some(DeviceAccess { grants: crate::grants::living(device, self.reader()).await?, ..row }))
    }

    /// Changes whose caller went away before their end, since the start, by the stage at which it did.
    pub fn abandoned(&self) -> [(Stage, u64); 4] {
        let count = |stage: Stage| self.inner.changes.abandoned[stage as usize].load(Ordering::Relaxed);
        Stage::ALL.map(|stage| (stage, count(stage)))
    }
}

impl Tx {
    /// What there is to apply of these changes, as this transaction sees it.
    async fn facts(&mut self, changes: Vec<Change>) -> Result<Vec<Fact>, StoreError> {
        let mut facts = Vec::with_capacity(changes.len());
        for change in changes {
            facts.push(match &change {
                Change::Device { device, .. } => {
                    let device = *device;
                    let access = match crate::devices::access(device, self.on()).await? {
                        None => None,
                        Some(row) => {
                            Some(DeviceAccess { grants: crate::grants::living(device, self.on()).await?, ..row })
                        }
                    };
                    Fact::Device(change, access)
                }
                _ => Fact::Plain(change),
            });
        }
        Ok(facts)
    }
}
