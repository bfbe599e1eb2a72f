//! From settings to a running server: store, plugins, services, API, in this order; each failure names what to do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use hexa_accounts::account::BOOTSTRAP_SETTING;
use hexa_accounts::keys::KeySource;
use hexa_api::{ApiConfig, ApiState};
use hexa_crypto::{hex, token};
use hexa_devices::codes;
use hexa_host::{ChildCompiler, Compiler, HostConfig, PluginHost};
use hexa_listen::{AnonymousLimit, Limits, Listener, MaintenanceListener, Tls};
use hexa_model::{Clock, SystemClock, TimeMs};
use hexa_operations::Operations;
use hexa_operations::config::{AccountsConfig, Config, ProvisionConfig};
use hexa_operations::plugins::{PluginEventReceiver, Watch};
use hexa_platform::clock_guard::{self, Noted};
use hexa_platform::worker::{self, RunsOn, WorkerSpec};
use hexa_store::{Changed, Store, StoreConfig, StoreError};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::config::Settings;
use crate::{embedded_plugins, key_ring_file, lifecycle, plugin_metrics, secrets, volume};

const SERVER_ID_SETTING: &str = "server_id";
/// Devices that may wait for an owner before provisioning is refused.
const MAX_UNCLAIMED: u32 = 20_000;
/// How long a start waits for plugins that are being compiled: as a rule it takes less, and devices that are turned away
/// come back later than that.
const COMPILE_GRACE: std::time::Duration = std::time::Duration::from_secs(3);

/// Instances of plugins that were not used for so long are thrown away, at twice this time at the latest.
const TIDY_EVERY: std::time::Duration = std::time::Duration::from_secs(300);
const TIDIES_PLUGINS: WorkerSpec = WorkerSpec {
    name: "plugin_instances",
    purpose: "throws away instances of plugins that nobody used for a while",
    runs_on: RunsOn::EveryNode,
};
const RENEWS_TLS: WorkerSpec =
    WorkerSpec { name: "tls_certificate", purpose: "takes up a renewed TLS certificate", runs_on: RunsOn::EveryNode };

/// How often it is looked whether a write found that another process has taken this one's place at the database.
const LOST_EVERY: std::time::Duration = std::time::Duration::from_millis(250);
/// How many times less often the database is asked: a process that writes nothing finds nothing.
const ASK_EVERY: u32 = 40;

/// Runs until a signal, also one that comes while it starts.
pub(crate) async fn serve(settings: Settings) -> Result<()> {
    let mut signals = lifecycle::Signals::new().context("cannot listen for signals")?;
    // On a thread of its own: a start that stands still over a file keeps no signal from being heard.
    let starting = tokio::task::spawn_blocking(move || Handle::current().block_on(start(settings)));
    let running = tokio::select! {
        started = starting => started.context("the start was interrupted")??,
        () = signals.wait() => {
            tracing::info!("stopped before it was ready");
            return Ok(());
        }
    };
    tokio::select! {
        () = signals.wait() => {}
        // Nothing that this process would say is of any worth: another one writes in its place.
        () = lost(&running.services.store) => {}
    }
    let stopped = lifecycle::stop(&running.services, &running.api, running.serving).await;
    // Not an ordinary end: whoever supervises this process is to see it.
    if let Some(why) = running.services.store.lost() {
        bail!("this process may no longer write to the database, so it has stopped: {why}");
    }
    if stopped.lost > 0 {
        let lost = stopped.lost;
        bail!(
            "{lost} audit rows were not stored: the database did not accept them before the server stopped; the log lists each"
        );
    }
    if !stopped.closed {
        bail!("the database was not closed properly: the log says why, and the next start checks it");
    }
    Ok(())
}

/// What runs until it is stopped.
struct Running {
    services: Arc<Operations>,
    api: ApiState,
    serving: JoinHandle<()>,
}

/// Directories that are the server's own, and what there is to say about them.
fn prepare(settings: &Settings) -> Result<()> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    secrets::keep_private();
    secrets::data_dir(&settings.data_dir)?;
    if let Some(kind) = volume::doubtful(&settings.data_dir).filter(|_| settings.database_url.is_none()) {
        let dir = settings.data_dir.display();
        tracing::warn!(
            "{dir} is on {kind}: SQLite needs locks and shared memory that it may not have, and the database \
            may be damaged; use a local disk, or PostgreSQL (DATABASE_URL)"
        );
    }
    secrets::private_dir(&settings.secrets_dir())
}

