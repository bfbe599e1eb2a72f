//! A device is released and claimed: what was asked of it before is nobody's business after.

use hexa_machine::Machine;
use hexa_model::Outcome;

use crate::disk::Why;
use crate::world::{Broken, Event, Step, World};

impl World {
    pub(crate) fn release(&mut self, device: usize) {
        if !self.server.up || self.owners[device] == 0 {
            return;
        }
        self.tally.releases += 1;
        self.owners[device] = 0;
        let (boot, delay) = (self.server.boot, self.rng.below(20));
        self.after(delay, Event::Leave { boot, device });
        let delay = self.rng.between(50, 4_000);
        self.after(delay, Event::Claim { device });
    }

    pub(crate) fn leave(&mut self, boot: u32, device: usize) -> Step {
        if boot != self.server.boot || !self.server.up {
            return Ok(());
        }
        let ended = self.server.slots[device].machine.commands().cancel(true);
        for command in ended {
            let sent = self.asked[command.waiter as usize].sent > 0;
            if sent != command.command.sent() {
                let what = format!("command {} is sent: {sent}, and the server says otherwise", command.waiter);
                return Err(Broken::new("at most once", what));
            }
            if sent {
                self.asked[command.waiter as usize].over = true;
                self.row(Why::Ended(command.waiter, Outcome::Error));
            } else {
                self.unsent(command.waiter);
            }
        }
        self.server.slots[device].questions.clear();
        if let Some(session) = self.server.slots[device].current {
            self.break_link(session);
        }
        Ok(())
    }

    pub(crate) fn claim(&mut self, device: usize) {
        if !self.server.up {
            self.after(1_000, Event::Claim { device });
            return;
        }
        self.server.slots[device].machine.commands().forget_ended();
        self.next_owner += 1;
        self.owners[device] = self.next_owner;
    }
}
