//! The part of production that stands around the machine: sessions and their tasks, the path of a command, the
//! completion of writes. Everything here is lost in a crash.

use std::collections::{BTreeMap, HashMap};

use hexa_machine::Change;
use hexa_machine::{AckTaken, Authority, Machine, NewCommand, QueuedCommand, Token, Unlocked, Write, WriteCause};
use hexa_model::audit::{RelaySet, RelaySets, RelayStates};
use hexa_model::driver::{Ack, StateReport};
use hexa_model::{Actor, Cause, CommandId, Outcome, RelayAction, Source, TimeMs, UserKey};

use crate::Fault;
use crate::devices::{Message, Session};
use crate::disk::{Disk, Queued, Why};
use crate::history::{Op, Ret};
use crate::world::{Broken, Event, Step, World};

/// How long a command may take.
pub(crate) const TIMEOUT_MS: u64 = 5_000;

/// A command, as the one who sees everything knows it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: CommandId,
    pub(crate) device: usize,
    pub(crate) action: RelayAction,
    pub(crate) expires_at: u64,
    /// The server that took it.
    pub(crate) boot: u32,
    /// Its operations in the relays' histories.
    pub(crate) ops: Vec<(u16, u64)>,
    /// How often it was handed to a socket.
    pub(crate) sent: u32,
    /// Its device has seen it.
    pub(crate) spoken: bool,
    /// It must not be sent any more.
    pub(crate) over: bool,
    /// How often its caller had an answer.
    pub(crate) answers: u32,
    /// Versions that a success promised.
    pub(crate) promised: Option<Vec<(u16, u64)>>,
    /// Who owned the device.
    pub(crate) owner: i64,
    /// It was refused before it had a place: no row is due.
    pub(crate) rowless: bool,
    /// Its answer was given to the disk.
    pub(crate) judged: bool,
    /// The first acknowledgement has arrived.
    pub(crate) acknowledged: bool,
    /// Commands with the same key: the first of them.
    pub(crate) key: Option<u32>,
}

/// What the process knows of one device.
pub(crate) struct Slot {
    pub(crate) machine: Unlocked<u32>,
    pub(crate) current: Option<usize>,
    /// As the last event said.
    pub(crate) online: bool,
    /// The version that a subscriber heard last, per relay.
    pub(crate) heard: Vec<u64>,
    /// What its contacts were when it spoke of them last, per relay; none when a failed write may have lost it.
    pub(crate) said: Vec<Option<bool>>,
    /// Timed-out commands that the next report about their relays may heal.
    pub(crate) questions: Vec<u32>,
    /// All that timed out and had no follow-up, for [`Fault::HealTooLate`].
    pub(crate) unhealed: Vec<u32>,
}

/// A write that has not ended for the one who waits.
pub(crate) struct UnderWay {
    pub(crate) device: usize,
    why: Why,
    sets: RelaySets,
    /// Operations that this write is the effect of.
    ops: Vec<(u16, u64)>,
    /// The session whose task waits for it.
    session: Option<usize>,
    /// What was stored, once it has ended well.
    stored: Option<RelayStates>,
    /// The number of the device's write.
    place: u64,
    /// It failed before: whoever waited has had its answer.
    again: bool,
}

/// How many commands ended with each outcome.
pub(crate) type Ends = BTreeMap<&'static str, u64>;

/// The simulated server process between two crashes.
pub(crate) struct Server {
    pub(crate) boot: u32,
    pub(crate) up: bool,
    pub(crate) slots: Vec<Slot>,
    pub(crate) writes: BTreeMap<u64, UnderWay>,
    next_write: u64,
    committing: bool,
    /// Rows of commands that the disk did not take.
    pub(crate) kept: Vec<Queued>,
    numbers: HashMap<CommandId, u32>,
    /// Counted when the caller is answered.
    pub(crate) metrics: Ends,
    /// Counted when the audit row is stored.
    pub(crate) rows: Ends,
}

