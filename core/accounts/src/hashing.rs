//! Passwords are hashed off the async threads, so many at a time, and so many may wait (docs/PLATFORM.md#passwords).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hexa_model::ErrorCode;
use tokio::sync::Semaphore;

use hexa_platform::error::{Error, Result};

/// One queue before the hasher.
#[derive(Debug)]
pub(super) struct HashQueue {
    what: &'static str,
    permits: Arc<Semaphore>,
    under_way: AtomicUsize,
    most: usize,
}

impl HashQueue {
    /// `permits` at a time, `most` altogether; `what` completes "too many … at once".
    pub(super) fn new(what: &'static str, permits: usize, most: usize) -> Self {
        Self { what, permits: Arc::new(Semaphore::new(permits)), under_way: AtomicUsize::new(0), most }
    }

    /// Runs a password function when it is its turn.
    ///
    /// # Errors
    /// `busy` when the queue is full; `work` has not begun then.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        struct Leave<'a>(&'a AtomicUsize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.under_way);
        if before >= self.most {
            let what = format!("too many {} at once; try again", self.what);
            return Err(Error::new(ErrorCode::Busy, what).retry_after(1));
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_other_queues_go_on() {
        let (full, other) = (HashQueue::new("registrations", 1, 2), HashQueue::new("logins", 1, 2));
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let first = full.run(move || wait.recv());
        let second = full.run(|| ());
        tokio::pin!(first, second);
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        let refused = full.run(|| ()).await.unwrap_err();
        assert_eq!((refused.code, refused.retry_after_s), (ErrorCode::Busy, Some(1)));
        assert_eq!(other.run(|| 7).await.unwrap(), 7);
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        second.await.unwrap();
        full.run(|| ()).await.unwrap();
    }
}
