//! Relay commands: what a device's words amount to, given what is known of its relays.

use hexa_model::audit::{RelaySet, RelaySets};
use hexa_model::driver::{Ack, AckOutcome, StateReport};
use hexa_model::{Action, Outcome, RelayAction};

use crate::kind::{CommandKind, Verdict};
use crate::states::RelayCache;

impl CommandKind for RelayAction {
    fn evaluate(&self, states: &RelayCache, ack: &Ack) -> Verdict {
        evaluate_ack(states, *self, ack)
    }

    fn correct(&self, states: &RelayCache, ack: &Ack) -> RelaySets {
        correction(states, *self, ack)
    }

    fn shown_by(&self, report: &StateReport, relay_count: u16) -> bool {
        let is = |index: u16| report.relays.iter().rev().find(|r| r.index == index).is_some_and(|r| r.on == self.on());
        match self.index() {
            Some(index) => is(index),
            None => relay_count > 0 && (0..relay_count).all(is),
        }
    }

    fn mentioned_by(&self, report: &StateReport) -> bool {
        report.relays.iter().any(|r| self.index().is_none_or(|index| index == r.index))
    }

    /// Whether they have a relay in common.
    fn meets(&self, other: &Action) -> bool {
        match (self.index(), other.relay().map(RelayAction::index)) {
            (Some(one), Some(Some(other))) => one == other,
            (_, other) => other.is_some(),
        }
    }
}

/// What an answer amounts to, and which states are to be stored: those that were asked for, and any other that the
/// device says and that differs from what is known. A `noop` stores only what differs or is not on the disk yet.
fn evaluate_ack(states: &RelayCache, action: RelayAction, ack: &Ack) -> Verdict {
    let wanted = |index: u16| action.index().is_none_or(|i| i == index);
    let reported = |index: u16| ack.relays.iter().rev().find(|r| r.index == index).map(|r| r.on);
    let refused = matches!(ack.outcome, AckOutcome::Rejected { .. });
    let silent = ack.relays.is_empty();
    let mut mismatch = false;
    let mut sets = RelaySets::new();
    for index in 0..states.relay_count() {
        let on = match reported(index) {
            Some(on) => on,
            None if refused || !wanted(index) => continue,
            // An ack that lists relays confirms those, and no other (I13).
            None if !silent => {
                mismatch = true;
                continue;
            }
            None => action.on(),
        };
        mismatch |= wanted(index) && on != action.on();
        // What is asked for is known only when it is on the disk: the write under way may fail, and a `noop` that
        // counted on it would be a success that no restart remembers (I1).
        let known = states.projected(index) == Some(on) && (!wanted(index) || states.is_settled(index));
        if !known || (wanted(index) && ack.outcome == AckOutcome::Executed) {
            sets.push(RelaySet { index, on });
        }
    }
    let outcome = match ack.outcome {
        AckOutcome::Rejected { .. } => Outcome::Rejected,
        _ if mismatch => Outcome::Mismatch,
        AckOutcome::Executed => Outcome::Executed,
        AckOutcome::Noop => Outcome::Noop,
    };
    Verdict { outcome, sets }
}

/// What of these reported relays is to be stored: all that differs from what is known or on its way to the disk.
pub(crate) fn differing(states: &RelayCache, reported: impl Iterator<Item = (u16, bool)>) -> RelaySets {
    let mut sets = RelaySets::new();
    for (index, on) in reported {
        // Of a relay that is listed twice, the last word counts.
        sets.retain(|s| s.index != index);
        if states.projected(index) != Some(on) {
            sets.push(RelaySet { index, on });
        }
    }
    sets
}

/// What of an acknowledgement is to be stored whose command a report has answered already: as of a report of the relays
/// that it lists, or, when it lists none and says that it was done, of those that were asked for.
fn correction(states: &RelayCache, action: RelayAction, ack: &Ack) -> RelaySets {
    if !ack.relays.is_empty() || matches!(ack.outcome, AckOutcome::Rejected { .. }) {
        return differing(states, ack.relays.iter().map(|r| (r.index, r.on)));
    }
    let asked = (0..states.relay_count()).filter(|index| action.index().is_none_or(|i| i == *index));
    differing(states, asked.map(|index| (index, action.on())))
}