impl Server {
    pub(crate) fn load(boot: u32, relay_counts: &[u16], disk: &Disk) -> Self {
        let slot = |(device, count): (usize, &u16)| Slot {
            machine: Unlocked::new(*count, &disk.states(device)),
            current: None,
            online: false,
            heard: (0..*count).map(|i| disk.get(device, i).map_or(0, |(_, v)| v)).collect(),
            said: vec![None; usize::from(*count)],
            questions: Vec::new(),
            unhealed: Vec::new(),
        };
        Self {
            boot,
            up: true,
            slots: relay_counts.iter().enumerate().map(slot).collect(),
            writes: BTreeMap::new(),
            next_write: 0,
            committing: false,
            kept: Vec::new(),
            numbers: HashMap::new(),
            metrics: Ends::new(),
            rows: Ends::new(),
        }
    }

    pub(crate) fn is_writing(&self, device: usize) -> bool {
        self.writes.values().any(|w| w.device == device)
    }
    pub(crate) fn keeps(&self, device: usize) -> bool {
        self.kept.iter().any(|w| w.device == device)
    }
}

fn command_id(now: u64, n: u32) -> CommandId {
    let mut chance = [0; 10];
    chance[..4].copy_from_slice(&n.to_be_bytes());
    CommandId::at(TimeMs(now as i64), chance)
}

/// The path of a command.
impl World {
    pub(crate) fn ask(&mut self, device: usize, action: RelayAction, key: Option<u32>) {
        if !self.server.up || self.owners[device] == 0 {
            return;
        }
        let n = self.asked.len() as u32;
        let id = command_id(self.now, n);
        self.tally.commands += 1;
        let targets = (0..self.devices[device].relay_count()).filter(|i| action.index().is_none_or(|a| a == *i));
        let ops = targets.map(|i| (i, self.histories[device][usize::from(i)].begin(Op::Set(action.on()), Some(n))));
        let ops = ops.collect();
        let (boot, expires_at) = (self.server.boot, self.now + TIMEOUT_MS);
        let asked = Asked {
            id,
            device,
            action,
            expires_at,
            boot,
            ops,
            sent: 0,
            spoken: false,
            over: false,
            answers: 0,
            promised: None,
            owner: self.owners[device],
            rowless: false,
            judged: false,
            acknowledged: false,
            key,
        };
        self.asked.push(asked);
        self.server.numbers.insert(id, n);
        let Some(session) = self.server.slots[device].current else {
            self.asked[n as usize].over = true;
            self.row(Why::Ended(n, Outcome::Offline));
            return;
        };
        let accepted = std::time::Duration::from_millis(self.now);
        let authority = Authority { owner: Some(UserKey(self.owners[device])), revocations: None };
        let new = NewCommand {
            id,
            action: action.into(),
            source: Source::Api,
            actor: Actor::System,
            cause: Cause::request(&n.to_string()),
            authority,
            accepted,
            expires_at: TimeMs(expires_at as i64),
        };
        if self.server.slots[device].machine.commands().accept(new, n).is_err() {
            // Refused before it had a place: no row, and it never happens.
            self.asked[n as usize].answers = 1;
            self.asked[n as usize].rowless = true;
            self.asked[n as usize].over = true;
            self.never(n);
            return;
        }
        let delay = self.rng.below(3);
        self.after(delay, Event::Encode { session });
        self.after(TIMEOUT_MS, Event::Deadline { boot, command: n });
    }

    /// The command's operations are known to have no effect of their own.
    pub(crate) fn never(&mut self, n: u32) {
        let (device, ops) = (self.asked[n as usize].device, self.asked[n as usize].ops.clone());
        for (index, op) in ops {
            self.histories[device][usize::from(index)].nothing(op);
        }
    }

    pub(crate) fn read(&mut self, device: usize) {
        if !self.server.up {
            return;
        }
        for index in 0..self.devices[device].relay_count() {
            let states = self.server.slots[device].machine.states();
            let mut saw = states.get(index).map(|s| (s.on, s.version));
            if self.plan.fault == Some(Fault::DirtyRead) {
                saw = saw.map(|(on, version)| (states.projected(index).unwrap_or(on), version));
            }
            drop(states);
            self.histories[device][usize::from(index)].read(saw);
        }
    }

