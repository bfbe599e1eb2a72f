//! One half of the machine: open commands of one device, and the ones that ended a moment ago.
//!
//! They belong to the device, not to its connection: an acknowledgement that arrives on a newer socket still counts
//! (I15), and one from another device never does (I7), because nobody else's token is looked up here.
//!
//! A command is plain data ([`OpenCommand`]), so that it can be handed to another holder of the device; whatever learns of
//! its end stands beside it ([`Pending`]).

use std::collections::VecDeque;
use std::time::Duration;

use hexa_model::{Action, Actor, Cause, CommandId, Source, TimeMs, UserKey};
use serde::{Deserialize, Serialize};

use crate::kind::kind_of;

/// Open commands per device; the next one is refused with `device_busy`.
pub const MAX_OPEN: usize = 32;
/// Ended commands that are remembered, to know a late or a second ack from a foreign one.
pub const MAX_RECENT: usize = 32;

/// How the acknowledgement of a written command is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Token {
    /// By the command's own id.
    CommandId,
    /// By a text of the driver's.
    Text(String),
    /// By a report that shows the target.
    StateReport,
}

/// By what a command was authorized. Whoever owns the device later, or was refused meanwhile, does not send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The device's owner at that time.
    pub owner: Option<UserKey>,
    /// For a guest's command: how many of the device's grants had been revoked by then.
    pub revocations: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Queued,
    Written(Token),
}

/// Whether an answer to one of these says something of what was asked by the other.
fn concern_the_same(one: &Action, other: &Action) -> bool {
    kind_of(one).meets(other)
}

/// A command that has been accepted and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCommand {
    /// Id of the command, unique over all devices.
    pub id: CommandId,
    /// What the device shall do.
    pub action: Action,
    /// Where the command came from, as its audit row names it.
    pub source: Source,
    /// In whose name it was asked, as its audit row names it.
    pub actor: Actor,
    /// Why there is a command: its origin, and the automatic steps since.
    pub cause: Cause,
    /// By what it was authorized; it is not sent once that changed (I9).
    pub authority: Authority,
    /// Monotonic time of acceptance.
    pub accepted: Duration,
    /// After this the device must refuse it.
    pub expires_at: TimeMs,
    stage: Stage,
}

/// An open command with whatever learns of its end, once. `W` is a channel in production, a number in the simulation.
#[derive(Debug)]
pub struct Pending<W> {
    /// What can be handed over.
    pub command: OpenCommand,
    /// What stays in this process and is completed when the command ends.
    pub waiter: W,
}

/// What to encode next.
#[derive(Clone, Debug)]
pub struct QueuedCommand {
    /// Id of the command, for its envelope and [`Commands::written`].
    pub id: CommandId,
    /// What the driver is to encode.
    pub action: Action,
    /// By what it was authorized.
    pub authority: Authority,
    /// After this the device must refuse it.
    pub expires_at: TimeMs,
}

/// A command that ended without the device's answer, for one follow-up.
#[derive(Clone, Debug)]
pub struct TimedOut {
    /// Id of the command, for its follow-up row.
    pub id: CommandId,
    /// What the device was asked to do.
    pub action: Action,
    /// In whose name it was asked, for its follow-up row.
    pub actor: Actor,
    /// Monotonic time of acceptance.
    pub accepted: Duration,
}

#[derive(Debug)]
struct Recent {
    id: CommandId,
    action: Action,
    token: Token,
    /// None once it was answered or followed up.
    open_end: Option<TimedOut>,
    /// The next report about its relay says whether it happened; no later one does (I5).
    heals: bool,
    /// Its own acknowledgement has come: the next one is a second one and changes nothing (I8).
    acknowledged: bool,
}

/// Whose acknowledgement a token is.
#[derive(Debug)]
pub enum AckOf<W> {
    /// An open command's: it is ended by the caller.
    Open(Pending<W>),
    /// A timed-out one's, the first time.
    Late(TimedOut),
    /// The first one of a command that a report answered or healed: what it says of this action's relays still counts.
    Reported(Action),
    /// One that was acknowledged before.
    Duplicate,
    /// None of this device's commands has this token, or it was forgotten since.
    Unknown,
}

