//! The keys that access tokens are signed with, and their rotation: one signs, the next one waits, former ones
//! verify until the last token of theirs has expired.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hexa_crypto::jwt::{KEY_LEEWAY_S, Keys, LIFETIME_S, SigningKey};
use hexa_crypto::{hex, random_bytes};
use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Change, ErrorCode, Source, TimeMs};
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::Mutex;

use crate::Accounts;
use hexa_platform::change::{Decided, asked};
use hexa_platform::detached::Detached;
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;
use hexa_platform::principal::Principal;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It signs new access tokens, and verifies them; there is exactly one.
    Active,
    /// It will sign after the next rotation.
    Next,
    /// It verifies the last tokens of its time.
    Retired,
}

impl KeyState {
    /// As in the API and in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Next => "next",
            Self::Retired => "retired",
        }
    }
    /// The state of this name, as [`KeyState::as_str`] writes it.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Next, Self::Retired].into_iter().find(|s| s.as_str() == text)
    }
}

/// A key that signs no more is needed by its last token for so long.
const RETIRED_FOR: Duration = Duration::from_secs((LIFETIME_S + KEY_LEEWAY_S) as u64);

/// One signing key of a ring that the server made.
#[derive(Clone, Debug)]
pub struct RingKey {
    /// At least 32 bytes.
    pub secret: SecretString,
    /// What it is for.
    pub state: KeyState,
    /// In this state since then.
    pub since: TimeMs,
    /// A retired one verifies nothing from then on.
    pub until: Option<TimeMs>,
}

impl RingKey {
    /// A fresh one that waits.
    pub fn fresh(now: TimeMs) -> Self {
        Self { secret: secret(), state: KeyState::Next, since: now, until: None }
    }
}

/// The keys of a server: one that is active, one that is next, retired ones.
#[derive(Clone, Debug)]
pub struct KeyRing(pub Vec<RingKey>);

impl KeyRing {
    /// Two fresh keys, or this one as the active one of them.
    pub fn begin(active: Option<SecretString>, now: TimeMs) -> Self {
        let active = RingKey { state: KeyState::Active, secret: active.unwrap_or_else(secret), ..RingKey::fresh(now) };
        Self(vec![active, RingKey::fresh(now)])
    }
    fn of(&self, state: KeyState) -> Option<&RingKey> {
        self.0.iter().find(|k| k.state == state)
    }
    /// Whether it has what a ring must have.
    pub fn is_whole(&self) -> bool {
        let count = |state| self.0.iter().filter(|k| k.state == state).count();
        count(KeyState::Active) == 1 && count(KeyState::Next) == 1
    }
    /// After a rotation; a former key that may be known to others is not kept.
    fn rotated(&self, now: TimeMs, keep_former: bool) -> Self {
        let mut keys = Vec::new();
        for key in &self.0 {
            match key.state {
                KeyState::Next => keys.insert(0, RingKey { state: KeyState::Active, since: now, ..key.clone() }),
                KeyState::Active if keep_former => {
                    let until = Some(now.plus(RETIRED_FOR));
                    keys.push(RingKey { state: KeyState::Retired, since: now, until, ..key.clone() });
                }
                KeyState::Retired if keep_former => keys.push(key.clone()),
                KeyState::Active | KeyState::Retired => {}
            }
        }
        keys.push(RingKey::fresh(now));
        Self(keys).pruned(now)
    }
    fn pruned(mut self, now: TimeMs) -> Self {
        self.0.retain(|k| k.until.is_none_or(|until| now < until));
        for key in &mut self.0 {
            // Retired while the clock was ahead.
            key.until = key.until.map(|until| until.min(now.plus(RETIRED_FOR)));
        }
        self
    }
    fn keys(&self, issuer: &str) -> Keys {
        let signing = |key: &RingKey| SigningKey::new(key.secret.clone()).until(key.until);
        let others: Vec<_> = self.0.iter().filter(|k| k.state != KeyState::Active).map(signing).collect();
        // A ring without an active key is refused when it is read; a fresh key signs nothing that others verify.
        let active = self.of(KeyState::Active).map_or_else(|| SigningKey::new(secret()), signing);
        Keys::new(&active, &others, issuer)
    }
}

/// 256 random bits as text.
fn secret() -> SecretString {
    hex(&random_bytes::<32>()).into()
}

/// Where a ring is kept.
pub trait KeyRingStorage: Send + Sync {
    /// Returns when it is on the disk, whole.
    ///
    /// # Errors
    /// When it is not.
    fn keep(&self, ring: &KeyRing) -> std::io::Result<()>;
}

