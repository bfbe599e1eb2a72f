//! Opening SQLite: the checks that come before the first write, the connections.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Executor as _, SqliteConnection, SqlitePool};

use crate::error::{OpenError, StoreError};
use crate::{Durability, StoreConfig};

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite");

/// The version that fixed the WAL-reset corruption.
const OLDEST_LIBRARY: i32 = 3_051_003;
/// Databases up to this size are checked at every start; larger ones after an unclean stop.
const ALWAYS_CHECKED_BYTES: u64 = 32 * 1024 * 1024;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// Behind the file's name in that of its copy, before the number of the first migration that was still to come.
const BEFORE: &str = ".before-";

/// A SQLite file that is ready to use.
pub(super) struct Opened {
    pub(super) readers: SqlitePool,
    /// For the connection that changes use.
    pub(super) options: SqliteConnectOptions,
    /// The hot writer's own connection.
    pub(super) hot: Connection,
}

/// Opens the file, creating it when there is none, and brings the schema up to date.
pub(super) async fn open(path: &Path, unclean: bool, config: &StoreConfig) -> Result<Opened, OpenError> {
    if rusqlite::version_number() < OLDEST_LIBRARY {
        return Err(OpenError::OldLibrary(rusqlite::version().to_owned()));
    }
    let copy = if path.exists() { keep_before(path, check(path, unclean)?)? } else { not_lost(path, unclean)? };
    let options = options(path, config, false);
    migrate(path, &options).await?;
    if let Some(copy) = copy {
        forget_others(&copy);
    }
    let readers = readers(path, config).await?;
    let hot = hot_connection(path, config.durability).map_err(StoreError::from)?;
    Ok(Opened { readers, options, hot })
}

/// Brings the schema up to date. What a migration keeps beside, to undo a table that it made anew or to sort an index, is
/// as large as that table: it goes to files beside the database, not to memory.
async fn migrate(path: &Path, options: &SqliteConnectOptions) -> Result<(), OpenError> {
    // It takes as long as it takes.
    let options = options.clone().pragma("temp_store", "file").disable_statement_logging();
    let mut connection: SqliteConnection = options.connect().await.map_err(StoreError::from)?;
    if let Some(folder) = path.parent().and_then(Path::to_str) {
        // Wherever else SQLite would put them, nobody has said that there is room, or that it may be written to.
        let place = format!("pragma temp_store_directory = '{}'", folder.replace('\'', "''"));
        connection.execute(sqlx::AssertSqlSafe(place)).await.map_err(StoreError::from)?;
    }
    MIGRATIONS.run(&mut connection).await.map_err(|e| super::migration_error(path, &MIGRATIONS, e))?;
    Ok(sqlx::Connection::close(connection).await.map_err(StoreError::from)?)
}

/// Refused where a log, or a server that did not stop, says that there was a file.
fn not_lost(path: &Path, unclean: bool) -> Result<Option<PathBuf>, OpenError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if unclean || Path::new(&log).exists() {
        let problem = "it is gone, and there was one: put it back from a copy, or move what is left of it \
                       (hexa.db-wal, hexa.db-shm, hexa.unclean) away to begin without it"
            .to_owned();
        return Err(OpenError::Corrupt { path: path.to_owned(), problem });
    }
    Ok(None)
}

/// Opens the file beside whoever else has it, for reading alone.
pub(crate) async fn read_only(path: &Path) -> Result<SqlitePool, OpenError> {
    let found = check(path, false)?;
    super::same_schema(path, found, &MIGRATIONS)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("query_only", "on")
        .pragma("temp_store", "memory");
    Ok(SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(StoreError::from)?)
}

/// Looks at an existing file without changing it; gives its schema's version.
fn check(path: &Path, unclean: bool) -> Result<i64, OpenError> {
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
    Ok(found)
}

/// Copies a database that has a schema before that is changed, so that whoever goes back to the version before has
/// what it knows; none when there is nothing to change. The name says which migration comes first.
fn keep_before(path: &Path, found: i64) -> Result<Option<PathBuf>, OpenError> {
    let Some(first) = MIGRATIONS.iter().map(|m| m.version).filter(|v| *v > found).min().filter(|_| found > 0) else {
        return Ok(None);
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{BEFORE}{first:04}"));
    let copy = PathBuf::from(name);
    let part = copy.with_extension("part");
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    if let Err(problem) = write_copy(path, &part, &copy) {
        // Whatever is there of it would take room that the next try needs.
        let _ = std::fs::remove_file(&part);
        return Err(OpenError::NoCopy { path: path.to_owned(), copy, problem: problem.to_string(), bytes });
    }
    tracing::info!(copy = %copy.display(), schema = found, bytes, "the database was copied before its schema changes");
    Ok(Some(copy))
}

/// The copy is there whole or not at all, also after a power cut.
fn write_copy(path: &Path, part: &Path, copy: &Path) -> Result<(), Box<dyn std::error::Error>> {
    if part.exists() {
        std::fs::remove_file(part)?;
    }
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // With what is still in the log, and of one moment.
    connection.execute("vacuum into ?1", [part.to_str().ok_or("its path is not UTF-8")?])?;
    std::fs::set_permissions(part, std::fs::metadata(path)?.permissions())?;
    File::open(part)?.sync_all()?;
    std::fs::rename(part, copy)?;
    if let Some(folder) = copy.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// One copy is kept: that of the newest change.
fn forget_others(copy: &Path) {
    let (Some(folder), Some(kept)) = (copy.parent(), copy.file_name()) else { return };
    let name = kept.to_string_lossy();
    let Some((family, _)) = name.rsplit_once('-') else { return };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let other = entry.file_name();
        if other != *kept
            && other.to_string_lossy().starts_with(family)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(%error, copy = %entry.path().display(), "cannot remove an older copy of the database");
        }
    }
}

fn options(path: &Path, config: &StoreConfig, readers: bool) -> SqliteConnectOptions {
    let synchronous = match config.durability {
        Durability::Full => SqliteSynchronous::Full,
        Durability::Normal => SqliteSynchronous::Normal,
    };
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(!readers);
    // Setting it writes to the file, which a reader that is opened later must not need: the disk may be full.
    let options = if readers { options } else { options.auto_vacuum(SqliteAutoVacuum::Incremental) };
    options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("temp_store", "memory")
        .pragma("cache_size", if readers { "-4000" } else { "-2000" })
        // The writer's thread folds the log, when nobody waits for it.
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", "67108864")
        .pragma("query_only", if readers { "on" } else { "off" })
}

async fn readers(path: &Path, config: &StoreConfig) -> Result<SqlitePool, StoreError> {
    let pool = SqlitePoolOptions::new().max_connections(READERS).idle_timeout(None).max_lifetime(None);
    Ok(pool.connect_with(options(path, config, true)).await?)
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
         pragma cache_size = -16000; pragma wal_autocheckpoint = 0; pragma journal_size_limit = 67108864;"
    ))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
