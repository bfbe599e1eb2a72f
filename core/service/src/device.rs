//! The device room: who is connected, how a device comes in, changes hands and leaves.

pub(crate) mod access;
pub mod actor;
mod batch_loader;
pub mod claim;
pub mod codes;
pub mod contest;
pub mod grant;
pub mod handle;
pub mod history;
pub mod inbound;
pub mod list;
pub mod provision;
pub mod registry;
pub mod session;
pub mod view;
