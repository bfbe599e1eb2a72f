//! What every handler can reach.

use std::sync::Arc;

use hexa_service::Services;
use secrecy::SecretString;

use crate::ws::hub::Hub;

/// Settings of the front door.
#[derive(Clone, Debug, Default)]
pub struct ApiConfig {
    /// Base of every URL that is handed out (`PUBLIC_URL`), without a slash at the end.
    pub public_url: String,
    /// Lets a scraper that is not on this machine read `/metrics` (`METRICS_TOKEN`).
    pub metrics_token: Option<SecretString>,
    /// Other origins from which a browser may open the client socket (`CORS_ALLOWED_ORIGINS`).
    pub allowed_origins: Vec<String>,
}

/// Shared by all handlers; one pointer, because axum clones it several times per request.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

/// What the pointer leads to.
pub struct Shared {
    pub(crate) services: Arc<Services>,
    pub(crate) hub: Arc<Hub>,
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
        let hub = Arc::new(Hub::new(Arc::clone(&services.metrics)));
        services.bus.subscribe(Arc::clone(&hub) as Arc<dyn hexa_service::bus::Subscriber>);
        Self(Arc::new(Shared { services, hub, config }))
    }

    /// Asks every client socket to close with 1012.
    pub fn close_clients(&self) {
        self.hub.close_all();
    }
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").field("config", &self.config).finish_non_exhaustive()
    }
}
