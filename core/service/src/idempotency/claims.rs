//! Keys of relay commands are made durable together: those that come while a commit is under way wait for it to end and
//! then share the next one, so that a keyed command costs one group commit more than another, however many there are.

use std::sync::Arc;

use hexa_model::CommandId;
use hexa_store::{Changed, Claim, Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Keys in one transaction.
const TOGETHER: usize = 64;

struct Waiter {
    claim: Claim,
    command: CommandId,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// At most one waiter per keyed request under way: bounded by those.
#[derive(Default)]
struct Waiting {
    writing: bool,
    all: Vec<Waiter>,
}

/// The keys of one process.
#[derive(Default)]
pub(super) struct Claims {
    waiting: Arc<Mutex<Waiting>>,
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").field("waiting", &self.waiting.lock().all.len()).finish_non_exhaustive()
    }
}

impl Claims {
    /// Returns when the key is on the disk, or is not.
    ///
    /// # Errors
    /// As [`hexa_store::Tx::keep_answer`].
    pub(super) async fn place(&self, store: &Store, claim: Claim, command: CommandId) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock();
            waiting.all.push(Waiter { claim, command, answer });
            !std::mem::replace(&mut waiting.writing, true)
        };
        if first {
            // A task of its own: the caller that came first may go away while the others wait.
            tokio::spawn(Turn { store: store.clone(), waiting: Arc::clone(&self.waiting) }.run());
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::closed()))
    }
}

/// Whoever writes for all.
struct Turn {
    store: Store,
    waiting: Arc<Mutex<Waiting>>,
}

impl Turn {
    async fn run(self) {
        while let Some(waiters) = self.next() {
            let ends = match self.write(&waiters).await {
                Ok(ends) => ends,
                Err(error) => {
                    // Not one of them is there.
                    let each = || Err(StoreError::unavailable(error.to_string()));
                    waiters.iter().map(|_| each()).collect()
                }
            };
            for (waiter, end) in waiters.into_iter().zip(ends) {
                // Whoever is gone needs no answer; the key stays, and a later request finds it.
                let _ = waiter.answer.send(end);
            }
        }
    }

    fn next(&self) -> Option<Vec<Waiter>> {
        let mut waiting = self.waiting.lock();
        let count = waiting.all.len().min(TOGETHER);
        // An empty list ends the turn under the same lock under which the next one would begin.
        waiting.writing = count > 0;
        waiting.writing.then(|| waiting.all.drain(..count).collect())
    }

    async fn write(&self, waiters: &[Waiter]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let claims: Vec<_> = waiters.iter().map(|w| (w.claim.clone(), w.command)).collect();
        let made = self.store.change(move |tx| {
            Box::pin(async move {
                let mut ends = Vec::with_capacity(claims.len());
                for (claim, command) in &claims {
                    ends.push(match tx.keep_answer(claim, Some(*command), None).await {
                        Err(other) if !matches!(other, StoreError::Conflict(_)) => return Err(other),
                        end => end,
                    });
                }
                Ok(Changed::only(ends))
            })
        });
        made.await
    }
}

/// A turn that panics must not leave the others waiting for ever.
impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        if std::thread::panicking() {
            waiting.writing = false;
            waiting.all.clear();
        }
    }
}
