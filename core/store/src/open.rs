//! Opening and closing: the lock, the checks, the migrations, the connections.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};
use tokio::sync::Mutex;

use crate::chain::{ChainHead, GENESIS};
use crate::error::{OpenError, StoreError};
use crate::writer::{ThreadConfig, Writer};
use crate::{Durability, Store, StoreConfig};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite");

/// The version that fixed the WAL-reset corruption.
const OLDEST_LIBRARY: i32 = 3_051_003;
/// Databases up to this size are checked at every start; larger ones after an unclean stop.
const ALWAYS_CHECKED_BYTES: u64 = 32 * 1024 * 1024;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;

pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    pub(crate) readers: SqlitePool,
    pub(crate) cold: SqlitePool,
    pub(crate) gate: Arc<Mutex<ChainHead>>,
    pub(crate) writer: Writer,
    thread: parking_lot::Mutex<Option<std::thread::JoinHandle<()>>>,
    unclean: PathBuf,
    lock: parking_lot::Mutex<Option<File>>,
}

impl Store {
    /// Opens the database, creating it when there is none.
    ///
    /// # Errors
    /// [`OpenError`]: in use, damaged, newer, not reachable. An existing file is never replaced.
    pub async fn open(config: StoreConfig) -> Result<Self, OpenError> {
        if let Some(url) = config.database_url.as_deref().filter(|u| !u.is_empty()) {
            return Err(OpenError::Unsupported(url.split("://").next().unwrap_or_default().to_owned() + "://…"));
        }
        if rusqlite::version_number() < OLDEST_LIBRARY {
            return Err(OpenError::OldLibrary(rusqlite::version().to_owned()));
        }
        let lock = lock(&config.data_dir.join("hexa.lock"))?;
        let path = config.data_dir.join("hexa.db");
        let unclean = config.data_dir.join("hexa.unclean");
        let exists = path.exists();
        if exists {
            check(&path, unclean.exists())?;
        }
        File::create(&unclean).map_err(|source| OpenError::Io { path: unclean.clone(), source })?;
        let cold = pool(&path, &config, false).await?;
        MIGRATIONS.run(&cold).await.map_err(|e| migration_error(&path, e))?;
        let readers = pool(&path, &config, true).await?;
        let (head, tail_rows) = chain_head(&readers, &config.node).await?;
        // What a crash left open: nobody is connected yet.
        sqlx::query(
            "update devices set disconnected_at = last_seen_at where connected_at > coalesce(disconnected_at, 0)",
        )
        .execute(&cold)
        .await
        .map_err(StoreError::from)?;
        let connection = hot_connection(&path, config.durability).map_err(StoreError::from)?;
        let gate = Arc::new(Mutex::new(head));
        let (writer, end) = Writer::channel(tail_rows);
        let thread_config = ThreadConfig { linger: config.linger, note_flush: config.note_flush };
        let thread_gate = Arc::clone(&gate);
        let thread = std::thread::Builder::new()
            .name("hexa-writer".into())
            .spawn(move || crate::writer::run(end, connection, thread_gate, thread_config))
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let thread = parking_lot::Mutex::new(Some(thread));
        let inner =
            Inner { config, readers, cold, gate, writer, thread, unclean, lock: parking_lot::Mutex::new(Some(lock)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether the writer's thread is there to take writes.
    pub(crate) fn writer_alive(&self) -> bool {
        self.inner.thread.lock().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Writes what is queued and noted, stops the writer, folds the log into the file and marks the stop as clean.
    pub async fn close(&self) {
        let thread = self.inner.thread.lock().take();
        let Some(thread) = thread else { return };
        let inner = Arc::clone(&self.inner);
        let stopped = tokio::task::spawn_blocking(move || {
            inner.writer.stop();
            thread.join()
        })
        .await;
        self.inner.readers.close().await;
        let folded = sqlx::query("pragma wal_checkpoint(truncate)").execute(&self.inner.cold).await;
        self.inner.cold.close().await;
        match (stopped, folded) {
            (Ok(Ok(())), Ok(_)) => {
                if let Err(error) = std::fs::remove_file(&self.inner.unclean) {
                    tracing::warn!(%error, "the clean stop could not be marked; the next start checks the database");
                }
            }
            (Ok(Ok(())), Err(error)) => tracing::error!(%error, "the log could not be folded into the database"),
            _ => tracing::error!("the writer did not end by itself"),
        }
        drop(self.inner.lock.lock().take());
    }
}

/// Takes the data directory for this process. The lock goes with the process, however it ends.
fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::Locked { path: path.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
    writeln!(file, "pid {}", std::process::id()).map_err(io)?;
    Ok(file)
}

/// Looks at an existing file without changing it.
fn check(path: &Path, unclean: bool) -> Result<(), OpenError> {
    let corrupt = |problem: String| OpenError::Corrupt { path: path.to_owned(), problem };
    let size = std::fs::metadata(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?.len();
    if size == 0 {
        return Err(corrupt("it is empty".into()));
    }
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| corrupt(e.to_string()))?;
    let found: Result<Option<i64>, _> =
        connection.query_row("select max(version) from _sqlx_migrations where success", [], |row| row.get(0));
    let found = match found {
        Ok(found) => found.unwrap_or(0),
        Err(e) if e.to_string().contains("no such table") => {
            let tables: i64 = connection
                .query_row("select count(*) from sqlite_schema", [], |row| row.get(0))
                .map_err(|e| corrupt(e.to_string()))?;
            if tables > 0 {
                return Err(corrupt("it is not a database of hexa".into()));
            }
            0
        }
        Err(e) => return Err(corrupt(e.to_string())),
    };
    let known = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    if unclean || size <= ALWAYS_CHECKED_BYTES {
        let verdict: String =
            connection.query_row("pragma quick_check(1)", [], |row| row.get(0)).map_err(|e| corrupt(e.to_string()))?;
        if verdict != "ok" {
            return Err(corrupt(verdict));
        }
    }
    Ok(())
}

fn migration_error(path: &Path, error: sqlx::migrate::MigrateError) -> OpenError {
    match error {
        sqlx::migrate::MigrateError::VersionMissing(found) => {
            let known = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
            OpenError::Newer { path: path.to_owned(), found, known }
        }
        sqlx::migrate::MigrateError::VersionMismatch(version) => OpenError::Corrupt {
            path: path.to_owned(),
            problem: format!("migration {version} was applied in another form"),
        },
        other => StoreError::Unavailable { source: Box::new(other) }.into(),
    }
}

async fn pool(path: &Path, config: &StoreConfig, readers: bool) -> Result<SqlitePool, StoreError> {
    let synchronous = match config.durability {
        Durability::Full => SqliteSynchronous::Full,
        Durability::Normal => SqliteSynchronous::Normal,
    };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(!readers)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("temp_store", "memory")
        .pragma("cache_size", if readers { "-4000" } else { "-2000" })
        .pragma("journal_size_limit", "67108864")
        .pragma("query_only", if readers { "on" } else { "off" });
    let pool = SqlitePoolOptions::new()
        .max_connections(if readers { READERS } else { 1 })
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await?;
    Ok(pool)
}

fn hot_connection(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let synchronous = match durability {
        Durability::Full => "full",
        Durability::Normal => "normal",
    };
    connection.execute_batch(&format!(
        "pragma synchronous = {synchronous}; pragma foreign_keys = on; pragma temp_store = memory; \
         pragma cache_size = -16000; pragma wal_autocheckpoint = 4000; pragma journal_size_limit = 67108864;"
    ))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// The chain continues behind the newest row, wherever that stands.
async fn chain_head(readers: &SqlitePool, node: &str) -> Result<(ChainHead, u64), StoreError> {
    let newest = "select seq, hash from (select seq, hash from audit_tail where chain = $1 union all \
         select seq, hash from audit where chain = $1) order by seq desc limit 1";
    let row = sqlx::query(newest).bind(node).fetch_optional(readers).await?;
    let (seq, hash) = match row {
        None => (0, GENESIS),
        Some(row) => {
            let hash: Vec<u8> = row.try_get("hash")?;
            let hash = hash.try_into().map_err(|_| StoreError::Corrupt("an audit hash has not 32 bytes".into()))?;
            (row.try_get("seq")?, hash)
        }
    };
    let tail: i64 = sqlx::query("select count(*) as n from audit_tail").fetch_one(readers).await?.try_get("n")?;
    Ok((ChainHead { node: node.to_owned(), seq, hash }, tail as u64))
}
