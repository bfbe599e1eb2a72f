//! Cold write transactions. Short by contract: while one is open, the hot writer waits.

use hexa_model::audit::{AuditEntry, RelayStates};
use sqlx::{Sqlite, Transaction};
use tokio::sync::OwnedMutexGuard;

use crate::chain::{ChainHead, ChainedRow};
use crate::error::StoreError;
use crate::{Store, writer};

/// An open write transaction (`BEGIN IMMEDIATE`). Dropping it without [`Tx::commit`] rolls everything back.
///
/// It holds the gate that the hot writer also takes, so the two never meet in the database and the audit chain has
/// one head: await nothing but the store while it is open.
pub struct Tx {
    // Declared first: the rollback of a dropped transaction is queued before the gate opens.
    pub(crate) inner: Transaction<'static, Sqlite>,
    head: ChainHead,
    gate: OwnedMutexGuard<ChainHead>,
    rows: u64,
    store: Store,
}

impl Store {
    /// Begins a cold write.
    ///
    /// # Errors
    /// `Unavailable` when the database is closed or broken.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let gate = std::sync::Arc::clone(&self.inner.gate).lock_owned().await;
        let inner = self.inner.cold.begin_with("begin immediate").await?;
        Ok(Tx { inner, head: gate.clone(), gate, rows: 0, store: self.clone() })
    }
}

impl Tx {
    /// Appends to the audit, in this transaction.
    pub async fn audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let row = self.head.append(entry, &RelayStates::new());
        let ChainedRow { seq, at, follow_up, relay, state, latency_ms, .. } = row;
        sqlx::query(writer::INSERT_AUDIT)
            .bind(seq)
            .bind(self.head.node.clone())
            .bind(at)
            .bind(row.actor_kind)
            .bind(row.actor_id)
            .bind(row.source)
            .bind(row.action)
            .bind(row.device_id)
            .bind(row.command_id.map(|c| c.to_vec()))
            .bind(follow_up)
            .bind(row.outcome)
            .bind(relay)
            .bind(state)
            .bind(latency_ms)
            .bind(row.changes)
            .bind(row.details)
            .bind(row.prev.to_vec())
            .bind(row.hash.to_vec())
            .execute(&mut *self.inner)
            .await?;
        self.rows += 1;
        Ok(())
    }

    /// Makes it durable.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.inner.commit().await?;
        *self.gate = self.head;
        self.store.writer().cold_committed(self.rows);
        Ok(())
    }
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("audit_rows", &self.rows).finish_non_exhaustive()
    }
}
