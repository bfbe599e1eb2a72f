//! How connections come in: accepting, TLS, framing, how much a stranger may hold, and what is known of where a request
//! came from.
//!
//! Called by `server`, which hands it the router of `api`; calls `platform`.
//! Invariants: a peer that says nothing, or too slowly, ends; nobody without an account can keep others out.
//! Start at [`Listener`].

mod anonymous;
mod deadline;
mod framing;
mod listener;
mod maintenance;
mod refusal;
mod request;
mod tls;
pub mod transport;

pub use anonymous::{AnonymousConnection, AnonymousLimit};
pub use listener::{Limits, Listener};
pub use maintenance::{Maintenance, MaintenanceListener};
pub use request::{Ambiguous, Peer, RequestId};
pub use tls::{Tls, TlsError};
pub use transport::TransportConfig;

/// Header lines of a request.
pub const MAX_HEADERS: usize = 100;
/// Bytes of the head of a request: its first line and all header lines together.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
