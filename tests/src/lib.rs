//! The harness of the tests over sockets: a real server process, devices, clients and users over real sockets.
//!
//! Called by `tests/it`; calls nothing of ours but the binary `hexa` and, to read, its database file.
//! Invariants: a failure says what was expected and shows the server's log; nothing waits by sleeping for a fixed time;
//! a server that panicked fails its test; every process dies with the test that started it.
//! Start at [`server::TestServer`].

#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "a harness fails loudly, with the place and the value")]

pub mod client;
pub mod contract;
pub mod cut;
pub mod db;
pub mod device;
pub mod evidence;
pub mod load;
pub mod machine;
pub mod metrics;
pub mod process;
pub mod raw;
pub mod server;
pub mod shapes;
pub mod tls;
pub mod wait;
pub mod ws_client;

pub use client::{Client, Reply};
pub use db::Db;
pub use device::{AutoDevice, Body, Command, FakeDevice, Frame, Identity, Refused};
pub use evidence::{Answer, Evidence, Witness};
pub use metrics::Metrics;
pub use server::{Options, Shared, TestServer, User};
pub use wait::{PATIENCE, eventually, within};
pub use ws_client::WsClient;
