//! The one relay path (platform.md section 3): REST, the client socket, and later schedules, automations and bridges
//! all end in [`RelayService::execute`]. [`acknowledge`] is its other half, entered by the device's answer.

use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::random_bytes;
use hexa_model::audit::{AuditEntry, RelaySets, RelayStates};
use hexa_model::driver::{Ack, AckOutcome};
use hexa_model::{Actor, CommandId, DeviceUid, ErrorCode, Grant, Outcome, RelayAction, Source};
use hexa_store::{Committed, HotWrite, StoreError};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Services;
use crate::audit::waiting::States;
use crate::authorize::Permit;
use crate::detached::Detached;
use crate::device::grant;
use crate::device::live::{DeviceHandle, LastAction};
use crate::error::{Error, Result, Sent};
use crate::idempotency::KeyedRequest;
use crate::relay::cache::Change;
use crate::relay::ending::{Ending, timed_out};
use crate::relay::machine::{AckTaken, Cause, Machine, Write};
use crate::relay::open::Entered;
use crate::relay::pending::{Authority, Ended, NewCommand, Waiter};
use hexa_model::event::Event;

/// How a write ended.
pub(crate) type CommitResult = std::result::Result<Committed, StoreError>;

/// What somebody wants of a device's relays.
#[derive(Clone, Debug)]
pub struct Command {
    /// Through which door.
    pub source: Source,
    /// In whose name.
    pub actor: Actor,
    /// Which device.
    pub device: DeviceUid,
    /// What.
    pub action: RelayAction,
    /// The keyed request that it comes from, if it is one.
    pub key: Option<Arc<KeyedRequest>>,
}

/// A command that succeeded; its state and audit row are on disk.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its id.
    pub command: CommandId,
    /// `executed` or `noop`.
    pub outcome: Outcome,
    /// The relays concerned, with their versions.
    pub relays: RelayStates,
    /// From acceptance to the commit.
    pub latency: Duration,
    /// That of its audit row, when everything else of an answer made from that row would be the same.
    pub row_latency: Option<Duration>,
}

/// Starts commands. A thin handle: the state is in [`Services`].
#[derive(Clone, Debug)]
pub struct RelayService {
    services: Arc<Services>,
}

impl RelayService {
    /// For the doors.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    /// Runs a command to its end. A caller that hangs up cancels nothing (I12): the rest then runs without it.
    ///
    /// # Errors
    /// Every way of architecture.md 3A other than success; `details.command_id` names the command once it has an id.
    pub async fn execute(&self, command: Command) -> Result<Done> {
        // Nobody waits for its place in the order.
        let (accepted, _) = oneshot::channel();
        Detached::new(&self.services.tasks, run(Arc::clone(&self.services), command, accepted)).await
    }

    /// Starts a command. The first value ends when the command has its place in the device's order (or was refused):
    /// a door that waits for it before it starts the next one keeps the order of its frames (I6).
    pub fn begin(&self, command: Command) -> (oneshot::Receiver<()>, JoinHandle<Result<Done>>) {
        let (accepted, in_order) = oneshot::channel();
        let services = Arc::clone(&self.services);
        (in_order, self.services.tasks.spawn(run(services, command, accepted)))
    }
}

/// The nine steps, in their observable order.
async fn run(services: Arc<Services>, command: Command, accepted: oneshot::Sender<()>) -> Result<Done> {
    let mut ending = Ending::new(&services, command.source);
    if services.stopping() {
        let error = Error::new(ErrorCode::ShuttingDown, "the server is stopping; nothing was sent").retry_after(5);
        ending.refused(&error);
        return Err(error.not_sent());
    }
    // 1. Validate ownership and device status.
    let refused = |error: Error, ending: &mut Ending<'_>| {
        ending.refused(&error);
        // Whatever fails before the device's task can see the command: no frame was, or will be, written.
        error.not_sent()
    };
    let allowed = validate(&services, &command).await.map_err(|e| refused(e, &mut ending))?;
    let live = Arc::clone(&allowed.live);
    // 2. Send: the device's task encodes and writes it, with its command id. It can be found by that until its end.
    let sent = send(&services, allowed, &command, &ending).await;
    let (entered, reply) = sent.map_err(|e| {
        if command.key.as_ref().is_some_and(|key| !key.began()) {
            // Its key was used, or could not be taken: it is the same command once more, or none.
            ending.forget();
        }
        refused(e, &mut ending)
    })?;
    let id = entered.id();
    drop(accepted);
    // 3. Wait for the ack or the deadline. 4 + 8. The ack's transaction holds state and audit row; `wait` returns after
    // its commit, so nothing below can run for a state that is not on disk.
    let ended = wait(&services, &live, id, reply).await;
    // 5. Cache, 6. clients, 7. bridges: every committed change of the device, in the order of the commits.
    match &ended {
        Ended::Answered { sets, number, commit, .. } => publish(&services, &live, (sets, *number), commit.is_ok()),
        // A timeout has its row already; every other end without an answer gets it here (I2).
        Ended::Failed(error) if error.code != ErrorCode::DeviceTimeout => {
            let asked = (command.source, command.actor, command.action);
            let row = primary_row(&services, &live, id, asked, Outcome::Error, ending.took());
            let sent = error.sent != Sent::No;
            services.audit.write(live.key, row.details(&json!({ "reason": error.code.name(), "sent": sent }))).await;
        }
        Ended::Failed(_) => {}
    }
    // 9. Metrics, and the answer.
    ending.answer(id, &live, &command, ended)
}

