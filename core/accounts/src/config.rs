//! What the account room can be told.

use std::time::Duration;

use crate::keys::KeySource;
use hexa_platform::limit::Rate;

/// Who may make an account. The first admin is made with the bootstrap secret in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationMode {
    /// Everybody, also without an invitation; the default.
    #[default]
    Open,
    /// Whoever has an invitation.
    Invite,
    /// Nobody, with an invitation neither.
    Closed,
}

impl RegistrationMode {
    /// Every mode, for reading the configuration and for the API contract.
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

/// Settings of accounts, sessions and access tokens.
#[derive(Clone)]
pub struct AccountsConfig {
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

impl std::fmt::Debug for AccountsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountsConfig").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl AccountsConfig {
    /// The defaults around keys and an issuer.
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
