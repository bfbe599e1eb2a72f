//! The one table of settings: what `hexa.toml` may hold, what the environment is asked for, what the documentation
//! lists.

/// A setting: its name, default and meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The environment variable; in the file, the same in lower case.
    pub(crate) name: &'static str,
    /// As text; empty = none, or worked out as the meaning says.
    pub(crate) default: &'static str,
    /// Never printed; may come from the file that `<name>_FILE` names.
    pub(crate) secret: bool,
    /// The sentence that docs/generated/config.md shows.
    pub(crate) meaning: &'static str,
}

const fn plain(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, secret: false, meaning }
}
const fn secret(name: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default: "", secret: true, meaning }
}

/// Every setting of this version.
pub(crate) const SETTINGS: &[Setting] = &[
    plain("HEXA_ENV", "development", "`production` turns the production rules on."),
    plain(
        "HEXA_DATA_DIR",
        "./hexa-data",
        "Holds database, secrets and plugin cache. Created with mode 0700; one that exists is left as it is, and refused where \
         everybody may write.",
    ),
    plain(
        "HEXA_PLUGINS_DIR",
        "./plugins",
        "Further plugins, beside those in the program: one folder each, with `plugin.toml` and `plugin.wasm`. One with the id \
         of a plugin in the program replaces it.",
    ),
    plain(
        "HEXA_EMBEDDED_PLUGINS",
        "*",
        "Which of the plugins in the program are loaded: ids, comma separated, `*` for all, or empty for none.",
    ),
    plain(
        "HEXA_PLUGINS_PER_CALL",
        "",
        "Ids of plugins, comma separated, or `*`: each of their calls gets a fresh instance, which costs some 20 us, so that \
         nothing can be carried from one device to another.",
    ),
    plain(
        "HEXA_LISTEN",
        "127.0.0.1:8080",
        "Port 0 takes a free one; the real address is in `listen.addr` of the data directory.",
    ),
    plain(
        "HEXA_MAINTENANCE_LISTEN",
        "",
        "Where the operator reaches this server without TLS, `/metrics` too: the path of a socket file (mode 0600), or a loopback \
         address and port; `maintenance.sock` in the data directory if empty. `hexa` on this machine uses it by itself.",
    ),
    plain(
        "PUBLIC_URL",
        "",
        "The address of this server for browsers and devices, with a path if it is not alone on its host; https in \
         production. If empty, devices are given the address by which they asked.",
    ),
    secret(
        "DATABASE_URL",
        "`postgres://user:password@host:5432/database`; empty: SQLite in the data directory. Treated as a secret.",
    ),
    plain(
        "NODE_ID",
        "main",
        "The name under which this server writes its audit, 1 to 64 of a-z, 0-9 and -. It stays with the database: one \
         that another name has written to is refused.",
    ),
    plain(
        "HEXA_BELIEVE_CLOCK",
        "",
        "A day such as `2026-11-29` (UTC): a start at which the clock shows this day trusts the clock, whatever it showed \
         before. For a clock that was wrong and is right now; on any other day the setting does nothing.",
    ),
    plain(
        "HEXA_DURABILITY",
        "full",
        "`full` syncs each group commit to the disk, `normal` survives kill -9 but not power loss.",
    ),
    plain("HEXA_LINGER_US", "300", "How long a busy writer waits for more writes, in microseconds; 0 = not at all."),
    plain(
        "AUDIT_RETENTION_DAYS",
        "365",
        "Audit rows older than this are removed under a checkpoint that `hexa audit verify` knows; 0 = never.",
    ),
    secret(
        "JWT_SECRET",
        "At least 32 bytes; up to three separated by commas, of which the first signs and all verify. Generated and \
         rotated by the server if empty.",
    ),
    plain(
        "JWT_ROTATION_DAYS",
        "90",
        "The server's own signing key is replaced when it is older; 0 = only when an admin asks for it.",
    ),
    secret(
        "KEY_ENCRYPTION_KEY",
        "Seals what is kept and must be read again, such as answers to requests with an idempotency key, and keeps claim \
         codes from being guessed against the database: with another key, open codes are void. At least 32 bytes; \
         generated once into the data directory if empty.",
    ),
    secret(
        "DEVICE_PROVISION_KEY",
        "At least 16 characters; two separated by a comma while rotating; generated once if empty.",
    ),
    secret(
        "METRICS_TOKEN",
        "At least 16 characters. `/metrics` answers on the maintenance listener, and on the main port this machine while no \
         proxy is trusted; everybody else needs this token, or is an admin.",
    ),
    plain(
        "ENFORCE_HTTPS",
        "false",
        "Plain HTTP and WebSockets are refused (426), except for maintenance. PUBLIC_URL must be https; in production it needs \
         TLS_CERT_FILE or TRUST_PROXY.",
    ),
    plain(
        "TRUST_PROXY",
        "false",
        "TRUSTED_PROXIES are believed when they say for whom they speak, and must say it by `X-Forwarded-For` and \
         `X-Forwarded-Proto`, or by `Forwarded`. Without these headers they get `/health` and `/ready` alone; maintenance has its own listener.",
    ),
    plain("TRUSTED_PROXIES", "", "Addresses or networks, comma separated; loopback if empty. Needs TRUST_PROXY."),
    plain(
        "TLS_CERT_FILE",
        "",
        "Certificate with its chain, PEM: the server speaks TLS itself. Read again when it changes.",
    ),
    plain("TLS_KEY_FILE", "", "Its private key, PEM without a passphrase."),
    plain(
        "CORS_ALLOWED_ORIGINS",
        "",
        "Other origins, comma separated, whose pages may call the API and open the client socket.",
    ),
    plain(
        "DASHBOARD_CONNECT_SRC",
        "",
        "Other servers, comma separated origins, that this server's console may be pointed at; they must allow it.",
    ),
    plain(
        "REGISTRATION",
        "open",
        "Who may create an account: `open` everybody, `invite` whoever has an invitation of an admin, `closed` nobody, not even \
         with an invitation. The first admin registers with the bootstrap secret in every mode.",
    ),
    plain(
        "LIMIT_ANONYMOUS_CONNECTIONS",
        "100",
        "Open connections of one address (of IPv6: a /64) that have not said who they are; loopback and trusted proxies are \
         exempt.",
    ),
    plain("COMMAND_TIMEOUT_MS", "3000", "How long a device may take to acknowledge: 50 to 8000."),
    plain(
        "HEXA_HEARTBEAT_SECONDS",
        "20",
        "A silent device is pinged after this and disconnected after 2.25 times this.",
    ),
    plain("LIMIT_CONNECTIONS", "", "RLIMIT_NOFILE - 200 if empty; beyond it connections wait, none is refused."),
    plain(
        "LIMIT_PUBLIC_RPS",
        "10",
        "Requests per second of one address (of IPv6: a /64) to routes that change something and need no account, such as \
         signing in; ten times as many at once. Loopback too.",
    ),
    plain(
        "LIMIT_WRITE_STALL_SECONDS",
        "30",
        "A peer that reads nothing of what it is sent for so long is disconnected.",
    ),
    plain("LIMIT_USER_SOCKETS", "20", "Open client sockets of one account."),
    plain("LIMIT_USER_SESSIONS", "100", "Sessions of one account; one more ends the one that was used least recently."),
    plain("LIMIT_USER_RPS", "50", "REST requests per second and user."),
    plain("LIMIT_USER_BURST", "200", "REST requests of a user at once."),
    plain(
        "LIMIT_LOGIN_FAILURES",
        "5",
        "Wrong passwords per minute for one account from one address, then pauses that double; four times as many from \
         one address for all accounts.",
    ),
    plain(
        "LIMIT_TOKEN_FAILURES",
        "60",
        "Unknown access tokens `hxp_…`, per minute and address (of IPv6: a /64), loopback too.",
    ),
    plain(
        "LIMIT_INVITATION_FAILURES",
        "10",
        "Invalid invitations, per minute and address (of IPv6: a /64), loopback too.",
    ),
    plain("LIMIT_INVITATIONS", "100", "Open invitations, of all admins together."),
    plain("LIMIT_PROVISION_RPS", "10", "Provisioning requests with a right key per second; ten times as many at once."),
    plain(
        "LIMIT_PROVISION_FAILURES",
        "10",
        "Wrong provisioning keys per minute and address (of IPv6: a /64), loopback too; as many wrong tokens for `/metrics`.",
    ),
    plain("LIMIT_CLAIM_FAILURES", "5", "Wrong claim codes per user in 10 minutes."),
    plain(
        "LIMIT_CLAIM_FAILURES_TOTAL",
        "300",
        "Wrong claim codes of all users together in 10 minutes; beyond it nobody can claim by code until the 10 minutes are over.",
    ),
    plain("LIMIT_FLAP", "15", "Connects per minute and device; one more, and it is refused for 5 minutes."),
    plain("HEXA_LOG", "info", "Log filter, for example `info,hexa_api=debug`."),
];