    pub(crate) fn deadline(&mut self, boot: u32, n: u32) -> Step {
        if boot != self.server.boot {
            return Ok(());
        }
        let (device, id) = (self.asked[n as usize].device, self.asked[n as usize].id);
        let ended = self.server.slots[device].machine.commands().time_out(id);
        if ended.is_none() {
            return Ok(());
        }
        self.tally.timeouts += 1;
        self.asked[n as usize].over = true;
        self.row(Why::Ended(n, Outcome::Timeout));
        if self.asked[n as usize].sent > 0 {
            self.server.slots[device].questions.push(n);
            self.server.slots[device].unhealed.push(n);
        } else {
            self.never(n);
            if self.is_broken(Fault::SendAfterTimeout)
                && let Some(session) = self.server.slots[device].current
            {
                return self.send(session, n);
            }
        }
        Ok(())
    }

    fn send(&mut self, session: usize, n: u32) -> Step {
        let asked = &mut self.asked[n as usize];
        asked.sent += 1;
        if asked.sent > 1 || asked.over {
            let what = format!("command {n} is sent: {} times, over: {}", asked.sent, asked.over);
            return Err(Broken::new("at most once", what));
        }
        if asked.owner != self.owners[asked.device] {
            return Err(Broken::new("I9", format!("command {n} of a former owner is sent")));
        }
        if let Some(first) = asked.key.filter(|first| self.asked[*first as usize].sent > 0) {
            let what = format!("command {n} has the key of command {first}, which was sent, and is sent too");
            return Err(Broken::new("at most once", what));
        }
        self.carry(session, Event::ToDevice { session, command: n });
        Ok(())
    }

    /// The caller has the answer of a command that the device answered.
    fn answered(&mut self, n: u32, outcome: Outcome, stored: Option<&RelayStates>) {
        let success = matches!(outcome, Outcome::Executed | Outcome::Noop);
        let asked = &mut self.asked[n as usize];
        asked.answers += 1;
        // By what it came to, stored or not: its row will say the same.
        *self.server.metrics.entry(outcome.as_str()).or_default() += 1;
        if let Some(stored) = stored.filter(|_| success) {
            self.tally.successes += 1;
            asked.promised = Some(stored.iter().map(|s| (s.index, s.version)).collect());
        }
        if stored.is_none() && self.is_broken(Fault::KeyFreedUnproven) {
            // The caller heard 503, and asks again with its key.
            let (device, action) = (self.asked[n as usize].device, self.asked[n as usize].action);
            self.ask(device, action, Some(n));
        }
    }
}

/// Sessions and their tasks.
impl World {
    pub(crate) fn dial(&mut self, device: usize) -> Step {
        if !self.server.up {
            self.redial(device);
            return Ok(());
        }
        let session = self.sessions.len();
        let latency = self.rng.between(1, 40);
        self.sessions.push(Session::new(device, self.server.boot, latency));
        self.devices[device].session = Some(session);
        let slot = &mut self.server.slots[device];
        if let Some(former) = slot.current.replace(session) {
            self.tally.takeovers += 1;
            self.sessions[former].closing = true;
            let delay = self.rng.below(100);
            self.after(delay, Event::Gone { session: former });
            self.after(0, Event::Encode { session });
        } else if std::mem::replace(&mut slot.online, true) {
            return Err(Broken::new("I15", format!("device {device} comes online twice")));
        }
        self.say_report(device);
        Ok(())
    }

    /// The session's task is over.
    pub(crate) fn gone(&mut self, session: usize) -> Step {
        let device = self.sessions[session].device;
        if self.sessions[session].boot != self.server.boot || !std::mem::take(&mut self.sessions[session].served) {
            return Ok(());
        }
        self.sessions[session].inbox.clear();
        if self.devices[device].session == Some(session) {
            self.devices[device].session = None;
            self.redial(device);
        }
        if self.server.slots[device].current != Some(session) && !self.is_broken(Fault::TakeoverOffline) {
            return Ok(());
        }
        self.server.slots[device].current = None;
        let unsent = self.server.slots[device].machine.commands().cancel(false);
        for command in unsent {
            self.unsent(command.waiter);
        }
        self.server.slots[device].online = false;
        let boot = self.server.boot;
        let newer = self.sessions[session + 1..].iter().any(|s| s.device == device && s.boot == boot && s.served);
        if newer {
            return Err(Broken::new("I15", format!("device {device} goes offline while a newer session is served")));
        }
        Ok(())
    }

