//! The other half of the path: what a device says of its commands, on its way to the disk and to everybody who watches.

use std::sync::Arc;
use std::time::Duration;

use hexa_machine::{AckTaken, Change, Machine, Write, WriteCause};
use hexa_model::audit::{AuditEntry, RelaySets};
use hexa_model::driver::{Ack, AckOutcome};
use hexa_model::event::Event;
use hexa_model::{Action, Actor, CommandId, CommandRequest, Outcome, Source};
use hexa_platform::bus::Bus;
use hexa_store::{Committed, Effect, HotWrite, NotWritten, StoreError, Writer};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::oneshot;

use crate::Devices;
use crate::command::pending::{Completion, Waiter};
use crate::handle::{DeviceHandle, LastAction};
use hexa_platform::audit::waiting::UnwrittenStates;

/// How a write ended.
pub(crate) type CommitResult = std::result::Result<Committed, StoreError>;

/// The device's answer to a command: hands state and audit row to the writer in the order in which the device spoke,
/// and lets the commit wake the waiting path. A late one is given back for the caller to wait for.
pub(crate) fn acknowledge(
    services: &Devices,
    live: &Arc<DeviceHandle>,
    ack: &Ack,
) -> (AckTaken, Option<UnawaitedWrite>) {
    hexa_model::crash_point!("cmd.after_ack_read");
    let mut late = None;
    let taken = live.acknowledge(ack, |write| late = write_answer(services, live, write, ack));
    match taken {
        AckTaken::Late => services.metrics.late_acks.inc(),
        AckTaken::Duplicate => services.metrics.duplicate_acks.inc(),
        AckTaken::Open | AckTaken::Reported | AckTaken::Unknown => {}
    }
    (taken, late)
}

/// Writes what the machine made of an answer. For an open command, the commit wakes its path; any other one is given
/// back for the caller to wait for.
pub(crate) fn write_answer(
    services: &Devices,
    live: &Arc<DeviceHandle>,
    write: Write<Waiter>,
    ack: &Ack,
) -> Option<UnawaitedWrite> {
    let by = write.by();
    let Write { cause, outcome, sets, number } = write;
    let took = |accepted| services.clock.monotonic().saturating_sub(accepted);
    match cause {
        WriteCause::Answer(pending) => {
            let command = &pending.command;
            let asked = Asked { id: command.id, by: (command.source, command.actor), action: &command.action };
            let took = took(command.accepted);
            let mut audit = primary_row(services, live, asked, outcome, took);
            let reason = match &ack.outcome {
                AckOutcome::Rejected { reason, detail } => Some((*reason, detail.clone())),
                AckOutcome::Executed | AckOutcome::Noop => None,
            };
            if let Some((reason, detail)) = &reason {
                audit = audit.details(&json!({ "reason": reason.as_str(), "detail": detail }));
            }
            let (kept, waiter) = (sets.clone(), pending.waiter);
            persist(services, live, (sets, number, audit), by, move |commit| {
                // Only the waiter goes along; the path waits in a task of its own until it has an end.
                let _ = waiter.send(Completion::Answered { outcome, reason, sets: kept, number, took, commit });
            });
            None
        }
        // The state and one follow-up row (I8); no success is counted, the caller had its 504.
        WriteCause::Late(command) => {
            let asked = Asked { id: command.id, by: (Source::Device, command.actor), action: &command.action };
            let mut audit = primary_row(services, live, asked, Outcome::LateAck, took(command.accepted));
            audit.follow_up = true;
            let audit = audit.details(&json!({ "answer": outcome.as_str() }));
            Some(UnawaitedWrite::begin(services, live, (sets, number, audit), by))
        }
        // The device's own word on its relays, as a report is.
        WriteCause::Correction => {
            let entry = AuditEntry::event(services.clock.now(), Actor::Device, Source::Device, "state_report");
            let audit = entry.device(live.key).details(&json!({ "acknowledgement_of": ack.token }));
            Some(UnawaitedWrite::begin(services, live, (sets, number, audit), by))
        }
        WriteCause::Report(_) => None,
    }
}

/// What a device says that no path of a command waits for, on its way to the disk.
pub(crate) struct UnawaitedWrite {
    sets: RelaySets,
    number: u64,
    commit: oneshot::Receiver<CommitResult>,
}

impl UnawaitedWrite {
    /// Hands it to the writer.
    pub(crate) fn begin(
        services: &Devices,
        live: &Arc<DeviceHandle>,
        (sets, number, audit): (RelaySets, u64, AuditEntry),
        by: (Source, Option<CommandId>),
    ) -> Self {
        let (tx, commit) = oneshot::channel();
        persist(services, live, (sets.clone(), number, audit), by, |commit| drop(tx.send(commit)));
        Self { sets, number, commit }
    }

    /// Tells the watchers once it is there, or could not be; gives how the write ended.
    pub(crate) async fn stored(self, services: &Devices, live: &DeviceHandle) -> CommitResult {
        let commit = self.commit.await.unwrap_or_else(|_| Err(StoreError::closed()));
        publish(&services.bus, live, (&self.sets, self.number), commit.is_ok());
        commit
    }

    /// Whether it changes a relay.
    pub(crate) fn has_states(&self) -> bool {
        !self.sets.is_empty()
    }
}

