//! Running a server: the fleet in numbers, plugins, what is removed when it is over, and what a wrong clock left behind.
//!
//! Called by the entry points; calls `devices` and everything below.
//! Start at [`Operations`].

pub mod config;
pub mod fleet;
pub mod housekeeping;
mod operations;
pub mod plugins;
pub mod set_right;

pub use operations::Operations;
