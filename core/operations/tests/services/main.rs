//! The rooms together, with a real store in a temporary folder, a driver in plain Rust, and devices without sockets.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected comes")]

mod ahead;
mod changes;
mod claims;
mod device;
mod ends;
mod invitations;
mod kinds;
mod relay;
mod retention;
mod rig;
mod sessions;
