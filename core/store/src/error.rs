//! Errors of the store.

use std::path::PathBuf;

/// A read or write failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The writer's queue is full.
    #[error("the writer's queue is full")]
    Busy,
    /// The database does not take it: disk full, I/O error, closed. Nothing was changed.
    #[error("the database is unavailable: {source}")]
    Unavailable {
        /// What the database said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database fell silent at the commit: it may have been stored or not.
    #[error("the database did not answer the commit; whether it was stored is unknown")]
    Unknown,
    /// Another process writes in this one's place: nothing was changed, and nothing will be.
    #[error("this process may no longer write to the database: {0}")]
    Fenced(String),
    /// The work of a change failed unexpectedly; nothing of it was stored.
    #[error("the change failed unexpectedly, and was not stored")]
    Panicked,
    /// A unique or foreign key stands against it; names `table.column`.
    #[error("conflict with {0}")]
    Conflict(String),
    /// A stored value makes no sense.
    #[error("the database holds an invalid value: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// The database does not answer, for this reason.
    pub fn unavailable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { source: reason.into() }
    }
    /// The same for one more caller.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Busy => Self::Busy,
            Self::Unavailable { source } => Self::unavailable(source.to_string()),
            Self::Unknown => Self::Unknown,
            Self::Fenced(why) => Self::Fenced(why.clone()),
            Self::Panicked => Self::Panicked,
            Self::Conflict(what) => Self::Conflict(what.clone()),
            Self::Corrupt(what) => Self::Corrupt(what.clone()),
        }
    }
    /// The store was closed.
    pub fn closed() -> Self {
        Self::Unavailable { source: "the store is closed".into() }
    }
}

/// `UNIQUE constraint failed: users.email` -> `users.email`.
fn constraint_of(message: &str) -> String {
    message.rsplit_once(": ").map_or(message, |(_, name)| name).to_owned()
}

/// `users_email_key` of `users` -> `users.email`; a name of another form stays as it is.
fn postgres_constraint(table: &str, name: &str) -> String {
    let column = name.strip_prefix(table).and_then(|rest| rest.strip_prefix('_'));
    let column = column.and_then(|c| c.strip_suffix("_key").or_else(|| c.strip_suffix("_fkey")));
    column.map_or_else(|| name.to_owned(), |column| format!("{table}.{column}"))
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(db) if db.is_unique_violation() || db.is_foreign_key_violation() => {
                Self::Conflict(db.constraint().map_or_else(
                    || constraint_of(db.message()),
                    |name| postgres_constraint(db.table().unwrap_or_default(), name),
                ))
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable { source: Box::new(error) },
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(e, message) if e.code == rusqlite::ErrorCode::ConstraintViolation => {
                Self::Conflict(constraint_of(message.as_deref().unwrap_or("a constraint")))
            }
            _ => Self::Unavailable { source: Box::new(error) },
        }
    }
}

/// The database could not be opened. Each says what to do; none has changed the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the data directory.
    #[error("{path} is in use by another hexa process ({holder}); stop it, or give this one its own HEXA_DATA_DIR")]
    Locked {
        /// Path of the lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        holder: String,
    },
    /// The file is damaged, or no SQLite database.
    #[error(
        "{path} is damaged ({problem}). Nothing was changed. Restore it from a backup, or move it away to start empty"
    )]
    Corrupt {
        /// Path of the database.
        path: PathBuf,
        /// What the check found.
        problem: String,
    },
    /// A newer hexa has been here.
    #[error(
        "{path} has schema {found}, this hexa knows up to {known}. Nothing was changed. Run the newer version, or \
         restore the backup made before the upgrade"
    )]
    Newer {
        /// Path of the database.
        path: PathBuf,
        /// The last migration that the database has.
        found: i64,
        /// The last migration that this build knows.
        known: i64,
    },
    /// An older hexa has been here, and this one may not bring it up to date.
    #[error(
        "{path} has schema {found}, this command needs {known}. Nothing was changed. Start the server of this version \
         once, which brings it up to date"
    )]
    Older {
        /// Path of the database.
        path: PathBuf,
        /// The last migration that the database has.
        found: i64,
        /// The last migration that this build knows.
        known: i64,
    },
    /// The schema of the file is to be changed, and no copy of it could be made first.
    #[error(
        "{path} is to be brought up to date, and the copy {copy} that is made first could not be written ({problem}). \
         Nothing was changed. Make room for {bytes} bytes beside it, and start again"
    )]
    NoCopy {
        /// Path of the database.
        path: PathBuf,
        /// What was to be written.
        copy: PathBuf,
        /// Why it was not.
        problem: String,
        /// How large the database is.
        bytes: u64,
    },
    /// Another process has the fence of this node.
    #[error("the database {place} is in use by another hexa process ({holder}); stop it, or use another database")]
    InUse {
        /// Host and name of the database.
        place: String,
        /// The database session that holds it.
        holder: String,
    },
    /// Another node's name is in the database; one node writes to it.
    #[error(
        "the database belongs to the node {other:?}, this process is {node:?}: set NODE_ID={other}, or use another \
         database"
    )]
    OtherNode {
        /// The `NODE_ID` of this process.
        node: String,
        /// The name in the database.
        other: String,
    },
    /// Something between us and PostgreSQL gives each transaction another session.
    #[error(
        "DATABASE_URL leads to a pooler, such as PgBouncer, that does not keep a session together ({0}): connect to \
         PostgreSQL itself"
    )]
    Pooled(String),
    /// The server takes no writes.
    #[error("the database {0} takes no writes (it is a standby, or set to read only): connect to the primary server")]
    ReadOnly(String),
    /// An address that this version does not serve.
    #[error(
        "DATABASE_URL {0:?} is not supported: use postgres://user:password@host:5432/database, or leave it empty for \
         SQLite in the data directory"
    )]
    Unsupported(String),
    /// An address that cannot be read.
    #[error("DATABASE_URL cannot be read ({0}): write postgres://user:password@host:5432/database")]
    Address(String),
    /// The SQLite inside is older than the fix of its WAL corruption (3.51.3).
    #[error("the SQLite library is version {0}; at least 3.51.3 is needed")]
    OldLibrary(String),
    /// The directory or file cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The database said no.
    #[error("the database cannot be opened: {0}")]
    Database(#[from] StoreError),
}