    pub(crate) fn encode(&mut self, session: usize) -> Step {
        let Session { device, boot, served, closing, busy, .. } = self.sessions[session];
        if boot != self.server.boot || !served || closing {
            return Ok(());
        }
        if busy.is_some() {
            self.sessions[session].woken = true;
            return Ok(());
        }
        let queued: Vec<_> = self.server.slots[device].machine.commands().queued().collect();
        for QueuedCommand { id, authority, .. } in queued {
            let token = if self.devices[device].by_report { Token::StateReport } else { Token::CommandId };
            let n = self.server.numbers[&id];
            let still = authority.owner == Some(UserKey(self.owners[device]));
            if !still && !self.is_broken(Fault::FormerOwnerSends) {
                let withdrawn = self.server.slots[device].machine.commands().withdraw(id).is_some();
                if withdrawn {
                    self.unsent(n);
                }
                continue;
            }
            if self.server.slots[device].machine.commands().written(id, token) {
                self.send(session, n)?;
            }
        }
        Ok(())
    }

    pub(crate) fn arrives(&mut self, session: usize, message: Message) -> Step {
        let it = &mut self.sessions[session];
        if it.boot != self.server.boot || !it.served || !self.server.up {
            return Ok(());
        }
        it.inbox.push_back(message);
        self.work(session)
    }

    /// The session's task goes on until it has to wait.
    fn work(&mut self, session: usize) -> Step {
        while self.sessions[session].busy.is_none() && self.sessions[session].served && !self.sessions[session].closing
        {
            let Some(message) = self.sessions[session].inbox.pop_front() else { break };
            match message {
                Message::Ack(n, ack, contacts) => self.take_ack(session, n, &ack, &contacts)?,
                Message::Report(report) => self.take_report(session, &report)?,
            }
        }
        if self.sessions[session].busy.is_none() && std::mem::take(&mut self.sessions[session].woken) {
            self.encode(session)?;
        }
        Ok(())
    }

    fn take_ack(&mut self, session: usize, n: u32, ack: &Ack, contacts: &[bool]) -> Step {
        let speaker = self.sessions[session].device;
        let device = if self.is_broken(Fault::ForeignAck) { self.asked[n as usize].device } else { speaker };
        let mut given = None;
        let taken = self.server.slots[device].machine.acknowledge(ack, |write| given = Some(write));
        match taken {
            AckTaken::Late => self.tally.late_acks += 1,
            AckTaken::Duplicate => self.tally.duplicate_acks += 1,
            AckTaken::Unknown => self.tally.foreign_acks += u64::from(self.asked[n as usize].device != speaker),
            AckTaken::Open => self.close_questions(device, Some(n)),
            AckTaken::Reported => {}
        }
        if taken == AckTaken::Late {
            self.server.slots[device].questions.retain(|q| *q != n);
            self.server.slots[device].unhealed.retain(|q| *q != n);
        }
        if given.is_some() && (self.asked[n as usize].device != speaker || !self.asked[n as usize].spoken) {
            let what = format!("device {speaker} answers command {n}, which is not its own, and it counts");
            return Err(Broken::new("I7", what));
        }
        if let Some(write) = given {
            self.give(device, write, session)?;
        } else if taken == AckTaken::Duplicate && self.is_broken(Fault::DuplicateAck) {
            let action = self.asked[n as usize].action;
            let sets: RelaySets = action.index().map(|index| RelaySet { index, on: action.on() }).into_iter().collect();
            let place = self.server.slots[device].machine.states().project(&sets);
            self.queue(device, Why::Late(n), (sets, place), Vec::new(), None);
        }
        let own = self.asked[n as usize].device == speaker;
        let first = own && !std::mem::replace(&mut self.asked[n as usize].acknowledged, true);
        if first && taken != AckTaken::Unknown {
            let action = self.asked[n as usize].action;
            let refused = matches!(ack.outcome, hexa_model::driver::AckOutcome::Rejected { .. });
            for (index, is) in (0..).zip(contacts) {
                let listed = ack.relays.iter().any(|r| r.index == index);
                let meant = ack.relays.is_empty() && !refused && action.index().is_none_or(|i| i == index);
                if listed || meant {
                    self.believe(device, index, *is)?;
                }
            }
        }
        Ok(())
    }

