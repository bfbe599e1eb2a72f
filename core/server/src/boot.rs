//! From settings to a running server: store, plugins, services, API, in this order; each failure names what to do.

use std::sync::Arc;

use anyhow::{Context, Result};
use hexa_api::listen::{Guests, Limits, Listener};
use hexa_api::{ApiConfig, ApiState};
use hexa_crypto::{hex, token};
use hexa_host::{ChildCompiler, Compiler, HostConfig, PluginHost};
use hexa_model::{Clock, SystemClock, TimeMs};
use hexa_service::Services;
use hexa_service::auth::account::BOOTSTRAP_SETTING;
use hexa_service::auth::keys::KeySource;
use hexa_service::config::{AuthConfig, Config, ProvisionConfig};
use hexa_service::idempotency;
use hexa_service::plugins::Watch;
use hexa_store::{Store, StoreConfig};
use secrecy::{ExposeSecret, SecretString};

use crate::config::Settings;
use crate::{lifecycle, plugin_metrics, ring, secrets};

/// Devices that may wait for an owner before provisioning is refused.
const MAX_UNCLAIMED: u32 = 20_000;
/// How long a start waits for plugins that are being compiled: as a rule it takes less, and devices that are turned away
/// come back later than that.
const COMPILE_GRACE: std::time::Duration = std::time::Duration::from_secs(3);

/// Instances of plugins that were not used for so long are thrown away, at twice this time at the latest.
const TIDY_EVERY: std::time::Duration = std::time::Duration::from_secs(300);

/// Sessions that ended so long ago are removed; until then a token of theirs that comes again is known as theirs.
const KEEP_SESSIONS: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
const FORGET_EVERY: std::time::Duration = std::time::Duration::from_secs(3600);
/// Rows that are removed at once.
const FORGET_PIECE: u32 = 500;

/// Runs until a signal.
pub(crate) async fn serve(settings: Settings) -> Result<()> {
    let started = std::time::Instant::now();
    let signals = lifecycle::Signals::new().context("cannot listen for signals")?;
    secrets::private_dir(&settings.data_dir)?;
    secrets::private_dir(&settings.secrets_dir())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut store_config = StoreConfig::new(settings.data_dir.clone());
    store_config.database_url.clone_from(&settings.database_url);
    store_config.durability = settings.durability;
    store_config.linger = settings.linger;
    let store = Store::open(store_config).await?;
    let (watch, told) = hexa_service::plugins::watch();
    let plugins = load_plugins(&settings, Arc::clone(&clock), watch).await?;
    bootstrap(&settings, &store).await?;
    let listener = Listener::bind(settings.listen).with_context(|| {
        format!("cannot listen on {}; is another server running there? Set HEXA_LISTEN", settings.listen)
    })?;
    let address = listener.address();
    let tls = settings.tls.clone();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let public_url = settings.public_url.clone().unwrap_or_else(|| format!("{scheme}://{address}"));
    let config = rooms(&settings, &public_url, clock.now())?;
    let services = Services::new(config, clock, store, Arc::clone(&plugins) as Arc<dyn hexa_service::ports::Drivers>);
    services.grants.load(&services.store, services.clock.now()).await.context("cannot read what is shared")?;
    plugin_metrics::register(&services.metrics, Arc::clone(&plugins));
    let api = ApiState::new(
        Arc::clone(&services),
        ApiConfig {
            public_url: public_url.clone(),
            metrics_token: settings.metrics_token.clone(),
            allowed_origins: settings.allowed_origins.clone(),
            connect_src: settings.connect_src.clone(),
            dashboard: crate::dashboard::built_in(),
            transport: settings.transport.clone(),
            user_sockets: settings.user_sockets,
        },
    );
    let sweep = tokio::spawn(Arc::clone(&services.registry).sweep(services.stop.clone()));
    let watch = tokio::spawn(api.clone().watch_clients());
    // Among the tasks that a stop waits for: what was told is written before the store closes.
    services.tasks.spawn(hexa_service::plugins::keep(Arc::clone(&services), told));
    services.tasks.spawn(hexa_service::ops::fleet::keep(Arc::clone(&services)));
    services.tasks.spawn(hexa_service::device::grant::keep(Arc::clone(&services)));
    if let Some(keep) = settings.audit_retention {
        services.tasks.spawn(hexa_service::audit::retention::keep(Arc::clone(&services), keep));
    }
    let tidying = tokio::spawn(tidy_plugins(plugins));
    let housekeeping = tokio::spawn(forget(Arc::clone(&services)));
    let router = hexa_api::router(api.clone());
    let exempt = settings.transport.trusted_proxies.clone();
    let guests = Guests::new(settings.max_guests, exempt, Arc::clone(&services.metrics));
    let limits = Limits { connections: settings.max_connections, guests, write_stall: settings.write_stall };
    if let Some(tls) = tls.clone() {
        let stop = services.stop.clone();
        services.tasks.spawn(async move { tls.watch(stop).await });
    }
    let serving = tokio::spawn(listener.serve(router, limits, tls, services.stop.clone()));
    let written = settings.data_dir.join("listen.addr");
    std::fs::write(&written, address.to_string()).with_context(|| format!("cannot write {}", written.display()))?;
    tracing::info!(
        %address,
        public_url,
        production = settings.production,
        database = services.store.kind(),
        startup_ms = started.elapsed().as_millis() as u64,
        "hexa is ready"
    );
    signals.wait().await;
    lifecycle::stop(&services, &api, serving).await;
    sweep.abort();
    watch.abort();
    tidying.abort();
    housekeeping.abort();
    Ok(())
}

