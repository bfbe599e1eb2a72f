//! Audit rows that the database did not take: kept, bounded, and written with a later commit.
//!
//! A device has acted, and only its row says for whom: a queue that is full, a lock, a connection that breaks, or a
//! device that is deleted before the commit must not lose it. The states that belonged to a row are written with it
//! where nothing later was said of the relay meanwhile. What waits is in memory: a crash loses it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hexa_model::CommandId;
use hexa_model::audit::AuditEntry;
use hexa_store::{Committed, HotWrite, StoreError, Writer};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::Platform;
use crate::metrics::Metrics;
use crate::worker::{self, RunsOn, WorkerSpec};

/// Rows that may wait; the next one is given up, and counted. Rows that are not about a command may take half of it, so
/// that refusals, of which anybody can cause many, push out no command.
pub const MAX_WAITING: usize = 4_096;
/// Rows that are tried together.
const MAX_BATCH: usize = 128;
/// How often they are tried when nothing else is written.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// The same during a stop, which has little time.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The states of a write that failed with its row: written with it where nothing later was said of them meanwhile.
pub trait UnwrittenStates: Debug + Send + Sync {
    /// Hands the row to the writer, with those of the states that are still the last word; says whether there are any.
    fn submit(&self, writer: &Writer, row: AuditEntry) -> (bool, oneshot::Receiver<Result<Committed, StoreError>>);
    /// That write has ended.
    fn ended(&self, committed: bool);
}

#[derive(Clone, Debug)]
struct Row {
    place: u64,
    entry: AuditEntry,
    states: Option<Arc<dyn UnwrittenStates>>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    rows: VecDeque<Row>,
}

/// Audit rows that the database has not taken yet, in the order in which they arose; at most [`MAX_WAITING`].
#[derive(Debug)]
pub struct Waiting {
    list: Mutex<List>,
    /// As many as are in the list: looked at after each commit, without its lock.
    count: AtomicUsize,
    wake: Notify,
    /// One writes at a time, so that rows keep their order.
    turn: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
}

impl Waiting {
    /// Nothing waits; what is given up is counted.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            list: Mutex::default(),
            count: AtomicUsize::new(0),
            wake: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// A row was not written.
    pub fn add(&self, entry: AuditEntry, states: Option<Arc<dyn UnwrittenStates>>, error: &StoreError) {
        let mut list = self.list.lock();
        let room = if entry.command.is_some() { MAX_WAITING } else { MAX_WAITING / 2 };
        let (action, command) = (entry.action, entry.command.map(|c| c.to_string()));
        if list.rows.len() >= room {
            self.metrics.audit_dropped.inc();
            drop(list);
            tracing::error!(%error, action, command.id = command, "audit row given up: too many wait for the database");
            return;
        }
        list.next += 1;
        let place = list.next;
        list.rows.push_back(Row { place, entry, states });
        self.counted(&list);
        drop(list);
        tracing::warn!(%error, action, command.id = command, "audit row not written yet; it is kept and tried again");
        self.wake.notify_one();
    }

    /// Something was written: whatever waits may be, too.
    pub fn committed(&self) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.wake.notify_one();
        }
    }

    /// The rows of a command that wait: the primary one and the follow-up.
    pub fn of(&self, id: CommandId) -> (Option<AuditEntry>, Option<AuditEntry>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return (None, None);
        }
        let list = self.list.lock();
        let find = |follow_up: bool| {
            list.rows.iter().map(|r| &r.entry).find(|e| e.command == Some(id) && e.follow_up == follow_up).cloned()
        };
        (find(false), find(true))
    }

    fn counted(&self, list: &List) {
        self.count.store(list.rows.len(), Ordering::Release);
        self.metrics.audit_waiting.set(i64::try_from(list.rows.len()).unwrap_or(i64::MAX));
    }

    fn remove(&self, place: u64) {
        let mut list = self.list.lock();
        list.rows.retain(|r| r.place != place);
        self.counted(&list);
    }

    /// The rows of the next attempt: the oldest ones, at most `MAX_BATCH`. They stay in the list.
    fn oldest(&self) -> Vec<Row> {
        self.list.lock().rows.iter().take(MAX_BATCH).cloned().collect()
    }

    /// Tries the oldest ones; false when the database did not take them, or nothing waits.
    async fn pass(&self, platform: &Platform) -> bool {
        let _turn = self.turn.lock().await;
        let mut sent = Vec::new();
        for Row { place, entry, states } in self.oldest() {
            match is_there(platform, &entry).await {
                Ok(true) => self.remove(place),
                Ok(false) => {
                    let (with_states, end) = submit(platform.store.writer(), entry, states.as_deref());
                    sent.push((place, states, with_states, end));
                }
                Err(_) => return false,
            }
        }
        let mut all = !sent.is_empty();
        for (place, states, with_states, end) in sent {
            let end = end.await.unwrap_or_else(|_| Err(StoreError::closed()));
            if let Some(states) = &states {
                states.ended(end.is_ok());
            }
            match end {
                Ok(_) => self.remove(place),
                // Its device is gone: the row alone is due.
                Err(StoreError::Conflict(_)) if with_states => self.without_states(place),
                // There is such a row.
                Err(StoreError::Conflict(_)) => self.remove(place),
                Err(_) => all = false,
            }
        }
        all
    }

    fn without_states(&self, place: u64) {
        if let Some(row) = self.list.lock().rows.iter_mut().find(|r| r.place == place) {
            row.states = None;
        }
    }
}

