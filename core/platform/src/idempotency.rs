//! Requests that may be sent twice (docs/PLATFORM.md#idempotency): with an `idempotency-key`, the effect happens once
//! and every later request hears the first answer.
//!
//! What a request changes, its key and its sealed answer are one transaction: [`change`](mod@crate::change) puts the answer in
//! just before it commits. So nothing is claimed in advance, nothing has to be released after a crash, and whoever comes second finds
//! the key taken at the very moment when its own effect would happen. A relay command is different, because a device
//! cannot be rolled back: its key is committed with the command's id before the frame is sent, and its answer is read
//! from the audit, where the command's end is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::seal::SealKey;
use hexa_model::{CommandId, DeviceKey, ErrorCode, IdempotencyKey, KeyState};
use hexa_store::set_right::NOT_KNOWN_YET;
use hexa_store::{CommandClaim, HotWrite, Store, StoreError, Tx};
use parking_lot::Mutex;
use secrecy::SecretString;

use crate::Platform;
use crate::change::{self, Decided};
use crate::error::{Error, Result};

/// How long a key is remembered (draft-ietf-httpapi-idempotency-key-header: the expiry is published).
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longer answers are not kept.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Keyed requests under way at the same time.
const MAX_RUNNING: usize = 10_000;
/// Callers with too many keys that are remembered as such.
const MAX_CROWDED: usize = 10_000;

/// One request with a key, while it runs. Whoever holds it keeps others with the same key out: the handler, and the change
/// that it asked for, which goes on when the handler's caller is gone.
pub struct KeyedRequest {
    claim: IdempotencyKey,
    seal: Arc<SealKey>,
    /// What has become of the key so far.
    state: Mutex<KeyState>,
    crowded: Arc<CrowdedCallers>,
    running: Arc<Mutex<HashMap<Place, [u8; 32]>>>,
}

impl std::fmt::Debug for KeyedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedRequest").field("key", &self.claim.key).finish_non_exhaustive()
    }
}

impl Drop for KeyedRequest {
    fn drop(&mut self) {
        self.running.lock().remove(&(self.claim.scope, self.claim.key.clone()));
    }
}

/// How an answer of one type becomes the bytes that are kept.
type Render<T> = Box<dyn Fn(&T) -> Result<Vec<u8>> + Send + Sync>;

/// The keyed request that a change answers, if it is one, and how its answer is kept. A change takes it as an argument:
/// one that would keep no answer, or one of another type, does not compile.
pub struct Key<T>(Option<(Arc<KeyedRequest>, Render<T>)>);

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.0.as_ref().map(|(keyed, _)| keyed)).finish()
    }
}

impl<T> Key<T> {
    /// Of a request without a key.
    pub fn none() -> Self {
        Self(None)
    }

    /// Of this request, whose answer is kept as these bytes.
    pub fn new(
        request: Option<Arc<KeyedRequest>>,
        render: impl Fn(&T) -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self(request.map(|keyed| (keyed, Box::new(render) as Render<T>)))
    }

    pub(crate) fn request(&self) -> Option<Arc<KeyedRequest>> {
        self.0.as_ref().map(|(keyed, _)| Arc::clone(keyed))
    }

    /// Puts the answer into the transaction; false when there is no key to keep it under.
    pub(crate) async fn keep(&self, tx: &mut Tx, answer: &T) -> Result<bool> {
        let Some((keyed, render)) = &self.0 else { return Ok(false) };
        if keyed.placed() {
            return Ok(false);
        }
        let bytes = render(answer)?;
        keyed.place(tx, &bytes).await?;
        Ok(true)
    }
}

impl KeyedRequest {
    /// Whether its key is in the store.
    pub fn placed(&self) -> bool {
        *self.state.lock() == KeyState::Taken
    }
    /// Whether somebody else's request had the same key and came first.
    pub fn lost(&self) -> bool {
        *self.state.lock() == KeyState::Lost
    }
    /// Whether its key may be in the store without our knowing.
    pub fn unsure(&self) -> bool {
        *self.state.lock() == KeyState::Unsure
    }
    /// Its key, as whoever holds a command's device takes it.
    pub fn key(&self) -> &IdempotencyKey {
        &self.claim
    }
    pub(crate) fn is_placed(&self) {
        self.settled(KeyState::Taken);
    }
    /// What became of its key at whoever took it for a command.
    pub fn settled(&self, key: KeyState) {
        *self.state.lock() = key;
    }

    async fn place(&self, tx: &mut Tx, answer: &[u8]) -> Result<()> {
        let sealed = self.seal.seal(&about(&self.claim.scope, &self.claim.key), answer);
        let kept = tx.keep_answer(&self.claim, &sealed).await;
        self.crowded.taken(&self.claim, kept).map_err(|(error, key)| {
            self.settled(key);
            error
        })
    }

