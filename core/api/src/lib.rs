//! The front door: REST and the two sockets, over axum.
//!
//! Called by `server`; calls `service`. The only crate that knows status codes and headers.
//! Invariants: a handler extracts, makes one service call and replies; every error has the one shape; nothing waits for
//! a device inside a handler's own task (the relay path detaches itself).
//! Start at [`router`] for the routes, [`ws::device`] for devices, [`listen`] for how connections come in.

pub mod audit_text;
mod compress;
mod conditional;
mod cookie;
mod dashboard;
mod error;
mod extract;
mod idempotency;
pub mod listen;
mod middleware;
pub mod openapi;
mod public;
mod routes;
mod state;
mod tls;
mod transport;
mod wire;
pub mod ws;

pub use dashboard::{Asset, Body as AssetBody, Dashboard};
pub use public::PublicUrl;
pub use routes::{Access, Route, router, routes};
pub use state::{ApiConfig, ApiState};
pub use tls::{Tls, TlsError};
pub use transport::TransportConfig;
