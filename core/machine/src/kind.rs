//! What the kinds of commands differ in: what an answer amounts to, what is to be stored of it, and which reports say
//! something of them. A new kind of action implements [`CommandKind`] and is named in [`kind_of`].

use hexa_model::audit::RelaySets;
use hexa_model::driver::{Ack, AckOutcome, StateReport};
use hexa_model::{Action, Outcome};

use crate::states::RelayCache;

/// What an answer amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// The relay states that are to be stored with it.
    pub(crate) sets: RelaySets,
}

/// How commands of one kind end.
pub(crate) trait CommandKind {
    /// What this answer amounts to.
    fn evaluate(&self, states: &RelayCache, ack: &Ack) -> Verdict;

    /// What of an acknowledgement is to be stored whose command a report has answered already.
    fn correct(&self, _states: &RelayCache, _ack: &Ack) -> RelaySets {
        RelaySets::new()
    }

    /// Whether the report says that the target is reached.
    fn shown_by(&self, _report: &StateReport, _relay_count: u16) -> bool {
        false
    }

    /// Whether the report speaks of what was asked for.
    fn mentioned_by(&self, _report: &StateReport) -> bool {
        false
    }

    /// Whether both are about the same thing, so that an answer to one says that earlier words are not about the other.
    fn meets(&self, _other: &Action) -> bool {
        false
    }
}

/// Commands that leave nothing behind but their outcome: what the device says of them is all there is to know.
struct Stateless;

impl CommandKind for Stateless {
    fn evaluate(&self, states: &RelayCache, ack: &Ack) -> Verdict {
        let outcome = match ack.outcome {
            AckOutcome::Executed => Outcome::Executed,
            AckOutcome::Noop => Outcome::Noop,
            AckOutcome::Rejected { .. } => Outcome::Rejected,
        };
        // A device may say what its relays are beside any answer.
        let sets = crate::relay::differing(states, ack.relays.iter().map(|r| (r.index, r.on)));
        Verdict { outcome, sets }
    }
}

/// The rules of this action's kind.
pub(crate) fn kind_of(action: &Action) -> &dyn CommandKind {
    match action {
        Action::Relay(relays) => relays,
        Action::Identify | Action::Custom(_) => &Stateless,
    }
}
