//! The configuration: defaults < `hexa.toml` < environment < command line. One place reads it; everything is parsed
//! and checked before the first socket opens.
//!
//! In the file a setting has its variable's name in lower case. An unknown name is an error.

mod files;
mod parse;
mod plugins;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hexa_api::PublicUrl;
use hexa_listen::Maintenance;
use hexa_listen::{Tls, TransportConfig};
use hexa_operations::config as rooms;
use hexa_platform::limit::Rate;
use hexa_store::Durability;
use ipnet::IpNet;
use secrecy::SecretString;

use parse::Values;
pub(crate) use plugins::{Embedded, PluginSettings};
pub(crate) use table::SETTINGS;

/// A configuration that cannot be used; says which setting, what it is, and what is allowed.
#[derive(Debug)]
pub(crate) struct ConfigError(String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "configuration: {}", self.0)
    }
}
impl std::error::Error for ConfigError {}

/// The maintenance listener's file in the data directory.
const SOCKET_FILE: &str = "maintenance.sock";

/// What the command line says.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    /// The file; none = `hexa.toml` if it is there.
    pub(crate) file: Option<PathBuf>,
    /// Values of the command line, by variable name.
    pub(crate) values: BTreeMap<&'static str, String>,
}

/// Settings that were parsed and checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) production: bool,
    pub(crate) data_dir: PathBuf,
    pub(crate) plugins: PluginSettings,
    pub(crate) listen: SocketAddr,
    /// Where maintenance comes in, and whether that was asked for: what is not there by default is no reason not to start.
    pub(crate) maintenance: (Maintenance, bool),
    pub(crate) public_url: Option<PublicUrl>,
    pub(crate) database_url: Option<SecretString>,
    /// Under which name the audit is written.
    pub(crate) node: String,
    /// The day on which a start believes the clock.
    pub(crate) believed_day: Option<jiff::civil::Date>,
    pub(crate) durability: Durability,
    pub(crate) linger: Duration,
    /// How long audit rows are kept; none = for ever.
    pub(crate) audit_retention: Option<Duration>,
    pub(crate) log: String,
    pub(crate) max_connections: usize,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) connect_src: Vec<String>,
    pub(crate) transport: TransportConfig,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) max_anonymous: u32,
    pub(crate) metrics_token: Option<SecretString>,
    pub(crate) jwt_secrets: Vec<SecretString>,
    pub(crate) jwt_rotation: Option<Duration>,
    pub(crate) key_encryption_key: Option<SecretString>,
    pub(crate) provision_keys: Vec<SecretString>,
    pub(crate) command: rooms::CommandConfig,
    pub(crate) device: rooms::DeviceConfig,
    pub(crate) provision_rate: Rate,
    pub(crate) provision_failures: Rate,
    pub(crate) claim_failures: Rate,
    pub(crate) total_claim_failures: Rate,
    pub(crate) user_rate: Rate,
    pub(crate) login_failures: Rate,
    /// What is allowed and hardly meant, for the log.
    pub(crate) warnings: Vec<String>,
    pub(crate) public_rate: Rate,
    pub(crate) token_failures: Rate,
    pub(crate) registration: rooms::RegistrationMode,
    pub(crate) invitation_failures: Rate,
    pub(crate) max_invitations: u32,
    pub(crate) user_sockets: u32,
    pub(crate) user_sessions: u32,
    pub(crate) write_stall: Duration,
    effective: BTreeMap<&'static str, (String, &'static str)>,
}

/// The first one signs, the others verify while they are being rotated.
fn jwt_secrets(v: &Values) -> Result<Vec<SecretString>, ConfigError> {
    let secrets = v.secret_list("JWT_SECRET")?;
    let text = |s: &SecretString| secrecy::ExposeSecret::expose_secret(s).to_owned();
    if secrets.len() > 3 || secrets.iter().any(|s| text(s).len() < 32) {
        return Err(v.wrong("JWT_SECRET", "one secret, or up to three separated by commas, of at least 32 bytes each"));
    }
    let different: std::collections::BTreeSet<_> = secrets.iter().map(text).collect();
    if different.len() != secrets.len() {
        return Err(v.wrong("JWT_SECRET", "secrets that differ from each other"));
    }
    Ok(secrets)
}

/// The node's name (`NODE_ID`), checked.
fn node(v: &Values) -> Result<String, ConfigError> {
    let name = v.text("NODE_ID");
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(1..=64).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(v.wrong("NODE_ID", "1 to 64 characters of a-z, 0-9 and -"));
    }
    Ok(name.to_owned())
}

