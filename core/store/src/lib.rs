//! The cellar: the only crate that speaks SQL.
//!
//! Called by `service`; calls `model`. SQLite, or PostgreSQL: the same statements but for the few in `dialect`.
//! Invariants: applied migrations never change; hot writes go through [`Writer`] and are answered after the commit;
//! every audit row is part of one hash chain; a corrupt or newer database is refused, never replaced.
//! Start at [`Store::open`] and [`writer`].

mod access_tokens;
mod audit;
mod chain;
pub mod change;
mod claim_codes;
mod config;
mod db;
mod device_list;
mod devices;
mod dialect;
mod error;
mod folding;
mod grants;
mod health;
mod idempotency;
mod invitations;
mod open;
mod plugins;
mod preferences;
mod relays;
mod sessions;
pub mod set_right;
mod tx;
mod users;
pub mod writer;

use std::sync::Arc;

use db::{Db, Executor, Query};

pub use access_tokens::{NewToken, TokenRow};
pub use audit::{
    ActionFilter, AuditCheck, AuditFilter, AuditHead, AuditPlace, AuditReader, AuditRow, ChainCheck, CommandRow,
    ListedRow, Wrong,
};
pub use change::{Changed, DeviceAccess, Fact, Observer, Stage, Work};
pub use claim_codes::KeptCode;
pub use config::{Durability, StoreConfig};
pub use device_list::{DeviceFilter, DeviceOrder};
pub use devices::{DeviceRow, NewDevice};
pub use error::{OpenError, StoreError};
pub use grants::GrantRow;
pub use idempotency::{CommandClaim, Kept};
pub use invitations::{InvitationFilter, InvitationRow, NewInvitation};
pub use plugins::FaultRow;
pub use preferences::PreferenceRow;
pub use sessions::{NewFamily, RefreshRow, SessionRow};
pub use tx::Tx;
pub use users::{NewUser, PersonRow, UserFilter, UserRow};
pub use writer::{
    Committed, Completion, DevicePresence, DurableState, Effect, HotWrite, NotWritten, Writer, WriterStats,
};

/// The open database. Cheap to clone; [`Store::close`] ends it for all clones.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<open::Inner>,
}

impl Store {
    /// The writer that commits relay states and audit rows in groups.
    pub fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// Which database it is, for logs: `sqlite` or `postgres`.
    pub fn kind(&self) -> &'static str {
        match &self.inner.db {
            Db::Sqlite(_) => "sqlite",
            Db::Postgres(_) => "postgres",
        }
    }

    /// Where reads go: the pool of readers.
    pub(crate) fn reader(&self) -> Executor<'_> {
        match &self.inner.db {
            Db::Sqlite(readers) => Executor::Sqlite(readers),
            Db::Postgres(pool) => Executor::Postgres(pool),
        }
    }

    /// The form of a statement that this database understands.
    pub(crate) fn either(&self, both: dialect::DialectSql) -> Query {
        db::query(match &self.inner.db {
            Db::Sqlite(_) => both.sqlite,
            Db::Postgres(_) => both.postgres,
        })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("data_dir", &self.inner.config.data_dir).finish_non_exhaustive()
    }
}