/// Whether the row was stored after all: of a commit whose answer was lost nobody may have known.
async fn is_there(platform: &Platform, entry: &AuditEntry) -> Result<bool, StoreError> {
    let Some(id) = entry.command else { return Ok(false) };
    let row = platform.store.command_result(id).await?;
    Ok(row.is_some_and(|row| !entry.follow_up || row.follow_up.is_some()))
}

/// Hands a row to the writer, with what is left of its states.
fn submit(
    writer: &Writer,
    entry: AuditEntry,
    states: Option<&dyn UnwrittenStates>,
) -> (bool, oneshot::Receiver<Result<Committed, StoreError>>) {
    if let Some(states) = states {
        return states.submit(writer, entry);
    }
    let device = entry.device.unwrap_or(hexa_model::DeviceKey(0));
    (false, writer.send(HotWrite::row(device, entry)))
}

const WRITES_WAITING: WorkerSpec = WorkerSpec {
    name: "audit_waiting",
    purpose: "writes audit rows that the database did not take",
    runs_on: RunsOn::EveryNode,
};

/// Starts the worker that writes what waits.
pub fn start(platform: &Arc<Platform>) {
    let shared = Arc::clone(platform);
    platform.workers.ongoing(WRITES_WAITING, move |_| {
        let platform = Arc::clone(&shared);
        worker::run(async move {
            write_waiting(platform).await;
            Ok::<_, String>(())
        })
    });
}

/// Writes what waits, until the server stops.
async fn write_waiting(platform: Arc<Platform>) {
    let waiting = Arc::clone(&platform.audit.waiting);
    loop {
        let woken = async {
            if waiting.count.load(Ordering::Acquire) == 0 {
                waiting.wake.notified().await;
            } else {
                let _ = tokio::time::timeout(RETRY_EVERY, waiting.wake.notified()).await;
            }
        };
        tokio::select! {
            () = platform.stop.cancelled() => return,
            () = woken => {}
        }
        while waiting.pass(&platform).await {}
    }
}

/// Before the store is closed: goes on trying until nothing waits or it is aborted. What it has given to the writer is taken
/// off the list when the writer has answered, which it does at the latest when it is closed.
pub fn flush(platform: &Arc<Platform>) -> JoinHandle<()> {
    let platform = Arc::clone(platform);
    tokio::spawn(async move {
        let waiting = &platform.audit.waiting;
        while waiting.count.load(Ordering::Acquire) > 0 {
            if !waiting.pass(&platform).await {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    })
}

/// After the store was closed: how many rows are lost. Each of them is in the log then: it was promised that it would be
/// stored, and whoever reads the log can say what became of the command.
pub fn lost(platform: &Platform) -> usize {
    let list = platform.audit.waiting.list.lock();
    for Row { entry, states, .. } in &list.rows {
        tracing::error!(
            at = entry.at.0,
            actor = ?entry.actor,
            action = entry.action,
            command.id = entry.command.map(tracing::field::display),
            device.key = entry.device.map(|device| device.0),
            outcome = entry.outcome.as_str(),
            details = entry.details,
            states = states.as_ref().map(tracing::field::debug),
            "audit row lost: the database did not take it before the stop"
        );
    }
    list.rows.len()
}

#[cfg(test)]
mod tests;
