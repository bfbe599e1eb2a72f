//! Audit rows that stand alone: refusals, security events, ends without a state.
//!
//! Rows that belong to a change are written in the change's own transaction (ADR 3), not here.

pub mod list;
pub mod retention;

use hexa_model::DeviceKey;
use hexa_model::audit::AuditEntry;
use hexa_store::{HotWrite, Store};
use smallvec::SmallVec;

/// Writes rows through the group commit.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
}

impl Audit {
    /// Over this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes a row and waits for its commit. A failure is logged: there is nobody to tell who could do more.
    pub async fn write(&self, device: DeviceKey, entry: AuditEntry) {
        let action = entry.action;
        let write = HotWrite { device, relays: SmallVec::new(), audit: Some(entry), durable: None };
        if let Err(error) = self.store.writer().commit(write).await {
            tracing::error!(%error, action, "audit row not written");
        }
    }

    /// Writes a row without waiting; in order with everything else of this process.
    pub fn note(&self, device: DeviceKey, entry: AuditEntry) {
        let action = entry.action;
        let write = HotWrite { device, relays: SmallVec::new(), audit: Some(entry), durable: None };
        let done = Box::new(move |commit: Result<_, hexa_store::StoreError>| {
            if let Err(error) = commit {
                tracing::error!(%error, action, "audit row not written");
            }
        });
        self.store.writer().submit(write, done);
    }
}
