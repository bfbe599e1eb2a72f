//! The device room: who is connected, how a device comes in, changes hands and leaves, and every command to it.
//!
//! Called by the rooms above and by the entry points; calls `accounts`, `platform`, `machine`, `store`, `model`.
//! Invariants: relay states change in `command/acknowledge.rs` and `relay/report.rs` only; a command ends exactly once; no
//! socket is opened here.
//! Start at [`command::path`], the nine steps of a command.

pub(crate) mod access;
pub mod actor;
pub mod authorize;
mod batch_loader;
pub mod claim;
pub mod codes;
pub mod command;
pub mod config;
pub mod contest;
mod devices;
pub mod grant;
pub mod handle;
pub mod history;
pub mod inbound;
pub mod list;
mod memory;
pub mod ports;
pub mod provision;
pub mod registry;
pub mod relay;
pub mod session;
pub mod view;

pub use devices::Devices;