    fn take_report(&mut self, session: usize, report: &StateReport) -> Step {
        let device = self.sessions[session].device;
        self.answer_any(device, report, session)?;
        let mut given = Vec::new();
        let taken = self.server.slots[device].machine.observe(report, |write| given.push(write));
        for write in given {
            if let WriteCause::Report(Some(healed)) = &write.cause {
                self.is_healed(device, self.server.numbers[&healed.id], report)?;
            }
            self.give(device, write, session)?;
        }
        for older in taken.older {
            let n = self.server.numbers[&older.id];
            self.is_healed(device, n, report)?;
            self.never(n);
            self.row(Why::Healed(n));
        }
        for n in self.heals_for_ever(device, report) {
            self.is_healed(device, n, report)?;
        }
        self.close_questions(device, None);
        for relay in &report.relays {
            self.believe(device, relay.index, relay.on)?;
        }
        Ok(())
    }

    /// What the machine wants written.
    pub(crate) fn give(&mut self, device: usize, write: Write<u32>, session: usize) -> Step {
        let Write { cause, outcome, sets, number: place } = write;
        let (why, command) = match cause {
            WriteCause::Answer(command) => {
                self.asked[command.waiter as usize].judged = true;
                (Why::Answer(command.waiter, outcome), Some(command.waiter))
            }
            WriteCause::Late(command) => {
                let n = self.server.numbers[&command.id];
                (Why::Late(n), Some(n))
            }
            WriteCause::Report(healed) => {
                // What it shows of a healed command is that command's doing.
                let n = healed.map(|h| self.server.numbers[&h.id]);
                (Why::Report(n), n)
            }
            WriteCause::Correction => (Why::Report(None), None),
        };
        // A state that was asked for is the command's doing, any other the device's own.
        let mut ops = Vec::new();
        for set in &sets {
            let asked = command.map(|n| &self.asked[n as usize]).filter(|a| a.action.on() == set.on);
            let own = asked.and_then(|a| a.ops.iter().find(|(index, _)| *index == set.index).copied());
            let history = &mut self.histories[device][usize::from(set.index)];
            ops.push(own.unwrap_or_else(|| (set.index, history.begin(Op::Set(set.on), None))));
        }
        let waits = !matches!(why, Why::Answer(..));
        if self.is_broken(Fault::BroadcastBeforeCommit) {
            for set in &sets {
                let version = self.server.slots[device].heard[usize::from(set.index)] + 1;
                self.hear(device, set.index, version)?;
            }
        }
        if let (Why::Answer(n, outcome), true) = (why, self.is_broken(Fault::AnswerBeforeCommit)) {
            let next = |s: &RelaySet| hexa_model::RelayState {
                index: s.index,
                on: s.on,
                version: self.disk.get(device, s.index).map_or(0, |(_, v)| v) + 1,
                updated_at: TimeMs(0),
            };
            let stored = sets.iter().map(next).collect();
            self.answered(n, outcome, Some(&stored));
        }
        if let Why::Report(Some(n)) = why {
            for (index, op) in self.asked[n as usize].ops.clone() {
                if !ops.contains(&(index, op)) {
                    self.histories[device][usize::from(index)].nothing(op);
                }
            }
        }
        let number = self.queue(device, why, (sets, place), ops, waits.then_some(session));
        if waits {
            self.sessions[session].busy = Some(number);
        }
        Ok(())
    }

