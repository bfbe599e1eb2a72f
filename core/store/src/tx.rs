//! An open write transaction, as the work of a change sees it. Short by contract: while one is open, every other writer
//! waits.

use hexa_model::audit::{AuditEntry, RelayStates};
use sqlx::{Executor as _, PgConnection, SqliteConnection};

use crate::chain::{ChainHead, ChainedRow, is_head, somebody_else};
use crate::db::{COMMIT, Executor, query, within};
use crate::error::StoreError;
use crate::open::generation::Transaction;
use crate::writer;

/// A write transaction that the store has begun (SQLite: `BEGIN IMMEDIATE`; PostgreSQL: READ COMMITTED, so every claim
/// and count is one conditional statement). Only [`Store::change`](crate::Store::change) makes one, and only it commits.
pub struct Tx {
    connection: Connection,
    head: ChainHead,
    /// What finds out, on PostgreSQL, what became of it.
    transaction: Option<Transaction>,
    rows: u64,
    left_tail: u64,
    /// Why this process may not write any more, as a statement of the work found out.
    fenced: Option<StoreError>,
}

/// The connection it is open on.
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A place in a transaction to go back to.
pub(crate) struct Mark {
    head: ChainHead,
    rows: u64,
    left_tail: u64,
}

impl Connection {
    pub(crate) fn on(&mut self) -> Executor<'_> {
        match self {
            Self::Sqlite(connection) => Executor::SqliteTx(connection),
            Self::Postgres(connection) => Executor::PostgresTx(connection),
        }
    }

    /// Commits, or says why not.
    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => self.run("commit").await,
            Self::Postgres(_) => self.run(COMMIT).await,
        }
    }

    /// A statement without binds.
    pub(crate) async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => {
                connection.execute(sql).await?;
            }
            Self::Postgres(connection) => {
                within(sqlx::raw_sql(sql).execute(connection)).await?;
            }
        }
        Ok(())
    }
}

impl Tx {
    pub(crate) fn new(connection: Connection, head: ChainHead, transaction: Option<Transaction>) -> Self {
        Self { connection, head, transaction, rows: 0, left_tail: 0, fenced: None }
    }

    pub(crate) fn into_parts(self) -> (Connection, ChainHead, Option<Transaction>) {
        (self.connection, self.head, self.transaction)
    }

    pub(crate) fn on(&mut self) -> Executor<'_> {
        self.connection.on()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { head: self.head.clone(), rows: self.rows, left_tail: self.left_tail }
    }

    /// From here on it can be undone alone.
    pub(crate) async fn savepoint(&mut self) -> Result<(), StoreError> {
        self.connection.run("savepoint one_change").await
    }

    /// What came after the savepoint stays.
    pub(crate) async fn release(&mut self) -> Result<(), StoreError> {
        self.connection.run("release savepoint one_change").await
    }

    /// What came after the savepoint is undone.
    pub(crate) async fn back_to(&mut self, mark: Mark) -> Result<(), StoreError> {
        self.connection.run("rollback to savepoint one_change").await?;
        self.connection.run("release savepoint one_change").await?;
        Mark { head: self.head, rows: self.rows, left_tail: self.left_tail } = mark;
        Ok(())
    }

    /// Rows that came into the audit's tail, and rows that left it.
    pub(crate) fn tail_changes(&self) -> (u64, u64) {
        (self.rows, self.left_tail)
    }

    /// Notes that rows left the audit's tail.
    pub(crate) fn left_tail(&mut self, rows: u64) {
        self.left_tail += rows;
    }

    /// Why this process may not write any more, if a statement found that out.
    pub(crate) fn fenced(&self) -> Option<StoreError> {
        self.fenced.as_ref().map(StoreError::again)
    }

    /// Appends to the audit, in this transaction.
    ///
    /// # Errors
    /// `Fenced` when another process has appended to this chain; `Unavailable`.
    pub async fn audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let before = self.head.seq;
        let done = self.append(entry).await;
        if let Err(StoreError::Conflict(on)) = &done
            && is_head(on)
        {
            let error = somebody_else(before);
            self.fenced = Some(error.again());
            return Err(error);
        }
        done
    }

    async fn append(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
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
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("audit_rows", &self.rows).finish_non_exhaustive()
    }
}
