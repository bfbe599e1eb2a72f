//! What every handler can reach.

use std::sync::Arc;

use hexa_service::Services;
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::dashboard::Dashboard;
use crate::transport::TransportConfig;
use crate::ws::hub::Hub;

/// Devices that are let in at the same time: more would only stand between commands and their answers.
const CONNECTS_AT_ONCE: usize = 32;

/// Settings of the front door.
#[derive(Clone, Debug, Default)]
pub struct ApiConfig {
    /// Base of every URL that is handed out (`PUBLIC_URL`), without a slash at the end.
    pub public_url: String,
    /// Lets a scraper that is not on this machine read `/metrics` (`METRICS_TOKEN`).
    pub metrics_token: Option<SecretString>,
    /// Other origins whose pages may call the API and open the client socket (`CORS_ALLOWED_ORIGINS`).
    pub allowed_origins: Vec<String>,
    /// Other servers that the console may be pointed at (`DASHBOARD_CONNECT_SRC`).
    pub connect_src: Vec<String>,
    /// The console's files.
    pub dashboard: Dashboard,
    /// How requests may come here.
    pub transport: TransportConfig,
    /// Client sockets of one account (`LIMIT_USER_SOCKETS`).
    pub user_sockets: u32,
}

/// Shared by all handlers; one pointer, because axum clones it several times per request.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

/// What the pointer leads to.
pub struct Shared {
    pub(crate) services: Arc<Services>,
    pub(crate) hub: Arc<Hub>,
    /// Turns of devices that connect.
    pub(crate) connects: Arc<Semaphore>,
    pub(crate) config: ApiConfig,
}

impl std::ops::Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl ApiState {
    /// Subscribes the client sockets to the bus.
    pub fn new(services: Arc<Services>, config: ApiConfig) -> Self {
        let hub = Arc::new(Hub::new(Arc::clone(&services.metrics), config.user_sockets));
        services.bus.subscribe(Arc::clone(&hub) as Arc<dyn hexa_service::bus::Subscriber>);
        let connects = Arc::new(Semaphore::new(CONNECTS_AT_ONCE));
        Self(Arc::new(Shared { services, hub, connects, config }))
    }

    /// Asks every client socket to close with 1012 and to come back at its own moment within `spread`.
    pub fn close_clients(&self, spread: std::time::Duration) {
        self.hub.close_all(spread);
    }

    /// Pings clients, gives up the dead ones, and closes those whose access is over, until the services stop.
    pub async fn watch_clients(self) {
        self.hub.sweep(&self.services).await;
    }
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").field("config", &self.config).finish_non_exhaustive()
    }
}