/// A command that may be given.
struct Allowed {
    live: Arc<DeviceHandle>,
    /// Read before the check: whoever owns the device later, or was refused meanwhile, does not send it (I9).
    authority: Authority,
    /// A guest's, of which this command takes a use.
    counted: Option<Box<Grant>>,
}

async fn validate(services: &Services, command: &Command) -> Result<Allowed> {
    let live = services.registry.find(&command.device).await?.filter(|l| l.active()).ok_or_else(Error::no_device)?;
    let mut authority = live.authority();
    let permit = services.may_command(command.actor, &live, command.action).inspect_err(|error| {
        // Audited; one who may not even see it is answered like a device that is not there (AZ-2).
        let reason = if error.code == ErrorCode::Forbidden { "not_shared" } else { "not_owner" };
        let entry = AuditEntry {
            outcome: Outcome::Rejected,
            relay: command.action.index(),
            state: Some(command.action.on()),
            ..AuditEntry::event(services.clock.now(), command.actor, command.source, command.action.name())
        };
        services.audit.note(live.key, entry.device(live.key).details(&json!({ "reason": reason })));
    })?;
    let counted = match permit {
        Permit::Own => {
            authority.revocations = None;
            None
        }
        Permit::Guest(grant) => grant.counted.then(|| Box::new(grant)),
    };
    if live.relay_count == 0 {
        return Err(Error::new(ErrorCode::UnsupportedCommand, "this device has no relays"));
    }
    if let Some(index) = command.action.index()
        && index >= live.relay_count
    {
        let most = live.relay_count - 1;
        return Err(Error::validation("index", format!("this device's relays are 0 to {most}; {index} is not one")));
    }
    Ok(Allowed { live, authority, counted })
}

async fn send<'a>(
    services: &'a Services,
    Allowed { live, authority, counted }: Allowed,
    command: &Command,
    ending: &Ending<'_>,
) -> Result<(Entered<'a>, oneshot::Receiver<Ended>)> {
    let now = services.clock.now();
    let id = CommandId::at(now, random_bytes());
    let entered = services.open.enter(id, &live, command.action);
    if let Some(keyed) = &command.key {
        // Durable before the frame: whoever asks again hears of this command, and none is sent a second time (ID-5).
        if let Err(error) = keyed.claim_command(services, live.key, id).await {
            if keyed.unsure() {
                not_sent(services, &live, id, command, &error, ending).await;
                let what = "the database fell silent while it stored this command's key: the command was not sent; ask again \
                            with the same key to hear what became of it";
                return Err(Error { message: what.into(), ..error }.detail("command_id", id.to_string()));
            }
            return Err(error);
        }
    }
    let by = (command.source, command.actor);
    let expires_at = now.plus(services.config.relay.timeout);
    let new = NewCommand::new(id, command.action, by, authority, ending.accepted, expires_at);
    let placed = match &counted {
        None => Ok(enqueue(&live, new)),
        Some(grant) => Box::pin(spend_and_enqueue(services, &live, grant, new)).await,
    };
    let refused = match placed {
        Ok(Ok(Some(reply))) => return Ok((entered, reply)),
        Ok(Ok(None)) => {
            Error::new(ErrorCode::DeviceBusy, "the device has 32 open commands; wait for one to end").retry_after(1)
        }
        Err(error) => error,
        Ok(Err(Offline)) => {
            let asked = (command.source, command.actor, command.action);
            let entry = primary_row(services, &live, id, asked, Outcome::Offline, ending.took());
            services.audit.write(live.key, entry).await;
            let error = Error::new(ErrorCode::DeviceOffline, "the device is not connected; nothing was sent");
            return Err(error.detail("command_id", id.to_string()));
        }
    };
    if let Some(keyed) = &command.key
        && Box::pin(keyed.release_command(services)).await.is_err()
    {
        not_sent(services, &live, id, command, &refused, ending).await;
    }
    Err(refused)
}