/// The commands of one device.
#[derive(Debug)]
pub struct Commands<W> {
    open: Vec<Pending<W>>,
    recent: VecDeque<Recent>,
}

impl OpenCommand {
    /// Whether it was handed to a socket: then the device may have acted on it.
    pub fn sent(&self) -> bool {
        self.stage != Stage::Queued
    }
}

impl<W> Default for Commands<W> {
    fn default() -> Self {
        Self { open: Vec::new(), recent: VecDeque::new() }
    }
}

impl<W> Commands<W> {
    /// How many are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }
    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
    /// How many ended ones are remembered.
    pub fn recent_count(&self) -> usize {
        self.recent.len()
    }

    /// Accepts a command behind the others.
    ///
    /// # Errors
    /// Gives the waiter back when the device has [`MAX_OPEN`] already.
    pub fn accept(&mut self, command: NewCommand, waiter: W) -> Result<(), W> {
        if self.open.len() >= MAX_OPEN {
            return Err(waiter);
        }
        let NewCommand { id, action, source, actor, cause, authority, accepted, expires_at } = command;
        let stage = Stage::Queued;
        let command = OpenCommand { id, action, source, actor, cause, authority, accepted, expires_at, stage };
        self.open.push(Pending { command, waiter });
        Ok(())
    }

