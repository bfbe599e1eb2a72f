//! The audit's reader: beside a running server or over the database of a stopped one, and never writing.

use sqlx::{PgPool, SqlitePool};

use crate::db::{Db, Executor};
use crate::error::OpenError;
use crate::open::{postgres, sqlite};
use crate::{Store, StoreConfig};

/// Reads the audit. Cheap to clone.
#[derive(Clone)]
pub struct AuditReader {
    books: Books,
}

#[derive(Clone)]
enum Books {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl AuditReader {
    /// Opens a database for reading alone: no lock is taken, nothing is migrated, so a server may run on it or not.
    /// SQLite's write-ahead log lets any number of processes read beside the one that writes; each read sees one moment.
    ///
    /// # Errors
    /// [`OpenError`]: not there, damaged, of another version, not reachable.
    pub async fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let books = match &config.database_url {
            Some(url) => Books::Postgres(postgres::read_only(config, url).await?),
            None => Books::Sqlite(sqlite::read_only(&config.data_dir.join("hexa.db")).await?),
        };
        Ok(Self { books })
    }

    pub(super) fn on(&self) -> Executor<'_> {
        match &self.books {
            Books::Sqlite(pool) => Executor::Sqlite(pool),
            Books::Postgres(pool) => Executor::Postgres(pool),
        }
    }

    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self.books, Books::Sqlite(_))
    }
}

impl Store {
    /// A reader over this store's own connections; it ends with the store.
    pub fn audit_reader(&self) -> AuditReader {
        let books = match &self.inner.db {
            Db::Sqlite(readers) => Books::Sqlite(readers.clone()),
            Db::Postgres(pool) => Books::Postgres(pool.clone()),
        };
        AuditReader { books }
    }
}

impl std::fmt::Debug for AuditReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditReader").field("sqlite", &self.is_sqlite()).finish_non_exhaustive()
    }
}
