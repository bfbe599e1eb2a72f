//! How it ends: not ready, no new connections and commands, open commands to their end, sockets closed with 1012,
//! everything written, within 15 seconds.

use std::time::Duration;

use hexa_api::ApiState;
use hexa_service::Services;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

/// Devices come back within this time, each at its own moment.
const RECONNECT_SPREAD: Duration = Duration::from_secs(5);
/// Time for sockets and requests to end once they were asked to.
const GOODBYE: Duration = Duration::from_secs(3);
/// Time for audit rows that the database did not take before.
const LAST_TRY: Duration = Duration::from_secs(1);

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

/// Stops everything.
pub(crate) async fn stop(services: &Services, api: &ApiState, serving: JoinHandle<()>) {
    // Not ready, no new connections, no new commands.
    services.stop.cancel();
    services.tasks.close();
    // Devices stay connected while their open commands end: by ack, or by their timeout.
    let patience = services.config.relay.timeout + Duration::from_secs(1);
    if tokio::time::timeout(patience, services.tasks.wait()).await.is_err() {
        tracing::warn!(open = services.tasks.len(), "commands did not end in time");
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
            "some connections did not close in time"
        );
    }
    if tokio::time::timeout(LAST_TRY, hexa_service::audit::waiting::flush(services)).await.is_err() {
        tracing::warn!("the database did not take the audit rows that waited for it");
    }
    services.store.close().await;
    tracing::info!("stopped");
}
