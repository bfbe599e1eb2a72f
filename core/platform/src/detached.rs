//! Work that a caller drives with its own task, and that goes on by itself when the caller is gone.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// As good as a spawned task that is waited for, without its cost: while the caller waits there is no second task to
/// make, schedule and wake (docs/adr/0014). A caller that is dropped half way (its client hung up) leaves the rest
/// to the runtime. Either way the tracker knows of it, so that a stop waits for its end.
pub struct Detached<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    work: Option<(Pin<Box<F>>, TaskTrackerToken)>,
    runtime: Handle,
}

impl<F> Detached<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    /// Nothing runs before the first poll. Must be called inside the runtime.
    pub fn new(tasks: &TaskTracker, work: F) -> Self {
        Self { work: Some((Box::pin(work), tasks.token())), runtime: Handle::current() }
    }
}

impl<F> Future for Detached<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Out while it is polled: work that panics is not to be polled again by anybody.
        let Some((mut work, token)) = self.work.take() else { return Poll::Pending };
        let done = work.as_mut().poll(cx);
        if done.is_pending() {
            self.work = Some((work, token));
        }
        done
    }
}

impl<F> Drop for Detached<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn drop(&mut self) {
        if let Some((work, token)) = self.work.take() {
            self.runtime.spawn(async move {
                work.await;
                drop(token);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_caller_gets_the_result() {
        let tasks = TaskTracker::new();
        assert_eq!(Detached::new(&tasks, async { 7 }).await, 7);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn work_whose_caller_is_gone_ends_by_itself_and_a_stop_waits_for_it() {
        let tasks = TaskTracker::new();
        let (go, wait) = oneshot::channel::<()>();
        let (done, seen) = oneshot::channel();
        let work = Detached::new(&tasks, async move {
            wait.await.unwrap();
            done.send(7).unwrap();
        });
        // Polled once, as by a connection whose client then hangs up.
        let polled = tokio::time::timeout(std::time::Duration::ZERO, work).await;
        assert!(polled.is_err());
        tasks.close();
        assert_eq!(tasks.len(), 1);
        go.send(()).unwrap();
        assert_eq!(seen.await, Ok(7));
        tasks.wait().await;
    }
}
