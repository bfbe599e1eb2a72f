//! How far the wall clock can be believed where a mistake cannot be taken back.
//!
//! A machine may start with any date until the network has told it the time, and a clock may be set while the server runs.
//! What is refused because of the time is allowed again when the clock is right; what is removed because of it is gone,
//! a command that is sent again has been sent twice, and a credential that was over must not be good again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Clock, Source, TimeMs};
use hexa_store::StoreError;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::Platform;
use crate::change::{Decided, internal};
use crate::error::Result;
use crate::worker::{self, RunsOn, WorkerSpec};

/// A wall clock that has gained so much on what was known was set: nothing is removed, or ended for good, by it, until it has
/// stayed so for as long.
const DAY: Duration = Duration::from_secs(86_400);
/// What the clock is set to so soon after a start belongs to the start: the network has told the time. Every credential
/// lives longer.
const BEGINNING: Duration = Duration::from_secs(300);
/// What is ahead by less than a day is believed when it has stayed so for so long.
const HOUR: Duration = Duration::from_secs(3_600);
/// A clock that is off by so little is being slowed down or hurried, not set.
const SLACK: Duration = Duration::from_secs(60);
/// How often the time is noted for the next start, which may begin with a clock that is behind.
const NOTE_EVERY: Duration = Duration::from_secs(300);
/// How soon it is noted that the time by which credentials end has leapt.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The name of what is noted among the settings.
pub const SETTING: &str = "clock";

const NOTES_TIME: WorkerSpec = WorkerSpec {
    name: "clock_notes",
    purpose: "notes the time for the next start, which may begin with a clock that is behind",
    runs_on: RunsOn::EveryNode,
};

/// Starts the worker that notes the time.
pub(crate) fn start(platform: &Arc<Platform>) {
    let shared = Arc::clone(platform);
    platform.workers.ongoing(NOTES_TIME, move |_| {
        let platform = Arc::clone(&shared);
        worker::run(async move {
            note_time(platform).await;
            Ok::<_, String>(())
        })
    });
}

/// Notes the time now and then, and once more at the stop: what was over by then is not good again after a start with
/// another clock.
async fn note_time(platform: Arc<Platform>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut last) = (false, None::<(Duration, TimeMs)>);
    loop {
        let stopping = tokio::select! {
            () = platform.stop.cancelled() => true,
            () = platform.guard.leapt.notified() => false,
            _ = tick.tick() => false,
        };
        let behind = platform.guard.behind();
        if let Some(behind) = behind.filter(|_| !said) {
            tracing::warn!(
                seconds = behind.as_secs(),
                "the clock is behind what it showed before: sessions, tokens, codes and grants are judged by the later time \
                 until the clock has stayed so for a day. Where it is right now and was wrong before, start the server once \
                 with HEXA_BELIEVE_CLOCK set to the day (UTC)"
            );
        }
        said = behind.is_some();
        // Whatever a new server is told in its first minutes counts only as long as nobody says otherwise.
        if platform.guard.is_settling() && !stopping {
            continue;
        }
        let (steady, now) = (platform.clock.boottime(), platform.guard.noted());
        if let Some((since, judged)) = last.filter(|_| !stopping) {
            let passed = steady.saturating_sub(since);
            let expected = judged.plus(passed);
            let leapt = now.judged.at > expected.plus(SLACK) || now.judged.at.plus(SLACK) < expected;
            if passed < NOTE_EVERY && !leapt {
                continue;
            }
        }
        let text = now.to_string();
        let noted = internal(&platform.store, move |tx| {
            Box::pin(async move {
                tx.put_setting(SETTING, &text).await?;
                Ok(Decided::done(()))
            })
        });
        // Also when it was not: a database that takes nothing is not asked every two seconds.
        last = Some((steady, now.judged.at));
        if let Err(error) = noted.await {
            tracing::warn!(%error, "the time was not noted for the next start");
        }
        if stopping {
            return;
        }
    }
}

/// Writes that whoever runs the server has vouched for the clock: what was over may be good again.
///
/// # Errors
/// When the database does not take it.
pub async fn note_believed(platform: &Platform) -> Result<()> {
    let (now, noted) = (platform.clock.now(), platform.guard.noted().to_string());
    internal(&platform.store, move |tx| {
        Box::pin(async move {
            tx.put_setting(SETTING, &noted).await?;
            tx.audit(&AuditEntry::event(now, Actor::System, Source::System, "clock.believed")).await?;
            Ok(Decided::done(()))
        })
    })
    .await
}

