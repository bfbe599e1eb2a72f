//! The cellar: the only crate that speaks SQL.
//!
//! Called by `service`; calls `model`. SQLite, or PostgreSQL: the same statements but for the few in `dialect`.
//! Invariants: applied migrations never change; hot writes go through [`Writer`] and are answered after the commit;
//! every audit row is part of one hash chain; a corrupt or newer database is refused, never replaced.
//! Start at [`Store::open`] and [`writer`].

mod audit;
mod chain;
mod db;
mod devices;
mod dialect;
mod error;
mod open;
mod relays;
mod sessions;
mod tx;
mod users;
pub mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use db::{Db, On, Query};

pub use audit::{AuditCheck, AuditRow, CommandRow};
pub use devices::{DeviceFilter, DeviceRow, NewDevice};
pub use error::{OpenError, StoreError};
pub use sessions::{NewFamily, RefreshRow};
pub use tx::Tx;
pub use users::{NewUser, UserRow};
pub use writer::{Committed, Completion, DurableState, HotWrite, Seen, Writer, WriterStats};

/// What the store can be told.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Holds `hexa.db` and the lock file.
    pub data_dir: PathBuf,
    /// `DATABASE_URL`, which may hold a password; none = SQLite in the data directory.
    pub database_url: Option<SecretString>,
    /// What survives what.
    pub durability: Durability,
    /// The name of this node's audit chain.
    pub node: String,
    /// How long a busy writer waits for more (0 = not at all).
    pub linger: Duration,
    /// How often `last_seen_at` and the like go out.
    pub note_flush: Duration,
}

impl StoreConfig {
    /// The defaults over this directory.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            database_url: None,
            durability: Durability::Full,
            node: "main".into(),
            linger: Duration::from_micros(300),
            note_flush: Duration::from_secs(10),
        }
    }
}

/// `HEXA_DURABILITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Each group commit is on the disk before it is answered.
    Full,
    /// Survives `kill -9`, not the loss of power.
    Normal,
}

/// The open database. Cheap to clone; [`Store::close`] ends it for all clones.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<open::Inner>,
}

impl Store {
    /// The hot writer.
    pub fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// Whether the database answers a read, and its writer is alive.
    pub async fn health(&self) -> Result<(), StoreError> {
        if !self.writer_alive() {
            return Err(StoreError::closed());
        }
        db::query("select 1").fetch_all(self.reader()).await?;
        Ok(())
    }

    /// Which database it is, for logs: `sqlite` or `postgres`.
    pub fn kind(&self) -> &'static str {
        match &self.inner.db {
            Db::Sqlite { .. } => "sqlite",
            Db::Postgres(_) => "postgres",
        }
    }

    /// Where to read.
    pub(crate) fn reader(&self) -> On<'_> {
        match &self.inner.db {
            Db::Sqlite { readers, .. } => On::Sqlite(readers),
            Db::Postgres(pool) => On::Postgres(pool),
        }
    }

    /// The form of a statement that this database understands.
    pub(crate) fn either(&self, both: dialect::Both) -> Query {
        db::query(match &self.inner.db {
            Db::Sqlite { .. } => both.sqlite,
            Db::Postgres(_) => both.postgres,
        })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("data_dir", &self.inner.config.data_dir).finish_non_exhaustive()
    }
}
