//! What the caller of a command is told at its end, in the only place where it is worded, and the one sample that it leaves
//! in the metrics.

use std::time::Duration;

use hexa_model::audit::RelayStates;
use hexa_model::{
    Action, CommandId, CommandResult, ErrorCode, Outcome, RejectReason, RelayAction, RelayState, ResultData, Source,
};
use hexa_store::StoreError;
use serde_json::{Value, json};
use smallvec::SmallVec;

use crate::Devices;
use crate::command::pending::Completion;
use crate::handle::DeviceHandle;
use hexa_platform::error::{Error, Result, Sent};

/// What may have happened where nobody knows it, by the kind of command.
fn acted(relays: bool) -> &'static str {
    if relays { "the relay moved" } else { "the device acted on it" }
}

/// No session is connected.
pub(crate) fn offline() -> Error {
    Error::new(ErrorCode::DeviceOffline, "the device is not connected; nothing was sent")
}

/// The connection went while the command was queued.
pub(crate) fn disconnected() -> Error {
    Error::new(ErrorCode::DeviceOffline, "the device disconnected before the command was sent")
}

/// The device has as many open commands as it may have.
pub(crate) fn too_many_open() -> Error {
    Error::new(ErrorCode::DeviceBusy, "the device has 32 open commands; wait for one to end").retry_after(1)
}

/// A deadline that passed: what that says depends on whether the frame had been written.
pub(crate) fn timed_out(relays: bool, sent: bool) -> Error {
    if sent {
        let what = format!("no acknowledgement in time: whether {} is unknown until the device reports", acted(relays));
        return Error { sent: Sent::Yes, ..Error::new(ErrorCode::DeviceTimeout, what) };
    }
    let what = if relays {
        "the device's connection did not take the command in time: it was not sent, the relay did not move"
    } else {
        "the device's connection did not take the command in time: it was not sent"
    };
    Error::new(ErrorCode::DeviceTimeout, what).detail("sent", false).not_sent()
}

/// There is no end of it: the process that had it stopped while it was open. Without a row nobody knows what it asked for;
/// the only commands that are asked for by a key so far are those of relays.
pub(crate) fn cut_off() -> Error {
    let what =
        "the server stopped while the command was open: whether the relay moved is unknown until the device reports";
    Error::new(ErrorCode::DeviceTimeout, what)
}

/// The device was released, or deleted, while the command was open.
pub(crate) fn released(sent: bool) -> Error {
    let error = if sent {
        let what = "the device was released or deleted while the command was open; whether it acted is unknown";
        Error { sent: Sent::Yes, ..Error::new(ErrorCode::NotFound, what) }
    } else {
        Error::new(ErrorCode::NotFound, "the device was released or deleted before the command was sent").not_sent()
    };
    error.detail("sent", sent)
}

/// The device acknowledged something else.
pub(crate) fn mismatch(relays: &[RelayState]) -> Error {
    let what = "the device acknowledged another state than asked for; the reported one is stored";
    Error::new(ErrorCode::DeviceStateMismatch, what).detail("relays", relays_json(relays))
}

/// The device refused: the protocol's reason, and its own words.
pub(crate) fn rejected(reason: &str, detail: Option<&str>) -> Error {
    let words = detail.map_or_else(String::new, |d| format!(" ({d})"));
    Error::new(ErrorCode::DeviceRejected, format!("the device refused: {reason}{words}"))
        .details(json!({ "reason": reason, "detail": detail }))
}

/// The device answered, and that is not on the disk.
pub(crate) fn not_stored(outcome: Outcome, source: StoreError) -> Error {
    let error = match source {
        // Its states have no device any more.
        StoreError::Conflict(_) => Error {
            message: "the device answered the command, and was deleted before that could be stored".into(),
            ..Error::no_device()
        },
        source => Error {
            message: "the device answered the command, but that could not be stored yet. Do not send it again: it is \
                stored as soon as the database takes it; ask for the command, or repeat the request with its key"
                .into(),
            ..Error::from(source)
        },
    };
    Error { sent: Sent::Yes, ..error }.detail("sent", true).detail("outcome", outcome.as_str())
}

/// The database fell silent while it stored the command's key.
pub(crate) fn key_unsure(error: Error) -> Error {
    let what = "the database fell silent while it stored this command's key: the command was not sent; ask again with the \
                same key to hear what became of it";
    Error { message: what.into(), ..error }
}