/// What a former process noted.
///
/// # Errors
/// When the database does not answer.
pub async fn noted(store: &hexa_store::Store) -> std::result::Result<Option<Noted>, StoreError> {
    Ok(store.setting(SETTING).await?.as_deref().and_then(Noted::parse))
}

/// Compares the wall clock with the monotonic one, from a moment at which something was known.
pub struct ClockGuard {
    clock: Arc<dyn Clock>,
    wall: TimeMs,
    steady: Duration,
    state: Mutex<State>,
    /// What was shown to those who make something has turned out to be too late.
    returned: AtomicBool,
    /// The time by which credentials are judged has gone ahead by more than what passed.
    leapt: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Nothing is removed that is not over by this: a start that is ahead by more than a day is in doubt too.
    believed: Carried,
    /// Nothing that is over by this is good: a start that is ahead is believed at once.
    judged: Carried,
    least: Least,
    /// The latest that `believed` has been since the server was new, or somebody vouched for the clock.
    highest: TimeMs,
    /// The latest time at which anybody may have made something, carried on by the monotonic clock.
    shown: (TimeMs, Duration),
    /// There is nothing yet that could end.
    new: bool,
    /// When what was shown has turned out to be too late for the last time; else the start.
    back: Duration,
}

/// What the wall clock showed when it was believed last, carried on by the monotonic one.
#[derive(Clone, Copy, Debug)]
struct Carried {
    wall: TimeMs,
    steady: Duration,
    doubt: Option<Doubt>,
}

/// The wall clock shows something else.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// By how much it has been ahead (behind, where less than zero) at the least, in milliseconds: so much is believed in the
    /// end, and not what was set a moment ago.
    ahead: i64,
    since: Duration,
    /// As long as it had been doubted before this start.
    earlier: Duration,
}

impl Carried {
    fn at(&self, steady: Duration) -> TimeMs {
        self.wall.plus(steady.saturating_sub(self.steady))
    }

    /// A clock that is ahead by no more than `at_once` is believed at once, by less than a day when it has stayed so for an
    /// hour, and what was set otherwise when it has stayed so for a day: else one mistake would last for ever.
    fn look(&mut self, now: TimeMs, steady: Duration, at_once: Duration) {
        let expected = self.at(steady);
        if now >= expected && now <= expected.plus(at_once) {
            *self = Self { wall: now, steady, doubt: None };
        } else if now.plus(SLACK) >= expected && now <= expected {
            self.doubt = None;
        } else {
            let ahead = now.0.saturating_sub(expected.0);
            let anew = Doubt { ahead, since: steady, earlier: Duration::ZERO };
            let mut doubt = self.doubt.filter(|doubt| doubt.ahead.signum() == ahead.signum()).unwrap_or(anew);
            if ahead.unsigned_abs() < doubt.ahead.unsigned_abs() {
                doubt.ahead = ahead;
            }
            self.doubt = Some(doubt);
            let patience = if (0..=DAY.as_millis() as i64).contains(&doubt.ahead) { HOUR } else { DAY };
            if self.doubted(steady) >= patience {
                *self = Self { wall: TimeMs(expected.0.saturating_add(doubt.ahead)), steady, doubt: None };
            }
        }
    }

    fn doubted(&self, steady: Duration) -> Duration {
        self.doubt.map_or(Duration::ZERO, |doubt| steady.saturating_sub(doubt.since) + doubt.earlier)
    }
}

/// By how much the wall clock was ahead of the monotonic one at the start, or later for a whole day at least: what took a day
/// by the monotonic clock has taken a day by this one too, whatever was set meanwhile. In milliseconds.
#[derive(Clone, Copy, Debug)]
struct Least {
    known: i64,
    /// Within this period, and within the one before.
    since: Duration,
    now: i64,
    before: i64,
}

impl Least {
    fn of(ahead: i64, since: Duration) -> Self {
        Self { known: ahead, since, now: ahead, before: ahead }
    }

    fn look(&mut self, ahead: i64, steady: Duration) {
        let age = steady.saturating_sub(self.since);
        if age < DAY {
            self.now = self.now.min(ahead);
            return;
        }
        // Of the period that has just ended, unless nobody looked for so long that nothing is known of the last day.
        let before = if age < 2 * DAY { self.now } else { ahead };
        *self = Self { known: self.known.max(before.min(ahead)), since: steady, now: ahead, before };
    }

    fn at(&self, steady: Duration) -> TimeMs {
        TimeMs(self.known.max(self.now.min(self.before)).saturating_add(steady.as_millis() as i64))
    }
}

fn ahead(wall: TimeMs, steady: Duration) -> i64 {
    wall.0.saturating_sub(steady.as_millis() as i64)
}