    /// A row without states.
    pub(crate) fn row(&mut self, why: Why) {
        let (Why::Answer(n, _) | Why::Late(n) | Why::Healed(n) | Why::Ended(n, _)) = why else { return };
        self.queue(self.asked[n as usize].device, why, (RelaySets::new(), 0), Vec::new(), None);
    }

    /// An open command that was not written ends.
    pub(crate) fn unsent(&mut self, n: u32) {
        self.asked[n as usize].over = true;
        self.never(n);
        self.row(Why::Ended(n, Outcome::Error));
    }
}

/// The writer and whoever waits for it.
impl World {
    fn queue(
        &mut self,
        device: usize,
        why: Why,
        (sets, place): (RelaySets, u64),
        ops: Vec<(u16, u64)>,
        session: Option<usize>,
    ) -> u64 {
        self.server.next_write += 1;
        let number = self.server.next_write;
        self.disk.submit(Queued { number, device, why, sets: sets.clone(), place, again: false });
        let under_way = UnderWay { device, why, sets, ops, session, stored: None, place, again: false };
        self.server.writes.insert(number, under_way);
        self.schedule_commit();
        number
    }

    /// What the disk did not take is given to it again, in its order.
    pub(crate) fn again(&mut self, boot: u32) {
        if boot != self.server.boot || !self.server.up {
            return;
        }
        for Queued { device, why, sets, place, .. } in std::mem::take(&mut self.server.kept) {
            let mut given = (RelaySets::new(), 0);
            self.server.slots[device].machine.retry((&sets, place), |sets, place| given = (sets, place));
            let (sets, place) = given;
            let histories = &mut self.histories[device];
            let ops = sets.iter().map(|s| (s.index, histories[usize::from(s.index)].begin(Op::Set(s.on), None)));
            let ops = ops.collect();
            self.server.next_write += 1;
            let number = self.server.next_write;
            self.disk.submit(Queued { number, device, why, sets: sets.clone(), place, again: true });
            let under_way = UnderWay { device, why, sets, ops, session: None, stored: None, place, again: true };
            self.server.writes.insert(number, under_way);
        }
        self.schedule_commit();
    }

    /// Keeps a write that failed, to try it again.
    fn keep(&mut self, write: Queued) {
        // A report's own row is not kept: the next report is compared afresh.
        if write.why.row().0.is_some() && !self.is_broken(Fault::PrimaryRowLost) {
            let boot = self.server.boot;
            self.server.kept.push(write);
            self.after(1_000, Event::Again { boot });
        }
    }

    fn schedule_commit(&mut self) {
        if !self.disk.is_idle() && !std::mem::replace(&mut self.server.committing, true) {
            let stalls = self.rng.chance(self.trouble.disk_stalls);
            let delay = if stalls { self.rng.between(100, 6_000) } else { self.rng.between(1, 4) };
            let boot = self.server.boot;
            self.after(delay, Event::Commit { boot });
        }
    }

    pub(crate) fn commit(&mut self, boot: u32) -> Step {
        if boot != self.server.boot || !self.server.up {
            return Ok(());
        }
        self.server.committing = false;
        let most = self.rng.between(1, self.disk.queued().max(1) as u64) as usize;
        let ended: Vec<(Queued, Option<RelayStates>)> = if self.rng.chance(self.trouble.commit_fails) {
            self.tally.failed_commits += 1;
            self.disk.fail(most).into_iter().map(|write| (write, None)).collect()
        } else {
            self.disk.commit(most)?.into_iter().map(|(write, stored)| (write, Some(stored))).collect()
        };
        for (write, stored) in ended {
            if let Some(relays) = stored.clone().filter(|r| !r.is_empty()) {
                let change = Change { source: Source::Device, command: None, relays, at: TimeMs(0) };
                self.server.slots[write.device].machine.states().record_commit(change);
            }
            if stored.is_some() {
                if let Why::Ended(_, outcome) | Why::Answer(_, outcome) = write.why {
                    *self.server.rows.entry(outcome.as_str()).or_default() += 1;
                }
                self.tally.stored_later += u64::from(write.again);
                if !self.server.kept.is_empty() {
                    self.after(1, Event::Again { boot });
                }
            } else {
                self.keep(write.clone());
            }
            if let Some(under_way) = self.server.writes.get_mut(&write.number) {
                under_way.stored = stored;
            }
            let delay = self.rng.below(6);
            self.after(delay, Event::Wake { boot, write: write.number });
        }
        self.schedule_commit();
        Ok(())
    }

