//! House tests: the real binary over real sockets, one module for each flow of the specification.

#![allow(clippy::unwrap_used, reason = "a test fails with the place and the value")]

mod device_abuse;
mod device_socket;
mod hang_up;
mod provisioning;
mod relay_bad_input;
mod relay_path;
mod reports;