impl ClockGuard {
    /// As far as anybody knows, the clock is right now.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (wall, steady) = (clock.now(), clock.boottime());
        let believed = Carried { wall, steady, doubt: None };
        let least = Least::of(ahead(wall, steady), steady);
        Self {
            wall,
            steady,
            clock,
            state: Mutex::new(State {
                believed,
                judged: believed,
                least,
                highest: wall,
                shown: (wall, steady),
                new: false,
                back: steady,
            }),
            returned: AtomicBool::new(false),
            leapt: Notify::new(),
        }
    }

    /// Something was written at this time before this start, as far as is known the last of all. Told once, before
    /// anything is written, and before [`ClockGuard::was_running`], which knows better where something was noted.
    pub fn was_written(&self, at: TimeMs) {
        let mut state = self.state.lock();
        if self.wall > at.plus(DAY) {
            state.believed = Carried { wall: at, steady: self.steady, doubt: None };
            state.believed.look(self.wall, self.steady, DAY);
        }
        if self.wall.plus(SLACK) < at {
            state.judged = Carried { wall: at, steady: self.steady, doubt: None };
        }
        state.highest = state.believed.wall.max(at);
        state.least = Least::of(state.least.known.min(ahead(at, self.steady)), self.steady);
    }

    /// Nothing was there before this start. Within its first minutes every setting of the clock is believed: a machine that
    /// is set up begins with any date, and nothing has had an end yet.
    pub fn is_new(&self) {
        self.state.lock().new = true;
    }

    /// Whoever runs the server vouches for the clock, whatever a former process noted.
    pub fn is_right(&self) {
        let (wall, steady) = (self.wall, self.steady);
        let believed = Carried { wall, steady, doubt: None };
        let least = Least::of(ahead(wall, steady), steady);
        let (highest, shown) = (wall, (wall, steady));
        *self.state.lock() = State { believed, judged: believed, least, highest, shown, new: false, back: steady };
    }

    /// A former process believed this to be the time when it last noted it. Told once, before anything is judged.
    pub fn was_running(&self, noted: Noted) {
        let mut state = self.state.lock();
        // It was noted some minutes before a crash, perhaps, and something was made in these.
        state.highest = noted.highest.max(noted.believed.at.plus(NOTE_EVERY));
        state.believed = noted.believed.again(self.steady);
        state.believed.look(self.wall, self.steady, DAY);
        // For however long the machine was off, what is over by now must not be good again when the clock is set back.
        state.judged = noted.judged.again(self.steady);
        state.judged.look(self.wall, self.steady, Duration::MAX);
        state.least = Least::of(state.least.known.min(ahead(noted.believed.at, self.steady)), self.steady);
    }

    /// False while the clock is ahead by more than a day of what is believed.
    pub fn trusted(&self) -> bool {
        let (now, steady, state) = self.look();
        now <= state.believed.at(steady).plus(DAY)
    }

    /// The earliest that it can be now: what is over at this time is over whatever the clock does.
    pub fn earliest(&self) -> TimeMs {
        let (now, steady, state) = self.look();
        now.min(state.least.at(steady))
    }

    /// The latest that it can be now, as far as the clock was ever right: the time by which credentials begin and end.
    /// It does not go back when the clock is set back, unless that lasts for a day; a clock that was set ahead for less than
    /// an hour while the server ran has left nothing behind.
    pub fn latest(&self) -> TimeMs {
        let (now, steady, state) = self.look();
        now.max(state.judged.at(steady))
    }

    /// After when nothing can have been made but by a clock that was wrong; and [`ClockGuard::latest`] of the same moment.
    /// What has been believed counts, also after the clock has been set back from it for so long that this is believed: a
    /// clock that is behind must not be what ends what is good.
    pub fn newest(&self) -> (TimeMs, TimeMs) {
        let (now, steady, state) = self.look();
        let latest = now.max(state.judged.at(steady));
        (latest.max(state.highest).plus(SLACK), latest)
    }

    /// Whether the clock has turned out to have been ahead since this was asked last.
    pub fn take_returned(&self) -> bool {
        self.returned.swap(false, Ordering::AcqRel)
    }

    /// Whether it is known by now which of two times was wrong. A clock that went back may as well be behind for a moment, as
    /// after a start without a battery: it is taken as it is when it has stayed so for some minutes.
    pub fn has_stayed(&self) -> bool {
        let (_, steady, state) = self.look();
        steady.saturating_sub(state.back) >= BEGINNING
    }

    /// By how much of what was believed before the wall clock is behind, where that keeps wrong times from being put right.
    pub fn believed_ahead(&self) -> Option<Duration> {
        let (now, steady, state) = self.look();
        let latest = now.max(state.judged.at(steady));
        let ahead = Duration::from_millis(state.highest.0.saturating_sub(latest.0).max(0) as u64);
        (ahead > DAY).then_some(ahead)
    }

    /// In the first minutes of a new server.
    pub fn is_settling(&self) -> bool {
        let steady = self.clock.boottime();
        self.state.lock().new && steady.saturating_sub(self.steady) < BEGINNING
    }

    /// By how much the wall clock is behind the time by which credentials are judged, where that is more than a minute.
    fn behind(&self) -> Option<Duration> {
        let (now, steady, state) = self.look();
        let behind = Duration::from_millis(state.judged.at(steady).0.saturating_sub(now.0).max(0) as u64);
        (behind > SLACK).then_some(behind)
    }

    /// What there is to be found again after a restart.
    fn noted(&self) -> Noted {
        let (_, steady, state) = self.look();
        let of = |time: Carried| {
            let doubt = time.doubt.map(|doubt| (time.doubted(steady), doubt.ahead));
            Kept { at: time.at(steady), doubt: doubt.unwrap_or_default() }
        };
        Noted { believed: of(state.believed), judged: of(state.judged), highest: state.highest }
    }

    /// Both clocks as they are, and what is known of them now.
    fn look(&self) -> (TimeMs, Duration, State) {
        let (now, steady) = (self.clock.now(), self.clock.boottime());
        let mut state = self.state.lock();
        let beginning = steady.saturating_sub(self.steady) < BEGINNING;
        let before = state.judged.at(steady);
        state.highest = state.highest.max(state.believed.at(steady));
        if state.new && beginning {
            state.believed = Carried { wall: now, steady, doubt: None };
            state.judged = state.believed;
            state.highest = now;
            // What was done while the clock was behind is not old as soon as that is right.
            if ahead(now, steady) < state.least.known {
                state.least = Least::of(ahead(now, steady), steady);
            }
        }
        state.believed.look(now, steady, SLACK);
        state.judged.look(now, steady, if beginning { Duration::MAX } else { SLACK });
        state.least.look(ahead(now, steady), steady);
        state.highest = state.highest.max(state.believed.at(steady));
        let latest = now.max(state.judged.at(steady));
        let shown = state.shown.0.plus(steady.saturating_sub(state.shown.1));
        if latest.plus(SLACK) < shown {
            self.returned.store(true, Ordering::Release);
            (state.shown, state.back) = ((latest, steady), steady);
        } else if latest > shown {
            state.shown = (latest, steady);
        }
        if state.judged.at(steady) > before.plus(SLACK) {
            self.leapt.notify_one();
        }
        (now, steady, *state)
    }
}