/// Where the keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// From the configuration, the first one signs: rotated there.
    Given(Vec<SecretString>),
    /// Made by the server.
    Kept {
        /// As it was kept.
        ring: KeyRing,
        /// Where it is kept.
        keep: Arc<dyn KeyRingStorage>,
        /// The active key is replaced when it is older.
        rotate_after: Option<Duration>,
    },
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given",
            Self::Kept { .. } => "Kept",
        })
    }
}

/// A key as admins see it.
#[derive(Clone, Debug)]
pub struct KeyView {
    /// Its name in the tokens.
    pub kid: String,
    /// What it is for.
    pub state: KeyState,
    /// In this state since then; unknown for one from the configuration.
    pub since: Option<TimeMs>,
    /// It verifies nothing from then on.
    pub until: Option<TimeMs>,
}

/// Every signing key in use, for admins; never with its secret.
#[derive(Clone, Debug)]
pub struct KeysView {
    /// Whether the server made them, and can rotate them.
    pub kept: bool,
    /// The active one first.
    pub keys: Vec<KeyView>,
}

/// The keys in use.
#[derive(Debug)]
pub(crate) struct SigningKeys {
    source: Mutex<KeySource>,
    issuer: String,
    keys: ArcSwap<Keys>,
    /// Those of a rotation that is being committed.
    staged: parking_lot::Mutex<Option<Arc<Keys>>>,
}

impl SigningKeys {
    pub(crate) fn new(source: KeySource, issuer: &str) -> Self {
        let keys = match &source {
            KeySource::Given(secrets) => {
                let signing: Vec<_> = secrets.iter().map(|s| SigningKey::new(s.clone())).collect();
                match signing.split_first() {
                    Some((active, others)) => Keys::new(active, others, issuer),
                    None => Keys::new(&SigningKey::new(secret()), [], issuer),
                }
            }
            KeySource::Kept { ring, .. } => ring.keys(issuer),
        };
        Self {
            source: Mutex::new(source),
            issuer: issuer.to_owned(),
            keys: ArcSwap::from_pointee(keys),
            staged: parking_lot::Mutex::default(),
        }
    }

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Keys>> {
        self.keys.load()
    }
}

fn view(source: &KeySource) -> KeysView {
    match source {
        KeySource::Given(secrets) => {
            let one = |(n, secret): (usize, &SecretString)| KeyView {
                kid: SigningKey::new(secret.clone()).kid().to_owned(),
                state: if n == 0 { KeyState::Active } else { KeyState::Retired },
                since: None,
                until: None,
            };
            KeysView { kept: false, keys: secrets.iter().enumerate().map(one).collect() }
        }
        KeySource::Kept { ring, .. } => {
            let one = |key: &RingKey| KeyView {
                kid: SigningKey::new(key.secret.clone()).kid().to_owned(),
                state: key.state,
                since: Some(key.since),
                until: key.until,
            };
            KeysView { kept: true, keys: ring.0.iter().map(one).collect() }
        }
    }
}

/// The keys, without themselves.
///
/// # Errors
/// `forbidden`, `insufficient_scope`.
pub async fn list(accounts: &Accounts, by: &Principal) -> Result<KeysView> {
    by.require_admin()?;
    Ok(view(&*accounts.keys.source.lock().await))
}

/// The next key signs from now on. With `at_once` the former ones verify nothing any more: every access token is dead,
/// and clients get new ones with their refresh tokens.
///
/// # Errors
/// `set_by_configuration` when the keys come from there; `storage_unavailable` when the new keys cannot be kept.
pub async fn rotate(accounts: &Arc<Accounts>, by: &Principal, key: Key<KeysView>, at_once: bool) -> Result<KeysView> {
    by.require_admin()?;
    let (house, by) = (Arc::clone(accounts), by.clone());
    // The file of the keys is no part of a transaction: all of it goes on when the caller is gone.
    Detached::new(&accounts.tasks, async move { turn(&house, Some(&by), key, at_once).await }).await
}

/// `by` nobody: its time has come.
async fn turn(accounts: &Accounts, by: Option<&Principal>, key: Key<KeysView>, at_once: bool) -> Result<KeysView> {
    let room = &accounts.keys;
    let mut source = room.source.lock().await;
    let KeySource::Kept { ring, keep, .. } = &mut *source else {
        let what = "the keys come from JWT_SECRET: put the new one in front of the present one there, separated by a \
                    comma, and remove the present one a quarter of an hour later";
        return Err(Error::new(ErrorCode::SetByConfiguration, what));
    };
    let (at, now) = (accounts.clock.now(), accounts.guard.latest());
    let fresh = ring.rotated(now, !at_once);
    // On the disk before it signs: a crash must not leave tokens behind that nobody can verify.
    store(keep, &fresh).await?;
    *room.staged.lock() = Some(Arc::new(fresh.keys(&room.issuer)));
    let former = std::mem::replace(ring, fresh);
    let keep = Arc::clone(keep);
    let shown = view(&source);
    let actor = by.map_or(Actor::System, Principal::actor);
    let kept = asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            let entry = AuditEntry::event(at, actor, Source::Api, "keys.rotated");
            let kid = shown.keys.first().map(|k| k.kid.clone());
            tx.audit(&entry.details(&json!({ "active": kid, "at_once": at_once }))).await?;
            Ok(Decided::done(shown).telling(Change::SigningKeys { ends_access: at_once }))
        })
    });
    match kept.await {
        Ok(shown) => {
            tracing::info!(at_once, "the keys of access tokens were rotated");
            Ok(shown)
        }
        Err(error) => {
            // As before, also on the disk; should that fail as well, the next start finds the new keys and the former
            // one among the retired.
            room.staged.lock().take();
            store(&keep, &former).await.inspect_err(|e| tracing::error!(error = %e, "former keys not restored")).ok();
            if let KeySource::Kept { ring, .. } = &mut *source {
                *ring = former;
            }
            Err(error)
        }
    }
}