/// The day on which whoever runs the server vouches for the clock.
fn believed_day(v: &Values) -> Result<Option<jiff::civil::Date>, ConfigError> {
    match v.text("HEXA_BELIEVE_CLOCK") {
        "" => Ok(None),
        _ => v.parse("HEXA_BELIEVE_CLOCK", "empty, or a day such as 2026-11-29").map(Some),
    }
}

/// Reads and checks everything.
pub(crate) fn read(overrides: Overrides) -> Result<Settings, ConfigError> {
    settings(&Values::collect(overrides, |name| std::env::var(name).ok())?)
}

fn settings(v: &Values) -> Result<Settings, ConfigError> {
    let production = v.one_of("HEXA_ENV", &["development", "production"])? == "production";
    let public_url = v.url("PUBLIC_URL")?;
    if production && public_url.as_ref().is_some_and(|u| !u.is_secure()) {
        return Err(v.wrong("PUBLIC_URL", "an https:// address in production"));
    }
    let jwt_secrets = jwt_secrets(v)?;
    let key_encryption_key = v.secret("KEY_ENCRYPTION_KEY")?;
    if key_encryption_key.as_ref().is_some_and(|s| secrecy::ExposeSecret::expose_secret(s).len() < 32) {
        return Err(v.wrong("KEY_ENCRYPTION_KEY", "at least 32 bytes"));
    }
    let second = Duration::from_secs(1);
    let minute = Duration::from_secs(60);
    let provision_rps = v.number("LIMIT_PROVISION_RPS", 1..=100_000)?;
    let tls = tls(v)?;
    let transport = transport(v, public_url.as_ref(), production && tls.is_none())?;
    let public_rps = v.number("LIMIT_PUBLIC_RPS", 1..=100_000)?;
    Ok(Settings {
        production,
        data_dir: PathBuf::from(v.text("HEXA_DATA_DIR")),
        plugins: PluginSettings::read(v)?,
        listen: v.parse("HEXA_LISTEN", "an address and port such as 127.0.0.1:8080")?,
        database_url: v.secret("DATABASE_URL")?,
        node: node(v)?,
        believed_day: believed_day(v)?,
        durability: match v.one_of("HEXA_DURABILITY", &["full", "normal"])? {
            "normal" => Durability::Normal,
            _ => Durability::Full,
        },
        linger: Duration::from_micros(u64::from(v.number("HEXA_LINGER_US", 0..=10_000)?)),
        audit_retention: match v.number("AUDIT_RETENTION_DAYS", 0..=36_500)? {
            0 => None,
            days => Some(Duration::from_secs(86_400) * days),
        },
        log: v.text("HEXA_LOG").to_owned(),
        max_connections: connections(v)?,
        allowed_origins: origins(v, "CORS_ALLOWED_ORIGINS")?,
        connect_src: connect_src(v)?,
        maintenance: maintenance(v)?,
        transport,
        public_url,
        tls,
        max_anonymous: v.number("LIMIT_ANONYMOUS_CONNECTIONS", 1..=1_000_000)?,
        metrics_token: metrics_token(v)?,
        jwt_secrets,
        jwt_rotation: match v.number("JWT_ROTATION_DAYS", 0..=3_650)? {
            0 => None,
            days => Some(Duration::from_secs(86_400) * days),
        },
        key_encryption_key,
        provision_keys: provision_keys(v)?,
        command: rooms::CommandConfig {
            timeout: Duration::from_millis(u64::from(v.number("COMMAND_TIMEOUT_MS", 50..=8_000)?)),
        },
        device: rooms::DeviceConfig {
            heartbeat: second * v.number("HEXA_HEARTBEAT_SECONDS", 1..=3_600)?,
            flap_per_minute: v.number("LIMIT_FLAP", 1..=100_000)?,
        },
        provision_rate: Rate::new(provision_rps.saturating_mul(10), second * 10),
        provision_failures: Rate::new(v.number("LIMIT_PROVISION_FAILURES", 1..=100_000)?, minute),
        claim_failures: Rate::new(v.number("LIMIT_CLAIM_FAILURES", 1..=100_000)?, minute * 10),
        total_claim_failures: Rate::new(v.number("LIMIT_CLAIM_FAILURES_TOTAL", 1..=1_000_000)?, minute * 10),
        login_failures: Rate::new(v.number("LIMIT_LOGIN_FAILURES", 1..=100_000)?, minute),
        public_rate: Rate::new(public_rps.saturating_mul(10), second * 10),
        token_failures: Rate::new(v.number("LIMIT_TOKEN_FAILURES", 1..=100_000)?, minute),
        registration: registration(v)?,
        invitation_failures: Rate::new(v.number("LIMIT_INVITATION_FAILURES", 1..=100_000)?, minute),
        max_invitations: v.number("LIMIT_INVITATIONS", 1..=100_000)?,
        user_sockets: v.number("LIMIT_USER_SOCKETS", 1..=1_000_000)?,
        user_sessions: v.number("LIMIT_USER_SESSIONS", 1..=100_000)?,
        write_stall: second * v.number("LIMIT_WRITE_STALL_SECONDS", 1..=3_600)?,
        user_rate: user_rate(v)?,
        warnings: warnings(v, production),
        effective: v.effective(),
    })
}

