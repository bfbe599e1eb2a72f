//! How the services change something: through the store's one entry point, with the answer to a keyed request in the
//! same transaction, and with what every process must hear of it.

use std::future::Future;
use std::pin::Pin;

use hexa_model::Change;
use hexa_store::{Changed, Store, Tx};

use crate::error::{Error, Result};
use crate::idempotency::Key;
use crate::principal::Principal;

/// Work on an open transaction.
pub type Work<'t, T> = Pin<Box<dyn Future<Output = Result<Decided<T>>> + Send + 't>>;

/// What a room decided while its transaction is open. Either way what it wrote is committed; an error of the work itself
/// undoes everything.
#[derive(Debug)]
pub struct Decided<T> {
    answer: Result<T>,
    changes: Vec<Change>,
}

impl<T> Decided<T> {
    /// The change was made, and this is its answer; it tells other processes of nothing yet.
    pub fn done(answer: T) -> Self {
        Self { answer: Ok(answer), changes: Vec::new() }
    }

    /// It is refused, and what was written about the refusal stays: an audit row, the end of a session.
    pub fn refused(error: Error) -> Self {
        Self { answer: Err(error), changes: Vec::new() }
    }

    /// Every process must hear of this.
    #[must_use]
    pub fn telling(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }
}

/// Makes a change, and answers when it is committed and this process knows of it. It is made whether the caller waits for
/// it or not. `key` is the keyed request that it answers: its answer is kept in the same transaction.
///
/// # Errors
/// What the work gives; `idempotency_in_progress` when the key was taken meanwhile, and nothing was changed then;
/// `storage_unavailable`, `busy`.
pub async fn change<T, F>(store: &Store, key: Key<T>, work: F) -> Result<T>
where
    T: Send + Sync + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T> + Send + 'static,
{
    make(store, None, key, work).await
}

/// The same for what somebody asked for: refused in its own transaction when their access ended meanwhile. It says who
/// they are; whether what they ask about is still theirs, the work compares itself. `by` is nobody where the server or a
/// device may ask as well.
///
/// # Errors
/// As [`change`]; `invalid_token`, `account_disabled`.
pub async fn asked<'p, T, F>(store: &Store, by: impl Into<Option<&'p Principal>>, key: Key<T>, work: F) -> Result<T>
where
    T: Send + Sync + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T> + Send + 'static,
{
    make(store, by.into().cloned(), key, work).await
}

/// The same as [`change`] for what nobody asked for with a key.
///
/// # Errors
/// As [`change`].
pub async fn internal<T, F>(store: &Store, work: F) -> Result<T>
where
    T: Send + Sync + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T> + Send + 'static,
{
    change(store, Key::none(), work).await
}

async fn make<T, F>(store: &Store, by: Option<Principal>, key: Key<T>, work: F) -> Result<T>
where
    T: Send + Sync + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T> + Send + 'static,
{
    let placed = key.request();
    let given = store.change(move |tx| {
        Box::pin(async move {
            if let Some(by) = by {
                by.revalidate(tx).await?;
            }
            let Decided { answer, changes } = work(tx).await?;
            let kept = match &answer {
                Ok(answer) => key.keep(tx, answer).await?,
                Err(_) => false,
            };
            hexa_model::crash_point!("idem.after_effect", if kept);
            Ok::<_, Error>(Changed { answer: (answer, kept), changes })
        })
    });
    let (answer, kept) = given.await?;
    if kept && let Some(request) = placed {
        request.is_placed();
    }
    answer
}
