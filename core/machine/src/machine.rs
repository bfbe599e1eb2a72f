//! Both halves together: what an answer, a report and the end of a write do.

use std::cell::RefCell;
use std::ops::DerefMut;

use hexa_model::audit::RelaySets;
use hexa_model::driver::{Ack, AckOutcome, StateReport};
use hexa_model::{Action, CommandId, Outcome, RelayState, Source};

use crate::commands::{AckOf, Commands, Pending, TimedOut};
use crate::kind::{Verdict, kind_of};
use crate::relay;
use crate::states::{Change, RelayCache};

/// One transaction that is to be written: these states and the audit row of their cause.
#[derive(Debug)]
pub struct Write<W> {
    /// What made the write necessary; it decides which audit row is due.
    pub cause: WriteCause<W>,
    /// What the device's words amount to; `done` for a report.
    pub outcome: Outcome,
    /// The states; may be empty, the audit row is due all the same.
    pub sets: RelaySets,
    /// Which of the device's writes this is; a later one has a higher number.
    pub number: u64,
}

/// Why something is written.
#[derive(Debug)]
pub enum WriteCause<W> {
    /// An open command was answered: its primary row is due, and its waiter once the write has ended.
    Answer(Pending<W>),
    /// A timed-out command was answered after all: its follow-up row is due.
    Late(TimedOut),
    /// The device reported something new, or what the newest timed-out command had asked for.
    Report(Option<TimedOut>),
    /// The acknowledgement of a command that a report had answered says something else.
    Correction,
}

impl<W> Write<W> {
    /// The door and the command of the change that this write makes.
    pub fn by(&self) -> (Source, Option<CommandId>) {
        match &self.cause {
            WriteCause::Answer(pending) => (pending.command.source, Some(pending.command.id)),
            WriteCause::Late(command) => (Source::Device, Some(command.id)),
            WriteCause::Report(healed) => (Source::Device, healed.as_ref().map(|h| h.id)),
            WriteCause::Correction => (Source::Device, None),
        }
    }
}

/// What became of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckTaken {
    /// It ended an open command.
    Open,
    /// It came after the timeout: state and a follow-up row are written.
    Late,
    /// A report had answered its command before it: what differs is written, as of a report.
    Reported,
    /// It was the second one.
    Duplicate,
    /// Not one of this device's commands.
    Unknown,
}

/// What became of a report.
#[derive(Debug)]
pub struct Reconciled {
    /// Whether a write of the report's own was given out.
    pub written: bool,
    /// Older timed-out commands that it healed too: one follow-up row each.
    pub older: Vec<TimedOut>,
}

/// The commands and relay states of one device, wherever their two halves lie.
pub trait Machine<W> {
    /// How many relays the device has.
    fn relay_count(&self) -> u16;
    /// Takes the half with the open commands, for as long as the guard lives.
    fn commands(&self) -> impl DerefMut<Target = Commands<W>>;
    /// Takes the half with the relay states, likewise.
    fn states(&self) -> impl DerefMut<Target = RelayCache>;

    /// The device answers. `persist` gets the transaction that this asks for, if any, while the states are taken: the
    /// disk sees writes in the order of their projection.
    fn acknowledge(&self, ack: &Ack, persist: impl FnOnce(Write<W>)) -> AckTaken {
        // A statement of its own, so that the commands are free again before the states are taken.
        let of = self.commands().acknowledged(&ack.token);
        match of {
            AckOf::Open(pending) => {
                let action = pending.command.action.clone();
                self.evaluated(&action, ack, WriteCause::Answer(pending), persist);
                AckTaken::Open
            }
            AckOf::Late(command) => {
                let action = command.action.clone();
                self.evaluated(&action, ack, WriteCause::Late(command), persist);
                AckTaken::Late
            }
            AckOf::Reported(action) => {
                let mut states = self.states();
                let sets = kind_of(&action).correct(&states, ack);
                if !sets.is_empty() {
                    let number = states.project(&sets);
                    persist(Write { cause: WriteCause::Correction, outcome: Outcome::Done, sets, number });
                }
                AckTaken::Reported
            }
            AckOf::Duplicate => AckTaken::Duplicate,
            AckOf::Unknown => AckTaken::Unknown,
        }
    }

