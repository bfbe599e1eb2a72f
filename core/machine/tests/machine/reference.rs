//! What the machine must do, said a second time and as simply as possible: lists, no cleverness.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hexa_machine::Change;
use hexa_machine::{
    AckTaken, Authority, MAX_OPEN, MAX_RECENT, Machine, NewCommand, Token, Unlocked, Write, WriteCause,
};
use hexa_model::audit::RelaySets;
use hexa_model::driver::{Ack, AckOutcome, EventMeta, ReportedRelay, StateReport};
use hexa_model::{Actor, Cause, CommandId, Outcome, RelayAction, RelayState, Source, TimeMs};

pub(crate) fn id(n: u32) -> CommandId {
    let mut chance = [0; 10];
    chance[..4].copy_from_slice(&n.to_be_bytes());
    CommandId::at(TimeMs(1_000 + i64::from(n)), chance)
}

pub(crate) fn command(n: u32, action: RelayAction) -> NewCommand {
    NewCommand {
        id: id(n),
        action: action.into(),
        source: Source::Api,
        actor: Actor::System,
        cause: Cause::platform("test"),
        authority: Authority::default(),
        accepted: Duration::ZERO,
        expires_at: TimeMs(9_000),
    }
}

pub(crate) fn action(index: Option<u16>, on: bool) -> RelayAction {
    index.map_or(RelayAction::SetAll { on }, |index| RelayAction::Set { index, on, for_ms: None })
}

pub(crate) fn reported(relays: &[(u16, bool)]) -> Vec<ReportedRelay> {
    relays.iter().map(|&(index, on)| ReportedRelay { index, on, source: None, timer_ends_in_ms: None }).collect()
}

pub(crate) fn report(relays: &[(u16, bool)]) -> StateReport {
    StateReport { relays: reported(relays), complete: false, firmware: None, meta: EventMeta::default() }
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit {
        index: Option<u16>,
        on: bool,
    },
    /// The session's task encodes up to so many of the queued ones.
    Encode {
        most: usize,
        by_report: bool,
    },
    /// The driver cannot encode the first of the queued ones.
    Unsendable,
    /// For the command that many ago; beyond the first there are foreign ones.
    Ack {
        ago: u32,
        outcome: AckOutcome,
        relays: Vec<(u16, bool)>,
    },
    Report {
        relays: Vec<(u16, bool)>,
    },
    Deadline {
        ago: u32,
    },
    SessionLost,
    Release,
    /// The oldest write ends on the disk.
    Commit {
        ok: bool,
    },
    /// Whoever waited for that one of the ended writes wakes up.
    Wake {
        which: usize,
    },
    /// The oldest row that the disk did not take is tried again.
    Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    Written {
        by_report: bool,
    },
    /// The device answered; its write is under way.
    Answered,
    TimedOut {
        written: bool,
    },
    Failed,
}

#[derive(Debug)]
struct Asked {
    action: RelayAction,
    stage: Stage,
    /// Timed out, and no report about its relays has come since, nor an answer of one that was asked after it.
    heals: bool,
    /// Its own acknowledgement has come.
    acknowledged: bool,
    /// Times that its waiter was completed.
    ends: u32,
    primary_rows: u32,
    /// Given out, on the disk or not.
    follow_ups: u32,
}

/// The row that a write is for.
#[derive(Clone, Copy, Debug)]
enum Row {
    Primary(u32, Outcome),
    FollowUp,
    /// Of the device itself: not kept, the next report has its own.
    None,
}

#[derive(Clone, Debug)]
struct UnderWay {
    sets: RelaySets,
    number: u64,
    by: (Source, Option<CommandId>),
    row: Row,
    /// Whether it failed before and was given out again.
    again: bool,
    /// Once it has ended: whether it is on the disk.
    ended: Option<bool>,
}

/// Runs the machine and the reference side by side.
pub(crate) struct Pair {
    relay_count: u16,
    machine: Unlocked<u32>,
    asked: Vec<Asked>,
    /// Ended ones, the oldest first, as far as the machine remembers them.
    recent: VecDeque<u32>,
    /// What the disk will have when all that is under way succeeds; unknown after a failure.
    expected: Vec<Option<bool>>,
    /// The number of the last write, per relay.
    latest: Vec<u64>,
    /// What the device said last of each relay, but for second and foreign acknowledgements.
    said: Vec<Option<bool>>,
    disk: Vec<Option<(bool, u64)>>,
    /// Versions that were published, per relay.
    heard: Vec<u64>,
    under_way: VecDeque<UnderWay>,
    /// Ended, nobody awake yet.
    ended: Vec<UnderWay>,
    /// Rows of commands that the disk did not take, with what belongs to them.
    kept: VecDeque<UnderWay>,
    rows: BTreeMap<&'static str, u32>,
    metrics: BTreeMap<&'static str, u32>,
    time: i64,
}