/// The keys of the fleet: the present one, and while it is replaced the one before.
fn provision_keys(v: &Values) -> Result<Vec<SecretString>, ConfigError> {
    let keys = v.secret_list("DEVICE_PROVISION_KEY")?;
    if keys.len() > 2 {
        return Err(v.wrong("DEVICE_PROVISION_KEY", "one key, or two separated by a comma while rotating"));
    }
    if keys.iter().any(|k| secrecy::ExposeSecret::expose_secret(k).len() < 16) {
        return Err(v.wrong("DEVICE_PROVISION_KEY", "at least 16 characters each"));
    }
    Ok(keys)
}

/// A bucket of a burst that refills at a rate.
fn user_rate(v: &Values) -> Result<Rate, ConfigError> {
    let burst = v.number("LIMIT_USER_BURST", 1..=1_000_000)?;
    let rps = v.number("LIMIT_USER_RPS", 1..=1_000_000)?;
    Ok(Rate::new(burst, Duration::from_secs_f64(f64::from(burst) / f64::from(rps))))
}

/// Who may make an account.
fn registration(v: &Values) -> Result<rooms::RegistrationMode, ConfigError> {
    let name = v.one_of("REGISTRATION", &rooms::RegistrationMode::ALL.map(rooms::RegistrationMode::as_str))?;
    Ok(rooms::RegistrationMode::ALL.into_iter().find(|mode| mode.as_str() == name).unwrap_or_default())
}

/// A socket file, or an address that only this machine reaches.
fn maintenance(v: &Values) -> Result<(Maintenance, bool), ConfigError> {
    const ALLOWED: &str =
        "empty, the absolute path of a socket file, or a loopback address and port such as 127.0.0.1:8081";
    match v.text("HEXA_MAINTENANCE_LISTEN") {
        "" => Ok((Maintenance::File(Path::new(v.text("HEXA_DATA_DIR")).join(SOCKET_FILE)), false)),
        path if path.starts_with('/') => Ok((Maintenance::File(path.into()), true)),
        _ => {
            let address: SocketAddr = v.parse("HEXA_MAINTENANCE_LISTEN", ALLOWED)?;
            let here = address.ip().to_canonical().is_loopback();
            if here {
                Ok((Maintenance::Address(address), true))
            } else {
                Err(v.wrong("HEXA_MAINTENANCE_LISTEN", ALLOWED))
            }
        }
    }
}

/// Where the command line finds the server of this machine when nobody names one. A file in a directory that nobody
/// named either counts only if it is this user's own: a password goes there.
pub(crate) fn maintenance_here() -> Option<Maintenance> {
    let v = Values::collect(Overrides::default(), |name| std::env::var(name).ok()).ok()?;
    let (place, given) = maintenance(&v).ok()?;
    if let Maintenance::File(path) = &place
        && !given
        && !v.is_given("HEXA_DATA_DIR")
        && !files::is_own(path)
    {
        return None;
    }
    Some(place)
}

fn metrics_token(v: &Values) -> Result<Option<SecretString>, ConfigError> {
    let token = v.secret("METRICS_TOKEN")?;
    if token.as_ref().is_some_and(|t| secrecy::ExposeSecret::expose_secret(t).len() < 16) {
        return Err(v.wrong("METRICS_TOKEN", "at least 16 characters"));
    }
    Ok(token)
}

/// What is allowed and hardly meant.
fn warnings(v: &Values, production: bool) -> Vec<String> {
    let mut warnings = v.warnings().to_vec();
    if production && !v.is_given("PUBLIC_URL") {
        let what = "PUBLIC_URL is not set: devices are given the address by which they asked";
        warnings.push(what.to_owned());
    }
    warnings
}

