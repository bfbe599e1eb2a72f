//! `hexa sim`: simulated devices that speak the real protocol over real sockets.
//!
//! Called by the command line; calls a running server over HTTP and WebSocket, never a module of the server.
//! Invariants: a device's behaviour is a function of seed, index and what the server sends; every wait ends on stop.
//! Start at [`fleet`] for the run as a whole, at [`model`] for what one device does.
//!
//! What replays with the same `--seed`: for each device the fate of its n-th command (ack lost, doubled, how late),
//! the n-th press of a button, and the n-th jitter of its reconnects. What does not: uids and tokens, which the server
//! makes, and the moment at which anything happens across sockets.

mod args;
mod credential_store;
mod enroll;
mod fleet;
mod link;
mod model;
mod rng;
mod screen;
mod stats;

pub(crate) use args::SimArgs;

/// Runs the fleet until a signal, `--duration`, or the end of its last device. Returns the exit code: 0 it ran, 1 no
/// device could ever connect, 2 wrong arguments.
///
/// # Errors
/// What keeps the run from starting at all: no randomness, no HTTP client, an unreadable state file.
pub(crate) async fn run(args: SimArgs) -> anyhow::Result<i32> {
    match args.plan() {
        Ok(plan) => fleet::run(plan).await,
        Err(wrong) => {
            screen::error(&wrong.to_string());
            Ok(2)
        }
    }
}