    /// The command came to nothing and may be asked for again.
    ///
    /// # Errors
    /// `storage_unavailable`, `busy`.
    pub async fn release_command(&self, platform: &Platform) -> Result<()> {
        platform.idempotency.release(platform, &self.claim).await?;
        self.settled(KeyState::Free);
        Ok(())
    }

    /// Keeps an answer that came without an effect of its own, or after one that is not in the database.
    ///
    /// # Errors
    /// `idempotency_in_progress`, `storage_unavailable`, `busy`.
    pub async fn keep(self: &Arc<Self>, platform: &Platform, answer: &[u8]) -> Result<()> {
        let (keyed, answer) = (Arc::clone(self), answer.to_vec());
        change::internal(&platform.store, move |tx| {
            Box::pin(async move { Ok(Decided::done(keyed.place(tx, &answer).await?)) })
        })
        .await?;
        self.is_placed();
        Ok(())
    }
}

fn about(scope: &[u8; 32], key: &str) -> Vec<u8> {
    [&scope[..], key.as_bytes()].concat()
}

fn conflict() -> Error {
    Error::new(
        ErrorCode::IdempotencyConflict,
        "this idempotency key was used for another request; take a fresh key for each",
    )
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
pub struct IdempotencyRequest {
    /// Whose keys these are.
    pub scope: [u8; 32],
    /// The value of the header `idempotency-key`, without quotes: 1 to 255 visible ASCII characters.
    pub key: String,
    /// Of what is asked for.
    pub fingerprint: [u8; 32],
    /// The id of this request (`x-request-id`); kept with the answer, so that a repeated one can name the first.
    pub request_id: String,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Decision {
    /// It is the first: run it, with this handed to the change that it makes.
    Run(Arc<KeyedRequest>),
    /// Answer these bytes again.
    Replay(Vec<u8>),
    /// It became this command; its end is in the audit, or unknown. The first request had this id.
    Command(CommandId, String),
}

type Place = ([u8; 32], String);

/// Takes idempotency keys, and keeps the sealed answers of their requests for [`LIFETIME`].
#[derive(Debug)]
pub struct Idempotency {
    seal: Arc<SealKey>,
    running: Arc<Mutex<HashMap<Place, [u8; 32]>>>,
    crowded: Arc<CrowdedCallers>,
}

/// Callers that had too many keys when they were last counted: counted with each of theirs.
#[derive(Debug, Default)]
struct CrowdedCallers(Mutex<HashSet<[u8; 32]>>);

impl CrowdedCallers {
    fn has(&self, scope: &[u8; 32]) -> bool {
        self.0.lock().contains(scope)
    }

    /// What the taking of a key came to, for its caller.
    fn taken(&self, claim: &IdempotencyKey, end: Result<(), StoreError>) -> Result<(), (Error, KeyState)> {
        let full = matches!(&end, Err(StoreError::Conflict(what)) if what.ends_with("full"));
        if claim.counted || full {
            let mut crowded = self.0.lock();
            if full && crowded.len() < MAX_CROWDED {
                crowded.insert(claim.scope);
            } else if !full {
                crowded.remove(&claim.scope);
            }
        }
        match end {
            Ok(()) => Ok(()),
            Err(_) if full => {
                let what = "10,000 idempotency keys were used within a day; leave the key out, or wait";
                Err((Error::rate_limited(what, 60), KeyState::Free))
            }
            Err(StoreError::Conflict(_)) => Err((in_progress(), KeyState::Lost)),
            Err(unsure @ StoreError::Unknown) => Err((unsure.into(), KeyState::Unsure)),
            Err(other) => Err((other.into(), KeyState::Free)),
        }
    }
}

impl Idempotency {
    /// Under a key derived from this secret (`KEY_ENCRYPTION_KEY`).
    pub fn new(secret: &SecretString) -> Self {
        let seal = Arc::new(SealKey::derive(secret, "idempotency/v1"));
        Self { seal, running: Arc::default(), crowded: Arc::default() }
    }

    /// For scopes and fingerprints: what was hashed cannot be guessed from them.
    pub fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.seal.fingerprint(parts)
    }

    /// Before a command's frame is sent: its key is durable, with its id. It goes the way of states and audit rows, so
    /// that all that come together are one commit and none stands behind changes of another kind.
    ///
    /// # Errors
    /// Why the key was not taken, and what is known of it.
    pub async fn claim_command(
        &self,
        store: &Store,
        key: &IdempotencyKey,
        device: DeviceKey,
        id: CommandId,
    ) -> Result<(), (Error, KeyState)> {
        let claim = Box::new(CommandClaim { claim: key.clone(), command: id });
        let end = store.writer().commit(HotWrite { claim: Some(claim), ..HotWrite::of(device) }).await;
        self.crowded.taken(key, end.map(|_| ()))?;
        hexa_model::crash_point!("cmd.after_claim");
        Ok(())
    }

    /// What a key stood for came to nothing: it may be used again.
    ///
    /// # Errors
    /// `storage_unavailable`, `busy`: then it may stand all the same.
    pub async fn release(&self, platform: &Platform, key: &IdempotencyKey) -> Result<()> {
        let key = key.clone();
        change::internal(&platform.store, move |tx| {
            Box::pin(async move { Ok(Decided::done(tx.release_key(&key).await.map(drop)?)) })
        })
        .await
    }

    /// What is to be done with a request whose caller was authenticated and authorized a moment ago.
    ///
    /// # Errors
    /// `idempotency_conflict`, `idempotency_in_progress`, `busy`.
    pub async fn decide(&self, platform: &Platform, ask: IdempotencyRequest) -> Result<Decision> {
        let keyed = self.enter(platform, ask)?;
        let known = self.known(platform, &keyed).await?;
        Ok(known.unwrap_or(Decision::Run(keyed)))
    }

    /// Keeps others with the same key out, without a look at what was before: for a command, whose key is taken before
    /// anything is sent, so that it finds by itself that it was used.
    ///
    /// # Errors
    /// `idempotency_conflict`, `idempotency_in_progress`, `busy`.
    pub fn enter(&self, platform: &Platform, ask: IdempotencyRequest) -> Result<Arc<KeyedRequest>> {
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
        // Counting costs more the more there are, so one key in sixteen pays for it, and each of who had too many. Which one,
        // nobody outside can choose: the fingerprint is made with the server's own key.
        let counted = ask.fingerprint[0].is_multiple_of(16) || self.crowded.has(&ask.scope);
        // Neither a clock that is set nor a start with a wrong one makes a key free before its time.
        let now = platform.guard.earliest();
        let claim = IdempotencyKey {
            scope: ask.scope,
            key: ask.key,
            fingerprint: ask.fingerprint,
            request_id: ask.request_id,
            at: now,
            // Of a new server's first minutes nobody knows when they were.
            expires_at: if platform.guard.is_settling() {
                NOT_KNOWN_YET
            } else {
                platform.guard.latest().plus(LIFETIME)
            },
            counted,
        };
        Ok(Arc::new(KeyedRequest {
            claim,
            seal: Arc::clone(&self.seal),
            state: Mutex::default(),
            crowded: Arc::clone(&self.crowded),
            // From here on its place is given back whatever happens.
            running: Arc::clone(&self.running),
        }))
    }

    /// What became of an earlier request with this key; none when there was none.
    ///
    /// # Errors
    /// `idempotency_conflict`, `idempotency_in_progress`; `storage_unavailable` when the database does not answer.
    pub async fn known(&self, platform: &Platform, keyed: &KeyedRequest) -> Result<Option<Decision>> {
        let claim = &keyed.claim;
        let Some(kept) = platform.store.kept_answer(&claim.scope, &claim.key, claim.at).await? else {
            return Ok(None);
        };
        if kept.fingerprint != claim.fingerprint {
            return Err(conflict());
        }
        match (kept.answer, kept.command) {
            (Some(sealed), _) => {
                let plain = self.seal.open(&about(&claim.scope, &claim.key), &sealed);
                plain
                    .map(|answer| Some(Decision::Replay(answer)))
                    .ok_or_else(|| Error::internal("a kept answer cannot be opened: was KEY_ENCRYPTION_KEY changed?"))
            }
            (None, Some(id)) => {
                // In this order: it leaves the list once its row is there. Its client is gone, and it goes on by itself.
                let open = platform.open.get(id).await.is_some();
                let ended = async || matches!(platform.store.command_result(id).await, Ok(Some(_)));
                if open && !ended().await {
                    Err(in_progress())
                } else {
                    Ok(Some(Decision::Command(id, kept.request_id)))
                }
            }
            (None, None) => Err(Error::internal("a key without an answer and without a command")),
        }
    }
}

/// Removes keys that are over, a piece at a time; says how many.
///
/// # Errors
/// `storage_unavailable`, `busy`.
pub async fn purge_keys(platform: &Platform, limit: u32) -> Result<u64> {
    let now = platform.guard.earliest();
    change::internal(&platform.store, move |tx| {
        Box::pin(async move { Ok(Decided::done(tx.forget_keys(now, limit).await?)) })
    })
    .await
}
