//! The open commands of one device in production: [`Commands`] whose waiter is a one-shot channel.

use std::time::Duration;

use hexa_model::Outcome;
use hexa_model::audit::RelaySets;
use hexa_store::{Committed, StoreError};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::relay::machine::Commands;
pub use crate::relay::machine::{Authority, MAX_OPEN, NewCommand, QueuedCommand, TimedOut, Token};

/// The commands of one device.
pub type Pending = Commands<Waiter>;
/// A command that has been accepted and has not ended.
pub type OpenCommand = crate::relay::machine::OpenCommand<Waiter>;
/// Completes the path that waits for the command's end.
pub type Waiter = oneshot::Sender<Ended>;

/// How the waiting path learns of its end.
#[derive(Debug)]
pub enum Ended {
    /// The device answered, and the transaction with state and audit ended like this.
    Answered {
        /// What the device's answer amounts to.
        outcome: Outcome,
        /// For a refusal: the protocol's reason and the device's words.
        reason: Option<(hexa_model::RejectReason, Option<String>)>,
        /// The states that were written.
        sets: RelaySets,
        /// The number of that write.
        number: u64,
        /// From acceptance to the answer, as its audit row has it.
        took: Duration,
        /// The commit.
        commit: Result<Committed, StoreError>,
    },
    /// It never reached the device, or may no longer be answered.
    Failed(Error),
}

impl Pending {
    /// Accepts a command behind the others; `None` when the device has [`MAX_OPEN`] already.
    pub fn submit(&mut self, command: NewCommand) -> Option<oneshot::Receiver<Ended>> {
        let (tx, rx) = oneshot::channel();
        self.accept(command, tx).ok().map(|()| rx)
    }
}

impl OpenCommand {
    /// Ends it: the path goes on.
    pub fn end(self, ended: Ended) {
        // The path waits in a task of its own until it has an end; it is gone only when the process stops.
        let _ = self.waiter.send(ended);
    }
}

#[cfg(test)]
mod tests;
