//! The room itself: what it has in memory.

use hexa_platform::principal::Account;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use hexa_crypto::seal::SealKey;
use hexa_model::{SessionId, UserId, UserKey};
use parking_lot::RwLock;
use secrecy::SecretString;

use crate::config::AccountsConfig;
use crate::ended::Ended;
use crate::hashing::HashQueue;
use crate::{invitations, keys, pats, throttle, tickets, tokens};
use hexa_platform::Platform;
use hexa_platform::error::Result;
use hexa_platform::limit::{FailureLimiter, Limiter};

/// Sign-ins that may be under way at the password hasher; the next one is told to come back.
const MAX_HASH_QUEUE: usize = 32;
/// Registrations have a queue of their own, so that no stranger who makes accounts stands before those who have one.
const MAX_REGISTER_QUEUE: usize = 16;
const REGISTER_PERMITS: usize = 1;
/// Accounts kept in memory; beyond, the map starts afresh.
const MAX_ACCOUNTS: usize = 50_000;

/// Accounts, sessions and access tokens.
pub struct Accounts {
    platform: Arc<Platform>,
    /// Keys, limits, lifetimes and the registration mode; set at the start.
    pub config: AccountsConfig,
    pub(crate) keys: keys::SigningKeys,
    pub(crate) tokens: tokens::Tokens,
    pub(crate) pats: pats::Pats,
    pub(crate) throttle: throttle::Throttle,
    pub(crate) tickets: tickets::Tickets,
    cache: RwLock<AccountCache>,
    /// Sessions that were ended while one of their access tokens may still live.
    ended: Ended,
    /// What each refresh token is spent for follows from it, with this key.
    pub(crate) successors: SealKey,
    requests: Limiter<UserKey>,
    /// Of everybody without an account, by address.
    strangers: Limiter<Option<IpAddr>>,
    /// Access tokens that nobody has, by address.
    pub(crate) unknown_tokens: FailureLimiter<Option<IpAddr>>,
    /// Invitations that nobody has, or that are not good any more, by address.
    pub(crate) wrong_invitations: FailureLimiter<Option<IpAddr>>,
    pub(crate) sign_ins: HashQueue,
    pub(crate) registrations: HashQueue,
}

#[derive(Default)]
struct AccountCache {
    known: HashMap<UserId, Arc<Account>>,
    /// Raised with every change of any account: what was read before one is not remembered after it.
    changes: u64,
}

/// From where somebody logs in, for the session list.
#[derive(Clone, Debug, Default)]
pub struct ClientInfo {
    /// The client's address; behind a trusted proxy, the one that the proxy names.
    pub ip: Option<IpAddr>,
    /// `User-Agent`, cut to 256 characters.
    pub user_agent: Option<String>,
}

impl Deref for Accounts {
    type Target = Arc<Platform>;

    fn deref(&self) -> &Arc<Platform> {
        &self.platform
    }
}

impl Accounts {
    /// Over this platform; what follows a refresh token is derived with a key from `secret` (`KEY_ENCRYPTION_KEY`).
    pub fn new(config: AccountsConfig, secret: &SecretString, platform: Arc<Platform>) -> Self {
        Self {
            keys: keys::SigningKeys::new(config.keys.clone(), &config.issuer),
            requests: Limiter::new("requests", config.user_rate),
            strangers: Limiter::new("requests from your address", config.public_rate),
            unknown_tokens: FailureLimiter::new("unknown access tokens", config.token_failures),
            wrong_invitations: FailureLimiter::new("invitations that are not good", config.invitation_failures),
            sign_ins: HashQueue::new("logins", config.hash_permits, MAX_HASH_QUEUE),
            registrations: HashQueue::new("registrations", REGISTER_PERMITS, MAX_REGISTER_QUEUE),
            cache: RwLock::default(),
            tokens: tokens::Tokens::default(),
            pats: pats::Pats::default(),
            tickets: tickets::Tickets::default(),
            throttle: throttle::Throttle::new(config.login_failures),
            ended: Ended::default(),
            successors: SealKey::derive(secret, "refresh/v1"),
            config,
            platform,
        }
    }

    /// Starts what this room and those below it do beside requests.
    pub fn start_workers(self: &Arc<Self>) {
        self.platform.start_workers();
        invitations::start(self);
    }

    /// The account of a valid token, from memory or the store.
    pub(crate) async fn account(&self, id: UserId) -> Result<Option<Arc<Account>>> {
        let seen = {
            let accounts = self.cache.read();
            if let Some(known) = accounts.known.get(&id) {
                return Ok(Some(Arc::clone(known)));
            }
            accounts.changes
        };
        let Some(row) = self.store.user_by_id(id).await? else { return Ok(None) };
        let account = Arc::new(Account::new(&row));
        let mut accounts = self.cache.write();
        if accounts.changes == seen {
            if accounts.known.len() >= MAX_ACCOUNTS {
                accounts.known.clear();
            }
            accounts.known.insert(id, Arc::clone(&account));
        }
        Ok(Some(account))
    }

    /// After the commit of a change: the next request sees it. One that is known as it is after the change stays.
    pub(crate) fn account_changed(&self, id: UserId, _epoch: i64) {
        let mut accounts = self.cache.write();
        accounts.changes += 1;
        accounts.known.remove(&id);
    }

    /// Everything that was read is read again.
    pub(crate) fn forget_everything(&self) {
        {
            let mut accounts = self.cache.write();
            accounts.changes += 1;
            accounts.known.clear();
        }
        self.tokens.forget();
        self.forget_tokens();
    }

    /// After the commit: the access tokens of these sessions are dead.
    pub(crate) fn sessions_ended(&self, sessions: &[SessionId]) {
        let now = self.clock.monotonic();
        for session in sessions {
            self.ended.add(*session, now);
        }
    }

    pub(crate) fn is_session_ended(&self, session: SessionId) -> bool {
        self.ended.contains(session)
    }

    /// Counts a request of somebody who needs no account for it: so many of one address, whatever they are.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn count_stranger(&self, ip: Option<IpAddr>) -> Result<()> {
        self.strangers.take(&ip.map(hexa_platform::limit::network))
    }

    pub(crate) fn count_request(&self, user: UserKey) -> Result<()> {
        self.requests.take(&user)
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("keys", &self.keys).finish_non_exhaustive()
    }
}
