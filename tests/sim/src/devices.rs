//! Devices with real contacts, and the link to them: it drops, doubles, delays, reorders and breaks.

use std::collections::VecDeque;

use hexa_model::driver::{Ack, AckOutcome, EventMeta, ReportedRelay, StateReport};
use hexa_model::{RejectReason, RelayAction};

use crate::rng::Rng;
use crate::world::{Event, World};

/// What a device says.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// To a command, by number, and what its contacts were when it said so.
    Ack(u32, Ack, Vec<bool>),
    /// A report that the device makes by itself.
    Report(StateReport),
}

/// A simulated device with its contacts.
#[derive(Debug)]
pub(crate) struct Device {
    relays: Vec<bool>,
    /// It answers commands by reports only.
    pub(crate) by_report: bool,
    /// Its end of the connection.
    pub(crate) session: Option<usize>,
    /// The last commands that it acted on: a frame that comes twice is acted on once.
    done: VecDeque<(u32, AckOutcome)>,
}

impl Device {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let relays = (0..rng.between(1, 4)).map(|_| rng.chance(500)).collect();
        Self { relays, by_report: rng.chance(200), session: None, done: VecDeque::new() }
    }
    pub(crate) fn relay_count(&self) -> u16 {
        self.relays.len() as u16
    }
    pub(crate) fn is(&self, index: u16) -> bool {
        self.relays[usize::from(index)]
    }

    fn all(&self) -> Vec<ReportedRelay> {
        let relay = |(index, on): (usize, &bool)| ReportedRelay {
            index: index as u16,
            on: *on,
            source: None,
            timer_ends_in_ms: None,
        };
        self.relays.iter().enumerate().map(relay).collect()
    }
    fn report(&self) -> StateReport {
        StateReport { relays: self.all(), complete: true, firmware: None, meta: EventMeta::default() }
    }
    fn wanted(&self, action: RelayAction) -> impl Iterator<Item = usize> + use<> {
        let all = 0..self.relays.len();
        all.filter(move |i| action.index().is_none_or(|index| usize::from(index) == *i))
    }
}

/// A connection, seen from both ends.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) device: usize,
    /// The server that accepted it.
    pub(crate) boot: u32,
    /// Whether the server's task for it runs.
    pub(crate) served: bool,
    /// Its task was asked to end.
    pub(crate) closing: bool,
    /// Its task waits for this write.
    pub(crate) busy: Option<u64>,
    /// It was woken while it waited.
    pub(crate) woken: bool,
    /// What its task has not handled yet.
    pub(crate) inbox: VecDeque<Message>,
    /// The usual delay of its link.
    latency: u64,
}

impl Session {
    pub(crate) fn new(device: usize, boot: u32, latency: u64) -> Self {
        Self { device, boot, served: true, closing: false, busy: None, woken: false, inbox: VecDeque::new(), latency }
    }
}

impl World {
    /// Puts something onto a link: it may be lost, come twice, late, or not in order.
    pub(crate) fn carry(&mut self, session: usize, event: Event) {
        if self.rng.chance(self.trouble.drop) {
            return;
        }
        let copies = 1 + u32::from(self.rng.chance(self.trouble.double));
        for _ in 0..copies {
            let usual = self.sessions[session].latency;
            let slow = if self.rng.chance(self.trouble.slow) { self.rng.between(100, 9_000) } else { 0 };
            let delay = self.rng.between(usual, usual * 2) + slow;
            self.after(delay, event.clone());
        }
        if self.rng.chance(self.trouble.break_link) {
            let delay = self.rng.below(50);
            self.after(delay, Event::Break { session });
        }
    }

    fn say(&mut self, device: usize, message: Message) {
        if let Some(session) = self.devices[device].session {
            self.carry(session, Event::ToServer { session, message });
        }
    }

    pub(crate) fn say_report(&mut self, device: usize) {
        let report = self.devices[device].report();
        self.say(device, Message::Report(report));
    }

    /// Somebody presses a button; the device says so.
    pub(crate) fn press(&mut self, device: usize, index: u16) {
        let relay = &mut self.devices[device].relays[usize::from(index)];
        *relay = !*relay;
        self.say_report(device);
    }

