//! How it ends: not ready, no new connections and commands, open commands to their end, sockets closed with 1012,
//! everything written, within 15 seconds.

use std::sync::Arc;
use std::time::Duration;

use hexa_api::ApiState;
use hexa_operations::Operations;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Devices come back within this time, each at its own moment.
const RECONNECT_SPREAD: Duration = Duration::from_secs(5);
/// Time for sockets and requests to end once they were asked to.
const GOODBYE: Duration = Duration::from_secs(3);
/// Time for the whole of it: within 15 seconds the process is gone.
const WHOLE: Duration = Duration::from_secs(13);
/// Time for the list of those rows to follow what the writer answered.
const LISTED: Duration = Duration::from_millis(200);
/// Time to close the database, at least.
const CLOSING: Duration = Duration::from_secs(1);
/// Time for audit rows that the database did not take before.
const LAST_TRY: Duration = Duration::from_secs(3);

/// SIGTERM and SIGINT, heard from the moment this is made: one that comes while the server starts is not its death.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the operating system does not allow it.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("stopping on SIGTERM"),
            _ = self.interrupt.recv() => tracing::info!("stopping on SIGINT"),
        }
    }
}

/// How a stop went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped {
    /// Audit rows that the database did not take.
    pub(crate) lost: usize,
    /// The database was closed; one that does not answer is left as it is, for the next start to check.
    pub(crate) closed: bool,
}

/// Stops everything: within [`WHOLE`], or a second more where open commands took as long as they may.
pub(crate) async fn stop(services: &Arc<Operations>, api: &ApiState, serving: JoinHandle<()>) -> Stopped {
    let until = Instant::now() + WHOLE;
    // Not ready, no new connections, no new commands.
    services.stop.cancel();
    services.store.writer().hurry();
    services.tasks.close();
    // Devices stay connected while their open commands end: by ack, or by their timeout.
    let patience = services.config.command.timeout + Duration::from_secs(1);
    if tokio::time::timeout(patience, services.tasks.wait()).await.is_err() {
        tracing::warn!(
            open = services.tasks.len(),
            "some commands did not end in time; their outcome is unknown until their devices report"
        );
    }
    services.registry.close_all(RECONNECT_SPREAD);
    api.close_clients(RECONNECT_SPREAD);
    let quiet = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while services.metrics.device_sessions.get() + services.metrics.client_sessions.get() > 0 {
            tick.tick().await;
        }
        let _ = serving.await;
    };
    if tokio::time::timeout(GOODBYE, quiet).await.is_err() {
        tracing::warn!(
            devices = services.metrics.device_sessions.get(),
            clients = services.metrics.client_sessions.get(),
            "some connections did not close in time and are cut off"
        );
    }
    let patience = LAST_TRY.min(until.saturating_duration_since(Instant::now()));
    let mut flushing = hexa_platform::audit::waiting::flush(services);
    let flushed = tokio::time::timeout(patience, &mut flushing).await.is_ok();
    // Also where the commands took all of it: closing is quick as a rule.
    let until = until.max(Instant::now() + CLOSING);
    let closed = tokio::time::timeout_at(until, services.store.close()).await.unwrap_or(false);
    if !flushed {
        // The writer has answered by now, and what it stored is taken off the list in a moment.
        drop(tokio::time::timeout(LISTED, &mut flushing).await);
        flushing.abort();
    }
    let lost = hexa_platform::audit::waiting::lost(services);
    if closed {
        tracing::info!("stopped");
    } else {
        tracing::error!("the database did not answer, so it was not closed; it is checked at the next start");
    }
    Stopped { lost, closed }
}
