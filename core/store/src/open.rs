//! Opening and closing: the lock, the checks, the migrations, the connections.

pub(crate) mod generation;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::chain::{ChainHead, ChainLock, NEWEST, somebody_else};
use crate::change::{Changed, Changes, Link, Observer, Outfit, Worker};
use crate::db::{Db, Executor, query, within};
use crate::error::{OpenError, StoreError};
use crate::health::WriteHealth;
use crate::open::generation::Generation;
use crate::writer::{Backend, PostgresBackend, SqliteBackend, ThreadConfig, Writer};
use crate::{Store, StoreConfig};

/// How long a stop waits for changes under way: one whose commit has no answer may take as long as the database is away.
const CHANGES_END: std::time::Duration = std::time::Duration::from_secs(5);

const CLOSE: &str =
    "update devices set disconnected_at = last_seen_at where connected_at > coalesce(disconnected_at, 0)";

pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    pub(crate) db: Db,
    pub(crate) writer: Writer,
    pub(crate) changes: Changes,
    pub(crate) health: Arc<WriteHealth>,
    pub(crate) observers: Arc<parking_lot::RwLock<Vec<Arc<dyn Observer>>>>,
    gate: Arc<Mutex<ChainLock>>,
    /// Of PostgreSQL: the generation under which this process writes.
    generation: Option<Generation>,
    worker: parking_lot::Mutex<Option<JoinHandle<Link>>>,
    thread: parking_lot::Mutex<Option<std::thread::JoinHandle<()>>>,
    unclean: PathBuf,
    lock: parking_lot::Mutex<Option<File>>,
}

impl Store {
    /// Opens the database, creating what is missing.
    ///
    /// # Errors
    /// [`OpenError`]: in use, damaged, newer, not reachable. An existing database is never replaced.
    pub async fn open(config: StoreConfig) -> Result<Self, OpenError> {
        let lock = lock(&config.data_dir.join("hexa.lock"))?;
        let unclean = config.data_dir.join("hexa.unclean");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        let (mut until_writer, mut turn) = (None, None);
        let health = Arc::new(WriteHealth::default());
        let (db, backend, link): (Db, Box<dyn Backend>, Link) = if let Some(url) = &config.database_url {
            let postgres::Opened { pool, options, fence, generation, first } = postgres::open(&config, url).await?;
            (until_writer, turn) = (Some(first), Some(generation.clone()));
            let link = Link::Postgres { options: options.clone(), generation: generation.clone(), open: None };
            let backend = PostgresBackend::new(options, fence, generation, config.node.clone());
            (Db::Postgres(pool), Box::new(backend.map_err(io(&config.data_dir))?), link)
        } else {
            let path = config.data_dir.join("hexa.db");
            let was_unclean = unclean.exists();
            let sqlite::Opened { readers, options, hot } = sqlite::open(&path, was_unclean, &config).await?;
            own_chain(&readers, &config.node).await?;
            let link = Link::Sqlite { options, node: config.node.clone(), open: None };
            (Db::Sqlite(readers), Box::new(SqliteBackend::new(hot, &path)), link)
        };
        File::create(&unclean).map_err(io(&unclean))?;
        let head = ChainHead::of(&config.node, &[])?;
        let gate = Arc::new(Mutex::new(ChainLock { head, stale: true }));
        let (writer, end) = Writer::channel();
        let (changes, jobs) = Changes::channel();
        let observers = Arc::default();
        let outfit = Outfit {
            gate: Arc::clone(&gate),
            shared: writer.shared(),
            health: Arc::clone(&health),
            observers: Arc::clone(&observers),
        };
        let worker = tokio::spawn(Worker::new(jobs, link, outfit).run());
        let inner = Inner {
            db,
            writer,
            changes,
            health: Arc::clone(&health),
            observers,
            gate: Arc::clone(&gate),
            generation: turn,
            worker: parking_lot::Mutex::new(Some(worker)),
            thread: parking_lot::Mutex::new(None),
            unclean,
            lock: parking_lot::Mutex::new(Some(lock)),
            config,
        };
        let store = Self { inner: Arc::new(inner) };
        store.settle().await?;
        store.fold_names().await?;
        let thread_config =
            ThreadConfig { linger: store.inner.config.linger, note_flush: store.inner.config.note_flush };
        let (ready, started) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("hexa-writer".into())
            .spawn(move || {
                crate::writer::run(end, backend, (gate, health), thread_config, || {
                    let _ = ready.send(());
                });
            })
            .map_err(io(&store.inner.config.data_dir))?;
        *store.inner.thread.lock() = Some(thread);
        let _ = started.await;
        drop(until_writer);
        Ok(store)
    }

    /// What a former run left: how long the tail is, and who it says is connected.
    async fn settle(&self) -> Result<(), StoreError> {
        let tail = query("select count(*) as n from audit_tail where chain = $1").bind(self.inner.config.node.as_str());
        let tail: i64 = tail.fetch_one(self.reader()).await?.get("n")?;
        self.inner.writer.tail_is(tail as u64);
        // Nobody is connected yet. Devices that never connected have no time of it.
        self.change(|tx| Box::pin(async { Ok(Changed::only(query(CLOSE).execute(tx.on()).await?)) }))
            .await
            .map(|_: u64| ())
    }

