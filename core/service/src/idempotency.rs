//! Requests that may be sent twice (platform.md 13.1; ID-1 to ID-9): with an `idempotency-key`, the effect happens once
//! and every later request hears the first answer.
//!
//! What a request changes, its key and its sealed answer are one transaction: [`commit`] puts the answer in just before
//! it commits. So nothing is claimed in advance, nothing has to be released after a crash, and whoever comes second finds
//! the key taken at the very moment when its own effect would happen. A relay command is different, because a device
//! cannot be rolled back: its key is committed with the command's id before the frame is sent, and its answer is read
//! from the audit, where the command's end is.

mod claims;

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hexa_crypto::seal::SealKey;
use hexa_model::{CommandId, ErrorCode};
use hexa_store::{Claim, StoreError, Tx};
use parking_lot::Mutex;
use secrecy::SecretString;

use crate::Services;
use crate::error::{Error, Result};

/// How long a key is remembered (draft-ietf-httpapi-idempotency-key-header: the expiry is published).
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longer answers are not kept.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Keyed requests under way at the same time.
const MAX_RUNNING: usize = 10_000;

/// Makes the bytes of an answer from what a room is about to commit; none for a value of another kind.
pub type Render = Box<dyn Fn(&dyn Any) -> Option<Vec<u8>> + Send + Sync>;

/// One request with a key, while it runs.
pub struct Keyed {
    claim: Claim,
    seal: Arc<SealKey>,
    claims: Arc<claims::Claims>,
    render: Mutex<Option<Render>>,
    /// The key is in the store.
    placed: AtomicBool,
    /// Somebody else placed it first.
    lost: AtomicBool,
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyed").field("key", &self.claim.key).finish_non_exhaustive()
    }
}

tokio::task_local! {
    static CURRENT: Arc<Keyed>;
}

/// The keyed request of this task, if it is one.
pub fn current() -> Option<Arc<Keyed>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Says how what the rooms commit in this task becomes the answer's bytes.
pub fn answered_by(render: impl Fn(&dyn Any) -> Option<Vec<u8>> + Send + Sync + 'static) {
    if let Some(keyed) = current() {
        *keyed.render.lock() = Some(Box::new(render));
    }
}

/// Commits, with the answer to this task's keyed request in the same transaction.
///
/// # Errors
/// `idempotency_in_progress` when the key was taken meanwhile: nothing was changed, and the other's answer can be had.
pub(crate) async fn commit<T: Any + Sync>(mut tx: Tx, value: &T) -> Result<()> {
    let Some(keyed) = current() else { return Ok(tx.commit().await?) };
    if keyed.placed.load(Ordering::Acquire) {
        return Ok(tx.commit().await?);
    }
    let rendered = keyed.render.lock().as_ref().and_then(|render| render(value));
    let Some(answer) = rendered else {
        return Err(Error::internal("a keyed request has no answer to keep with its effect"));
    };
    keyed.place(&mut tx, &answer).await?;
    hexa_model::crash_point!("idem.after_effect");
    tx.commit().await?;
    keyed.placed.store(true, Ordering::Release);
    Ok(())
}

impl Keyed {
    /// Whether its key is in the store.
    pub fn placed(&self) -> bool {
        self.placed.load(Ordering::Acquire)
    }
    /// Whether somebody else's request had the same key and came first.
    pub fn lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    async fn place(&self, tx: &mut Tx, answer: &[u8]) -> Result<()> {
        let sealed = self.seal.seal(&about(&self.claim.scope, &self.claim.key), answer);
        self.placed_as(tx.keep_answer(&self.claim, None, Some(&sealed)).await)
    }