    /// The device dials until it is through, also when it is connected already (a takeover).
    pub(crate) fn redial(&mut self, device: usize) {
        let delay = self.rng.between(20, 800);
        self.after(delay, Event::Dial { device });
    }

    /// Both ends learn of it, the server a little later.
    pub(crate) fn break_link(&mut self, session: usize) {
        let device = self.sessions[session].device;
        if self.devices[device].session == Some(session) {
            self.devices[device].session = None;
            self.redial(device);
        }
        self.sessions[session].closing = true;
        let delay = self.rng.below(200);
        self.after(delay, Event::Gone { session });
    }

    /// A frame has reached the device.
    pub(crate) fn act(&mut self, session: usize, command: u32) {
        let device = self.sessions[session].device;
        if self.devices[device].session != Some(session) {
            return;
        }
        let (action, expires_at) = (self.asked[command as usize].action, self.asked[command as usize].expires_at);
        let known = self.devices[device].done.iter().find(|(n, _)| *n == command).map(|(_, o)| o.clone());
        let again = known.is_some();
        let outcome = known.unwrap_or_else(|| self.decide(device, action, expires_at));
        if !again {
            if outcome == AckOutcome::Executed && !self.rng.chance(self.trouble.stuck) {
                self.switch(device, action);
            }
            let done = &mut self.devices[device].done;
            done.push_back((command, outcome.clone()));
            if done.len() > 16 {
                done.pop_front();
            }
        }
        self.asked[command as usize].spoken = true;
        if self.rng.chance(self.trouble.silent) {
            return;
        }
        if self.devices[device].by_report {
            self.say_report(device);
        } else {
            let ack = self.ack(device, command, action, outcome);
            let contacts = self.devices[device].relays.clone();
            self.say(device, Message::Ack(command, ack, contacts));
        }
        self.meddle(device);
    }

    fn decide(&mut self, device: usize, action: RelayAction, expires_at: u64) -> AckOutcome {
        let refused = |reason| AckOutcome::Rejected { reason, detail: None };
        if self.now > expires_at {
            return refused(RejectReason::Expired);
        }
        if self.rng.chance(self.trouble.refuse) {
            return refused(RejectReason::Busy);
        }
        let it = &self.devices[device];
        let so_already = it.wanted(action).all(|i| it.relays[i] == action.on());
        if so_already && self.rng.chance(700) { AckOutcome::Noop } else { AckOutcome::Executed }
    }

    fn switch(&mut self, device: usize, action: RelayAction) {
        let wanted = self.devices[device].wanted(action);
        // A contact may fail while the others move.
        for index in wanted {
            if !self.rng.chance(self.trouble.stuck) {
                self.devices[device].relays[index] = action.on();
            }
        }
    }

    /// A device that says nothing of its states claims what was asked, so it says them when a contact is stuck.
    fn ack(&mut self, device: usize, command: u32, action: RelayAction, outcome: AckOutcome) -> Ack {
        let it = &self.devices[device];
        let differs = it.wanted(action).any(|i| it.relays[i] != action.on());
        let mut relays = Vec::new();
        if self.rng.chance(300) || (differs && !matches!(outcome, AckOutcome::Rejected { .. })) {
            relays = it.all();
            if action.index().is_none() && self.rng.chance(200) {
                relays.truncate(1);
            }
        }
        Ack { token: self.asked[command as usize].id.to_string(), outcome, relays }
    }

    /// A hostile device answers somebody else's command.
    fn meddle(&mut self, device: usize) {
        if !self.rng.chance(self.trouble.foreign) {
            return;
        }
        let recent = self.asked.len().saturating_sub(12);
        let foreign: Vec<u32> =
            (recent..self.asked.len()).filter(|n| self.asked[*n].device != device).map(|n| n as u32).collect();
        if foreign.is_empty() {
            return;
        }
        let command = self.rng.pick(&foreign);
        let token = self.asked[command as usize].id.to_string();
        let ack = Ack { token, outcome: AckOutcome::Executed, relays: Vec::new() };
        let contacts = self.devices[device].relays.clone();
        self.say(device, Message::Ack(command, ack, contacts));
    }
}
