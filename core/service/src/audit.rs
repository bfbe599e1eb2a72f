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
use hexa_store::{HotWrite, Store};

use self::waiting::Waiting;
use crate::ops::metrics::Metrics;

/// Writes rows through the group commit.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
    pub(crate) waiting: Arc<Waiting>,
}

impl Audit {
    /// Over this store; what it does not take is counted.
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, waiting: Arc::new(Waiting::new(metrics)) }
    }

    /// Writes a row and waits for its commit. One that fails is kept: there is nobody to tell who could do more.
    pub async fn write(&self, device: DeviceKey, entry: AuditEntry) {
        let again = entry.clone();
        let write = HotWrite { audit: Some(entry), ..HotWrite::of(device) };
        match self.store.writer().commit(write).await {
            Ok(_) => self.waiting.committed(),
            Err(error) => self.waiting.add(again, None, &error),
        }
    }

    /// Writes a row without waiting; in order with everything else of this process. One that fails is kept.
    pub fn note(&self, device: DeviceKey, entry: AuditEntry) {
        let (again, waiting) = (entry.clone(), Arc::clone(&self.waiting));
        let write = HotWrite { audit: Some(entry), ..HotWrite::of(device) };
        let done = Box::new(move |commit: Result<_, hexa_store::StoreError>| {
            if let Err(error) = commit {
                waiting.add(again, None, &error);
            }
        });
        self.store.writer().submit(write, done);
    }
}