    /// The device reports. `persist` gets one transaction for each open command that the report answers
    /// ([`Commands::shown`]), and one for whatever else is new; each while the states are taken.
    fn observe(&self, report: &StateReport, mut persist: impl FnMut(Write<W>)) -> Reconciled {
        let relay_count = self.relay_count();
        let shows = |action: &Action| kind_of(action).shown_by(report, relay_count);
        let answered = self.commands().shown(shows);
        // What a report shows is what an acknowledgement without a list of relays would confirm.
        let shown = Ack { token: String::new(), outcome: AckOutcome::Executed, relays: Vec::new() };
        for pending in answered {
            let action = pending.command.action.clone();
            self.evaluated(&action, &shown, WriteCause::Answer(pending), &mut persist);
        }
        // Timed-out ones are healed: one follow-up row each, the newest carries the change.
        let mut older = self.commands().healed(shows, |action| kind_of(action).mentioned_by(report));
        let newest = older.pop();
        let mut states = self.states();
        let sets = relay::differing(&states, report.relays.iter().map(|r| (r.index, r.on)));
        let written = !sets.is_empty() || newest.is_some();
        if written {
            let number = states.project(&sets);
            persist(Write { cause: WriteCause::Report(newest), outcome: Outcome::Done, sets, number });
        }
        Reconciled { written, older }
    }

    /// A write has ended, and whoever waited for it is awake: `publish` gets every committed change of the device that
    /// was not published yet, in the order of the commits, while the states are taken, so that nobody hears versions
    /// go down.
    fn publish_committed(&self, (sets, number): (&RelaySets, u64), committed: bool, mut publish: impl FnMut(Change)) {
        let mut states = self.states();
        if !committed {
            states.forget_projected(sets, number);
        }
        while let Some(change) = states.next_change() {
            if !change.relays.is_empty() {
                publish(change);
            }
        }
    }

    /// A write failed and is given out again: `persist` gets those of its states that nothing later was written for,
    /// while the states are taken, and the number that they have now. It may get none: the audit row is due all the same.
    fn retry(&self, (sets, number): (&RelaySets, u64), persist: impl FnOnce(RelaySets, u64)) {
        let mut states = self.states();
        let latest: RelaySets = sets.iter().copied().filter(|s| states.is_latest(s.index, number)).collect();
        let number = states.project(&latest);
        persist(latest, number);
    }

    /// One answer: evaluated, projected and given out under one taking of the states.
    #[doc(hidden)]
    fn evaluated(&self, action: &Action, ack: &Ack, cause: WriteCause<W>, persist: impl FnOnce(Write<W>)) {
        let mut states = self.states();
        let Verdict { outcome, sets } = kind_of(action).evaluate(&states, ack);
        let number = states.project(&sets);
        persist(Write { cause, outcome, sets, number });
    }
}

/// Both halves without locks, for a single thread.
#[derive(Debug)]
pub struct Unlocked<W> {
    commands: RefCell<Commands<W>>,
    states: RefCell<RelayCache>,
}

impl<W> Unlocked<W> {
    /// Nothing is open; relays without a stored row are unknown.
    pub fn new(relay_count: u16, stored: &[RelayState]) -> Self {
        Self { commands: RefCell::default(), states: RefCell::new(RelayCache::new(relay_count, stored)) }
    }
}

impl<W> Machine<W> for Unlocked<W> {
    fn relay_count(&self) -> u16 {
        self.states.borrow().relay_count()
    }
    fn commands(&self) -> impl DerefMut<Target = Commands<W>> {
        self.commands.borrow_mut()
    }
    fn states(&self) -> impl DerefMut<Target = RelayCache> {
        self.states.borrow_mut()
    }
}
