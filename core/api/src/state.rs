//! What every handler can reach.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_operations::Operations;
use hexa_platform::worker::{self, RunsOn, WorkerSpec};

use crate::ws::hub::{LOOK_EVERY, PING_EVERY};
use hexa_platform::limit::{FailureLimiter, Rate};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::cookie::Cookies;
use crate::dashboard::Dashboard;
use crate::public::PublicUrl;
use crate::ws::hub::Hub;
use hexa_listen::transport::TransportConfig;

/// Devices that are let in at the same time: more would only stand between commands and their answers.
const CONNECTS_AT_ONCE: usize = 32;

const PINGS: WorkerSpec = WorkerSpec {
    name: "client_liveness",
    purpose: "pings silent client sockets and closes those that do not answer",
    runs_on: RunsOn::EveryNode,
};
const ASKS: WorkerSpec = WorkerSpec {
    name: "client_access",
    purpose: "closes client sockets whose access is over",
    runs_on: RunsOn::EveryNode,
};

/// Settings of the API.
#[derive(Clone, Debug, Default)]
pub struct ApiConfig {
    /// Base of every address that is handed out (`PUBLIC_URL`); none = what each request says of the way that it came.
    pub public_url: Option<PublicUrl>,
    /// What is handed out where a request does not say: the listener, by an address that can be dialled from here.
    pub fallback_url: String,
    /// Tells this server from others on the same host name; in the names of its cookies.
    pub server_id: String,
    /// Lets a scraper that is not on this machine read `/metrics` (`METRICS_TOKEN`).
    pub metrics_token: Option<SecretString>,
    /// Other origins whose pages may call the API and open the client socket (`CORS_ALLOWED_ORIGINS`).
    pub allowed_origins: Vec<String>,
    /// Other servers that the console may be pointed at (`DASHBOARD_CONNECT_SRC`).
    pub connect_src: Vec<String>,
    /// The console's page and files, built into the server.
    pub dashboard: Dashboard,
    /// How requests may come here.
    pub transport: TransportConfig,
    /// Wrong metrics tokens of one address.
    pub metrics_failures: Option<Rate>,
    /// Client sockets of one account (`LIMIT_USER_SOCKETS`).
    pub user_sockets: u32,
}

/// Shared by all handlers; one pointer, because axum clones it several times per request.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

/// What the pointer leads to.
pub struct Shared {
    pub(crate) services: Arc<Operations>,
    pub(crate) hub: Arc<Hub>,
    /// Turns of devices that connect.
    pub(crate) connects: Arc<Semaphore>,
    pub(crate) config: ApiConfig,
    pub(crate) cookies: Cookies,
    /// Wrong metrics tokens, by address.
    pub(crate) wrong_metrics: FailureLimiter<Option<IpAddr>>,
}

impl std::ops::Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl ApiState {
    /// Subscribes the client sockets to the bus.
    pub fn new(services: Arc<Operations>, config: ApiConfig) -> Self {
        let hub = Arc::new(Hub::new(Arc::clone(&services.metrics), config.user_sockets));
        services.bus.subscribe(Arc::clone(&hub) as Arc<dyn hexa_platform::bus::Subscriber>);
        let connects = Arc::new(Semaphore::new(CONNECTS_AT_ONCE));
        let cookies = Cookies::new(&config.server_id, config.public_url.as_ref());
        let rate = config.metrics_failures.unwrap_or_else(|| Rate::new(10, Duration::from_secs(60)));
        let wrong_metrics = FailureLimiter::new("wrong tokens for /metrics", rate);
        Self(Arc::new(Shared { services, hub, connects, config, cookies, wrong_metrics }))
    }

    /// Asks every client socket to close with 1012 and to come back at its own moment within `spread`.
    pub fn close_clients(&self, spread: Duration) {
        self.hub.close_all(spread);
    }

    /// Starts what goes on beside requests for the sockets of clients.
    pub fn start_workers(&self) {
        let state = self.clone();
        self.services.workers.periodic(PINGS, PING_EVERY, move |_| {
            let state = state.clone();
            worker::run(async move {
                state.hub.check_liveness();
                Ok::<_, String>(())
            })
        });
        let state = self.clone();
        self.services.workers.periodic(ASKS, LOOK_EVERY, move |_| {
            let state = state.clone();
            worker::run(async move { state.hub.ask(&state.services).await })
        });
    }
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").field("config", &self.config).finish_non_exhaustive()
    }
}
