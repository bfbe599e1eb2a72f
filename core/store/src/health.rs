//! Whether this process can write: what its last commits said, and whether it still may.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::StoreError;
use crate::{Changed, Store, db};

/// Of one process. Every transaction, cold and hot, tells it how it ended.
#[derive(Debug)]
pub(crate) struct WriteHealth {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Why this process may never write again.
    lost: Option<String>,
    /// Why the last transaction was not stored.
    failed: Option<String>,
    /// When the last transaction was stored.
    stored: Instant,
}

impl Default for WriteHealth {
    fn default() -> Self {
        Self { state: Mutex::new(State { lost: None, failed: None, stored: Instant::now() }) }
    }
}

impl WriteHealth {
    /// A transaction was stored.
    pub(crate) fn stored(&self) {
        let mut state = self.state.lock();
        state.failed = None;
        state.stored = Instant::now();
    }

    /// One was not, for a reason that is not its own.
    pub(crate) fn failed(&self, error: &StoreError) {
        let mut state = self.state.lock();
        match error {
            StoreError::Fenced(why) => {
                if state.lost.is_none() {
                    tracing::error!(%why, "this process may no longer write to the database, and stops");
                    state.lost = Some(why.clone());
                }
            }
            StoreError::Unavailable { .. } | StoreError::Unknown => state.failed = Some(error.to_string()),
            StoreError::Busy | StoreError::Conflict(_) | StoreError::Corrupt(_) | StoreError::Panicked => {}
        }
    }

    /// Refused once another process has taken this one's place.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &self.state.lock().lost {
            None => Ok(()),
            Some(why) => Err(StoreError::Fenced(why.clone())),
        }
    }

    /// Why this process may never write again.
    pub(crate) fn lost(&self) -> Option<String> {
        self.state.lock().lost.clone()
    }

    /// Why the last transaction was not stored, and how long ago one was.
    pub(crate) fn last(&self) -> (Option<String>, Duration) {
        let state = self.state.lock();
        (state.failed.clone(), state.stored.elapsed())
    }
}

impl Store {
    /// Whether the database answers a read, and its writer is alive.
    ///
    /// # Errors
    /// `Unavailable`, or `Fenced` when another process writes in this one's place.
    pub async fn health(&self) -> Result<(), StoreError> {
        if !self.writer_alive() {
            return Err(StoreError::closed());
        }
        self.inner.health.check()?;
        db::query("select 1").fetch_all(self.reader()).await?;
        Ok(())
    }

    /// Whether the database takes writes: what the last one said, or one that is made now when there was none for a
    /// minute.
    ///
    /// # Errors
    /// As [`Store::health`], and the reason why the last write was not stored.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.health().await?;
        self.may_write().await?;
        let (failed, ago) = self.inner.health.last();
        if failed.is_none() && ago < self.inner.config.probe_after {
            return Ok(());
        }
        // A write that failed a moment ago may not fail now: the probe says what holds.
        self.change(|tx| Box::pin(async move { Ok::<_, StoreError>(Changed::only(tx.probe().await?)) })).await
    }

    /// Why this process may never write again, if that is so.
    pub fn lost(&self) -> Option<String> {
        self.inner.health.lost()
    }
}