    /// What has not been written yet, in the order of acceptance (I6).
    pub fn queued(&self) -> impl Iterator<Item = QueuedCommand> + '_ {
        self.open.iter().map(|p| &p.command).filter(|c| c.stage == Stage::Queued).map(|c| QueuedCommand {
            id: c.id,
            action: c.action.clone(),
            authority: c.authority,
            expires_at: c.expires_at,
        })
    }

    /// It is about to be handed to the socket; false when it must not be: it ended meanwhile, or another session of the
    /// device was faster (during a takeover both may have seen it queued), and nothing is ever sent twice.
    pub fn written(&mut self, id: CommandId, token: Token) -> bool {
        let found = self.open.iter_mut().map(|p| &mut p.command).find(|c| c.id == id && c.stage == Stage::Queued);
        found.map(|c| c.stage = Stage::Written(token)).is_some()
    }

    /// Removes an open command that was not written: it cannot be sent. None when it ended, or is on its way.
    pub fn withdraw(&mut self, id: CommandId) -> Option<Pending<W>> {
        let at = self.open.iter().position(|p| p.command.id == id && p.command.stage == Stage::Queued)?;
        Some(self.open.remove(at))
    }

    /// The deadline passed. `Some` when it was still open; one that was written is remembered for a late ack.
    pub fn time_out(&mut self, id: CommandId) -> Option<Pending<W>> {
        let at = self.open.iter().position(|p| p.command.id == id)?;
        let pending = self.open.remove(at);
        let OpenCommand { action, actor, accepted, stage, .. } = &pending.command;
        if let Stage::Written(token) = stage {
            let (action, token) = (action.clone(), token.clone());
            let open_end = Some(TimedOut { id, action: action.clone(), actor: *actor, accepted: *accepted });
            self.remember(Recent { id, action, token, open_end, heals: true, acknowledged: false });
        }
        Some(pending)
    }

    /// Finds the command of an acknowledgement and ends its being open.
    pub fn acknowledged(&mut self, token: &str) -> AckOf<W> {
        let id = CommandId::parse(token);
        let fits = |candidate: CommandId, t: &Token| match t {
            Token::CommandId | Token::StateReport => id == Some(candidate),
            Token::Text(text) => text == token,
        };
        let written = |p: &Pending<W>| matches!(&p.command.stage, Stage::Written(t) if fits(p.command.id, t));
        if let Some(at) = self.open.iter().position(written) {
            let pending = self.answer(at, true);
            let asked = &pending.command.action;
            // What comes after this answer says nothing of what was asked before it.
            for recent in self.recent.iter_mut().filter(|r| concern_the_same(&r.action, asked)) {
                recent.heals = false;
            }
            return AckOf::Open(pending);
        }
        match self.recent.iter_mut().rev().find(|r| fits(r.id, &r.token)) {
            Some(recent) if recent.acknowledged => AckOf::Duplicate,
            Some(recent) => {
                (recent.acknowledged, recent.heals) = (true, false);
                recent.open_end.take().map_or_else(|| AckOf::Reported(recent.action.clone()), AckOf::Late)
            }
            None => AckOf::Unknown,
        }
    }

    /// Takes out the open, written commands that a report answers: `shows` tells whether it shows a command's target.
    ///
    /// A report may have been on its way before the device read any of them. It answers a command whose driver has no
    /// other acknowledgement; any other one only when nothing was asked of the same relay before it and is still open,
    /// since the report may show what the relay was before that.
    pub fn shown(&mut self, shows: impl Fn(&Action) -> bool) -> Vec<Pending<W>> {
        let mut ended = Vec::new();
        let mut at = 0;
        while let Some(OpenCommand { action, stage, .. }) = self.open.get(at).map(|p| &p.command) {
            let first = || !self.open[..at].iter().any(|p| concern_the_same(&p.command.action, action));
            let answered = match stage {
                Stage::Queued => false,
                Stage::Written(Token::StateReport) => shows(action),
                Stage::Written(_) => shows(action) && first(),
            };
            if answered {
                ended.push(self.answer(at, false));
            } else {
                at += 1;
            }
        }
        ended
    }

    /// Timed-out commands that a report heals, oldest first: `shows` tells whether it shows a command's target,
    /// `mentions` whether it speaks of a relay of it. A report that mentions one and does not show the target closes the
    /// question too: no later report is about this command.
    pub fn healed(&mut self, shows: impl Fn(&Action) -> bool, mentions: impl Fn(&Action) -> bool) -> Vec<TimedOut> {
        let asked = self.recent.iter_mut().filter(|r| r.heals && mentions(&r.action));
        asked
            .filter_map(|r| if std::mem::take(&mut r.heals) && shows(&r.action) { r.open_end.take() } else { None })
            .collect()
    }

    /// Everything that is open and not yet written (the connection went), or all of it (released, deleted). With all of
    /// it go those that have ended: whatever the device says later is not about a former owner's command.
    pub fn cancel(&mut self, written_too: bool) -> Vec<Pending<W>> {
        if written_too {
            self.forget_ended();
        }
        let all = std::mem::take(&mut self.open);
        let (cancelled, kept) = all.into_iter().partition(|p| written_too || p.command.stage == Stage::Queued);
        self.open = kept;
        cancelled
    }

    /// The device has another owner: no follow-up is written for what was asked before.
    pub fn forget_ended(&mut self) {
        self.recent.clear();
    }

    /// Whether a command of this id has timed out and has had no follow-up yet.
    pub fn awaits_follow_up(&self, id: CommandId) -> bool {
        self.recent.iter().any(|r| r.id == id && r.open_end.is_some())
    }

    fn answer(&mut self, at: usize, acknowledged: bool) -> Pending<W> {
        let pending = self.open.remove(at);
        let OpenCommand { id, action, stage, .. } = &pending.command;
        if let Stage::Written(token) = stage {
            let (id, action, token) = (*id, action.clone(), token.clone());
            self.remember(Recent { id, action, token, open_end: None, heals: false, acknowledged });
        }
        pending
    }

    fn remember(&mut self, recent: Recent) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(recent);
    }
}

/// A command on its way into [`Commands::accept`], with everything its end will need.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// Id of the command, unique over all devices.
    pub id: CommandId,
    /// What the device shall do.
    pub action: Action,
    /// Where the command came from, as its audit row names it.
    pub source: Source,
    /// In whose name it is asked, as its audit row names it.
    pub actor: Actor,
    /// Why there is a command: its origin, and the automatic steps since.
    pub cause: Cause,
    /// By what it is authorized.
    pub authority: Authority,
    /// Monotonic time of acceptance.
    pub accepted: Duration,
    /// After this the device must refuse it.
    pub expires_at: TimeMs,
}

#[cfg(test)]
mod tests;
