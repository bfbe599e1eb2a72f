//! Opening PostgreSQL: the address, the fence against a second process, the migrations, the pool.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgConnection, PgPool, Row};

use crate::Durability;
use crate::StoreConfig;
use crate::db::within;
use crate::error::{OpenError, StoreError};
use crate::open::generation::Generation;

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/postgres");

/// Connections for reads; changes and the writer have one more each.
const POOL: u32 = 8;
/// How long a start waits for a database that is starting too.
const START: Duration = Duration::from_secs(10);

/// The server's own, in milliseconds, and how it shows it.
const STATEMENT_TIMEOUT: &str = "4500";
const STATEMENT_TIMEOUT_SHOWN: &str = "4500ms";

/// How long a start waits for the session of a former process to end.
const LINGERING: Duration = Duration::from_secs(2);

/// A PostgreSQL database that is ready to use.
pub(super) struct Opened {
    pub(super) pool: PgPool,
    /// For the writer's own connection, and that of changes.
    pub(super) options: PgConnectOptions,
    pub(super) fence: Fence,
    pub(super) generation: Generation,
    /// Holds the fence until the writer has taken it over.
    pub(super) first: PgConnection,
}

/// Opens it and brings the schema up to date.
pub(super) async fn open(config: &StoreConfig, url: &SecretString) -> Result<Opened, OpenError> {
    let fence = Fence::new(&config.node);
    let options = options(url, config.durability, &fence)?;
    let place = format!("{}/{}", options.get_host(), options.get_database().unwrap_or_default());
    let mut first = connect(&options).await?;
    if refuses_writes(&mut first).await? {
        return Err(OpenError::ReadOnly(place));
    }
    own_session(&mut first, &options).await?;
    let started = Instant::now();
    loop {
        match fence.take(&mut first).await {
            Ok(()) => break,
            Err(Refused::Store(error)) => return Err(error.into()),
            // A process that was killed a moment ago may not be noticed to be gone yet.
            Err(Refused::Held(holder)) if started.elapsed() >= LINGERING => {
                return Err(OpenError::InUse { place, holder });
            }
            Err(Refused::Held(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    // A migration may take as long as it takes.
    sqlx::query("set statement_timeout = 0").execute(&mut first).await.map_err(StoreError::from)?;
    MIGRATIONS.run(&mut first).await.map_err(|e| super::migration_error(&PathBuf::from(&place), &MIGRATIONS, e))?;
    let generation = Generation::take(&mut first, &config.node).await?;
    let pool = PgPoolOptions::new()
        .max_connections(POOL)
        .acquire_timeout(Duration::from_secs(2))
        .connect_with(options.clone())
        .await
        .map_err(StoreError::from)?;
    Ok(Opened { pool, options, fence, generation, first })
}

/// Opens it beside whoever else has it, for reading alone.
pub(crate) async fn read_only(config: &StoreConfig, url: &SecretString) -> Result<PgPool, OpenError> {
    let options = options(url, config.durability, &Fence::new(&config.node))?;
    let options = options.options([("default_transaction_read_only", "on")]);
    let place = PathBuf::from(format!("{}/{}", options.get_host(), options.get_database().unwrap_or_default()));
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(START).connect_with(options).await;
    let pool = pool.map_err(StoreError::from)?;
    let schema = "select coalesce(max(version), 0) as found from _sqlx_migrations where success";
    let found = match within(sqlx::query(schema).fetch_one(&pool)).await {
        Ok(row) => row.try_get("found").map_err(StoreError::from)?,
        Err(error) if error.to_string().contains("_sqlx_migrations") => 0,
        Err(error) => return Err(error.into()),
    };
    super::same_schema(&place, found, &MIGRATIONS)?;
    Ok(pool)
}

fn options(url: &SecretString, durability: Durability, fence: &Fence) -> Result<PgConnectOptions, OpenError> {
    let url = url.expose_secret();
    let scheme = url.split("://").next().unwrap_or_default();
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(OpenError::Unsupported(scheme.to_owned() + "://…"));
    }
    // The error of the parser names no part of the address, so no password either.
    let options = PgConnectOptions::from_str(url).map_err(|e| OpenError::Address(e.to_string()))?;
    let sync = match durability {
        Durability::Full => "on",
        Durability::Normal => "off",
    };
    Ok(options
        .application_name(&fence.instance)
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", "4000"),
            ("idle_in_transaction_session_timeout", "10000"),
            // A peer that is gone is noticed by the server within half a minute, and its locks go with it.
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
            ("synchronous_commit", sync),
        ])
        .disable_statement_logging())
}

/// Whether this server says that it takes no writes.
async fn refuses_writes(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let look = "select pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean as read_only";
    Ok(within(sqlx::raw_sql(look).fetch_one(connection)).await?.try_get("read_only")?)
}

/// Whether this server takes writes: a standby does not, and after a failover the address may lead to one.
///
/// # Errors
/// `Unavailable` when it does not, or does not answer.
pub(crate) async fn writable(connection: &mut PgConnection) -> Result<(), StoreError> {
    if refuses_writes(connection).await? {
        return Err(StoreError::unavailable("this PostgreSQL takes no writes: it is a standby, or set to read only"));
    }
    Ok(())
}

/// A pooler in transaction mode gives each transaction another session: what a session has been told, and the lock it
/// holds, would be somebody else's.
async fn own_session(first: &mut PgConnection, options: &PgConnectOptions) -> Result<(), OpenError> {
    let pid = "select pg_backend_pid() as pid, current_setting('application_name') as name, \
         current_setting('statement_timeout') as patience";
    // Without prepared statements, which such a pooler mixes up before there is anything to see.
    let seen = async |connection: &mut PgConnection| -> Result<(i32, String, String), StoreError> {
        let row = within(sqlx::raw_sql(pid).fetch_one(connection)).await?;
        Ok((row.try_get("pid")?, row.try_get("name")?, row.try_get("patience")?))
    };
    let one = seen(first).await?;
    let mut second = options.connect().await.map_err(StoreError::from)?;
    // While the second one is inside of a transaction, a pooler cannot give its session to the first.
    let begun = async {
        within(sqlx::raw_sql("begin").execute(&mut second)).await?;
        let two = seen(&mut second).await?;
        let again = seen(first).await?;
        Ok::<_, StoreError>((two, again))
    };
    let (two, again) = begun.await?;
    drop(second.close().await);
    if one.0 != again.0 || one.0 == two.0 {
        return Err(OpenError::Pooled("two transactions of one connection ran in two sessions".into()));
    }
    // It was told to ignore them: no statement would end in time, and durability would be somebody else's.
    if [&one, &two].iter().any(|seen| seen.2 != STATEMENT_TIMEOUT_SHOWN) {
        return Err(OpenError::Pooled("the settings that a connection begins with do not reach its session".into()));
    }
    Ok(())
}

/// Waits a little for a database that starts at the same time as we do.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, OpenError> {
    let started = Instant::now();
    loop {
        let error = match tokio::time::timeout(START, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        if let sqlx::Error::Database(said) = &error
            && said.message().contains("unsupported startup parameter")
        {
            return Err(OpenError::Pooled(said.message().to_owned()));
        }
        let starting = match &error {
            sqlx::Error::Io(_) => true,
            sqlx::Error::Database(said) => said.is_transient_in_connect_phase(),
            _ => false,
        };
        if !starting || started.elapsed() >= START {
            return Err(StoreError::from(error).into());
        }
        tracing::info!(%error, "PostgreSQL does not answer yet; trying again");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Keeps a second process off the node's audit chain: an advisory lock on the connection that writes.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    key: i64,
    /// The `application_name` of all connections of this process.
    instance: String,
}

/// Why the fence was not taken.
pub(crate) enum Refused {
    /// Another process has it.
    Held(String),
    /// The database said no.
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

const TRY_LOCK: &str = "select pg_try_advisory_lock($1) as taken";

/// The session that holds the lock, with the two halves of the key put together again.
const HOLDER: &str = "select a.pid, a.application_name, coalesce(a.client_addr::text, 'local') as address \
     from pg_locks l join pg_stat_activity a on a.pid = l.pid where l.locktype = 'advisory' and l.granted \
     and l.objsubid = 1 and ((l.classid::bigint << 32) | l.objid::bigint) = $1 \
     and l.database = (select oid from pg_database where datname = current_database())";

impl Fence {
    fn new(node: &str) -> Self {
        let digest = Sha256::digest(format!("hexa audit chain {node}"));
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        let instance = format!("hexa {node} {}", uuid::Uuid::now_v7().simple());
        Self { key: i64::from_be_bytes(key), instance }
    }

    /// Lets it go, so that the next one need not wait for the end of the connection.
    pub(crate) async fn give_back(&self, connection: &mut PgConnection) {
        let unlock = sqlx::query("select pg_advisory_unlock($1)").bind(self.key).execute(connection);
        if let Err(error) = within(unlock).await {
            tracing::debug!(%error, "the advisory lock was not released; it ends with the connection");
        }
    }

    /// Takes it for this connection. An older connection of this very process that the server has not given up yet is
    /// ended first: after a cut in the network it would hold the fence until its keep-alive fails.
    pub(crate) async fn take(&self, connection: &mut PgConnection) -> Result<(), Refused> {
        for last in [false, true] {
            let taken = within(sqlx::query(TRY_LOCK).bind(self.key).fetch_one(&mut *connection)).await?;
            if taken.try_get::<bool, _>("taken").map_err(StoreError::from)? {
                return Ok(());
            }
            let holder = within(sqlx::query(HOLDER).bind(self.key).fetch_optional(&mut *connection)).await?;
            let Some(holder) = holder else { continue };
            let get = |column: &str| holder.try_get::<String, _>(column).map_err(StoreError::from);
            let (name, address) = (get("application_name")?, get("address")?);
            if last || name != self.instance {
                return Err(Refused::Held(format!("{name} from {address}")));
            }
            let pid: i32 = holder.try_get("pid").map_err(StoreError::from)?;
            let end = "select pg_terminate_backend($1, 1000)";
            within(sqlx::query(end).bind(pid).execute(&mut *connection)).await?;
        }
        Err(Refused::Held("a session that ends".into()))
    }
}