    pub(crate) fn wake(&mut self, boot: u32, number: u64) -> Step {
        if boot != self.server.boot {
            return Ok(());
        }
        let Some(under_way) = self.server.writes.remove(&number) else { return Ok(()) };
        let UnderWay { device, why, sets, ops, session, stored, place, again } = under_way;
        if let Why::Answer(..) | Why::Late(_) | Why::Report(_) = why {
            let mut told = Vec::new();
            let write = (&sets, place);
            self.server.slots[device]
                .machine
                .publish_committed(write, stored.is_some(), |change| told.extend(change.relays));
            for state in told {
                self.hear(device, state.index, state.version)?;
            }
        }
        if stored.is_none() && (why.row().0.is_none() || self.is_broken(Fault::PrimaryRowLost)) {
            // Unknown until the next report, also what was said again meanwhile and compared with this.
            for set in &sets {
                self.server.slots[device].said[usize::from(set.index)] = None;
            }
        }
        for (index, op) in ops {
            let history = &mut self.histories[device][usize::from(index)];
            match stored.as_ref().and_then(|s| s.iter().find(|s| s.index == index)) {
                Some(state) => history.end(op, Ret::Wrote(state.version)),
                None => history.nothing(op),
            }
        }
        match why {
            _ if again => {}
            Why::Answer(n, outcome) => self.end_answer(n, outcome, &sets, stored.as_ref()),
            Why::Late(n) => self.end_unwritten(n, &sets, None),
            Why::Ended(n, outcome) => {
                self.asked[n as usize].answers += 1;
                *self.server.metrics.entry(outcome.as_str()).or_default() += 1;
                if outcome == Outcome::Offline {
                    self.never(n);
                }
            }
            Why::Report(_) | Why::Healed(_) => {}
        }
        self.check_device(device)?;
        if let Some(session) = session {
            self.sessions[session].busy = None;
            self.work(session)?;
        }
        Ok(())
    }

    fn end_answer(&mut self, n: u32, outcome: Outcome, sets: &RelaySets, stored: Option<&RelayStates>) {
        let success = matches!(outcome, Outcome::Executed | Outcome::Noop) && stored.is_some();
        self.end_unwritten(n, sets, success.then_some(Ret::Already));
        if !self.is_broken(Fault::AnswerBeforeCommit) {
            self.answered(n, outcome, stored);
        }
    }

    /// Operations of a command that its write did not contain: it was so already, or nothing happened.
    fn end_unwritten(&mut self, n: u32, sets: &RelaySets, ret: Option<Ret>) {
        let (device, on) = (self.asked[n as usize].device, self.asked[n as usize].action.on());
        for (index, op) in self.asked[n as usize].ops.clone() {
            if sets.iter().any(|s| s.index == index && s.on == on) {
                continue;
            }
            let history = &mut self.histories[device][usize::from(index)];
            match ret {
                Some(ret) => history.end(op, ret),
                None => history.nothing(op),
            }
        }
    }

    fn hear(&mut self, device: usize, index: u16, version: u64) -> Step {
        let heard = &mut self.server.slots[device].heard[usize::from(index)];
        let former = std::mem::replace(heard, version);
        if version != former + 1 {
            let what = format!("device {device} relay {index}: version {version} is told after {former}");
            return Err(Broken::new("I10", what));
        }
        if self.disk.get(device, index).is_none_or(|(_, stored)| stored < version) {
            let what = format!("device {device} relay {index}: version {version} is told and not stored");
            return Err(Broken::new("I10", what));
        }
        Ok(())
    }
}
