//! The one path of every command: REST, the client socket, and later schedules, automations and bridges all end in
//! [`CommandService::execute`]. [`acknowledge`](super::acknowledge) is its other half, entered by the device's answer.

use std::sync::Arc;

use hexa_machine::{Authority, NewCommand};
use hexa_model::audit::AuditEntry;
use hexa_model::{
    Action, Actor, Cause, CommandId, CommandRequest, CommandResult, DeviceAbilities, DeviceUid, ErrorCode, Grant,
    KeyState, Outcome, Source,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Devices;
use crate::authorize::Permit;
use crate::command::acknowledge::{Asked, primary_row, publish};
use crate::command::answer::{self, OutcomeGuard};
use crate::command::pending::{self, Completion};
use crate::grant;
use crate::handle::DeviceHandle;
use crate::ports::Place;
use hexa_platform::detached::Detached;
use hexa_platform::error::{Error, Result, Sent};
use hexa_platform::idempotency::KeyedRequest;
use hexa_platform::open_commands::{Entered, OpenCommandView};

/// What became of a command, as whoever holds the device tells it to whoever asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommandAnswer {
    /// How it ended. An error says in `sent` what is known of its frame.
    pub result: Result<CommandResult>,
    /// What became of its key.
    pub key: KeyState,
}

/// Starts commands. A thin handle: the state is in [`Devices`].
#[derive(Clone, Debug)]
pub struct CommandService {
    services: Arc<Devices>,
}

impl CommandService {
    /// Over these services, for an entry point.
    pub fn new(services: Arc<Devices>) -> Self {
        Self { services }
    }

    /// A command of now, with a fresh id and the usual time to wait.
    pub fn request(
        &self,
        (source, actor): (Source, Actor),
        cause: Cause,
        device: DeviceUid,
        action: impl Into<Action>,
    ) -> CommandRequest {
        let id = CommandId::at(self.services.clock.now(), hexa_crypto::random_bytes());
        let time_left = self.services.config.command.timeout;
        CommandRequest { id, source, actor, cause, device, action: action.into(), key: None, time_left }
    }

    /// Runs a command to its end. A caller that hangs up cancels nothing: the rest then runs without it, and keeps others
    /// with the same key out until then.
    ///
    /// # Errors
    /// Every end other than success; `command` names the command once it has its place.
    pub async fn execute(&self, request: CommandRequest, keyed: Option<Arc<KeyedRequest>>) -> Result<CommandResult> {
        // Nobody waits for its place in the order.
        let (accepted, _) = oneshot::channel();
        let services = Arc::clone(&self.services);
        Detached::new(&self.services.tasks, async move {
            let request = CommandRequest { key: keyed.as_ref().map(|keyed| keyed.key().clone()), ..request };
            let answer = ask(services, request, accepted).await;
            if let Some(keyed) = keyed {
                keyed.settled(answer.key);
            }
            answer.result
        })
        .await
    }

    /// Starts a command without a key. The first value ends when the command has its place in the device's order (or was
    /// refused): an entry point that waits for it before it starts the next one keeps the order of its frames (I6).
    pub fn begin(&self, request: CommandRequest) -> (oneshot::Receiver<()>, JoinHandle<Result<CommandResult>>) {
        let (accepted, in_order) = oneshot::channel();
        let services = Arc::clone(&self.services);
        let running = self.services.tasks.spawn(async move { ask(services, request, accepted).await.result });
        (in_order, running)
    }
}

/// Runs it where the device is held.
async fn ask(services: Arc<Devices>, request: CommandRequest, accepted: oneshot::Sender<()>) -> CommandAnswer {
    match services.cluster.place(&request.device) {
        Place::Here => run(&services, request, accepted).await,
    }
}

