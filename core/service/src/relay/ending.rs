//! What the caller of a command is told at its end, and the one sample that it leaves in the metrics.

use std::time::Duration;

use hexa_model::audit::RelayStates;
use hexa_model::{CommandId, ErrorCode, Outcome, RejectReason, RelayAction, RelayState, Source};
use hexa_store::StoreError;
use serde_json::json;
use smallvec::SmallVec;

use crate::Services;
use crate::device::live::DeviceHandle;
use crate::error::{Error, Result, Sent};
use crate::relay::path::{Command, Done};
use crate::relay::pending::Ended;

/// A deadline that passed: what that says depends on whether the frame had been written.
pub(super) fn timed_out(sent: bool) -> Error {
    if sent {
        let what = "no acknowledgement in time: whether the relay moved is unknown until the device reports";
        return Error { sent: Sent::Yes, ..Error::new(ErrorCode::DeviceTimeout, what) };
    }
    let what = "the device's connection did not take the command in time: it was not sent, the relay did not move";
    Error::new(ErrorCode::DeviceTimeout, what).detail("sent", false).not_sent()
}

/// Ends a command exactly once with one metric sample (invariant 5), also when its task is dropped half way.
pub(super) struct Ending<'a> {
    services: &'a Services,
    source: Source,
    pub(super) accepted: Duration,
    open: bool,
}

impl<'a> Ending<'a> {
    pub(super) fn new(services: &'a Services, source: Source) -> Self {
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
    /// It is no command of its own.
    pub(super) fn forget(&mut self) {
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
        command: &Command,
        ended: Ended,
    ) -> Result<Done> {
        let with_id = |error: Error| error.detail("command_id", id.to_string());
        let (outcome, reason, took, commit) = match ended {
            Ended::Answered { outcome, reason, took, commit, .. } => (outcome, reason, took, commit),
            Ended::Failed(error) => {
                let timeout = error.code == ErrorCode::DeviceTimeout;
                self.count(if timeout { Outcome::Timeout } else { Outcome::Error }, Some(error.code.name()));
                return Err(with_id(error));
            }
        };
        // Also of one that is not stored yet: its row is kept and will say so (I14).
        self.count(outcome, reason.as_ref().map(|(r, _)| r.as_str()));
        let committed = commit.map_err(|source| with_id(not_stored(outcome, source)))?;
        let relays = shown(live, command.action, &committed.relays);
        match outcome {
            Outcome::Executed | Outcome::Noop => {
                let same = outcome == Outcome::Executed && *relays == *committed.relays;
                let row_latency = same.then(|| Duration::from_millis(took.as_millis() as u64));
                Ok(Done { command: id, outcome, relays, latency: self.took(), row_latency })
            }
            Outcome::Mismatch => {
                let error = Error::new(
                    ErrorCode::DeviceStateMismatch,
                    "the device acknowledged another state than asked for; the reported one is stored",
                );
                Err(with_id(error).detail("relays", relays_json(&relays)))
            }
            _ => Err(with_id(rejection(reason))),
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.count(Outcome::Error, Some("cancelled"));
    }
}

/// The device answered, and that is not on the disk.
pub(super) fn not_stored(outcome: Outcome, source: StoreError) -> Error {
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

fn rejection(reason: Option<(RejectReason, Option<String>)>) -> Error {
    let (reason, detail) = reason.unwrap_or((RejectReason::Other, None));
    let words = detail.as_deref().map_or_else(String::new, |d| format!(" ({d})"));
    Error::new(ErrorCode::DeviceRejected, format!("the device refused: {}{words}", reason.as_str()))
        .details(json!({ "reason": reason.as_str(), "detail": detail }))
}

/// The relays that a command was about, with their latest versions: from its own commit, else (noop) from the cache.
fn shown(live: &DeviceHandle, action: RelayAction, committed: &RelayStates) -> RelayStates {
    let cache = live.cache.lock();
    let indexes: SmallVec<[u16; 4]> =
        action.index().map_or_else(|| (0..live.relay_count).collect(), |i| smallvec::smallvec![i]);
    indexes
        .into_iter()
        .filter_map(|i| committed.iter().find(|s| s.index == i).copied().or_else(|| cache.get(i)))
        .collect()
}

/// `[{index, state, version}]`.
pub fn relays_json(relays: &[RelayState]) -> serde_json::Value {
    relays.iter().map(|r| json!({ "index": r.index, "state": r.on, "version": r.version })).collect()
}
