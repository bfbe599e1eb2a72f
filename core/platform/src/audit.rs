//! Audit rows that stand alone: refusals, security events, ends without a state.
//!
//! Rows that belong to a change are written in the change's own transaction (ADR 3), not here. A row that the database
//! does not take is kept, and written with a later commit ([`waiting`]).

pub mod list;
pub mod retention;
pub mod waiting;

use std::sync::Arc;

use hexa_model::DeviceKey;
use hexa_model::audit::AuditEntry;
use hexa_store::{HotWrite, NotWritten, Store};
use tokio::sync::oneshot;

use self::waiting::Waiting;
use crate::metrics::Metrics;

/// Writes rows through the group commit.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
    /// Rows that the database did not take yet.
    pub waiting: Arc<Waiting>,
}

impl Audit {
    /// Over this store; what it does not take is counted.
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, waiting: Arc::new(Waiting::new(metrics)) }
    }

    /// Writes a row and waits for its commit. One that fails is kept: there is nobody to tell who could do more.
    pub async fn write(&self, device: DeviceKey, entry: AuditEntry) {
        let (tx, ended) = oneshot::channel();
        self.submit(device, entry, move || {
            let _ = tx.send(());
        });
        let _ = ended.await;
    }

    /// Writes a row without waiting; in order with everything else of this process. One that fails is kept.
    pub fn note(&self, device: DeviceKey, entry: AuditEntry) {
        self.submit(device, entry, || ());
    }

    fn submit(&self, device: DeviceKey, entry: AuditEntry, then: impl FnOnce() + Send + 'static) {
        let waiting = Arc::clone(&self.waiting);
        let done = move |end: Result<_, NotWritten>| {
            match end {
                Ok(_) => waiting.committed(),
                Err(NotWritten { error, write }) => {
                    if let Some(entry) = write.audit {
                        waiting.add(entry, None, &error);
                    }
                }
            }
            then();
        };
        self.store.writer().submit(HotWrite::row(device, entry), Box::new(done));
    }
}