impl Accounts {
    /// After the commit of a rotation: the new keys sign, and tokens of keys that are gone are dead.
    pub(crate) fn keys_changed(&self, ends_access: bool) {
        if let Some(keys) = self.keys.staged.lock().take() {
            self.keys.keys.store(keys);
        }
        if ends_access {
            self.tokens.forget();
        }
    }
}

async fn store(keep: &Arc<dyn KeyRingStorage>, ring: &KeyRing) -> Result<()> {
    let (keep, ring) = (Arc::clone(keep), ring.clone());
    let kept = tokio::task::spawn_blocking(move || keep.keep(&ring)).await.map_err(Error::internal)?;
    kept.map_err(|source| Error {
        source: Some(Box::new(source)),
        ..Error::new(ErrorCode::StorageUnavailable, "the new keys could not be kept; nothing was changed")
    })
}

/// Rotates when it is time, and removes keys whose time is over.
///
/// # Errors
/// When the keys cannot be kept on the disk, or the database does not take the audit row.
pub async fn rotate_if_due(accounts: &Accounts) -> Result<()> {
    let now = accounts.guard.latest();
    let due = {
        let mut source = accounts.keys.source.lock().await;
        let KeySource::Kept { ring, keep, rotate_after } = &mut *source else { return Ok(()) };
        let left = ring.clone().pruned(now);
        let ends = |ring: &KeyRing| ring.0.iter().map(|key| key.until).collect::<Vec<_>>();
        if ends(&left) != ends(ring) {
            store(keep, &left).await?;
            accounts.keys.keys.store(Arc::new(left.keys(&accounts.keys.issuer)));
            *ring = left;
        }
        ring.of(KeyState::Active).zip(*rotate_after).is_some_and(|(active, after)| is_due(active.since, after, now))
    };
    if due {
        turn(accounts, None, Key::none(), false).await?;
    }
    Ok(())
}

/// Whether a key that has signed since then has done so for long enough. One of a time that is not yet, made while the
/// clock was wrong, would stay until then.
fn is_due(since: TimeMs, after: Duration, now: TimeMs) -> bool {
    since > now || now >= since.plus(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_due_after_its_time_or_before_its_beginning() {
        let (since, day) = (TimeMs(1_000_000), Duration::from_secs(86_400));
        let due =
            [TimeMs(999_999), since, TimeMs(since.plus(day).0 - 1), since.plus(day)].map(|at| is_due(since, day, at));
        assert_eq!(due, [true, false, false, true]);
    }

    #[test]
    fn a_ring_turns_and_drops_what_is_over() {
        let at = |s: i64| TimeMs(s * 1000);
        let ring = KeyRing::begin(Some("old".into()), at(0));
        assert!(ring.is_whole());
        let kid = |ring: &KeyRing, state| ring.of(state).map(|k| SigningKey::new(k.secret.clone()).kid().to_owned());
        let turned = ring.rotated(at(10), true);
        assert!(turned.is_whole());
        assert_eq!(kid(&turned, KeyState::Active), kid(&ring, KeyState::Next));
        assert_eq!(kid(&turned, KeyState::Retired), kid(&ring, KeyState::Active));
        assert_ne!(kid(&turned, KeyState::Next), kid(&ring, KeyState::Next));
        let over = at(10 + LIFETIME_S + KEY_LEEWAY_S);
        assert_eq!(turned.clone().pruned(TimeMs(over.0 - 1)).0.len(), 3);
        assert_eq!(turned.clone().pruned(over).0.len(), 2);
        // It was retired while the clock was ahead.
        let until = turned.pruned(at(-86_400)).0.iter().find_map(|key| key.until);
        assert_eq!(until, Some(at(-86_400).plus(RETIRED_FOR)));
        // Known to others: gone at once.
        assert_eq!(ring.rotated(at(10), false).0.len(), 2);
    }
}
