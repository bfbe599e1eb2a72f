//! What a device's words and its callers' wishes do to its commands and relay states, free of input and output.
//!
//! No clock, no runtime, no store and no lock is in here: time comes in with the command, events come in as calls, and
//! what is to happen outside comes out as values: a [`Write`] to hand to the disk, a [`Change`] to publish, a waiter
//! to complete. Production, the property tests, the interleaving tests and the seeded simulation run this same code.
//!
//! The state has two halves, [`Commands`] and [`RelayCache`]. [`Machine`] is a trait over where they lie, because
//! production has one lock for each so that a snapshot for a client does not wait for a burst of commands. Every step says which half it takes and never holds both; [`Unlocked`] is the form without locks.
//!
//! One command: [`Commands::accept`] → [`Commands::queued`] → [`Commands::written`] → [`Machine::acknowledge`] (or
//! [`Machine::observe`], [`Commands::time_out`], [`Commands::cancel`]) → the caller's transaction →
//! [`RelayCache::record_commit`] → [`Machine::publish_committed`].

mod commands;
mod kind;
mod machine;
mod relay;
mod states;

pub use crate::commands::{
    AckOf, Authority, Commands, MAX_OPEN, MAX_RECENT, NewCommand, OpenCommand, Pending, QueuedCommand, TimedOut, Token,
};
pub use crate::machine::{AckTaken, Machine, Reconciled, Unlocked, Write, WriteCause};
pub use crate::states::{Change, RelayCache};