/// Steps 5 to 7, after the commit: cache and bus under one lock, so that nobody hears versions go down.
pub(crate) fn publish(bus: &Bus, live: &DeviceHandle, write: (&RelaySets, u64), committed: bool) {
    live.publish_committed(write, committed, |Change { source, command, relays, at }| {
        live.held.last.lock().action = Some(LastAction { source, command, relays: relays.clone(), at });
        bus.publish(&Event::RelayChanged { device: live.event_device(), relays, source, command, at });
    });
}

/// Steps 4 and 8: hands states and audit row to the writer as one transaction. Called by the machine while the
/// device's states are locked, so that writes reach the disk in the order of their projection; `then` runs after the
/// commit. The row of a command that is not stored is kept and written later.
pub(crate) fn persist(
    services: &Devices,
    live: &Arc<DeviceHandle>,
    (sets, number, audit): (RelaySets, u64, AuditEntry),
    (source, command): (Source, Option<CommandId>),
    then: impl FnOnce(CommitResult) + Send + 'static,
) {
    let (device, bus) = (Arc::clone(live), Arc::clone(&services.bus));
    let waiting = Arc::clone(&services.audit.waiting);
    let complete = move |end: std::result::Result<Committed, NotWritten>| {
        hexa_model::crash_point!("cmd.after_commit", if command.is_some() && end.is_ok());
        record(&device, (source, command), &end);
        hexa_model::crash_point!("cmd.after_cache", if command.is_some() && end.is_ok());
        let commit = match end {
            Ok(done) => {
                waiting.committed();
                Ok(done)
            }
            Err(NotWritten { error, write }) => {
                let sets: RelaySets = write.relays().collect();
                if let Some(entry) = write.audit.filter(|_| command.is_some()) {
                    // Before whoever waits hears of it: from now on the command is found here.
                    let states =
                        UnwrittenRelays { live: device, bus, sets, last: Mutex::new((RelaySets::new(), number)) };
                    waiting.add(entry, Some(Arc::new(states)), &error);
                }
                Err(error)
            }
        };
        then(commit);
    };
    let write = HotWrite::row(live.key, audit).with(Effect::Relays(sets));
    services.store.writer().submit(write, Box::new(complete));
}

/// Notes a committed change with its device. Only the writer's own thread brings a success, so whoever gave the write, and
/// held the device's states then, does not hold them any more.
fn record(
    live: &DeviceHandle,
    (source, command): (Source, Option<CommandId>),
    end: &std::result::Result<Committed, NotWritten>,
) {
    if let Ok(done) = end
        && !done.relays.is_empty()
    {
        let change = Change { source, command, relays: done.relays.clone(), at: done.at };
        live.held.states.lock().record_commit(change);
    }
}

/// The relay states of a row that the database did not take.
struct UnwrittenRelays {
    live: Arc<DeviceHandle>,
    bus: Arc<Bus>,
    /// All that belonged to the row.
    sets: RelaySets,
    /// Those that were given to the writer last, and the number of that write.
    last: Mutex<(RelaySets, u64)>,
}

/// Goes into the log when the row is lost: the states, and nothing else of the device.
impl std::fmt::Debug for UnwrittenRelays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sets.fmt(f)
    }
}

impl UnwrittenStates for UnwrittenRelays {
    fn submit(&self, writer: &Writer, row: AuditEntry) -> (bool, oneshot::Receiver<CommitResult>) {
        let (tx, end) = oneshot::channel();
        let mut last = self.last.lock();
        // A deleted device has no states any more.
        let sets = if self.live.active() { self.sets.clone() } else { RelaySets::new() };
        let number = last.1;
        self.live.retry((&sets, number), |sets, number| {
            *last = (sets.clone(), number);
            let (by, device) = ((row.source, row.command), Arc::clone(&self.live));
            let complete = move |end: std::result::Result<Committed, NotWritten>| {
                record(&device, by, &end);
                drop(tx.send(end.map_err(|not| not.error)));
            };
            let write = HotWrite::row(self.live.key, row).with(Effect::Relays(sets));
            writer.submit(write, Box::new(complete));
        });
        (!last.0.is_empty(), end)
    }

    fn ended(&self, committed: bool) {
        let last = self.last.lock().clone();
        publish(&self.bus, &self.live, (&last.0, last.1), committed);
    }
}

/// What the audit says of a command whatever its end is.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) id: CommandId,
    pub(crate) by: (Source, Actor),
    pub(crate) action: &'a Action,
}

impl<'a> Asked<'a> {
    pub(crate) fn of(request: &'a CommandRequest) -> Self {
        Self { id: request.id, by: (request.source, request.actor), action: &request.action }
    }
}

/// The row of a command's end.
pub(crate) fn primary_row(
    services: &Devices,
    live: &DeviceHandle,
    Asked { id, by: (source, actor), action }: Asked<'_>,
    outcome: Outcome,
    took: Duration,
) -> AuditEntry {
    AuditEntry {
        device: Some(live.key),
        command: Some(id),
        outcome,
        latency_ms: Some(took.as_millis().min(u128::from(u32::MAX)) as u32),
        ..AuditEntry::of_action(services.clock.now(), actor, source, action)
    }
}
