//! The connection on which changes are made: it begins, commits, and finds out what became of a COMMIT without an answer.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::chain::{ChainHead, ChainLock, NEWEST};
use crate::db::{Row, query, within};
use crate::error::StoreError;
use crate::open::generation::{Generation, Transaction};
use crate::tx::{Connection, Tx};

/// How long a new connection may take. Writers wait meanwhile.
const CONNECT: Duration = Duration::from_secs(2);

/// Where changes are made, with the connection as long as there is one.
pub(crate) enum Link {
    Sqlite { options: SqliteConnectOptions, node: String, open: Option<SqliteConnection> },
    Postgres { options: PgConnectOptions, generation: Generation, open: Option<PgConnection> },
}

/// How a COMMIT ended.
pub(crate) enum End {
    /// It is on the disk.
    Stored,
    /// Nothing of it is there.
    Undone(StoreError),
    /// Its answer was lost.
    Unknown(Box<Lost>),
}

/// What is needed to find out what became of a transaction.
pub(crate) struct Lost {
    transaction: Transaction,
    head: ChainHead,
    error: StoreError,
}

impl Link {
    /// Begins a transaction that may write, with the chain's head as it stands inside of it.
    pub(super) async fn begin(&mut self, gate: &mut ChainLock) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite { options, node, open } => {
                let mut connection = match open.take() {
                    Some(connection) => connection,
                    None => connect_sqlite(options).await?,
                };
                connection.execute("begin immediate").await?;
                // Put back when it is rolled back or committed: a connection in the middle of something is given up.
                let mut connection = Connection::Sqlite(connection);
                if gate.stale {
                    gate.head =
                        ChainHead::of(node, &query(NEWEST).bind(node.as_str()).fetch_all(connection.on()).await?)?;
                    gate.stale = false;
                }
                Ok(Tx::new(connection, gate.head.clone(), None))
            }
            Self::Postgres { options, generation, open } => {
                let mut connection = match open.take() {
                    Some(connection) => connection,
                    None => connect_postgres(options).await?,
                };
                let (head, transaction) = within_patience(generation.begin(&mut connection, gate)).await?;
                Ok(Tx::new(Connection::Postgres(connection), head, Some(transaction)))
            }
        }
    }

    /// Rolls back the transaction, and keeps the connection if it is still good.
    pub(super) async fn roll_back(&mut self, tx: Tx) {
        let (mut connection, _, _) = tx.into_parts();
        if connection.run("rollback").await.is_ok() {
            self.put_back(connection);
        } else if let Connection::Sqlite(connection) = connection {
            // SQLite has rolled back by itself (disk full, I/O error), or the connection is of no use.
            drop(connection.close().await);
        }
    }

    /// Commits it. The chain's head moves on when it was stored, and is read anew when that is not sure.
    pub(super) async fn commit(&mut self, gate: &mut ChainLock, tx: Tx) -> End {
        let (mut connection, head, transaction) = tx.into_parts();
        gate.stale = true;
        let error = match connection.commit().await {
            Ok(()) => {
                self.put_back(connection);
                gate.head = head;
                gate.stale = false;
                return End::Stored;
            }
            Err(error) => error,
        };
        match transaction {
            // SQLite answers: what it says was not committed will never be.
            None => {
                let _ = connection.run("rollback").await;
                if let Connection::Sqlite(connection) = connection {
                    drop(connection.close().await);
                }
                End::Undone(error)
            }
            Some(transaction) => End::Unknown(Box::new(Lost { transaction, head, error })),
        }
    }

    /// Asks the database what became of a transaction whose COMMIT had no answer.
    pub(super) async fn find_out(&mut self, gate: &mut ChainLock, lost: &Lost) -> End {
        let unknown = || {
            End::Unknown(Box::new(Lost {
                transaction: lost.transaction.clone(),
                head: lost.head.clone(),
                error: lost.error.again(),
            }))
        };
        let Self::Postgres { options, open, .. } = self else { return End::Undone(lost.error.again()) };
        let asked = async {
            let mut connection = match open.take() {
                Some(connection) => connection,
                None => connect_postgres(options).await?,
            };
            let end = within_patience(lost.transaction.end(&mut connection)).await?;
            Ok::<_, StoreError>((connection, end))
        };
        match asked.await {
            Ok((connection, Some(stored))) => {
                *open = Some(connection);
                if stored {
                    gate.head = lost.head.clone();
                    gate.stale = false;
                    End::Stored
                } else {
                    End::Undone(lost.error.again())
                }
            }
            Ok((connection, None)) => {
                *open = Some(connection);
                unknown()
            }
            Err(error) => {
                tracing::warn!(%error, "the outcome of a commit is not known yet; asking the database again");
                unknown()
            }
        }
    }

    fn put_back(&mut self, connection: Connection) {
        match (self, connection) {
            (Self::Sqlite { open, .. }, Connection::Sqlite(connection)) => *open = Some(connection),
            (Self::Postgres { open, .. }, Connection::Postgres(connection)) => *open = Some(connection),
            _ => {}
        }
    }

    /// Closes it; on SQLite the log is folded into the file before.
    pub(crate) async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite { options, open, .. } => {
                let mut connection = match open {
                    Some(connection) => connection,
                    None => connect_sqlite(&options).await?,
                };
                connection.execute("pragma wal_checkpoint(truncate)").await?;
                Ok(connection.close().await?)
            }
            Self::Postgres { open, .. } => {
                if let Some(connection) = open {
                    within(connection.close()).await?;
                }
                Ok(())
            }
        }
    }
}

async fn connect_sqlite(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    #[allow(unused_mut)]
    let mut connection = options.connect().await?;
    #[cfg(feature = "failpoints")]
    connection.lock_handle().await?.set_commit_hook(|| {
        hexa_model::crash_point!("change.inside_commit");
        true
    });
    Ok(connection)
}

async fn connect_postgres(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let slow = || StoreError::unavailable("PostgreSQL does not answer");
    let mut connection = tokio::time::timeout(CONNECT, options.connect()).await.map_err(|_| slow())??;
    crate::open::postgres::writable(&mut connection).await?;
    Ok(connection)
}

async fn within_patience<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(crate::db::QUERY_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::unavailable("PostgreSQL did not answer in time")),
    }
}

/// Of a row that PostgreSQL gave.
pub(crate) fn head_of(node: &str, row: sqlx::postgres::PgRow) -> Result<ChainHead, StoreError> {
    let row = Row::Postgres(row);
    match row.get::<Option<i64>>("seq")? {
        None => ChainHead::of(node, &[]),
        Some(_) => ChainHead::of(node, &[row]),
    }
}