fn store_config(settings: &Settings) -> StoreConfig {
    let mut config = StoreConfig::new(settings.data_dir.clone());
    config.database_url.clone_from(&settings.database_url);
    config.node.clone_from(&settings.node);
    config.durability = settings.durability;
    config.linger = settings.linger;
    config
}

async fn start(settings: Settings) -> Result<Running> {
    let started = std::time::Instant::now();
    prepare(&settings)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = Store::open(store_config(&settings)).await?;
    // Before anything is written with the time of this start.
    let known = known_time(&store, &settings.node).await?;
    let (watch, events) = hexa_operations::plugins::watch();
    let plugins = load_plugins(&settings, Arc::clone(&clock), watch).await?;
    bootstrap(&settings, &store).await?;
    let server_id = server_id(&store).await?;
    let listener = Listener::bind(settings.listen).with_context(|| {
        format!("cannot listen on {}; is another server running there? Set HEXA_LISTEN", settings.listen)
    })?;
    let address = listener.address();
    let tls = settings.tls.clone();
    let maintenance = maintenance(&settings)?;
    // A name of its own, which no port and no proxy changes: tokens outlive a restart on another port.
    let issuer = settings.public_url.as_ref().map_or_else(|| format!("urn:hexa:{server_id}"), ToString::to_string);
    let config = rooms(&settings, &issuer, clock.now())?;
    let services = Operations::new(config, clock, store, Arc::clone(&plugins) as Arc<dyn hexa_devices::ports::Drivers>);
    let vouched = tell(&services, known, settings.believed_day);
    services.keep_in_step();
    if vouched {
        clock_guard::note_believed(&services).await.context("cannot record that the clock is trusted")?;
    }
    codes::bring_up_to_date(&services).await.context("cannot bring claim codes up to date")?;
    services.grants.load(&services.store, services.guard.latest()).await.context("cannot read the grants")?;
    plugin_metrics::register(&services.metrics, Arc::clone(&plugins));
    let api = ApiState::new(
        Arc::clone(&services),
        ApiConfig {
            public_url: settings.public_url.clone(),
            fallback_url: fallback_url(address, tls.is_some()),
            server_id,
            metrics_failures: Some(settings.provision_failures),
            metrics_token: settings.metrics_token.clone(),
            allowed_origins: settings.allowed_origins.clone(),
            connect_src: settings.connect_src.clone(),
            dashboard: crate::dashboard::built_in(),
            transport: settings.transport.clone(),
            user_sockets: settings.user_sockets,
        },
    );
    start_workers((&services, &api), (plugins, events), tls.as_ref(), settings.audit_retention);
    let router = hexa_api::router(api.clone());
    let exempt = settings.transport.trusted_proxies.clone();
    let anonymous = AnonymousLimit::new(settings.max_anonymous, exempt, Arc::clone(&services.metrics));
    let limits = Limits { connections: settings.max_connections, anonymous, write_stall: settings.write_stall };
    let place = maintenance.as_ref().map(MaintenanceListener::shown);
    let (inside, stop) = (router.clone(), services.stop.clone());
    let serving = tokio::spawn(async move {
        let outside = listener.serve(router, limits, tls, stop.clone());
        match maintenance {
            Some(maintenance) => drop(tokio::join!(outside, maintenance.serve(inside, stop))),
            None => outside.await,
        }
    });
    let written = settings.data_dir.join("listen.addr");
    std::fs::write(&written, address.to_string()).with_context(|| format!("cannot write {}", written.display()))?;
    tracing::info!(
        %address,
        public_url = settings.public_url.as_ref().map(tracing::field::display),
        maintenance = place,
        production = settings.production,
        database = services.store.kind(),
        startup_ms = started.elapsed().as_millis() as u64,
        "hexa is ready"
    );
    Ok(Running { services, api, serving })
}

/// What the database says of the time: when the newest row of the audit was written, and what was noted last.
async fn known_time(store: &Store, node: &str) -> Result<(Option<TimeMs>, Option<Noted>)> {
    let newest = store.newest_audit(node).await.context("cannot read the audit")?;
    Ok((newest, clock_guard::noted(store).await.context("cannot read the settings")?))
}

