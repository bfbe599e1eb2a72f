//! Crashes, and what must hold: whenever a device is at rest, after every crash, and at the end of every round.

use hexa_machine::Machine;
use hexa_model::Outcome;

use crate::devices::Device;
use crate::server::Server;
use crate::world::{Broken, Event, Step, World};

impl World {
    /// The server dies: what is queued is lost, and whether the transaction at the disk made it is chance.
    pub(crate) fn crash(&mut self) -> Step {
        if !self.server.up {
            return Ok(());
        }
        self.tally.crashes += 1;
        let committing = if self.rng.chance(500) { self.rng.below(self.disk.queued() as u64 + 1) } else { 0 };
        self.disk.crash(committing as usize)?;
        self.server.up = false;
        self.server.boot += 1;
        self.server.writes.clear();
        for asked in &mut self.asked {
            asked.over = true;
        }
        for device in 0..self.devices.len() {
            self.devices[device].session = None;
            self.redial(device);
        }
        let delay = self.rng.between(100, 3_000);
        self.after(delay, Event::Restart);
        self.check_promises()
    }

    pub(crate) fn restart(&mut self) -> Step {
        let counts: Vec<u16> = self.devices.iter().map(Device::relay_count).collect();
        self.server = Server::load(self.server.boot, &counts, &self.disk);
        for device in 0..self.devices.len() {
            self.rest(device)?;
        }
        Ok(())
    }

    /// I4: when nothing of a device is under way, its cache is the disk. Long histories are looked at then.
    pub(crate) fn check_device(&mut self, device: usize) -> Step {
        if self.server.is_writing(device) {
            return Ok(());
        }
        if !self.server.keeps(device) {
            self.check_last_words(device)?;
        }
        let cached = self.server.slots[device].machine.states().all();
        let stored = self.disk.states(device);
        if cached != stored {
            return Err(Broken::new("I4", format!("device {device}: the cache has {cached:?}, the disk {stored:?}")));
        }
        if self.histories[device].iter().any(crate::history::History::is_long) {
            self.rest(device)?;
        }
        Ok(())
    }

    /// What the contacts were when the device spoke of them last is what is stored, in whatever order it was said.
    fn check_last_words(&self, device: usize) -> Step {
        for (index, said) in (0..).zip(&self.server.slots[device].said) {
            let stored = self.disk.get(device, index).map(|(on, _)| on);
            if said.is_some() && *said != stored {
                let projected = self.server.slots[device].machine.states().projected(index);
                let what = format!(
                    "device {device} said that relay {index} is {said:?}, stored is {stored:?}, believed {projected:?}"
                );
                return Err(Broken::new("last word", what));
            }
        }
        Ok(())
    }

    /// I5, for the relays of a device that nothing is under way for but what may stay unknown.
    fn rest(&mut self, device: usize) -> Step {
        for index in 0..self.devices[device].relay_count() {
            let mut still_open = false;
            for (op, owner) in self.histories[device][usize::from(index)].open() {
                // Of a former process: it may have happened, which `rest` accounts for; from then on it will not.
                let Some(n) = owner.filter(|n| self.asked[*n as usize].boot == self.server.boot) else { continue };
                let asked = &self.asked[n as usize];
                if !asked.over {
                    still_open = true;
                } else if !self.server.slots[device].machine.commands().awaits_follow_up(asked.id) {
                    self.histories[device][usize::from(index)].nothing(op);
                }
            }
            if still_open {
                continue;
            }
            let stored = self.disk.get(device, index);
            let history = &mut self.histories[device][usize::from(index)];
            history.rest(stored).map_err(|what| Broken::new("I5", format!("device {device} relay {index}: {what}")))?;
            self.tally.histories += 1;
            for (op, owner) in self.histories[device][usize::from(index)].open() {
                if owner.is_none_or(|n| self.asked[n as usize].boot != self.server.boot) {
                    self.histories[device][usize::from(index)].nothing(op);
                }
            }
        }
        Ok(())
    }

    /// I1: what was answered with success is stored, with its row.
    fn check_promises(&self) -> Step {
        for (n, asked) in self.asked.iter().enumerate() {
            let Some(promised) = &asked.promised else { continue };
            let row = self.disk.rows(n as u32).primary;
            if !matches!(row, Some(Outcome::Executed | Outcome::Noop)) {
                return Err(Broken::new("I1", format!("command {n} was answered with success, its row is {row:?}")));
            }
            for (index, version) in promised {
                let stored = self.disk.get(asked.device, *index);
                if stored.is_none_or(|(_, v)| v < *version) {
                    let what = format!("command {n} promised version {version} of relay {index}, stored is {stored:?}");
                    return Err(Broken::new("I1", what));
                }
            }
        }
        Ok(())
    }

    /// Everything is healed: all has ended, and server, disk, subscribers and contacts agree.
    pub(crate) fn check_rest(&mut self) -> Step {
        self.check_promises()?;
        for (n, asked) in self.asked.iter().enumerate().filter(|(_, a)| a.boot == self.server.boot) {
            if asked.answers != 1 {
                return Err(Broken::new("I2", format!("command {n} was answered {} times", asked.answers)));
            }
            if !asked.rowless && self.disk.rows(n as u32).primary.is_none() {
                return Err(Broken::new("I2", format!("command {n} has no row")));
            }
        }
        if self.server.metrics != self.server.rows {
            let what = format!("metrics {:?}, audit {:?}", self.server.metrics, self.server.rows);
            return Err(Broken::new("I14", what));
        }
        for device in 0..self.devices.len() {
            self.check_device(device)?;
            self.check_converged(device)?;
            self.rest(device)?;
        }
        Ok(())
    }

    fn check_converged(&self, device: usize) -> Step {
        let (it, slot) = (&self.devices[device], &self.server.slots[device]);
        if slot.current.is_none() || slot.current != it.session || !slot.online {
            let what = format!("device {device} is connected by {:?}, current is {:?}", it.session, slot.current);
            return Err(Broken::new("I15", what));
        }
        if !slot.machine.commands().is_empty() || self.server.is_writing(device) {
            return Err(Broken::new("liveness", format!("device {device} has something open at rest")));
        }
        for index in 0..it.relay_count() {
            let (stored, is) = (self.disk.get(device, index), it.is(index));
            let projected = slot.machine.states().projected(index);
            if stored.map(|(on, _)| on) != Some(is) || projected != Some(is) {
                let what = format!("device {device} relay {index} is {is}, stored {stored:?}, projected {projected:?}");
                return Err(Broken::new("liveness", what));
            }
            let heard = slot.heard[usize::from(index)];
            if stored.map(|(_, version)| version) != Some(heard) {
                let what = format!("device {device} relay {index}: heard {heard}, stored {stored:?}");
                return Err(Broken::new("I10", what));
            }
        }
        Ok(())
    }
}
