//! Cold write transactions. Short by contract: while one is open, the hot writer waits.

use hexa_model::audit::{AuditEntry, RelayStates};
use sqlx::{Postgres, Sqlite, SqlitePool, Transaction};
use tokio::sync::OwnedMutexGuard;

use crate::chain::{ChainHead, ChainedRow, Gate};
use crate::db::{Db, On, query, within};
use crate::error::StoreError;
use crate::{Store, writer};

/// An open write transaction (SQLite: `BEGIN IMMEDIATE`; PostgreSQL: READ COMMITTED, so every claim and count is one
/// conditional statement). Dropping it without [`Tx::commit`] rolls everything back.
///
/// It holds the gate that the hot writer also takes, so the two never meet in the database and the audit chain has
/// one head: await nothing but the store while it is open.
pub struct Tx {
    // Declared first: the rollback of a dropped transaction is queued before the gate opens.
    inner: Inner,
    head: ChainHead,
    gate: OwnedMutexGuard<Gate>,
    rows: u64,
    store: Store,
}

enum Inner {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Store {
    /// Begins a cold write.
    ///
    /// # Errors
    /// `Unavailable` when the database is closed or broken.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let mut gate = std::sync::Arc::clone(&self.inner.gate).lock_owned().await;
        if gate.stale {
            gate.head = self.chain_head().await?;
            gate.stale = false;
        }
        let inner = match &self.inner.db {
            Db::Sqlite { cold, .. } => Inner::Sqlite(begin_immediate(cold).await?),
            Db::Postgres(pool) => Inner::Postgres(within(pool.begin()).await?),
        };
        Ok(Tx { inner, head: gate.head.clone(), gate, rows: 0, store: self.clone() })
    }

    /// Where the chain stands in the database: behind the newest row, wherever that is.
    pub(crate) async fn chain_head(&self) -> Result<ChainHead, StoreError> {
        ChainHead::of(
            &self.inner.config.node,
            &query(crate::chain::NEWEST).bind(self.inner.config.node.as_str()).fetch_all(self.reader()).await?,
        )
    }
}

async fn begin_immediate(cold: &SqlitePool) -> sqlx::Result<Transaction<'static, Sqlite>> {
    match cold.begin_with("begin immediate").await {
        // SQLite rolls back by itself when the disk is full or fails; sqlx goes on counting the transaction, so the
        // connection would refuse every later one.
        Err(sqlx::Error::InvalidSavePointStatement) => {
            cold.acquire().await?.close().await?;
            cold.begin_with("begin immediate").await
        }
        begun => begun,
    }
}

impl Tx {
    pub(crate) fn on(&mut self) -> On<'_> {
        match &mut self.inner {
            Inner::Sqlite(tx) => On::SqliteTx(tx),
            Inner::Postgres(tx) => On::PostgresTx(tx),
        }
    }

    /// Appends to the audit, in this transaction.
    pub async fn audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let row = self.head.append(entry, &RelayStates::new());
        let ChainedRow { seq, at, follow_up, relay, state, latency_ms, .. } = row;
        query(writer::INSERT_AUDIT)
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
            .bind(row.prev)
            .bind(row.hash)
            .execute(self.on())
            .await?;
        self.rows += 1;
        Ok(())
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// `Unavailable`: nothing was stored, or (PostgreSQL, when the connection broke at this very moment) it is not
    /// known whether it was.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        // Until the commit is known to have been done, the chain's head is whatever the database will say.
        self.gate.stale = true;
        match self.inner {
            Inner::Sqlite(tx) => tx.commit().await?,
            Inner::Postgres(tx) => within(tx.commit()).await?,
        }
        self.gate.head = self.head;
        self.gate.stale = false;
        self.store.writer().cold_committed(self.rows);
        Ok(())
    }
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("audit_rows", &self.rows).finish_non_exhaustive()
    }
}