/// True when the clock is believed because whoever runs the server said so.
fn tell(services: &Operations, known: (Option<TimeMs>, Option<Noted>), vouched: Option<jiff::civil::Date>) -> bool {
    let (guard, (newest, noted)) = (&services.guard, known);
    let today = jiff::Timestamp::from_millisecond(services.clock.now().0)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date())
        .ok();
    if vouched.is_some() && vouched == today {
        tracing::warn!("the system clock is trusted as it is, because HEXA_BELIEVE_CLOCK names today");
        guard.is_right();
        return true;
    }
    if let Some(newest) = newest {
        guard.was_written(newest);
    }
    match (noted, newest) {
        (Some(noted), _) => guard.was_running(noted),
        (None, None) => guard.is_new(),
        (None, Some(_)) => {}
    }
    false
}

/// What goes on beside requests, as workers of the one registry.
fn start_workers(
    (services, api): (&Arc<Operations>, &ApiState),
    (plugins, events): (Arc<PluginHost>, PluginEventReceiver),
    tls: Option<&Arc<Tls>>,
    audit_retention: Option<std::time::Duration>,
) {
    services.start_workers(events, audit_retention);
    api.start_workers();
    services.workers.periodic(TIDIES_PLUGINS, TIDY_EVERY, move |term| {
        let plugins = Arc::clone(&plugins);
        worker::run(async move {
            // At the start there is nothing to throw away.
            if term.start > 1 {
                plugins.tidy();
            }
            Ok::<_, String>(())
        })
    });
    if let Some(tls) = tls.cloned() {
        let stop = services.stop.clone();
        services.workers.ongoing(RENEWS_TLS, move |_| {
            let (tls, stop) = (Arc::clone(&tls), stop.clone());
            worker::run(async move {
                tls.watch(&stop).await;
                Ok::<_, String>(())
            })
        });
    }
}

/// The maintenance listener; none where the file system of the data directory cannot hold it and nobody asked for it.
fn maintenance(settings: &Settings) -> Result<Option<MaintenanceListener>> {
    let (place, given) = &settings.maintenance;
    match MaintenanceListener::bind(place) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if *given || error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(error).with_context(|| format!("HEXA_MAINTENANCE_LISTEN: cannot listen at {place:?}"))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot open the maintenance listener at {place:?}; set HEXA_MAINTENANCE_LISTEN to another path or a loopback address");
            Ok(None)
        }
    }
}

/// What is handed out where a request does not say how it came: never an address that means every address.
fn fallback_url(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    format!("{scheme}://{}", SocketAddr::new(host, address.port()))
}

/// Tells this server from every other one; made once, kept with the data.
async fn server_id(store: &Store) -> Result<String> {
    if let Some(id) = store.setting(SERVER_ID_SETTING).await? {
        return Ok(id);
    }
    let id = hex(&hexa_crypto::random_bytes::<4>());
    let kept = id.clone();
    let made = store.change(move |tx| {
        Box::pin(async move { Ok::<_, StoreError>(Changed::only(tx.put_setting(SERVER_ID_SETTING, &kept).await?)) })
    });
    made.await?;
    Ok(id)
}

