//! Audit rows that the database did not take: kept, bounded, and written with a later commit.
//!
//! A device has acted, and only its row says for whom: a queue that is full, a lock, a connection that breaks, or a
//! device that is deleted before the commit must not lose it. The states that belonged to a row are written with it
//! where nothing later was said of the relay meanwhile. What waits is in memory: a crash loses it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hexa_model::CommandId;
use hexa_model::audit::{AuditEntry, RelaySets};
use hexa_store::{HotWrite, StoreError};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::Services;
use crate::device::live::DeviceHandle;
use crate::ops::metrics::Metrics;
use crate::relay::cache::Change;
use crate::relay::machine::Machine;
use crate::relay::path::{self, CommitResult};

/// Rows that may wait; the next one is given up, and counted. Rows that are not about a command may take half of it, so
/// that refusals, of which anybody can cause many, push out no command.
pub const MAX_WAITING: usize = 4_096;
/// Rows that are tried together.
const MAX_BATCH: usize = 128;
/// How often they are tried when nothing else is written.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// The same during a stop, which has little time.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The states of a write that failed with its row.
#[derive(Debug)]
pub(crate) struct States {
    pub(crate) live: Arc<DeviceHandle>,
    pub(crate) sets: RelaySets,
    /// The write's number at the device.
    pub(crate) number: u64,
}

#[derive(Clone, Debug)]
struct Row {
    place: u64,
    entry: AuditEntry,
    states: Option<Arc<Mutex<States>>>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    rows: VecDeque<Row>,
}

/// What waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    list: Mutex<List>,
    /// As many as are in the list: looked at after each commit, without its lock.
    count: AtomicUsize,
    wake: Notify,
    /// One writes at a time, so that rows keep their order.
    turn: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
}

impl Waiting {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            list: Mutex::default(),
            count: AtomicUsize::new(0),
            wake: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// A row was not written.
    pub(crate) fn add(&self, entry: AuditEntry, states: Option<States>, error: &StoreError) {
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
        list.rows.push_back(Row { place, entry, states: states.map(|s| Arc::new(Mutex::new(s))) });
        self.counted(&list);
        drop(list);
        tracing::warn!(%error, action, command.id = command, "audit row not written yet; it is kept and tried again");
        self.wake.notify_one();
    }

    /// Something was written: whatever waits may be, too.
    pub(crate) fn committed(&self) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.wake.notify_one();
        }
    }

    /// The rows of a command that wait: the primary one and the follow-up.
    pub(crate) fn of(&self, id: CommandId) -> (Option<AuditEntry>, Option<AuditEntry>) {
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

    /// The oldest ones.
    fn oldest(&self) -> Vec<Row> {
        self.list.lock().rows.iter().take(MAX_BATCH).cloned().collect()
    }

    /// Tries the oldest ones; false when the database did not take them, or nothing waits.
    async fn pass(&self, services: &Services) -> bool {
        let _turn = self.turn.lock().await;
        let mut sent = Vec::new();
        for Row { place, entry, states } in self.oldest() {
            match is_there(services, &entry).await {
                Ok(true) => self.remove(place),
                Ok(false) => {
                    let (sets, number, end) = submit(services, entry, states.as_deref());
                    sent.push((place, states, (sets, number), end));
                }
                Err(_) => return false,
            }
        }
        let mut all = !sent.is_empty();
        for (place, states, (sets, number), end) in sent {
            let end = end.await.unwrap_or_else(|_| Err(StoreError::closed()));
            if let Some(states) = &states {
                let live = Arc::clone(&states.lock().live);
                path::publish(services, &live, (&sets, number), end.is_ok());
            }
            match end {
                Ok(_) => self.remove(place),
                // Its device is gone: the row alone is due.
                Err(StoreError::Conflict(_)) if !sets.is_empty() => self.without_states(place),
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
async fn is_there(services: &Services, entry: &AuditEntry) -> Result<bool, StoreError> {
    let Some(id) = entry.command else { return Ok(false) };
    let row = services.store.command_result(id).await?;
    Ok(row.is_some_and(|row| !entry.follow_up || row.follow_up.is_some()))
}

/// Hands a row to the writer, with those of its states that are still the last word on their relays.
fn submit(
    services: &Services,
    entry: AuditEntry,
    states: Option<&Mutex<States>>,
) -> (RelaySets, u64, oneshot::Receiver<CommitResult>) {
    let device = entry.device.unwrap_or(hexa_model::DeviceKey(0));
    let Some(mut states) = states.map(Mutex::lock) else {
        let write = HotWrite { audit: Some(entry), ..HotWrite::of(device) };
        return (RelaySets::new(), 0, services.store.writer().send(write));
    };
    let live = Arc::clone(&states.live);
    let (tx, end) = oneshot::channel();
    let mut given = RelaySets::new();
    // A deleted device has no states any more.
    let sets = if live.active() { states.sets.clone() } else { RelaySets::new() };
    live.again((&sets, states.number), |sets, number| {
        given.clone_from(&sets);
        states.number = number;
        let (source, command) = (entry.source, entry.command);
        let device = Arc::clone(&live);
        let complete = move |commit: CommitResult| {
            if let Ok(done) = &commit
                && !done.relays.is_empty()
            {
                let change = Change { source, command, relays: done.relays.clone(), at: done.at };
                device.cache.lock().arrived(change);
            }
            drop(tx.send(commit));
        };
        let write = HotWrite { relays: sets, audit: Some(entry), ..HotWrite::of(live.key) };
        services.store.writer().submit(write, Box::new(complete));
    });
    (given, states.number, end)
}

/// Writes what waits, until the server stops.
pub async fn keep(services: Arc<Services>) {
    let waiting = Arc::clone(&services.audit.waiting);
    loop {
        let woken = async {
            if waiting.count.load(Ordering::Acquire) == 0 {
                waiting.wake.notified().await;
            } else {
                let _ = tokio::time::timeout(RETRY_EVERY, waiting.wake.notified()).await;
            }
        };
        tokio::select! {
            () = services.stop.cancelled() => return,
            () = woken => {}
        }
        while waiting.pass(&services).await {}
    }
}

/// Before the store is closed: goes on trying until nothing waits or it is aborted. What it has given to the writer is taken
/// off the list when the writer has answered, which it does at the latest when it is closed.
pub fn flush(services: &Arc<Services>) -> JoinHandle<()> {
    let services = Arc::clone(services);
    tokio::spawn(async move {
        let waiting = &services.audit.waiting;
        while waiting.count.load(Ordering::Acquire) > 0 {
            if !waiting.pass(&services).await {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    })
}

/// After the store was closed: how many rows are lost. Each of them is in the log then: it was promised that it would be
/// stored, and whoever reads the log can say what became of the command.
pub fn lost(services: &Services) -> usize {
    let list = services.audit.waiting.list.lock();
    for Row { entry, states, .. } in &list.rows {
        tracing::error!(
            at = entry.at.0,
            actor = ?entry.actor,
            action = entry.action,
            command.id = entry.command.map(tracing::field::display),
            device.key = entry.device.map(|device| device.0),
            outcome = entry.outcome.as_str(),
            details = entry.details,
            states = states.as_ref().map(|states| tracing::field::debug(states.lock().sets.clone())),
            "audit row lost: the database did not take it before the stop"
        );
    }
    list.rows.len()
}

#[cfg(test)]
mod tests;