    fn placed_as(&self, end: Result<(), StoreError>) -> Result<()> {
        match end {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict(what)) if what.ends_with("full") => Err(Error::rate_limited(
                "10,000 idempotency keys were used within a day; leave the key out, or wait",
                60,
            )),
            Err(StoreError::Conflict(_)) => {
                self.lost.store(true, Ordering::Release);
                Err(in_progress())
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Before a command's frame is sent: its key is durable, with its id.
    pub(crate) async fn claim_command(&self, services: &Services, id: CommandId) -> Result<()> {
        self.placed_as(self.claims.place(&services.store, self.claim.clone(), id).await)?;
        self.placed.store(true, Ordering::Release);
        hexa_model::crash_point!("cmd.after_claim");
        Ok(())
    }

    /// The command came to nothing and may be asked for again.
    ///
    /// # Errors
    /// `storage_unavailable`, `busy`.
    pub async fn release_command(&self, services: &Services) -> Result<()> {
        let mut tx = services.store.begin().await?;
        tx.release_key(&self.claim).await?;
        tx.commit().await?;
        self.placed.store(false, Ordering::Release);
        Ok(())
    }

    /// Keeps an answer that came without an effect of its own, or after one that is not in the database.
    pub async fn keep(&self, services: &Services, answer: &[u8]) -> Result<()> {
        let mut tx = services.store.begin().await?;
        self.place(&mut tx, answer).await?;
        tx.commit().await?;
        self.placed.store(true, Ordering::Release);
        Ok(())
    }
}

fn about(scope: &[u8; 32], key: &str) -> Vec<u8> {
    [&scope[..], key.as_bytes()].concat()
}

fn in_progress() -> Error {
    Error::new(
        ErrorCode::IdempotencyInProgress,
        "a request with this idempotency key is under way; ask again for its answer",
    )
    .retry_after(1)
}

/// A request as its key sees it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Whose keys these are.
    pub scope: [u8; 32],
    /// The key.
    pub key: String,
    /// Of what is asked for.
    pub fingerprint: [u8; 32],
    /// Of this request.
    pub request_id: String,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Decision {
    /// It is the first: run it inside [`Running::run`].
    Run(Running),
    /// Answer these bytes again.
    Replay(Vec<u8>),
    /// It became this command; its end is in the audit, or unknown. The first request had this id.
    Command(CommandId, String),
}

/// Keeps others with the same key out for as long as it lives.
#[derive(Debug)]
pub struct Running {
    keyed: Arc<Keyed>,
    running: Arc<Mutex<HashMap<Place, [u8; 32]>>>,
}

type Place = ([u8; 32], String);

impl Running {
    /// The request.
    pub fn keyed(&self) -> &Arc<Keyed> {
        &self.keyed
    }
    /// Runs it as the current keyed request.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        CURRENT.scope(Arc::clone(&self.keyed), work).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.running.lock().remove(&(self.keyed.claim.scope, self.keyed.claim.key.clone()));
    }
}

/// Keys and fingerprints.
#[derive(Debug)]
pub struct Idempotency {
    seal: Arc<SealKey>,
    claims: Arc<claims::Claims>,
    running: Arc<Mutex<HashMap<Place, [u8; 32]>>>,
}

impl Idempotency {
    /// Under a key derived from this secret (`KEY_ENCRYPTION_KEY`).
    pub fn new(secret: &SecretString) -> Self {
        let seal = Arc::new(SealKey::derive(secret, "idempotency/v1"));
        Self { seal, claims: Arc::default(), running: Arc::default() }
    }

    /// For scopes and fingerprints: what was hashed cannot be guessed from them.
    pub fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.seal.fingerprint(parts)
    }

    /// What is to be done with a request whose caller was authenticated and authorized a moment ago (ID-3).
    ///
    /// # Errors
    /// `idempotency_conflict`, `idempotency_in_progress`, `busy`.
    pub async fn decide(&self, services: &Services, ask: Ask) -> Result<Decision> {
        let conflict = || {
            Error::new(
                ErrorCode::IdempotencyConflict,
                "this idempotency key was used for another request; take a fresh key for each",
            )
        };
        let place = (ask.scope, ask.key.clone());
        {
            let mut running = self.running.lock();
            match running.get(&place) {
                Some(other) if *other != ask.fingerprint => return Err(conflict()),
                Some(_) => return Err(in_progress()),
                None if running.len() >= MAX_RUNNING => {
                    return Err(
                        Error::new(ErrorCode::Busy, "too many keyed requests at once; try again").retry_after(1)
                    );
                }
                None => running.insert(place, ask.fingerprint),
            };
        }
        let now = services.clock.now();
        let claim = Claim {
            scope: ask.scope,
            key: ask.key,
            fingerprint: ask.fingerprint,
            request_id: ask.request_id,
            at: now,
            expires_at: now.plus(LIFETIME),
        };
        let keyed = Arc::new(Keyed {
            claim,
            seal: Arc::clone(&self.seal),
            claims: Arc::clone(&self.claims),
            render: Mutex::default(),
            placed: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        });
        // From here on its place is given back whatever happens.
        let running = Running { keyed, running: Arc::clone(&self.running) };
        let claim = &running.keyed.claim;
        let Some(kept) = services.store.kept_answer(&claim.scope, &claim.key, now).await? else {
            return Ok(Decision::Run(running));
        };
        if kept.fingerprint != claim.fingerprint {
            return Err(conflict());
        }
        match (kept.answer, kept.command) {
            (Some(sealed), _) => {
                let plain = self.seal.open(&about(&claim.scope, &claim.key), &sealed);
                plain
                    .map(Decision::Replay)
                    .ok_or_else(|| Error::internal("a kept answer cannot be opened: was KEY_ENCRYPTION_KEY changed?"))
            }
            (None, Some(id)) => {
                // In this order: it leaves the list once its row is there. Its client is gone, and it goes on by itself.
                let open = services.open_command(id).is_some();
                let ended = services.store.command_result(id).await?.is_some();
                if open && !ended { Err(in_progress()) } else { Ok(Decision::Command(id, kept.request_id)) }
            }
            (None, None) => Err(Error::internal("a key without an answer and without a command")),
        }
    }
}

/// Removes keys that are over, a piece at a time; says how many.
pub async fn forget(services: &Services, limit: u32) -> Result<u64> {
    let mut tx = services.store.begin().await?;
    let gone = tx.forget_keys(services.clock.now(), limit).await?;
    tx.commit().await?;
    Ok(gone)
}