/// Waits until this process has lost its place at the database.
async fn lost(store: &Store) {
    let mut tick = tokio::time::interval(LOST_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 0u32.. {
        tick.tick().await;
        if round.is_multiple_of(ASK_EVERY) {
            // What it finds is noted with the store; that the database is away is no reason to end.
            drop(store.may_write().await);
        }
        if store.lost().is_some() {
            return;
        }
    }
}

async fn load_plugins(settings: &Settings, clock: Arc<dyn Clock>, watch: Watch) -> Result<Arc<PluginHost>> {
    let key = secrets::load_or_generate(&settings.secrets_dir(), "plugin_cache_key")?;
    let config = HostConfig {
        plugins_dir: settings.plugins.dir.clone(),
        cache_dir: settings.data_dir.join("plugin-cache"),
        cache_key: token::sha256(key.expose_secret().as_bytes()),
        compiler: Arc::new(Compiler::Child(
            ChildCompiler::this_program().context("cannot find this program's own file")?,
        )),
        clock,
        watch: Arc::new(watch),
        per_call: settings.plugins.per_call.clone(),
    };
    let embedded = embedded_plugins::chosen(&settings.plugins.embedded);
    if settings.plugins.dir_given && !settings.plugins.dir.is_dir() {
        tracing::warn!("HEXA_PLUGINS_DIR: {} is not a directory that can be read", settings.plugins.dir.display());
    }
    let load = move || {
        let host = PluginHost::load_with(&config, &embedded)?;
        if !host.wait_compiled(COMPILE_GRACE) {
            tracing::warn!(
                "starting before all plugins are compiled; until they are, their devices are told to reconnect later"
            );
        }
        Ok::<_, hexa_host::EngineError>(host)
    };
    let host = tokio::task::spawn_blocking(load).await?.context("cannot start the plugin engine")?;
    if host.status().is_empty() {
        let dir = settings.plugins.dir.display();
        tracing::warn!(
            "there is no plugin in {dir} and none in this program, so no device can connect; set HEXA_PLUGINS_DIR to the \
            directory of the plugins, or build the server after `cargo xtask plugins`"
        );
    }
    Ok(Arc::new(host))
}

fn rooms(settings: &Settings, issuer: &str, now: TimeMs) -> Result<Config> {
    let dir = settings.secrets_dir();
    let keys_of_tokens = if settings.jwt_secrets.is_empty() {
        let (ring, keep) = key_ring_file::load(&dir, now)?;
        KeySource::Kept { ring, keep, rotate_after: settings.jwt_rotation }
    } else {
        KeySource::Given(settings.jwt_secrets.clone())
    };
    let keys: Vec<SecretString> = if settings.provision_keys.is_empty() {
        vec![secrets::load_or_generate(&dir, "device_provision_key")?]
    } else {
        settings.provision_keys.clone()
    };
    let key_encryption_key = match &settings.key_encryption_key {
        Some(key) => key.clone(),
        None => secrets::load_or_generate(&dir, "key_encryption_key")?,
    };
    Ok(Config {
        key_encryption_key,
        devices: hexa_devices::config::Config {
            command: settings.command.clone(),
            device: settings.device.clone(),
            provision: ProvisionConfig {
                keys,
                rate: settings.provision_rate,
                failures: settings.provision_failures,
                claim_failures: settings.claim_failures,
                total_claim_failures: settings.total_claim_failures,
                max_unclaimed: MAX_UNCLAIMED,
                claim_lifetime: std::time::Duration::from_secs(15 * 60),
                rotation_grace: std::time::Duration::from_secs(10 * 60),
            },
        },
        accounts: AccountsConfig {
            user_rate: settings.user_rate,
            login_failures: settings.login_failures,
            public_rate: settings.public_rate,
            token_failures: settings.token_failures,
            registration: settings.registration,
            invitation_failures: settings.invitation_failures,
            max_invitations: settings.max_invitations,
            max_sessions: settings.user_sessions,
            ..AccountsConfig::new(keys_of_tokens, issuer.to_owned())
        },
    })
}

/// The way to the first admin: one secret, one use. It is printed once, and kept in a file until it is used.
#[expect(clippy::print_stderr, reason = "a secret for the person at the terminal does not belong into the log")]
async fn bootstrap(settings: &Settings, store: &Store) -> Result<()> {
    let path = settings.secrets_dir().join("bootstrap_secret");
    if store.has_admin().await? {
        if path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        return Ok(());
    }
    if path.exists() && store.setting(BOOTSTRAP_SETTING).await?.is_some() {
        return Ok(());
    }
    let secret = token::generate("hxb_");
    secrets::write(&path, &secret)?;
    let hash = hex(&token::sha256(secret.expose_secret().as_bytes()));
    let kept = store.change(move |tx| {
        Box::pin(async move { Ok::<_, StoreError>(Changed::only(tx.put_setting(BOOTSTRAP_SETTING, &hash).await?)) })
    });
    kept.await?;
    eprintln!(
        "hexa: there is no admin yet. Register the first one with this bootstrap_secret, which works once: {}",
        secret.expose_secret()
    );
    eprintln!("hexa: the secret is also in {} until it is used", path.display());
    Ok(())
}
