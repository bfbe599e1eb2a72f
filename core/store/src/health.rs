//! Whether this process can write: what its last commits said, and whether it still may.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::StoreError;

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
    /// When one was.
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
                    tracing::error!(%why, "this process may not write any more, and ends");
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
