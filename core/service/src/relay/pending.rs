//! Open commands of one device, and the ones that ended a moment ago.
//!
//! They belong to the device, not to its connection: an acknowledgement that arrives on a newer socket still counts
//! (I15), and one from another device never does (I7), because nobody else's token is looked up here.

use std::collections::VecDeque;
use std::time::Duration;

use hexa_model::audit::RelaySets;
use hexa_model::{Actor, CommandId, Outcome, RelayAction, Source, TimeMs, UserKey};
use hexa_store::{Committed, StoreError};
use tokio::sync::oneshot;

use crate::error::Error;

/// Open commands per device; the next one is refused with `device_busy`.
pub const MAX_OPEN: usize = 32;
/// Ended commands that are remembered, to know a late or a second ack from a foreign one.
const MAX_RECENT: usize = 32;

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
        /// The commit.
        commit: Result<Committed, StoreError>,
    },
    /// It never reached the device, or may no longer be answered.
    Failed(Error),
}

/// How the acknowledgement of a written command is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// By the command's own id.
    CommandId,
    /// By a text of the driver's.
    Text(String),
    /// By a report that shows the target.
    StateReport,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    Written(Token),
}

/// A command that has been accepted and has not ended.
#[derive(Debug)]
pub struct OpenCommand {
    /// Its id.
    pub id: CommandId,
    /// What is asked.
    pub action: RelayAction,
    /// Through which door.
    pub source: Source,
    /// In whose name.
    pub actor: Actor,
    /// The owner when it was authorized; it is not sent once that changed (I9).
    pub owner: Option<UserKey>,
    /// Monotonic time of acceptance.
    pub accepted: Duration,
    /// After this the device must refuse it.
    pub expires_at: TimeMs,
    waiter: Option<oneshot::Sender<Ended>>,
    stage: Stage,
}

impl OpenCommand {
    /// Ends it: the path goes on.
    pub fn end(mut self, ended: Ended) {
        if let Some(waiter) = self.waiter.take() {
            // The path waits in a task of its own until it has an end; it is gone only when the process stops.
            let _ = waiter.send(ended);
        }
    }
    /// The waiter, for the writer to complete after the commit.
    pub fn into_waiter(mut self) -> Option<oneshot::Sender<Ended>> {
        self.waiter.take()
    }
}

/// What to encode next.
#[derive(Clone, Debug)]
pub struct QueuedCommand {
    /// Its id.
    pub id: CommandId,
    /// What is asked.
    pub action: RelayAction,
    /// The owner when it was authorized.
    pub owner: Option<UserKey>,
    /// After this the device must refuse it.
    pub expires_at: TimeMs,
}

/// A command that ended without the device's answer, for one follow-up.
#[derive(Clone, Debug)]
pub struct TimedOut {
    /// Its id.
    pub id: CommandId,
    /// What was asked.
    pub action: RelayAction,
    /// In whose name.
    pub actor: Actor,
    /// Monotonic time of acceptance.
    pub accepted: Duration,
}

#[derive(Debug)]
struct Recent {
    id: CommandId,
    action: RelayAction,
    token: Token,
    /// None once it was answered or followed up.
    open_end: Option<TimedOut>,
}

/// Whose acknowledgement a token is.
#[derive(Debug)]
pub enum AckOf {
    /// An open command's: it is ended by the caller.
    Open(Box<OpenCommand>),
    /// A timed-out one's, the first time.
    Late(TimedOut),
    /// One that was answered before.
    Duplicate,
    /// Nobody's here.
    Unknown,
}

/// The commands of one device.
#[derive(Debug, Default)]
pub struct Pending {
    open: Vec<OpenCommand>,
    recent: VecDeque<Recent>,
}

impl Pending {
    /// How many are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }
    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
    /// The action of a command that is open here, or was a moment ago and whose commit may still be under way.
    pub fn action_of(&self, id: CommandId) -> Option<RelayAction> {
        let open = self.open.iter().find(|c| c.id == id).map(|c| c.action);
        open.or_else(|| self.recent.iter().find(|r| r.id == id).map(|r| r.action))
    }

    /// Accepts a command behind the others; `None` when the device has [`MAX_OPEN`] already.
    pub fn submit(&mut self, mut command: NewCommand) -> Option<oneshot::Receiver<Ended>> {
        if self.open.len() >= MAX_OPEN {
            return None;
        }
        let (tx, rx) = oneshot::channel();
        command.0.waiter = Some(tx);
        self.open.push(command.0);
        Some(rx)
    }

