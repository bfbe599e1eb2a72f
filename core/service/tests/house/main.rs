//! The rooms together, with a real store in a temporary folder, a driver in plain Rust, and devices without sockets.

mod device;
mod relay;
mod rig;