/// What a process knew of the time when it last noted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    believed: Kept,
    judged: Kept,
    highest: TimeMs,
}

/// A time; for how long the wall clock had shown another one, and by how much that was ahead at the least, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    at: TimeMs,
    doubt: (Duration, i64),
}

impl Kept {
    /// As it is at a start.
    fn again(self, steady: Duration) -> Carried {
        let (earlier, ahead) = self.doubt;
        let doubt = (!earlier.is_zero()).then_some(Doubt { ahead, since: steady, earlier });
        Carried { wall: self.at, steady, doubt }
    }
}

impl Noted {
    /// Seven numbers, in milliseconds: what is believed, for how long it has been doubted and by how much the wall clock was
    /// ahead of it; the same of what credentials are judged by; and the latest that was ever believed. Of two or four
    /// numbers, as they were written before, the doubts begin anew.
    fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<i64> = text.split(' ').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let kept = |at: i64, age: i64, ahead: i64| Kept {
            at: TimeMs(at),
            doubt: (Duration::from_millis(age.max(0) as u64), ahead),
        };
        let of_before = |believed: i64, judged: i64| Self {
            believed: kept(believed, 0, 0),
            judged: kept(judged, 0, 0),
            highest: TimeMs(believed),
        };
        match numbers[..] {
            [at, _] => Some(of_before(at, at)),
            [at, _, judged, _] => Some(of_before(at, judged)),
            [at, doubt, ahead, judged, since, by, highest] => Some(Self {
                believed: kept(at, doubt, ahead),
                judged: kept(judged, since, by),
                highest: TimeMs(highest),
            }),
            _ => None,
        }
    }
}

impl std::fmt::Display for Noted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Kept { at, doubt: (age, ahead) } in [self.believed, self.judged] {
            write!(f, "{} {} {ahead} ", at.0, age.as_millis())?;
        }
        write!(f, "{}", self.highest.0)
    }
}

impl std::fmt::Debug for ClockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClockGuard")
            .field("wall", &self.wall)
            .field("state", &*self.state.lock())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