/// The nine steps, in their observable order.
async fn run(services: &Arc<Devices>, request: CommandRequest, accepted: oneshot::Sender<()>) -> CommandAnswer {
    let mut guard = OutcomeGuard::new(services, request.source);
    // 1. Validate ownership and device status.
    let allowed = match validate(services, &request).await {
        Ok(allowed) => allowed,
        // Whatever fails before the device's task can see the command: no frame was, or will be, written.
        Err(error) => {
            guard.refused(&error);
            return CommandAnswer { result: Err(error.not_sent()), key: KeyState::Free };
        }
    };
    let live = Arc::clone(&allowed.live);
    // 2. Send: the device's task encodes and writes it, with its command id. It can be found by that until its end.
    let (_entered, reply) = match send(services, allowed, &request, &guard).await {
        Ok(sent) => sent,
        Err(NotSent { error, key, counts }) => {
            if !counts {
                guard.disarm();
            }
            guard.refused(&error);
            return CommandAnswer { result: Err(error.not_sent()), key };
        }
    };
    drop(accepted);
    // 3. Wait for the ack or the deadline. 4 + 8. The ack's transaction holds state and audit row; `wait` returns after
    // its commit, so nothing below can run for a state that is not on disk.
    let completion = wait(services, &live, &request, reply).await;
    // 5. Cache, 6. clients, 7. bridges: every committed change of the device, in the order of the commits.
    match &completion {
        Completion::Answered { sets, number, commit, .. } => {
            publish(&services.bus, &live, (sets, *number), commit.is_ok());
        }
        // A timeout has its row already; every other end without an answer gets it here (I2).
        Completion::Failed(error) if error.code != ErrorCode::DeviceTimeout => {
            let row = primary_row(services, &live, Asked::of(&request), Outcome::Error, guard.took());
            let sent = error.sent != Sent::No;
            services.audit.write(live.key, row.details(&json!({ "reason": error.code.name(), "sent": sent }))).await;
        }
        Completion::Failed(_) => {}
    }
    // 9. Metrics, and the answer.
    let result = guard.answer(request.id, &live, &request.action, completion);
    let key = if request.key.is_some() { KeyState::Taken } else { KeyState::Free };
    CommandAnswer { result, key }
}

/// A command that may be given.
struct Allowed {
    live: Arc<DeviceHandle>,
    /// Read before the check: whoever owns the device later, or was refused meanwhile, does not send it (I9).
    authority: Authority,
    /// A grantee's, of which this command takes a use.
    counted: Option<Box<Grant>>,
}

async fn validate(services: &Devices, request: &CommandRequest) -> Result<Allowed> {
    if services.stopping() {
        return Err(Error::new(ErrorCode::ShuttingDown, "the server is stopping; nothing was sent").retry_after(5));
    }
    let live = services.registry.find(&request.device).await?.filter(|l| l.active()).ok_or_else(Error::no_device)?;
    let mut authority = live.authority();
    let permit = services.may_command(request.actor, &live, &request.action).inspect_err(|error| {
        // Audited; one who may not even see it is answered like a device that is not there.
        let reason = if error.code == ErrorCode::Forbidden { "not_shared" } else { "not_owner" };
        let entry = AuditEntry {
            outcome: Outcome::Rejected,
            ..AuditEntry::of_action(services.clock.now(), request.actor, request.source, &request.action)
        };
        services.audit.note(live.key, entry.device(live.key).details(&json!({ "reason": reason })));
    })?;
    let counted = match permit {
        Permit::Own => {
            authority.revocations = None;
            None
        }
        Permit::Grantee(grant) => grant.counted.then(|| Box::new(grant)),
    };
    request.action.validate(DeviceAbilities { relay_count: live.relay_count }).map_err(Error::from)?;
    Ok(Allowed { live, authority, counted })
}

/// Why a command came to nothing before a frame was written.
struct NotSent {
    error: Error,
    key: KeyState,
    /// Whether it counts as a command: one whose key was used, or could not be taken, is the same one once more, or none.
    counts: bool,
}

type InOrder<'a> = (Entered<'a>, oneshot::Receiver<Completion>);

