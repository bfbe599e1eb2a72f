//! What the rooms can be told. The server reads the environment once and fills these in, checked.

use std::time::Duration;

use secrecy::SecretString;

use crate::auth::keys::KeySource;
use crate::limit::Rate;

/// Every room's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The relay path.
    pub relay: RelayConfig,
    /// Device sessions.
    pub device: DeviceConfig,
    /// Provisioning and claiming.
    pub provision: ProvisionConfig,
    /// Accounts.
    pub auth: AuthConfig,
    /// Seals what is kept (`KEY_ENCRYPTION_KEY`).
    pub key_encryption_key: SecretString,
}

/// The relay path.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// How long a device may take to acknowledge (`COMMAND_TIMEOUT_MS`).
    pub timeout: Duration,
}

/// Device sessions.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Seconds between signs of life; a device is dead after 2.25 of them.
    pub heartbeat: Duration,
    /// Connects per minute and device (`LIMIT_FLAP`).
    pub flap_per_minute: u32,
}

impl DeviceConfig {
    /// A connected device that was silent for so long is stale: it should have said something before.
    pub fn stale_after(&self) -> Duration {
        self.heartbeat * 3 / 2
    }
}

/// Provisioning and claiming.
#[derive(Clone)]
pub struct ProvisionConfig {
    /// One key, or two while rotating (`DEVICE_PROVISION_KEY`, comma separated).
    pub keys: Vec<SecretString>,
    /// Right keys (`LIMIT_PROVISION_RPS`).
    pub rate: Rate,
    /// Wrong keys per address (`LIMIT_PROVISION_FAILURES`).
    pub failures: Rate,
    /// Wrong claim codes per user (`LIMIT_CLAIM_FAILURES`).
    pub claim_failures: Rate,
    /// Wrong claim codes of all users together (`LIMIT_CLAIM_FAILURES_TOTAL`).
    pub total_claim_failures: Rate,
    /// Unclaimed devices at the most; beyond them provisioning is refused.
    pub max_unclaimed: u32,
    /// Lifetime of a claim code.
    pub claim_lifetime: Duration,
    /// How long a rotated token's predecessor stays valid, unless the new one is used first.
    pub rotation_grace: Duration,
}

impl std::fmt::Debug for ProvisionConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProvisionConfig").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Who may make an account. The first admin is made with the bootstrap secret in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationMode {
    /// Everybody.
    #[default]
    Open,
    /// Whoever has an invitation.
    Invite,
    /// Nobody, with an invitation neither.
    Closed,
}

impl RegistrationMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Invite, Self::Closed];

    /// As in the configuration and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Closed => "closed",
        }
    }
}

/// Accounts.
#[derive(Clone)]
pub struct AuthConfig {
    /// What access tokens are signed with.
    pub keys: KeySource,
    /// `iss` of access tokens (`PUBLIC_URL`).
    pub issuer: String,
    /// Requests per second and user (`LIMIT_USER_RPS`, `LIMIT_USER_BURST`).
    pub user_rate: Rate,
    /// Wrong passwords per minute of one account from one address (`LIMIT_LOGIN_FAILURES`).
    pub login_failures: Rate,
    /// Requests of an address that need no account (`LIMIT_PUBLIC_RPS`).
    pub public_rate: Rate,
    /// Access tokens that nobody has, per minute and address (`LIMIT_TOKEN_FAILURES`).
    pub token_failures: Rate,
    /// Who may make an account (`REGISTRATION`).
    pub registration: RegistrationMode,
    /// Invitations that are not good, per minute and address (`LIMIT_INVITATION_FAILURES`).
    pub invitation_failures: Rate,
    /// Open invitations of the server (`LIMIT_INVITATIONS`).
    pub max_invitations: u32,
    /// Sessions of an account; one more, and the one that was used least lately ends (`LIMIT_USER_SESSIONS`).
    pub max_sessions: u32,
    /// Passwords hashed at the same time; each takes 19 MiB and a core for 20 to 30 ms.
    pub hash_permits: usize,
    /// A refresh token ends when unused for so long.
    pub refresh_idle: Duration,
    /// A refresh family ends after so long, used or not.
    pub refresh_absolute: Duration,
    /// A lost answer may be asked for again within this time (RFC 9700; Airlock's rule).
    pub refresh_grace: Duration,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl AuthConfig {
    /// The defaults of docs/OPERATIONS.md around keys and an issuer.
    pub fn new(keys: KeySource, issuer: String) -> Self {
        Self {
            keys,
            issuer,
            user_rate: Rate::new(200, Duration::from_secs(4)),
            login_failures: Rate::new(5, Duration::from_secs(60)),
            public_rate: Rate::new(100, Duration::from_secs(10)),
            token_failures: Rate::new(60, Duration::from_secs(60)),
            registration: RegistrationMode::Open,
            invitation_failures: Rate::new(10, Duration::from_secs(60)),
            max_invitations: 100,
            max_sessions: 100,
            hash_permits: 2,
            refresh_idle: Duration::from_secs(14 * 86_400),
            refresh_absolute: Duration::from_secs(30 * 86_400),
            refresh_grace: Duration::from_secs(10),
        }
    }
}