impl Pair {
    pub(crate) fn new(relay_count: u16) -> Self {
        let n = usize::from(relay_count);
        Self {
            relay_count,
            machine: Unlocked::new(relay_count, &[]),
            asked: Vec::new(),
            recent: VecDeque::new(),
            expected: vec![None; n],
            latest: vec![0; n],
            said: vec![None; n],
            disk: vec![None; n],
            heard: vec![0; n],
            under_way: VecDeque::new(),
            ended: Vec::new(),
            kept: VecDeque::new(),
            rows: BTreeMap::new(),
            metrics: BTreeMap::new(),
            time: 0,
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        self.time += 1;
        match step {
            Step::Submit { index, on } => self.submit(action(index.filter(|i| *i < self.relay_count), *on)),
            Step::Encode { most, by_report } => self.encode(*most, *by_report),
            Step::Unsendable => self.unsendable(),
            Step::Ack { ago, outcome, relays } => self.ack(*ago, outcome, &self.real(relays)),
            Step::Report { relays } => self.report(&self.real(relays)),
            Step::Deadline { ago } => self.deadline(*ago),
            Step::SessionLost => self.cancel(false),
            Step::Release => self.cancel(true),
            Step::Commit { ok } => self.commit(*ok),
            Step::Wake { which } => self.wake(*which),
            Step::Again => self.again(),
        }
        self.check();
    }

    /// Drivers give existing relays only.
    fn real(&self, relays: &[(u16, bool)]) -> Vec<(u16, bool)> {
        relays.iter().copied().filter(|(i, _)| *i < self.relay_count).collect()
    }
    fn is_open(&self, n: u32) -> bool {
        matches!(self.asked[n as usize].stage, Stage::Queued | Stage::Written { .. })
    }
    fn in_stage(&self, want: impl Fn(Stage) -> bool) -> Vec<u32> {
        (0..self.asked.len() as u32).filter(|n| want(self.asked[*n as usize].stage)).collect()
    }
    fn ends(&mut self, n: u32, outcome: &'static str) {
        self.asked[n as usize].ends += 1;
        *self.metrics.entry(outcome).or_default() += 1;
    }
    fn row(&mut self, n: u32, outcome: &'static str) {
        self.asked[n as usize].primary_rows += 1;
        *self.rows.entry(outcome).or_default() += 1;
    }
    /// Whether two commands have a relay in common.
    fn meet(&self, a: u32, b: u32) -> bool {
        match (self.asked[a as usize].action.index(), self.asked[b as usize].action.index()) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }
    /// A write is given out.
    fn give(&mut self, write: &Write<u32>, row: Row) {
        for set in &write.sets {
            self.latest[usize::from(set.index)] = write.number;
        }
        let (sets, number, by) = (write.sets.clone(), write.number, write.by());
        self.under_way.push_back(UnderWay { sets, number, by, row, again: false, ended: None });
    }
    fn remember(&mut self, n: u32) {
        self.recent.push_back(n);
        if self.recent.len() > MAX_RECENT {
            self.recent.pop_front();
        }
    }

    fn submit(&mut self, action: RelayAction) {
        let n = self.asked.len() as u32;
        let open = self.in_stage(|s| matches!(s, Stage::Queued | Stage::Written { .. })).len();
        let accepted = self.machine.commands().accept(command(n, action), n);
        assert_eq!(accepted.is_ok(), open < MAX_OPEN, "{open} are open");
        if accepted.is_ok() {
            let (heals, acknowledged) = (false, false);
            let stage = Stage::Queued;
            self.asked.push(Asked { action, stage, heals, acknowledged, ends: 0, primary_rows: 0, follow_ups: 0 });
        }
    }

    fn encode(&mut self, most: usize, by_report: bool) {
        // I6: in the order of acceptance.
        let queued: Vec<_> = self.machine.commands().queued().map(|q| q.id).collect();
        let expected = self.in_stage(|s| s == Stage::Queued);
        assert_eq!(queued, expected.iter().map(|n| id(*n)).collect::<Vec<_>>(), "I6");
        for n in expected.into_iter().take(most) {
            let token = || if by_report { Token::StateReport } else { Token::CommandId };
            assert!(self.machine.commands().written(id(n), token()));
            assert!(!self.machine.commands().written(id(n), token()), "nothing is sent twice");
            self.asked[n as usize].stage = Stage::Written { by_report };
        }
    }

    fn unsendable(&mut self) {
        let Some(&n) = self.in_stage(|s| s == Stage::Queued).first() else { return };
        assert_eq!(self.machine.commands().withdraw(id(n)).unwrap().waiter, n);
        self.asked[n as usize].stage = Stage::Failed;
        self.row(n, "error");
        self.ends(n, "error");
    }

    fn ack(&mut self, ago: u32, outcome: &AckOutcome, relays: &[(u16, bool)]) {
        // Beyond the first command: one of another device's.
        let n = (self.asked.len() as u32).checked_sub(ago + 1);
        let token = n.map_or_else(|| id(1_000_000 + ago).to_string(), |n| id(n).to_string());
        let ack = Ack { token, outcome: outcome.clone(), relays: reported(relays) };
        let expected = n.map_or(AckTaken::Unknown, |n| match self.asked[n as usize].stage {
            Stage::Written { .. } => AckTaken::Open,
            Stage::TimedOut { written: true } | Stage::Answered if self.recent.contains(&n) => {
                let asked = &self.asked[n as usize];
                match asked.stage {
                    _ if asked.acknowledged => AckTaken::Duplicate,
                    Stage::TimedOut { .. } if asked.follow_ups == 0 => AckTaken::Late,
                    _ => AckTaken::Reported,
                }
            }
            _ => AckTaken::Unknown,
        });
        let mut writes = Vec::new();
        let taken = self.machine.acknowledge(&ack, |write| writes.push(write));
        assert_eq!(taken, expected, "I7, I8: {:?}", n.map(|n| &self.asked[n as usize]));
        match taken {
            AckTaken::Open | AckTaken::Late => assert_eq!(writes.len(), 1),
            AckTaken::Reported => {}
            AckTaken::Duplicate | AckTaken::Unknown => assert!(writes.is_empty(), "I7, I8"),
        }
        let Some(n) = n.filter(|_| matches!(taken, AckTaken::Open | AckTaken::Late | AckTaken::Reported)) else {
            return;
        };
        (self.asked[n as usize].acknowledged, self.asked[n as usize].heals) = (true, false);
        if taken == AckTaken::Reported {
            let corrected = self.spoken(n, &ack).into_iter().enumerate();
            let differs = corrected.filter(|(i, on)| on.is_some() && *on != self.expected[*i]).count();
            assert_eq!(writes.first().map_or(0, |w| w.sets.len()), differs, "what differs is written, and no more");
        }
        for (index, on) in self.spoken(n, &ack).into_iter().enumerate() {
            self.said[index] = on.or(self.said[index]);
        }
        if taken == AckTaken::Open {
            for earlier in self.recent.clone() {
                let met = self.meet(earlier, n);
                self.asked[earlier as usize].heals &= !met;
            }
        }
        for write in writes {
            match &write.cause {
                WriteCause::Answer(command) => assert_eq!((taken, command.waiter), (AckTaken::Open, n)),
                WriteCause::Late(command) => assert_eq!((taken, command.id), (AckTaken::Late, id(n))),
                WriteCause::Correction => assert_eq!(taken, AckTaken::Reported),
                WriteCause::Report(_) => panic!("an ack is no report"),
            }
            let row = match taken {
                AckTaken::Open => {
                    self.judged(n, &ack, &write);
                    self.asked[n as usize].stage = Stage::Answered;
                    self.remember(n);
                    Row::Primary(n, write.outcome)
                }
                AckTaken::Late => {
                    self.judged(n, &ack, &write);
                    self.asked[n as usize].follow_ups += 1;
                    Row::FollowUp
                }
                _ => {
                    for set in &write.sets {
                        self.expected[usize::from(set.index)] = Some(set.on);
                    }
                    Row::None
                }
            };
            self.give(&write, row);
        }
        self.believed();
    }

    /// What an acknowledgement says of each relay: what it lists; what it was asked for, when it lists none and does not
    /// refuse.
    fn spoken(&self, n: u32, ack: &Ack) -> Vec<Option<bool>> {
        let asked = self.asked[n as usize].action;
        let refused = matches!(ack.outcome, AckOutcome::Rejected { .. });
        let said = |index: u16| ack.relays.iter().rfind(|r| r.index == index).map(|r| r.on);
        let of = |index: u16| {
            let wanted = asked.index().is_none_or(|i| i == index);
            let silent = ack.relays.is_empty();
            said(index).or_else(|| (wanted && silent && !refused).then(|| asked.on()))
        };
        (0..self.relay_count).map(of).collect()
    }

    /// Server and device agree: what the device said last of a relay is what the disk will have, unless a write failed.
    fn believed(&self) {
        for (index, said) in self.said.iter().enumerate() {
            let (said, projected) = (*said, self.machine.states().projected(index as u16));
            assert!(projected.is_none() || projected == said, "relay {index}: said {said:?}, believed {projected:?}");
        }
    }

    /// Says again what an answer amounts to: each relay has what the device says of it, else what was asked for and
    /// not refused; where it lists relays, only what is listed is confirmed.
    fn judged(&mut self, n: u32, ack: &Ack, write: &Write<u32>) {
        let asked = self.asked[n as usize].action;
        let refused = matches!(ack.outcome, AckOutcome::Rejected { .. });
        let mut confirmed = true;
        for index in 0..self.relay_count {
            let wanted = asked.index().is_none_or(|i| i == index);
            let said = ack.relays.iter().rfind(|r| r.index == index).map(|r| r.on);
            let silent = ack.relays.is_empty();
            let has = if said.is_some() { said } else { (wanted && silent && !refused).then(|| asked.on()) };
            confirmed &= !wanted || has == Some(asked.on());
            let written = write.sets.iter().filter(|s| s.index == index).map(|s| s.on).collect::<Vec<_>>();
            let Some(has) = has else {
                assert!(written.is_empty(), "nothing is known of relay {index}");
                continue;
            };
            let changed = self.expected[usize::from(index)] != Some(has);
            let executed = wanted && ack.outcome == AckOutcome::Executed;
            assert!(written.iter().all(|on| *on == has) && written.len() <= 1, "{written:?}");
            assert!(!(changed || executed) || !written.is_empty(), "relay {index} is {has} and nothing is written");
            self.expected[usize::from(index)] = Some(has);
        }
        let outcome = match (&ack.outcome, confirmed) {
            (AckOutcome::Rejected { .. }, _) => Outcome::Rejected,
            (_, false) => Outcome::Mismatch,
            (AckOutcome::Executed, true) => Outcome::Executed,
            (AckOutcome::Noop, true) => Outcome::Noop,
        };
        assert_eq!(write.outcome, outcome);
    }

    fn report(&mut self, relays: &[(u16, bool)]) {
        let report = report(relays);
        let says = |index: u16| report.relays.iter().rfind(|r| r.index == index).map(|r| r.on);
        let relay_count = self.relay_count;
        let shows = |action: RelayAction| {
            (0..relay_count).filter(|i| action.index().is_none_or(|a| a == *i)).all(|i| says(i) == Some(action.on()))
        };
        // In the order of acceptance: one that stays open keeps the report from answering a later one of its relays,
        // unless that has no other acknowledgement.
        let (mut answered, mut left) = (Vec::new(), Vec::new());
        for n in self.in_stage(|s| matches!(s, Stage::Queued | Stage::Written { .. })) {
            let first = !left.iter().any(|earlier| self.meet(*earlier, n));
            let may = match self.asked[n as usize].stage {
                Stage::Written { by_report } => by_report || first,
                _ => false,
            };
            if may && shows(self.asked[n as usize].action) { answered.push(n) } else { left.push(n) }
        }
        let mentions = |action: RelayAction| relays.iter().any(|(i, _)| action.index().is_none_or(|a| a == *i));
        let asked_about: Vec<u32> = self
            .recent
            .iter()
            .copied()
            .filter(|n| self.asked[*n as usize].heals && mentions(self.asked[*n as usize].action))
            .collect();
        let healed: Vec<u32> = asked_about
            .iter()
            .copied()
            .filter(|n| self.asked[*n as usize].follow_ups == 0 && shows(self.asked[*n as usize].action))
            .collect();
        let mut writes = Vec::new();
        let taken = self.machine.observe(&report, |write| writes.push(write));
        assert!(writes.len() == answered.len() + usize::from(taken.written));
        let mut writes = writes.into_iter();
        let shown = Ack { token: String::new(), outcome: AckOutcome::Executed, relays: Vec::new() };
        for n in answered {
            let write = writes.next().unwrap();
            assert!(matches!(&write.cause, WriteCause::Answer(c) if c.waiter == n));
            self.judged(n, &shown, &write);
            self.asked[n as usize].stage = Stage::Answered;
            self.remember(n);
            self.give(&write, Row::Primary(n, write.outcome));
        }
        // One memory holds them all; the answered ones above may have pushed the oldest out of it.
        let healed: Vec<u32> = healed.into_iter().filter(|n| self.recent.contains(n)).collect();
        let older: Vec<_> = taken.older.iter().map(|t| t.id).collect();
        let newest = healed.last().map(|n| id(*n));
        assert_eq!(older, healed.iter().rev().skip(1).rev().map(|n| id(*n)).collect::<Vec<_>>());
        for n in asked_about {
            self.asked[n as usize].heals = false;
        }
        for n in &healed {
            self.asked[*n as usize].follow_ups += 1;
        }
        let changed = (0..relay_count).any(|i| says(i).is_some_and(|on| self.expected[usize::from(i)] != Some(on)));
        assert_eq!(taken.written, changed || newest.is_some(), "an unchanged report costs no write");
        for write in writes {
            assert!(matches!(&write.cause, WriteCause::Report(h) if h.as_ref().map(|h| h.id) == newest));
            self.give(&write, healed.last().map_or(Row::None, |_| Row::FollowUp));
        }
        for index in 0..relay_count {
            if let Some(on) = says(index) {
                self.expected[usize::from(index)] = Some(on);
                self.said[usize::from(index)] = Some(on);
            }
        }
        self.believed();
    }

    fn deadline(&mut self, ago: u32) {
        let Some(n) = (self.asked.len() as u32).checked_sub(ago + 1) else { return };
        let ended = self.machine.commands().time_out(id(n)).map(|c| c.waiter);
        assert_eq!(ended, self.is_open(n).then_some(n), "the deadline ends what is open, once");
        if ended.is_none() {
            return;
        }
        let written = matches!(self.asked[n as usize].stage, Stage::Written { .. });
        self.asked[n as usize].stage = Stage::TimedOut { written };
        if written {
            self.asked[n as usize].heals = true;
            self.remember(n);
        }
        self.row(n, "timeout");
        self.ends(n, "timeout");
    }

    fn cancel(&mut self, all: bool) {
        let expected = self.in_stage(|s| s == Stage::Queued || (all && matches!(s, Stage::Written { .. })));
        let cancelled: Vec<u32> = self.machine.commands().cancel(all).into_iter().map(|c| c.waiter).collect();
        assert_eq!(cancelled, expected);
        if all {
            // Whatever the device says later is not about a former owner's commands.
            self.recent.clear();
        }
        for n in cancelled {
            self.asked[n as usize].stage = Stage::Failed;
            self.row(n, "error");
            self.ends(n, "error");
        }
    }

    fn commit(&mut self, ok: bool) {
        let Some(mut done) = self.under_way.pop_front() else { return };
        done.ended = Some(ok);
        if ok {
            let at = TimeMs(self.time);
            let mut relays = hexa_model::audit::RelayStates::new();
            for set in &done.sets {
                let slot = &mut self.disk[usize::from(set.index)];
                let version = slot.map_or(0, |(_, v)| v) + 1;
                *slot = Some((set.on, version));
                relays.push(RelayState { index: set.index, on: set.on, version, updated_at: at });
            }
            let (source, command) = done.by;
            if !relays.is_empty() {
                self.machine.states().record_commit(Change { source, command, relays, at });
            }
            if let Row::Primary(n, outcome) = done.row {
                self.stored(n, outcome, done.again);
            }
        } else if !matches!(done.row, Row::None) {
            self.kept.push_back(UnderWay { again: true, ended: None, ..done.clone() });
        }
        self.ended.push(done);
    }

    /// I1: what is answered with success is on the disk in this moment. One that failed before had no such answer.
    fn stored(&mut self, n: u32, outcome: Outcome, again: bool) {
        self.row(n, outcome.as_str());
        let action = self.asked[n as usize].action;
        if !again && matches!(outcome, Outcome::Executed | Outcome::Noop) {
            for index in (0..self.relay_count).filter(|i| action.index().is_none_or(|a| a == *i)) {
                let has = self.disk[usize::from(index)].map(|(on, _)| on);
                assert_eq!(has, Some(action.on()), "I1: a success, and relay {index} is not so on the disk");
            }
        }
    }

    /// A row is given out again, with those of its states that nothing later was said of.
    fn again(&mut self) {
        let Some(kept) = self.kept.pop_front() else { return };
        let latest: RelaySets =
            kept.sets.iter().copied().filter(|s| self.latest[usize::from(s.index)] == kept.number).collect();
        let mut given = None;
        self.machine.retry((&kept.sets, kept.number), |sets, number| given = Some((sets, number)));
        let (sets, number) = given.unwrap();
        assert_eq!(sets, latest, "nothing older is written over what came later");
        for set in &sets {
            self.latest[usize::from(set.index)] = number;
            self.expected[usize::from(set.index)] = Some(set.on);
        }
        self.under_way.push_back(UnderWay { sets, number, ..kept });
        self.believed();
    }

    fn wake(&mut self, which: usize) {
        if self.ended.is_empty() {
            return;
        }
        let done = self.ended.remove(which % self.ended.len());
        let (disk, heard) = (&self.disk, &mut self.heard);
        self.machine.publish_committed((&done.sets, done.number), done.ended == Some(true), |change| {
            for state in &change.relays {
                let slot = usize::from(state.index);
                assert_eq!(state.version, heard[slot] + 1, "I3, I10: each version once and in order");
                assert!(disk[slot].unwrap().1 >= state.version, "told before the commit");
                heard[slot] = state.version;
            }
        });
        if done.ended == Some(false) {
            // Unknown until the device says more, or has said so already.
            for set in done.sets.iter().filter(|s| self.latest[usize::from(s.index)] == done.number) {
                self.expected[usize::from(set.index)] = None;
            }
        }
        if let (Row::Primary(n, outcome), false) = (done.row, done.again) {
            if done.ended == Some(true) {
                for set in &done.sets {
                    let known = self.machine.states().get(set.index).unwrap();
                    assert!(known.version >= 1, "the answer shows what was committed");
                }
            }
            // Counted by what it came to, stored or not: its row will say the same.
            self.ends(n, outcome.as_str());
        }
    }

    /// What holds after every step.
    fn check(&self) {
        for (n, asked) in self.asked.iter().enumerate() {
            assert!(asked.ends <= 1 && asked.primary_rows <= 1 && asked.follow_ups <= 1, "I2: {n} {asked:?}");
            let open = self.is_open(n as u32);
            assert!(!open || asked.ends + asked.primary_rows + asked.follow_ups == 0, "{n} {asked:?}");
        }
        if self.under_way.is_empty() && self.ended.is_empty() && self.kept.is_empty() {
            // I4, I10: at rest the cache is the disk, and everybody heard of it. I14: rows are metrics.
            for (index, slot) in self.disk.iter().enumerate() {
                let states = self.machine.states();
                assert_eq!(states.get(index as u16).map(|s| (s.on, s.version)), *slot, "I4");
                assert_eq!(self.heard[index], slot.map_or(0, |(_, v)| v), "I10");
                let projected = states.projected(index as u16);
                assert!(projected.is_none() || projected == slot.map(|(on, _)| on), "I4: {projected:?} {slot:?}");
            }
            assert_eq!(self.rows, self.metrics, "I14");
        }
    }

    /// Ends everything that is open and under way.
    pub(crate) fn finish(&mut self) {
        while !self.under_way.is_empty() {
            self.step(&Step::Commit { ok: true });
        }
        while !self.ended.is_empty() {
            self.step(&Step::Wake { which: 0 });
        }
        while !self.kept.is_empty() {
            self.step(&Step::Again);
            self.step(&Step::Commit { ok: true });
            self.step(&Step::Wake { which: 0 });
        }
        self.step(&Step::Release);
        for (n, asked) in self.asked.iter().enumerate() {
            assert_eq!((asked.ends, asked.primary_rows), (1, 1), "I2: command {n} has one end and one row: {asked:?}");
        }
    }
}