/// Any other end, as its audit row has it.
pub(crate) fn other(details: &Value) -> Error {
    let reason = details["reason"].as_str().unwrap_or_default();
    let code = ErrorCode::parse(reason).unwrap_or(ErrorCode::InternalError);
    let error = Error::new(code, code.meaning());
    match details["sent"].as_bool() {
        Some(sent) => error.detail("sent", sent),
        None => error,
    }
}

/// Ends a command exactly once with one metric sample, also when its task is dropped half way.
pub(super) struct OutcomeGuard<'a> {
    services: &'a Devices,
    source: Source,
    pub(super) accepted: Duration,
    open: bool,
}

impl<'a> OutcomeGuard<'a> {
    pub(super) fn new(services: &'a Devices, source: Source) -> Self {
        Self { services, source, accepted: services.clock.monotonic(), open: true }
    }
    pub(super) fn took(&self) -> Duration {
        self.services.clock.monotonic().saturating_sub(self.accepted)
    }
    fn count(&mut self, outcome: Outcome, reason: Option<&'static str>) {
        if std::mem::take(&mut self.open) {
            self.services.metrics.command_ended(self.source, outcome, reason, self.took());
        }
    }
    /// It is no command of its own: nothing is counted.
    pub(super) fn disarm(&mut self) {
        self.open = false;
    }
    pub(super) fn refused(&mut self, error: &Error) {
        let outcome = if error.code == ErrorCode::DeviceOffline { Outcome::Offline } else { Outcome::Error };
        self.count(outcome, Some(error.code.name()));
    }

    pub(super) fn answer(
        &mut self,
        id: CommandId,
        live: &DeviceHandle,
        action: &Action,
        completion: Completion,
    ) -> Result<CommandResult> {
        let (outcome, reason, took, commit) = match completion {
            Completion::Answered { outcome, reason, took, commit, .. } => (outcome, reason, took, commit),
            Completion::Failed(error) => {
                let timeout = error.code == ErrorCode::DeviceTimeout;
                self.count(if timeout { Outcome::Timeout } else { Outcome::Error }, Some(error.code.name()));
                return Err(error.of_command(id));
            }
        };
        // Also of one that is not stored yet: its row is kept and will say so.
        self.count(outcome, reason.as_ref().map(|(r, _)| r.as_str()));
        let committed = commit.map_err(|source| not_stored(outcome, source).of_command(id))?;
        let relays = action.relay().map(|action| concerned(live, action, &committed.relays));
        match outcome {
            Outcome::Executed | Outcome::Noop => {
                // What a later reader finds in the audit row is the same, but for the latency.
                let same = relays.as_ref().is_none_or(|r| outcome == Outcome::Executed && **r == *committed.relays);
                let row_latency = same.then(|| Duration::from_millis(took.as_millis() as u64));
                let data = relays.map_or(ResultData::None, ResultData::Relays);
                Ok(CommandResult { command: id, outcome, data, latency: self.took(), row_latency })
            }
            Outcome::Mismatch => Err(mismatch(&relays.unwrap_or_default()).of_command(id)),
            _ => {
                let (reason, detail) = reason.unwrap_or((RejectReason::Other, None));
                Err(rejected(reason.as_str(), detail.as_deref()).of_command(id))
            }
        }
    }
}

impl Drop for OutcomeGuard<'_> {
    fn drop(&mut self) {
        self.count(Outcome::Error, Some("cancelled"));
    }
}

/// The relays that a command was about, with their latest versions: from its own commit, else (noop) from the cache.
fn concerned(live: &DeviceHandle, action: RelayAction, committed: &RelayStates) -> RelayStates {
    let cache = live.held.states.lock();
    let indexes: SmallVec<[u16; 4]> =
        action.index().map_or_else(|| (0..live.relay_count).collect(), |i| smallvec::smallvec![i]);
    indexes
        .into_iter()
        .filter_map(|i| committed.iter().find(|s| s.index == i).copied().or_else(|| cache.get(i)))
        .collect()
}

/// Relay states as JSON, for details of errors: `[{index, state, version}]`.
pub fn relays_json(relays: &[RelayState]) -> Value {
    relays.iter().map(|r| json!({ "index": r.index, "state": r.on, "version": r.version })).collect()
}
