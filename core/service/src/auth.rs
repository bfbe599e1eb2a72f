//! The account room: who you are, and how you prove it.

pub mod account;
pub mod keys;
pub mod pats;
pub mod principal;
pub mod refresh;
pub mod sessions;
mod throttle;
pub mod tickets;
mod tokens;
pub mod users;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hexa_model::{Clock, ErrorCode, SessionId, UserId, UserKey};
use hexa_store::Store;
pub use hexa_store::{SessionRow, TokenRow, UserFilter, UserRow};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use crate::config::AuthConfig;
use crate::error::{Error, Result};
use crate::limit::Limiter;
use principal::Account;

/// Logins that may wait for the password hasher; the next one is told to come back (AU-2).
const MAX_HASH_QUEUE: usize = 32;
/// Accounts kept in memory; beyond, the map starts afresh.
const MAX_ACCOUNTS: usize = 50_000;

/// Accounts, sessions and access tokens.
pub struct Auth {
    pub(crate) config: AuthConfig,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: keys::KeyRoom,
    tokens: tokens::Tokens,
    pats: pats::Pats,
    throttle: throttle::Throttle,
    tickets: tickets::Tickets,
    accounts: RwLock<Accounts>,
    /// Sessions that were ended while their access token still lives, with the monotonic time at which it dies.
    ended: Mutex<HashMap<SessionId, std::time::Duration>>,
    requests: Limiter<UserKey>,
    hashing: Arc<Semaphore>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Accounts {
    known: HashMap<UserId, Arc<Account>>,
    /// Raised with every change of any account: what was read before one is not remembered after it.
    changes: u64,
}

/// From where somebody logs in, for the session list.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Peer address.
    pub ip: Option<IpAddr>,
    /// `User-Agent`, cut to 256 characters.
    pub user_agent: Option<String>,
}

impl Auth {
    /// Over this store.
    pub fn new(config: AuthConfig, store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            keys: keys::KeyRoom::new(config.keys.clone(), &config.issuer),
            requests: Limiter::new("requests", config.user_rate),
            hashing: Arc::new(Semaphore::new(config.hash_permits)),
            waiting: AtomicUsize::new(0),
            accounts: RwLock::default(),
            tokens: tokens::Tokens::default(),
            pats: pats::Pats::default(),
            tickets: tickets::Tickets::default(),
            throttle: throttle::Throttle::new(config.login_failures),
            ended: Mutex::default(),
            config,
            store,
            clock,
        }
    }

    /// Runs a password function off the async threads: at most `hash_permits` at a time, at most 32 waiting.
    pub(crate) async fn hash<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        struct Leave<'a>(&'a AtomicUsize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.waiting);
        if waiting >= MAX_HASH_QUEUE {
            return Err(Error::new(ErrorCode::Busy, "too many logins at once; try again").retry_after(1));
        }
        let permit = Arc::clone(&self.hashing).acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(Error::internal)
    }

    /// The account of a valid token, from memory or the store.
    pub(crate) async fn account(&self, id: UserId) -> Result<Option<Arc<Account>>> {
        let seen = {
            let accounts = self.accounts.read();
            if let Some(known) = accounts.known.get(&id) {
                return Ok(Some(Arc::clone(known)));
            }
            accounts.changes
        };
        let Some(row) = self.store.user_by_id(id).await? else { return Ok(None) };
        let account = Arc::new(Account::new(&row));
        let mut accounts = self.accounts.write();
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
        let mut accounts = self.accounts.write();
        accounts.changes += 1;
        accounts.known.remove(&id);
    }

    /// Everything that was read is read again.
    pub(crate) fn forget_everything(&self) {
        {
            let mut accounts = self.accounts.write();
            accounts.changes += 1;
            accounts.known.clear();
        }
        self.tokens.forget();
        self.forget_tokens();
    }

    /// After the commit: their access tokens are dead.
    pub(crate) fn sessions_ended(&self, sessions: &[SessionId]) {
        // By the monotonic clock: a wall clock that is ahead for a moment must not make this forget.
        let now = self.clock.monotonic();
        let dies = now + std::time::Duration::from_secs(hexa_crypto::jwt::LIFETIME_S as u64 + 60);
        let mut ended = self.ended.lock();
        ended.retain(|_, dies| *dies > now);
        ended.extend(sessions.iter().map(|session| (*session, dies)));
    }

    pub(crate) fn is_session_ended(&self, session: SessionId) -> bool {
        let ended = self.ended.lock();
        !ended.is_empty() && ended.contains_key(&session)
    }

    pub(crate) fn count_request(&self, user: UserKey) -> Result<()> {
        self.requests.take(&user)
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("keys", &self.keys).finish_non_exhaustive()
    }
}
