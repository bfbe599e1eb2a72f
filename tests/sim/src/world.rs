//! The clock, the queue of what is to come, and what is counted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hexa_model::RelayAction;

use crate::devices::{Device, Message, Session};
use crate::disk::Disk;
use crate::history::History;
use crate::rng::Rng;
use crate::server::{Asked, Server};
use crate::{Fault, Plan, Violation};

/// How many of the last events a violation shows.
const LAST: usize = 40;
/// Virtual time of one round's trouble.
const ROUND_MS: u64 = 40_000;

/// An invariant that does not hold.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

impl Broken {
    pub(crate) fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, what }
    }
}

pub(crate) type Step = Result<(), Broken>;

/// Something that is to happen. Sessions, commands and writes by number.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A client asks for a command.
    Command { device: usize, action: RelayAction },
    /// A client reads the states of a device.
    Read { device: usize },
    /// A button on the device.
    Press { device: usize, index: u16 },
    /// The device reports by itself.
    Report { device: usize },
    /// The device opens a connection.
    Dial { device: usize },
    /// The link of a session breaks.
    Break { session: usize },
    /// The session's task has ended.
    Gone { session: usize },
    /// The session's task is awake.
    Encode { session: usize },
    /// A frame reaches the device.
    ToDevice { session: usize, command: u32 },
    /// A message reaches the server.
    ToServer { session: usize, message: Message },
    /// The deadline of a command.
    Deadline { boot: u32, command: u32 },
    /// The disk commits what is queued.
    Commit { boot: u32 },
    /// Whoever waited for a write is awake.
    Wake { boot: u32, write: u64 },
    /// Rows that the disk did not take are tried again.
    Again { boot: u32 },
    /// The owner gives the device up: from now on nobody owns it.
    Release { device: usize },
    /// That is committed: open commands end, the socket closes.
    Leave { boot: u32, device: usize },
    /// Somebody else claims it.
    Claim { device: usize },
    /// The server process dies.
    Crash,
    /// The server starts again after a crash.
    Restart,
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// How many events were handled.
    pub events: u64,
    /// Commands that clients asked for.
    pub commands: u64,
    /// Of these, answered with success.
    pub successes: u64,
    /// Ended by their deadline.
    pub timeouts: u64,
    /// Acks after the deadline.
    pub late_acks: u64,
    /// Second acks of a command that had one.
    pub duplicate_acks: u64,
    /// Acks for commands of others.
    pub foreign_acks: u64,
    /// Timed-out commands that a report healed.
    pub healed: u64,
    /// Sessions that took over from another.
    pub takeovers: u64,
    /// Crashes of the server.
    pub crashes: u64,
    /// Transactions that the disk refused.
    pub failed_commits: u64,
    /// Rows that were stored at a later try.
    pub stored_later: u64,
    /// Devices that changed hands.
    pub releases: u64,
    /// Histories of relays that an order was found for.
    pub histories: u64,
}

impl Tally {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.commands += other.commands;
        self.successes += other.successes;
        self.timeouts += other.timeouts;
        self.late_acks += other.late_acks;
        self.duplicate_acks += other.duplicate_acks;
        self.foreign_acks += other.foreign_acks;
        self.healed += other.healed;
        self.takeovers += other.takeovers;
        self.crashes += other.crashes;
        self.failed_commits += other.failed_commits;
        self.stored_later += other.stored_later;
        self.releases += other.releases;
        self.histories += other.histories;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [
            ("commands", self.commands),
            ("successes", self.successes),
            ("timeouts", self.timeouts),
            ("late acks", self.late_acks),
            ("second acks", self.duplicate_acks),
            ("foreign acks", self.foreign_acks),
            ("healed", self.healed),
            ("takeovers", self.takeovers),
            ("crashes", self.crashes),
            ("failed commits", self.failed_commits),
            ("rows stored later", self.stored_later),
            ("releases", self.releases),
            ("histories with an order", self.histories),
        ];
        counts.iter().try_for_each(|(name, count)| writeln!(f, "{count:>8} {name}"))
    }
}

/// How much goes wrong, per mille. Each seed draws its own, so that some runs are rough and others nearly clean.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) drop: u64,
    pub(crate) double: u64,
    pub(crate) slow: u64,
    pub(crate) break_link: u64,
    pub(crate) silent: u64,
    pub(crate) refuse: u64,
    pub(crate) stuck: u64,
    pub(crate) foreign: u64,
    pub(crate) commit_fails: u64,
    pub(crate) disk_stalls: u64,
    pub(crate) crash: u64,
    pub(crate) takeover: u64,
    pub(crate) release: u64,
}

impl Trouble {
    fn draw(rng: &mut Rng) -> Self {
        let mut some = |most: u64| if rng.chance(400) { 0 } else { rng.between(1, most) };
        Self {
            drop: some(120),
            double: some(120),
            slow: some(150),
            break_link: some(20),
            silent: some(60),
            refuse: some(60),
            stuck: some(60),
            foreign: some(40),
            commit_fails: some(150),
            disk_stalls: some(60),
            crash: some(3),
            takeover: some(20),
            release: some(10),
        }
    }
}

