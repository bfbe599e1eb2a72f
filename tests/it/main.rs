//! House tests: the real binary over real sockets, one module for each flow of the specification.

#![allow(clippy::unwrap_used, reason = "a test fails with the place and the value")]
#![allow(clippy::print_stderr, reason = "figures and reasons for skipping are shown by the test runner")]

mod access;
mod accounts;
mod asyncapi;
mod audit_admin;
mod bounds;
mod canary;
mod cli;
mod client_socket;
mod clock;
mod compat;
mod console;
mod containers;
mod crash;
mod crash_points;
mod device_abuse;
mod device_list;
mod device_socket;
mod disconnects;
mod disk_full;
mod ended;
mod errors;
mod faults;
mod grants;
mod guarantees;
mod hang_up;
mod hostile;
mod idempotency;
mod identity;
mod keys;
mod kill_loop;
mod lifecycle;
mod maintenance;
mod matrix;
mod metrics;
mod names;
mod openapi;
mod plugin_compiler;
mod postgres_down;
mod power_cut;
mod preferences;
mod provisioning;
mod proxies;
mod public_url;
mod python_device;
mod relay_bad_input;
mod relay_path;
mod reports;
mod schemathesis;
mod sim;
mod sqlite_file;
mod taken_over;
mod transport;
mod used;
