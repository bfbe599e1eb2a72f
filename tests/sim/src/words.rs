//! What a device says, and what the server may make of it: said once more, without the machine.

use hexa_machine::Machine;
use hexa_model::RelayAction;
use hexa_model::driver::{Ack, AckOutcome, StateReport};

use crate::Fault;
use crate::server::Asked;
use crate::world::{Broken, Step, World};

impl World {
    /// The device has spoken of a relay, and this is what the contact was then: the server takes its word for it.
    pub(crate) fn believe(&mut self, device: usize, index: u16, is: bool) -> Step {
        let slot = &mut self.server.slots[device];
        slot.said[usize::from(index)] = Some(is);
        let projected = slot.machine.states().projected(index);
        if projected != Some(is) {
            let what = format!("device {device} says that relay {index} is {is}, the server believes {projected:?}");
            return Err(Broken::new("last word", what));
        }
        Ok(())
    }

    /// An answer, or a report, was the last chance of what was asked before it.
    pub(crate) fn close_questions(&mut self, device: usize, answer: Option<u32>) {
        let action = answer.map(|n| self.asked[n as usize].action);
        let asked = &self.asked;
        let meets = |q: u32| match (action.and_then(RelayAction::index), asked[q as usize].action.index()) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.server.slots[device].questions.retain(|q| !meets(*q));
    }

    /// A follow-up says that a report healed this command.
    pub(crate) fn is_healed(&mut self, device: usize, n: u32, report: &StateReport) -> Step {
        self.tally.healed += 1;
        self.server.slots[device].unhealed.retain(|q| *q != n);
        let (asked, count) = (&self.asked[n as usize], self.devices[device].relay_count());
        let shows = |index: u16| report.relays.iter().any(|r| r.index == index && r.on == asked.action.on());
        let shown = (0..count).filter(|i| asked.action.index().is_none_or(|a| a == *i)).all(shows);
        if !shown || !self.server.slots[device].questions.contains(&n) {
            let what = format!("command {n} is healed by a report that says nothing of it (shows its target: {shown})");
            return Err(Broken::new("I5", what));
        }
        Ok(())
    }

    pub(crate) fn shows(&self, n: u32, report: &StateReport) -> bool {
        let asked = &self.asked[n as usize];
        let count = self.devices[asked.device].relay_count();
        let is = |index: u16| report.relays.iter().any(|r| r.index == index && r.on == asked.action.on());
        (0..count).filter(|i| asked.action.index().is_none_or(|a| a == *i)).all(is)
    }

    /// What the server did before a report had to wait its turn.
    pub(crate) fn answer_any(&mut self, device: usize, report: &StateReport, session: usize) -> Step {
        if !self.is_broken(Fault::ReportAnswersAny) {
            return Ok(());
        }
        let open = |a: &Asked| a.device == device && a.boot == self.server.boot && a.sent > 0 && !a.over && !a.judged;
        let open: Vec<u32> = (0..).zip(&self.asked).filter(|(_, a)| open(a)).map(|(n, _)| n).collect();
        for n in open.into_iter().filter(|n| self.shows(*n, report)).collect::<Vec<_>>() {
            let token = self.asked[n as usize].id.to_string();
            let ack = Ack { token, outcome: AckOutcome::Executed, relays: Vec::new() };
            let mut given = None;
            self.server.slots[device].machine.acknowledge(&ack, |write| given = Some(write));
            if let Some(write) = given {
                self.give(device, write, session)?;
            }
        }
        Ok(())
    }

    /// What the server did before a question was closed by the next report.
    pub(crate) fn heals_for_ever(&self, device: usize, report: &StateReport) -> Vec<u32> {
        if !self.is_broken(Fault::HealTooLate) {
            return Vec::new();
        }
        self.server.slots[device].unhealed.iter().copied().filter(|n| self.shows(*n, report)).collect()
    }
}