/// Everything that a run consists of: clients, links, devices, server and disk.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) trouble: Trouble,
    pub(crate) devices: Vec<Device>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) server: Server,
    pub(crate) disk: Disk,
    pub(crate) asked: Vec<Asked>,
    pub(crate) histories: Vec<Vec<History>>,
    /// Who owns each device; nobody is 0.
    pub(crate) owners: Vec<i64>,
    pub(crate) next_owner: i64,
    /// Every event, when somebody wants to see them.
    pub(crate) log: Option<Vec<String>>,
    pub(crate) tally: Tally,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    next: u64,
    last: VecDeque<(u64, Event)>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let trouble = Trouble::draw(&mut rng);
        let devices: Vec<_> = (0..rng.between(2, 4)).map(|_| Device::new(&mut rng)).collect();
        let counts: Vec<u16> = devices.iter().map(Device::relay_count).collect();
        let histories = counts.iter().map(|n| (0..*n).map(|_| History::new(None)).collect()).collect();
        let disk = Disk::new(&counts);
        Self {
            plan,
            now: 0,
            rng,
            trouble,
            server: Server::load(0, &counts, &disk),
            owners: (1..).take(devices.len()).collect(),
            next_owner: 100,
            log: None,
            devices,
            sessions: Vec::new(),
            disk,
            asked: Vec::new(),
            histories,
            tally: Tally::default(),
            queue: BinaryHeap::new(),
            events: std::collections::HashMap::new(),
            next: 0,
            last: VecDeque::with_capacity(LAST),
        }
    }

    pub(crate) fn is_broken(&self, fault: Fault) -> bool {
        self.plan.fault == Some(fault)
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.next += 1;
        self.queue.push(Reverse((self.now + ms, self.next)));
        self.events.insert(self.next, event);
    }

    pub(crate) fn violation(&self, broken: Broken) -> Violation {
        let Broken { invariant, what } = broken;
        let last = self.last.iter().map(|(at, event)| format!("{at:>7} ms {event:?}")).collect();
        Violation { seed: self.plan.seed, invariant, what, at_ms: self.now, last }
    }

    /// Every round: trouble, then healing, then the checks of a server at rest.
    pub(crate) fn run(&mut self) -> Result<Tally, Broken> {
        for _ in 0..self.plan.rounds {
            self.trouble = Trouble::draw(&mut self.rng);
            self.plan_round();
            self.drain()?;
            self.trouble = Trouble::default();
            self.heal();
            self.drain()?;
            self.check_rest()?;
        }
        Ok(self.tally.clone())
    }

    /// What clients, devices and fate will do in the next time.
    fn plan_round(&mut self) {
        let pace = self.rng.pick(&[40, 150, 400]);
        let mut at = 0;
        while at < ROUND_MS {
            at += self.rng.between(1, pace * 2);
            let device = self.rng.below(self.devices.len() as u64) as usize;
            let relay_count = u64::from(self.devices[device].relay_count());
            let index = self.rng.below(relay_count) as u16;
            let on = self.rng.chance(500);
            let event = match self.rng.below(100) {
                0..50 => Event::Command { device, action: RelayAction::Set { index, on, for_ms: None } },
                50..58 => Event::Command { device, action: RelayAction::SetAll { on } },
                58..85 => Event::Read { device },
                85..92 => Event::Press { device, index },
                _ => Event::Report { device },
            };
            self.after(at, event);
            if self.rng.chance(self.trouble.takeover) {
                self.after(at, Event::Dial { device });
            }
            if self.rng.chance(self.trouble.crash) {
                self.after(at, Event::Crash);
            }
            if self.rng.chance(self.trouble.release) {
                self.after(at, Event::Release { device });
            }
        }
        for device in 0..self.devices.len() {
            let at = self.rng.below(500);
            self.after(at, Event::Dial { device });
        }
    }

    /// Everybody comes back and says what is.
    fn heal(&mut self) {
        for device in 0..self.devices.len() {
            self.after(1, Event::Dial { device });
        }
    }

    fn drain(&mut self) -> Step {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            let Some(event) = self.events.remove(&number) else { continue };
            self.now = self.now.max(at);
            self.tally.events += 1;
            if self.last.len() == LAST {
                self.last.pop_front();
            }
            if let Some(log) = &mut self.log {
                log.push(format!("{} {event:?}", self.now));
            }
            self.last.push_back((self.now, event.clone()));
            self.handle(event)?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Step {
        match event {
            Event::Command { device, action } => {
                self.ask(device, action, None);
                Ok(())
            }
            Event::Read { device } => {
                self.read(device);
                Ok(())
            }
            Event::Press { device, index } => {
                self.press(device, index);
                Ok(())
            }
            Event::Report { device } => {
                self.say_report(device);
                Ok(())
            }
            Event::Dial { device } => self.dial(device),
            Event::Break { session } => {
                self.break_link(session);
                Ok(())
            }
            Event::Gone { session } => self.gone(session),
            Event::Encode { session } => self.encode(session),
            Event::ToDevice { session, command } => {
                self.act(session, command);
                Ok(())
            }
            Event::ToServer { session, message } => self.arrives(session, message),
            Event::Deadline { boot, command } => self.deadline(boot, command),
            Event::Commit { boot } => self.commit(boot),
            Event::Wake { boot, write } => self.wake(boot, write),
            Event::Again { boot } => {
                self.again(boot);
                Ok(())
            }
            Event::Release { device } => {
                self.release(device);
                Ok(())
            }
            Event::Leave { boot, device } => self.leave(boot, device),
            Event::Claim { device } => {
                self.claim(device);
                Ok(())
            }
            Event::Crash => self.crash(),
            Event::Restart => self.restart(),
        }
    }
}