async fn send<'a>(
    services: &'a Devices,
    Allowed { live, authority, counted }: Allowed,
    request: &CommandRequest,
    guard: &OutcomeGuard<'_>,
) -> std::result::Result<InOrder<'a>, NotSent> {
    let id = request.id;
    let expires_at = services.clock.now().plus(request.time_left);
    let entered = services
        .open
        .enter(id, OpenCommandView { key: live.key, device: live.uid.clone(), action: request.action.clone() });
    if let Some(key) = &request.key {
        // Durable before the frame: whoever asks again hears of this command, and none is sent a second time.
        match services.idempotency.claim_command(&services.store, key, live.key, id).await {
            Ok(()) => {}
            Err((error, KeyState::Unsure)) => {
                write_not_sent(services, &live, request, &error, guard).await;
                let error = answer::key_unsure(error).of_command(id);
                return Err(NotSent { error, key: KeyState::Unsure, counts: true });
            }
            Err((error, key)) => return Err(NotSent { error, key, counts: false }),
        }
    }
    let new = NewCommand {
        id,
        action: request.action.clone(),
        source: request.source,
        actor: request.actor,
        cause: request.cause.clone(),
        authority,
        accepted: guard.accepted,
        expires_at,
    };
    let placed = match &counted {
        None => Ok(enqueue(&live, new)),
        Some(grant) => Box::pin(spend_and_enqueue(services, &live, grant, new)).await,
    };
    let taken = if request.key.is_some() { KeyState::Taken } else { KeyState::Free };
    let refused = match placed {
        Ok(Ok(Some(reply))) => return Ok((entered, reply)),
        Ok(Ok(None)) => answer::too_many_open(),
        Err(error) => error,
        Ok(Err(Offline)) => {
            let entry = primary_row(services, &live, Asked::of(request), Outcome::Offline, guard.took());
            services.audit.write(live.key, entry).await;
            return Err(NotSent { error: answer::offline().of_command(id), key: taken, counts: true });
        }
    };
    let key = match &request.key {
        Some(key) if Box::pin(services.idempotency.release(services, key)).await.is_err() => {
            write_not_sent(services, &live, request, &refused, guard).await;
            KeyState::Taken
        }
        _ => KeyState::Free,
    };
    Err(NotSent { error: refused, key, counts: true })
}

/// The row of a command that was not sent, whose key may stand all the same: whoever asks again with it hears just that.
async fn write_not_sent(
    services: &Devices,
    live: &Arc<DeviceHandle>,
    request: &CommandRequest,
    error: &Error,
    guard: &OutcomeGuard<'_>,
) {
    let row = primary_row(services, live, Asked::of(request), Outcome::Error, guard.took());
    let details = json!({ "reason": error.code.name(), "sent": false });
    services.audit.write(live.key, row.details(&details)).await;
}

/// Takes a use of a grant, durably, before the command can be sent; one that gets no place costs none.
async fn spend_and_enqueue(
    services: &Devices,
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
type Placed = std::result::Result<Option<oneshot::Receiver<Completion>>, Offline>;

/// No session is connected.
struct Offline;

/// Gives the command its place and wakes the current session's task, under the session's lock: a disconnect comes
/// before (and it is offline) or after (and it is cancelled), and a takeover finds it queued or is woken for it.
/// `None` when too many are open.
fn enqueue(live: &DeviceHandle, new: NewCommand) -> Placed {
    let current = live.held.session.lock();
    let session = current.as_ref().ok_or(Offline)?;
    let reply = pending::submit(&mut live.held.commands.lock(), new);
    session.wake.notify_one();
    Ok(reply)
}

async fn wait(
    services: &Devices,
    live: &Arc<DeviceHandle>,
    request: &CommandRequest,
    mut reply: oneshot::Receiver<Completion>,
) -> Completion {
    let gone = |_| Completion::Failed(Error::internal("the command's waiter was dropped"));
    if let Ok(ended) = tokio::time::timeout(request.time_left, &mut reply).await {
        return ended.unwrap_or_else(gone);
    }
    // Whoever takes it out of the open commands ends it. If it is gone, the ack came first and its commit is under way.
    let ended = live.held.commands.lock().time_out(request.id);
    let Some(pending) = ended else { return reply.await.unwrap_or_else(gone) };
    let took = services.clock.monotonic().saturating_sub(pending.command.accepted);
    let mut row = primary_row(services, live, Asked::of(request), Outcome::Timeout, took);
    let sent = pending.command.sent();
    if !sent {
        row = row.details(&json!({ "sent": false }));
    }
    services.audit.write(live.key, row).await;
    Completion::Failed(answer::timed_out(request.action.relay().is_some(), sent))
}