/// The row of a command that was not sent, whose key may stand all the same: whoever asks again with it hears just that.
async fn not_sent(
    services: &Services,
    live: &Arc<DeviceHandle>,
    id: CommandId,
    command: &Command,
    error: &Error,
    ending: &Ending<'_>,
) {
    let asked = (command.source, command.actor, command.action);
    let row = primary_row(services, live, id, asked, Outcome::Error, ending.took());
    let details = json!({ "reason": error.code.name(), "sent": false });
    services.audit.write(live.key, row.details(&details)).await;
}

/// Takes a use of a guest's grant, durably, before the command can be sent; one that gets no place costs none.
async fn spend_and_enqueue(
    services: &Services,
    live: &Arc<DeviceHandle>,
    grant: &Grant,
    new: NewCommand,
) -> Result<Placed> {
    if !live.online() {
        return Ok(Err(Offline));
    }
    grant::spend(services, live, grant).await?;
    let placed = enqueue(live, new);
    if !matches!(placed, Ok(Some(_))) {
        grant::give_back(services, live, grant).await?;
    }
    Ok(placed)
}

/// The way back of a command that has its place; `None` when too many are open.
type Placed = std::result::Result<Option<oneshot::Receiver<Ended>>, Offline>;

/// No session is connected.
struct Offline;

/// Gives the command its place and wakes the current session's task, under the session's lock: a disconnect comes
/// before (and it is offline) or after (and it is cancelled), and a takeover finds it queued or is woken for it.
/// `None` when too many are open.
fn enqueue(live: &DeviceHandle, new: NewCommand) -> Placed {
    let current = live.session.lock();
    let session = current.as_ref().ok_or(Offline)?;
    let reply = live.pending.lock().submit(new);
    session.wake.notify_one();
    Ok(reply)
}

async fn wait(
    services: &Services,
    live: &Arc<DeviceHandle>,
    id: CommandId,
    mut reply: oneshot::Receiver<Ended>,
) -> Ended {
    let gone = |_| Ended::Failed(Error::internal("the command's waiter was dropped"));
    if let Ok(ended) = tokio::time::timeout(services.config.relay.timeout, &mut reply).await {
        return ended.unwrap_or_else(gone);
    }
    // Whoever takes it out of `pending` ends it. If it is gone, the ack came first and its commit is under way.
    let ended = live.pending.lock().time_out(id);
    let Some(command) = ended else { return reply.await.unwrap_or_else(gone) };
    let took = services.clock.monotonic().saturating_sub(command.accepted);
    let asked = (command.source, command.actor, command.action);
    let mut row = primary_row(services, live, id, asked, Outcome::Timeout, took);
    if !command.sent() {
        row = row.details(&json!({ "sent": false }));
    }
    services.audit.write(live.key, row).await;
    Ended::Failed(timed_out(command.sent()))
}

/// Steps 5 to 7, after the commit: cache and bus under one lock, so that nobody hears versions go down.
pub(crate) fn publish(services: &Services, live: &DeviceHandle, write: (&RelaySets, u64), committed: bool) {
    live.settle(write, committed, |Change { source, command, relays, at }| {
        live.more.lock().last_action = Some(LastAction { source, command, relays: relays.clone(), at });
        services.bus.publish(&Event::RelayChanged { device: live.event_device(), relays, source, command, at });
    });
}

/// Steps 4 and 8: hands states and audit row to the writer as one transaction. Called by the machine while the
/// device's states are locked, so that writes reach the disk in the order of their projection; `then` runs after the
/// commit. The row of a command that is not stored is kept and written later.
pub(crate) fn persist(
    services: &Services,
    live: &Arc<DeviceHandle>,
    (sets, number, audit): (RelaySets, u64, AuditEntry),
    (source, command): (Source, Option<CommandId>),
    then: impl FnOnce(CommitResult) + Send + 'static,
) {
    let device = Arc::clone(live);
    let waiting = Arc::clone(&services.audit.waiting);
    let again = command.is_some().then(|| (audit.clone(), sets.clone()));
    let complete = move |commit: CommitResult| {
        hexa_model::crash_point!("cmd.after_commit", if command.is_some() && commit.is_ok());
        // Only the writer's own thread brings a success, so the caller's lock is not held here then.
        if let Ok(done) = &commit
            && !done.relays.is_empty()
        {
            let change = Change { source, command, relays: done.relays.clone(), at: done.at };
            device.cache.lock().arrived(change);
        }
        hexa_model::crash_point!("cmd.after_cache", if command.is_some() && commit.is_ok());
        match (&commit, again) {
            (Ok(_), _) => waiting.committed(),
            (Err(error), Some((entry, sets))) => {
                // Before whoever waits hears of it: from now on the command is found here.
                waiting.add(entry, Some(States { live: device, sets, number }), error);
            }
            (Err(_), None) => {}
        }
        then(commit);
    };
    let write = HotWrite { relays: sets, audit: Some(audit), ..HotWrite::of(live.key) };
    services.store.writer().submit(write, Box::new(complete));
}

