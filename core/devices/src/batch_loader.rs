//! Reads of devices that come at the same time become one statement.
//!
//! After a restart or a broken uplink the whole fleet connects at once, and every connect reads the device's row. One
//! statement each would be most of what a connect costs; here the reads that arrive while one is under way wait for
//! it to end and then go together (docs/adr/0015). A lone read waits for nobody.

use std::collections::HashMap;
use std::sync::Arc;

use hexa_model::DeviceUid;
use hexa_model::audit::RelayStates;
use hexa_store::{DeviceRow, Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use hexa_platform::error::{Error, Result};
use hexa_platform::metrics::Metrics;

/// Devices in one statement: what it wakes runs before others get a turn, so it stays in the range of a millisecond.
const MAX_BATCH: usize = 64;

/// A device as it is stored.
pub(crate) struct Stored {
    /// The row of the table of devices.
    pub row: DeviceRow,
    /// Its relays, if they were asked for.
    pub states: Option<RelayStates>,
}

struct Waiter {
    uid: DeviceUid,
    with_states: bool,
    answer: oneshot::Sender<Result<Option<Stored>>>,
}

/// At most one waiter per connection or command: bounded by theirs.
#[derive(Default)]
struct Waiting {
    reading: bool,
    all: Vec<Waiter>,
}

/// The reads of one process.
pub(crate) struct DeviceLoader {
    store: Store,
    metrics: Arc<Metrics>,
    waiting: Arc<Mutex<Waiting>>,
}

impl DeviceLoader {
    pub(crate) fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, waiting: Arc::default() }
    }

    /// The device of this uid, as it was stored when this was called or later; `None` when there is none.
    pub(crate) async fn read(&self, uid: &DeviceUid, with_states: bool) -> Result<Option<Stored>> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock();
            waiting.all.push(Waiter { uid: uid.clone(), with_states, answer });
            !std::mem::replace(&mut waiting.reading, true)
        };
        if first {
            // A task of its own: the caller that came first may go away while the others wait.
            let (store, metrics) = (self.store.clone(), Arc::clone(&self.metrics));
            tokio::spawn(BatchSlot { store, metrics, waiting: Arc::clone(&self.waiting) }.run());
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::closed().into()))
    }
}

/// Whoever reads for all.
struct BatchSlot {
    store: Store,
    metrics: Arc<Metrics>,
    waiting: Arc<Mutex<Waiting>>,
}

impl BatchSlot {
    async fn run(self) {
        while let Some(waiters) = self.next() {
            self.answer(waiters).await;
        }
    }

    fn next(&self) -> Option<Vec<Waiter>> {
        let mut waiting = self.waiting.lock();
        let count = waiting.all.len().min(MAX_BATCH);
        // Oldest first. An empty list ends the turn under the same lock under which the next one would begin.
        waiting.reading = count > 0;
        waiting.reading.then(|| waiting.all.drain(..count).collect())
    }

    async fn answer(&self, waiters: Vec<Waiter>) {
        let uids: Vec<_> = waiters.iter().map(|w| &w.uid).collect();
        self.metrics.device_reads.inc();
        let rows = match self.store.devices_by_uid(&uids).await {
            Ok(rows) => rows,
            Err(error) => return all_failed(waiters, &error),
        };
        let found: Vec<_> = waiters.into_iter().zip(rows).collect();
        let keys: Vec<_> = found
            .iter()
            .filter(|(waiter, _)| waiter.with_states)
            .filter_map(|(_, row)| row.as_ref().ok()?.as_ref().map(|r| r.key))
            .collect();
        let states = if keys.is_empty() { Ok(HashMap::new()) } else { self.store.relay_states_of(&keys).await };
        let mut states = match states {
            Ok(states) => states,
            Err(error) => return all_failed(found.into_iter().map(|(waiter, _)| waiter), &error),
        };
        for (waiter, row) in found {
            let stored = row.map_err(Error::from).map(|row| {
                row.map(|row| {
                    let states = waiter.with_states.then(|| states.remove(&row.key).unwrap_or_default());
                    Stored { row, states }
                })
            });
            // Whoever is gone needs no answer.
            let _ = waiter.answer.send(stored);
        }
    }
}

/// A turn that panics must not leave the others waiting for ever.
impl Drop for BatchSlot {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        if std::thread::panicking() {
            waiting.reading = false;
            waiting.all.clear();
        }
    }
}

fn all_failed(waiters: impl IntoIterator<Item = Waiter>, error: &StoreError) {
    for waiter in waiters {
        let _ = waiter.answer.send(Err(StoreError::unavailable(error.to_string()).into()));
    }
}
