//! The open commands of one device in production: those of the machine, each with a one-shot channel beside it.

use std::time::Duration;

use hexa_machine::{Commands, NewCommand, Pending};
use hexa_model::audit::RelaySets;
use hexa_model::{Outcome, RejectReason};
use hexa_store::{Committed, StoreError};
use tokio::sync::oneshot;

use hexa_platform::error::Error;

/// The commands of one device.
pub type DeviceCommands = Commands<Waiter>;
/// Completes the path that waits for the command's end.
pub type Waiter = oneshot::Sender<Completion>;

/// How the waiting path learns of its end.
#[derive(Debug)]
pub enum Completion {
    /// The device answered, and the transaction with state and audit ended like this.
    Answered {
        /// What the device's answer amounts to.
        outcome: Outcome,
        /// For a refusal: the protocol's reason and the device's words.
        reason: Option<(RejectReason, Option<String>)>,
        /// The states that were written.
        sets: RelaySets,
        /// The number of that write.
        number: u64,
        /// From acceptance to the answer, as its audit row has it.
        took: Duration,
        /// What the transaction stored, or why it failed.
        commit: Result<Committed, StoreError>,
    },
    /// It never reached the device, or may no longer be answered.
    Failed(Error),
}

/// Accepts a command behind the others; `None` when the device has as many as it may have.
pub fn submit(commands: &mut DeviceCommands, command: NewCommand) -> Option<oneshot::Receiver<Completion>> {
    let (tx, rx) = oneshot::channel();
    commands.accept(command, tx).ok().map(|()| rx)
}

/// Ends it: the path goes on.
pub fn complete(pending: Pending<Waiter>, completion: Completion) {
    // The path waits in a task of its own until it has an end; it is gone only when the process stops.
    let _ = pending.waiter.send(completion);
}