/// The device's answer to a command: hands state and audit row to the writer in the order in which the device spoke,
/// and lets the commit wake the waiting path. A late one is given back for the caller to wait for.
pub(crate) fn acknowledge(services: &Services, live: &Arc<DeviceHandle>, ack: &Ack) -> (AckTaken, Option<Late>) {
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
    services: &Services,
    live: &Arc<DeviceHandle>,
    write: Write<Waiter>,
    ack: &Ack,
) -> Option<Late> {
    let by = write.by();
    let Write { cause, outcome, sets, number } = write;
    match cause {
        Cause::Answer(command) => {
            let took = services.clock.monotonic().saturating_sub(command.accepted);
            let asked = (command.source, command.actor, command.action);
            let mut audit = primary_row(services, live, command.id, asked, outcome, took);
            let reason = match &ack.outcome {
                AckOutcome::Rejected { reason, detail } => Some((*reason, detail.clone())),
                AckOutcome::Executed | AckOutcome::Noop => None,
            };
            if let Some((reason, detail)) = &reason {
                audit = audit.details(&json!({ "reason": reason.as_str(), "detail": detail }));
            }
            let kept = sets.clone();
            persist(services, live, (sets, number, audit), by, move |commit| {
                // Only the waiter goes along; the path waits in a task of its own until it has an end.
                let _ = command.waiter.send(Ended::Answered { outcome, reason, sets: kept, number, took, commit });
            });
            None
        }
        // The state and one follow-up row (I8); no success is counted, the caller had its 504.
        Cause::Late(command) => {
            let took = services.clock.monotonic().saturating_sub(command.accepted);
            let asked = (Source::Device, command.actor, command.action);
            let mut audit = primary_row(services, live, command.id, asked, Outcome::LateAck, took);
            audit.follow_up = true;
            audit = audit.details(&json!({ "answer": outcome.as_str() }));
            let (tx, commit) = oneshot::channel();
            persist(services, live, (sets.clone(), number, audit), by, |commit| drop(tx.send(commit)));
            Some(Late { sets, number, commit })
        }
        // The device's own word on its relays, as a report is.
        Cause::Correction => {
            let entry = AuditEntry::event(services.clock.now(), Actor::Device, Source::Device, "state_report");
            let audit = entry.device(live.key).details(&json!({ "acknowledgement_of": ack.token }));
            let (tx, commit) = oneshot::channel();
            persist(services, live, (sets.clone(), number, audit), by, |commit| drop(tx.send(commit)));
            Some(Late { sets, number, commit })
        }
        Cause::Report(_) => None,
    }
}

/// What an acknowledgement says that nobody waits for, on its way to the disk.
pub(crate) struct Late {
    sets: RelaySets,
    number: u64,
    commit: oneshot::Receiver<CommitResult>,
}

impl Late {
    /// Tells the watchers once it is there, or could not be.
    pub(crate) async fn stored(self, services: &Services, live: &DeviceHandle) {
        let commit = self.commit.await.unwrap_or_else(|_| Err(StoreError::closed()));
        if let Err(error) = &commit {
            tracing::error!(device.uid = %live.uid, %error, "what an acknowledgement says was not stored");
        }
        publish(services, live, (&self.sets, self.number), commit.is_ok());
    }
}

fn primary_row(
    services: &Services,
    live: &DeviceHandle,
    id: CommandId,
    (source, actor, action): (Source, Actor, RelayAction),
    outcome: Outcome,
    took: Duration,
) -> AuditEntry {
    AuditEntry {
        device: Some(live.key),
        command: Some(id),
        outcome,
        relay: action.index(),
        state: Some(action.on()),
        latency_ms: Some(took.as_millis().min(u128::from(u32::MAX)) as u32),
        ..AuditEntry::event(services.clock.now(), actor, source, action.name())
    }
}