/// Throws away instances that nobody used, so that a driver of the night is not paid for by day.
async fn tidy_plugins(plugins: Arc<PluginHost>) {
    let mut tick = tokio::time::interval(TIDY_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.reset();
    loop {
        tick.tick().await;
        plugins.tidy();
    }
}

/// Removes what is over, a piece at a time: sessions that ended a month ago, idempotency keys of yesterday.
async fn forget(services: Arc<Services>) {
    let mut tick = tokio::time::interval(FORGET_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = hexa_service::auth::keys::tend(&services).await {
            tracing::warn!(%error, "the keys of access tokens were not looked after");
        }
        let before = TimeMs(services.clock.now().0 - KEEP_SESSIONS.as_millis() as i64);
        loop {
            let gone = async {
                let sessions = services.auth.forget_ended(before).await?;
                Ok::<_, hexa_service::Error>(sessions + idempotency::forget(&services, FORGET_PIECE).await?)
            };
            match gone.await {
                Ok(0) => break,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(%error, "what is over was not removed");
                    break;
                }
            }
        }
    }
}

async fn load_plugins(settings: &Settings, clock: Arc<dyn Clock>, watch: Watch) -> Result<Arc<PluginHost>> {
    let key = secrets::load_or_generate(&settings.secrets_dir(), "plugin_cache_key")?;
    let config = HostConfig {
        plugins_dir: settings.plugins_dir.clone(),
        cache_dir: settings.data_dir.join("plugin-cache"),
        cache_key: token::sha256(key.expose_secret().as_bytes()),
        compiler: Arc::new(Compiler::Child(ChildCompiler::this_program().context("this program's own file")?)),
        clock,
        watch: Arc::new(watch),
        per_call: settings.per_call.clone(),
    };
    let load = move || {
        let host = PluginHost::load(&config)?;
        if !host.wait_compiled(COMPILE_GRACE) {
            tracing::warn!("starting while plugins are being compiled; until then their devices are told to come back");
        }
        Ok::<_, hexa_host::EngineError>(host)
    };
    let host = tokio::task::spawn_blocking(load).await?.context("plugin engine")?;
    if host.status().is_empty() {
        let dir = settings.plugins_dir.display();
        tracing::warn!("no plugin in {dir}: devices cannot connect; set HEXA_PLUGINS_DIR");
    }
    Ok(Arc::new(host))
}

fn rooms(settings: &Settings, public_url: &str, now: TimeMs) -> Result<Config> {
    let dir = settings.secrets_dir();
    let keys_of_tokens = if settings.jwt_secrets.is_empty() {
        let (ring, keep) = ring::load(&dir, now)?;
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
        relay: settings.relay.clone(),
        device: settings.device.clone(),
        provision: ProvisionConfig {
            keys,
            rate: settings.provision_rate,
            failures: settings.provision_failures,
            claim_failures: settings.claim_failures,
            max_unclaimed: MAX_UNCLAIMED,
            claim_lifetime: std::time::Duration::from_secs(15 * 60),
            rotation_grace: std::time::Duration::from_secs(10 * 60),
        },
        auth: AuthConfig {
            user_rate: settings.user_rate,
            login_failures: settings.login_failures,
            public_rate: settings.public_rate,
            token_failures: settings.token_failures,
            max_sessions: settings.user_sessions,
            ..AuthConfig::new(keys_of_tokens, public_url.to_owned())
        },
    })
}

/// The way to the first admin (AU-6): one secret, one use. It is printed once, and kept in a file until it is used.
#[expect(clippy::print_stderr, reason = "a secret for the person at the terminal does not belong into the log")]
async fn bootstrap(settings: &Settings, store: &Store) -> Result<()> {
    let path = settings.secrets_dir().join("bootstrap_secret");
    let mut tx = store.begin().await?;
    if tx.has_admin().await? {
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
    tx.put_setting(BOOTSTRAP_SETTING, &hex(&token::sha256(secret.expose_secret().as_bytes()))).await?;
    tx.commit().await?;
    eprintln!(
        "hexa: no admin yet. Register one with this bootstrap_secret, which works once: {}",
        secret.expose_secret()
    );
    eprintln!("hexa: it is also in {} until it is used", path.display());
    Ok(())
}
