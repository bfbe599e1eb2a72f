//! REST and the two sockets, over axum.
//!
//! Called by `server`; calls the rooms. The only crate that knows status codes and headers.
//! Invariants: a handler extracts, makes one service call and replies; every error has the one shape; nothing waits for
//! a device inside a handler's own task (the path of a command detaches itself).
//! Start at [`router`] for the routes, [`ws::device`] for devices; how connections come in is in `hexa-listen`.

pub mod audit_text;
mod compress;
mod conditional;
mod cookie;
mod dashboard;
mod error;
mod extract;
mod idempotency;
mod middleware;
pub mod openapi;
mod public;
mod routes;
mod state;
mod wire;
pub mod ws;

pub use dashboard::{Asset, Body as AssetBody, Dashboard};
pub use public::PublicUrl;
pub use routes::{Access, Route, router, routes};
pub use state::{ApiConfig, ApiState};