    /// What has not been written yet, in the order of acceptance (I6).
    pub fn queued(&self) -> impl Iterator<Item = QueuedCommand> + '_ {
        self.open.iter().filter(|c| c.stage == Stage::Queued).map(|c| QueuedCommand {
            id: c.id,
            action: c.action,
            owner: c.owner,
            expires_at: c.expires_at,
        })
    }

    /// It was handed to the socket; false when it ended meanwhile and must not be sent.
    pub fn written(&mut self, id: CommandId, token: Token) -> bool {
        let found = self.open.iter_mut().find(|c| c.id == id);
        found.map(|c| c.stage = Stage::Written(token)).is_some()
    }

    /// Removes an open command that never reached the device.
    pub fn withdraw(&mut self, id: CommandId) -> Option<OpenCommand> {
        let at = self.open.iter().position(|c| c.id == id)?;
        Some(self.open.remove(at))
    }

    /// The deadline passed. `Some` when it was still open; one that was written is remembered for a late ack.
    pub fn time_out(&mut self, id: CommandId) -> Option<OpenCommand> {
        let command = self.withdraw(id)?;
        if let Stage::Written(token) = &command.stage {
            let open_end =
                Some(TimedOut { id, action: command.action, actor: command.actor, accepted: command.accepted });
            self.remember(Recent { id, action: command.action, token: token.clone(), open_end });
        }
        Some(command)
    }

    /// Finds the command of an acknowledgement and ends its being open.
    pub fn acknowledged(&mut self, token: &str) -> AckOf {
        let id = CommandId::parse(token);
        let fits = |candidate: CommandId, t: &Token| match t {
            Token::CommandId | Token::StateReport => id == Some(candidate),
            Token::Text(text) => text == token,
        };
        if let Some(at) = self.open.iter().position(|c| matches!(&c.stage, Stage::Written(t) if fits(c.id, t))) {
            return AckOf::Open(Box::new(self.answer(at)));
        }
        match self.recent.iter_mut().rev().find(|r| fits(r.id, &r.token)) {
            Some(recent) => recent.open_end.take().map_or(AckOf::Duplicate, AckOf::Late),
            None => AckOf::Unknown,
        }
    }

    /// Open, written commands whose target the predicate sees in a report: they are answered by it.
    pub fn shown(&mut self, shows: impl Fn(RelayAction) -> bool) -> Vec<OpenCommand> {
        let mut ended = Vec::new();
        while let Some(at) = self.open.iter().position(|c| matches!(c.stage, Stage::Written(_)) && shows(c.action)) {
            ended.push(self.answer(at));
        }
        ended
    }

    /// Timed-out commands without a follow-up whose target the predicate sees in a report, oldest first.
    pub fn healed(&mut self, shows: impl Fn(RelayAction) -> bool) -> Vec<TimedOut> {
        self.recent.iter_mut().filter_map(|r| r.open_end.take_if(|t| shows(t.action))).collect()
    }

    /// Everything that is open and not yet written (the connection went), or all of it (released, deleted, stopping).
    pub fn cancel(&mut self, written_too: bool) -> Vec<OpenCommand> {
        let all = std::mem::take(&mut self.open);
        let (cancelled, kept) = all.into_iter().partition(|c| written_too || c.stage == Stage::Queued);
        self.open = kept;
        cancelled
    }

    fn answer(&mut self, at: usize) -> OpenCommand {
        let command = self.open.remove(at);
        if let Stage::Written(token) = &command.stage {
            self.remember(Recent { id: command.id, action: command.action, token: token.clone(), open_end: None });
        }
        command
    }

    fn remember(&mut self, recent: Recent) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(recent);
    }
}

/// A command on its way into [`Pending::submit`].
#[derive(Debug)]
pub struct NewCommand(OpenCommand);

impl NewCommand {
    /// With everything the end will need.
    pub fn new(
        id: CommandId,
        action: RelayAction,
        by: (Source, Actor),
        owner: Option<UserKey>,
        accepted: Duration,
        expires_at: TimeMs,
    ) -> Self {
        let (source, actor) = by;
        Self(OpenCommand { id, action, source, actor, owner, accepted, expires_at, waiter: None, stage: Stage::Queued })
    }
}

#[cfg(test)]
mod tests;