/// How requests may come here; `bare` where nobody but a proxy could speak TLS in production.
fn transport(v: &Values, public_url: Option<&PublicUrl>, bare: bool) -> Result<TransportConfig, ConfigError> {
    let enforce_https = v.flag("ENFORCE_HTTPS")?;
    if enforce_https && public_url.is_some_and(|u| !u.is_secure()) {
        return Err(v.wrong("PUBLIC_URL", "an https:// address while ENFORCE_HTTPS is true"));
    }
    let list = v.list("TRUSTED_PROXIES");
    let trust = v.flag("TRUST_PROXY")?;
    if !trust {
        if !list.is_empty() {
            return Err(v.wrong("TRUSTED_PROXIES", "nothing, unless TRUST_PROXY is true"));
        }
        if enforce_https && bare {
            let allowed = "true in production only with TLS_CERT_FILE, or with TRUST_PROXY for a proxy that ends TLS: with \
                neither, a proxy on this machine would pass for maintenance and open everything to its clients";
            return Err(v.wrong("ENFORCE_HTTPS", allowed));
        }
        return Ok(TransportConfig { enforce_https, trusted_proxies: Vec::new() });
    }
    let list = if list.is_empty() { vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()] } else { list };
    let net = |text: &String| text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).ok();
    let nets: Option<Vec<_>> = list.iter().map(|text| net(text).filter(|n| n.prefix_len() > 0)).collect();
    let trusted_proxies =
        nets.ok_or_else(|| v.wrong("TRUSTED_PROXIES", "addresses or networks such as 10.0.0.1, 10.0.0.0/8"))?;
    Ok(TransportConfig { enforce_https, trusted_proxies })
}

/// Certificate and key, or neither.
fn tls(v: &Values) -> Result<Option<Arc<Tls>>, ConfigError> {
    match (v.text("TLS_CERT_FILE"), v.text("TLS_KEY_FILE")) {
        ("", "") => Ok(None),
        ("", _) => Err(v.wrong("TLS_CERT_FILE", "the certificate of TLS_KEY_FILE")),
        (_, "") => Err(v.wrong("TLS_KEY_FILE", "the key of TLS_CERT_FILE")),
        (certificate, key) => Tls::new(certificate.into(), key.into())
            .map(|tls| Some(Arc::new(tls)))
            .map_err(|e| ConfigError(format!("TLS_CERT_FILE, TLS_KEY_FILE: {e}"))),
    }
}

/// Exact origins: scheme, host and port, nothing else.
fn origins(v: &Values, name: &'static str) -> Result<Vec<String>, ConfigError> {
    const ALLOWED: &str = "origins such as https://app.example or http://localhost:5173, separated by commas";
    let origin = |text: &String| {
        let url = url::Url::parse(text).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == *text).then(|| text.clone())
    };
    let list: Option<Vec<_>> = v.list(name).iter().map(origin).collect();
    list.ok_or_else(|| v.wrong(name, ALLOWED))
}

/// The servers themselves, and their sockets.
fn connect_src(v: &Values) -> Result<Vec<String>, ConfigError> {
    let origins = origins(v, "DASHBOARD_CONNECT_SRC")?;
    let socket = |origin: &String| origin.replacen("http", "ws", 1);
    Ok(origins.iter().flat_map(|origin| [origin.clone(), socket(origin)]).collect())
}

/// The file descriptors that this process may have, less what files, the database and outgoing calls need.
fn connections(v: &Values) -> Result<usize, ConfigError> {
    const RESERVED: u64 = 200;
    let given = v.text("LIMIT_CONNECTIONS");
    if !given.is_empty() {
        return Ok(v.number("LIMIT_CONNECTIONS", 1..=10_000_000)? as usize);
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files =
        limits.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    Ok(open_files.unwrap_or(1024u64).saturating_sub(RESERVED).max(64) as usize)
}

impl Settings {
    /// `name = value  (from where)`, secrets redacted.
    pub(crate) fn effective_text(&self) -> String {
        use std::fmt::Write as _;
        self.effective.iter().fold(String::new(), |mut text, (name, (value, from))| {
            let _ = writeln!(text, "{name} = {value:?}  ({from})");
            text
        })
    }
    /// The same for programs.
    pub(crate) fn effective_json(&self) -> String {
        let map: serde_json::Map<_, _> = self
            .effective
            .iter()
            .map(|(name, (value, from))| ((*name).to_owned(), serde_json::json!({ "value": value, "from": from })))
            .collect();
        serde_json::to_string_pretty(&map).unwrap_or_default() + "\n"
    }
    /// Below the data directory.
    pub(crate) fn secrets_dir(&self) -> PathBuf {
        Path::new(&self.data_dir).join("secrets")
    }
}

#[cfg(test)]
mod tests;