    /// Whether this process may still write, as the database says now: one that writes nothing would not hear
    /// of it.
    ///
    /// # Errors
    /// `Fenced` when it is not; `Unavailable` when the database does not say.
    pub async fn may_write(&self) -> Result<(), StoreError> {
        let asked = match (&self.inner.db, &self.inner.generation) {
            (Db::Postgres(pool), Some(generation)) => {
                async { generation.check(&mut *within(pool.acquire()).await?).await }.await
            }
            _ => self.wrote_last().await,
        };
        if let Err(error @ StoreError::Fenced(_)) = &asked {
            self.inner.health.failed(error);
        }
        asked
    }

    /// Whether the audit of a file, which has no generations, ends where this process ended it.
    async fn wrote_last(&self) -> Result<(), StoreError> {
        // Read before the gate is taken, which nobody may hold while they wait: the head only goes on meanwhile.
        let node = self.inner.config.node.as_str();
        let newest = ChainHead::of(node, &query(NEWEST).bind(node).fetch_all(self.reader()).await?)?;
        // Whoever writes at the moment finds it out.
        let Ok(gate) = self.inner.gate.try_lock() else { return Ok(()) };
        if !gate.stale && newest.seq > gate.head.seq { Err(somebody_else(gate.head.seq)) } else { Ok(()) }
    }

    /// Whether the writer's thread and the task that makes changes are there to take writes.
    pub(crate) fn writer_alive(&self) -> bool {
        let changes = self.inner.worker.lock().as_ref().is_some_and(|worker| !worker.is_finished());
        changes && self.inner.thread.lock().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Writes what is queued and noted, stops the writer, folds the log into the file and marks the stop as clean.
    ///
    /// False when something of that did not work: it is in the log, and the next start checks the database.
    pub async fn close(&self) -> bool {
        let thread = self.inner.thread.lock().take();
        let Some(thread) = thread else { return true };
        let inner = Arc::clone(&self.inner);
        // Changes that wait are made; no more are taken.
        inner.changes.close();
        let worker = self.inner.worker.lock().take();
        let link = match worker {
            Some(worker) => tokio::time::timeout(CHANGES_END, worker).await.ok().and_then(Result::ok),
            None => None,
        };
        let stopped = tokio::task::spawn_blocking(move || {
            inner.writer.stop();
            thread.join()
        })
        .await;
        match &self.inner.db {
            Db::Sqlite(readers) => readers.close().await,
            Db::Postgres(pool) => pool.close().await,
        }
        let folded = match link {
            Some(link) => link.close().await,
            None => Err(StoreError::unavailable("the last change did not end in time")),
        };
        let clean = match (stopped, folded) {
            (Ok(Ok(())), Ok(())) => {
                if let Err(error) = std::fs::remove_file(&self.inner.unclean) {
                    tracing::warn!(%error, "cannot mark the stop as clean; the next start checks the database");
                }
                true
            }
            (Ok(Ok(())), Err(error)) => {
                tracing::error!(%error, "cannot merge the write-ahead log into the database; the next start checks it");
                false
            }
            _ => {
                tracing::error!("the writer thread did not stop in time; the next start checks the database");
                false
            }
        };
        drop(self.inner.lock.lock().take());
        clean
    }
}

/// The audit goes on under the name under which it was written: another one would begin a chain of its own unnoticed.
async fn own_chain(readers: &sqlx::SqlitePool, node: &str) -> Result<(), OpenError> {
    let own = "select 1 as found where exists (select 1 from audit_tail where chain = $1) \
         or exists (select 1 from audit where chain = $1)";
    if query(own).bind(node).fetch_optional(Executor::Sqlite(readers)).await?.is_some() {
        return Ok(());
    }
    let other = "select min(chain) as chain from \
         (select min(chain) as chain from audit_tail union all select min(chain) from audit) as parts";
    match query(other).fetch_one(Executor::Sqlite(readers)).await?.get::<Option<String>>("chain")? {
        None => Ok(()),
        Some(other) => Err(OpenError::OtherNode { node: node.to_owned(), other }),
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

/// A reader changes nothing, so what it reads must be of its own version.
fn same_schema(place: &Path, found: i64, migrations: &sqlx::migrate::Migrator) -> Result<(), OpenError> {
    let known = migrations.iter().map(|m| m.version).max().unwrap_or(0);
    let path = place.to_owned();
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(OpenError::Newer { path, found, known }),
        std::cmp::Ordering::Less => Err(OpenError::Older { path, found, known }),
    }
}

fn migration_error(
    place: &Path,
    migrations: &sqlx::migrate::Migrator,
    error: sqlx::migrate::MigrateError,
) -> OpenError {
    match error {
        sqlx::migrate::MigrateError::VersionMissing(found) => {
            let known = migrations.iter().map(|m| m.version).max().unwrap_or(0);
            OpenError::Newer { path: place.to_owned(), found, known }
        }
        sqlx::migrate::MigrateError::VersionMismatch(version) => OpenError::Corrupt {
            path: place.to_owned(),
            problem: format!("migration {version} was applied in another form"),
        },
        other => StoreError::Unavailable { source: Box::new(other) }.into(),
    }
}
