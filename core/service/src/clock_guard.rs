//! How far the wall clock can be believed where a mistake cannot be taken back.
//!
//! A machine may start with any date until the network has told it the time, and a clock may be set while the server runs.
//! What is refused because of the time is allowed again when the clock is right; what is removed because of it is gone,
//! a command that is sent again has been sent twice, and a credential that was over must not be good again.

use std::sync::Arc;
use std::time::Duration;

use hexa_model::{Clock, TimeMs};
use hexa_store::StoreError;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use crate::Services;
use crate::change::{Decided, internal};

/// A wall clock that has gained so much on what was known was set: nothing is removed, or ended for good, by it, until it has
/// stayed so for as long.
const DAY: Duration = Duration::from_secs(86_400);
/// A new server believes every setting for so long: the shortest credential lives three times as long.
const NEW: Duration = Duration::from_secs(300);
/// What is ahead by less than a day is believed when it has stayed so for so long.
const HOUR: Duration = Duration::from_secs(3_600);
/// A clock that is off by so little is being slowed down or hurried, not set.
const SLACK: Duration = Duration::from_secs(60);
/// How often the time is noted for the next start, which may begin with a clock that is behind.
const NOTE_EVERY: Duration = Duration::from_secs(300);
/// Under this name.
pub const SETTING: &str = "clock";

/// Notes the time now and then, and once more at the stop: what was over by then is not good again after a start with
/// another clock.
pub async fn keep(services: Arc<Services>) {
    let mut tick = tokio::time::interval(NOTE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stopping = tokio::select! {
            () = services.stop.cancelled() => true,
            _ = tick.tick() => false,
        };
        let now = services.guard.noted().to_string();
        let noted = internal(&services.store, move |tx| {
            Box::pin(async move {
                tx.put_setting(SETTING, &now).await?;
                Ok(Decided::done(()))
            })
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "the time was not noted for the next start");
        }
        if stopping {
            return;
        }
    }
}

/// What a former process noted.
///
/// # Errors
/// When the database does not answer.
pub async fn noted(store: &hexa_store::Store) -> Result<Option<Noted>, StoreError> {
    Ok(store.setting(SETTING).await?.as_deref().and_then(Noted::parse))
}

/// Compares the wall clock with the monotonic one, from a moment at which something was known.
pub struct ClockGuard {
    clock: Arc<dyn Clock>,
    wall: TimeMs,
    steady: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    believed: Believed,
    least: Least,
    /// There is nothing yet that could end.
    new: bool,
}

/// What the wall clock showed when it was believed, carried on by the monotonic one.
#[derive(Clone, Copy, Debug)]
struct Believed {
    wall: TimeMs,
    steady: Duration,
    doubt: Option<Doubt>,
}

/// The wall clock shows something else.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    ahead: bool,
    since: Duration,
    /// As long as it had been doubted before this start.
    before: Duration,
}

impl Believed {
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
            let ahead = now > expected;
            let doubt = self.doubt.filter(|doubt| doubt.ahead == ahead);
            self.doubt = doubt.or(Some(Doubt { ahead, since: steady, before: Duration::ZERO }));
            let patience = if ahead && now <= expected.plus(DAY) { HOUR } else { DAY };
            if self.doubted(steady) >= patience {
                *self = Self { wall: now, steady, doubt: None };
            }
        }
    }

    fn doubted(&self, steady: Duration) -> Duration {
        self.doubt.map_or(Duration::ZERO, |doubt| steady.saturating_sub(doubt.since) + doubt.before)
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
        let (wall, steady) = (clock.now(), clock.monotonic());
        let believed = Believed { wall, steady, doubt: None };
        let least = Least::of(ahead(wall, steady), steady);
        Self { wall, steady, clock, state: Mutex::new(State { believed, least, new: false }) }
    }

    /// Something was written at this time before this start, as far as is known the last of all. Told once, before
    /// anything is written, and before [`ClockGuard::was_running`].
    pub fn was_written(&self, at: TimeMs) {
        let mut state = self.state.lock();
        if self.wall > at.plus(DAY) {
            state.believed = Believed { wall: at, steady: self.steady, doubt: None };
            state.believed.look(self.wall, self.steady, DAY);
        }
        state.least = Least::of(state.least.known.min(ahead(at, self.steady)), self.steady);
    }

    /// Nothing was there before this start. Within its first minutes every setting of the clock is believed: a machine that
    /// is set up begins with any date, and nothing has had an end yet.
    pub fn is_new(&self) {
        self.state.lock().new = true;
    }

    /// A former process believed this to be the time when it last noted it. Told once, before anything is judged.
    pub fn was_running(&self, noted: Noted) {
        let mut state = self.state.lock();
        let doubt = Some(noted.doubt).filter(|age| !age.is_zero());
        let doubt = doubt.map(|before| Doubt { ahead: self.wall > noted.at, since: self.steady, before });
        state.believed = Believed { wall: noted.at, steady: self.steady, doubt };
        state.believed.look(self.wall, self.steady, DAY);
        state.least = Least::of(state.least.known.min(ahead(noted.at, self.steady)), self.steady);
    }

    /// False while the clock is ahead by more than a day of what is believed.
    pub fn trusted(&self) -> bool {
        let (now, _, believed) = self.look();
        now <= believed.plus(DAY)
    }

    /// The earliest that it can be now: what is over at this time is over whatever the clock does.
    pub fn earliest(&self) -> TimeMs {
        let (now, steady, _) = self.look();
        let least = self.state.lock().least;
        now.min(least.at(steady))
    }

    /// The latest that it can be now, as far as the clock was ever right: the time by which credentials begin and end.
    /// It does not go back when the clock is set back, unless that lasts for a day; a clock that was ahead for less than an
    /// hour has left nothing behind.
    pub fn latest(&self) -> TimeMs {
        let (now, _, believed) = self.look();
        now.max(believed)
    }

    /// What there is to be found again after a restart.
    fn noted(&self) -> Noted {
        let (_, steady, at) = self.look();
        Noted { at, doubt: self.state.lock().believed.doubted(steady) }
    }

    /// Both clocks as they are, and the time that is believed.
    fn look(&self) -> (TimeMs, Duration, TimeMs) {
        let (now, steady) = (self.clock.now(), self.clock.monotonic());
        let mut state = self.state.lock();
        if state.new && steady.saturating_sub(self.steady) < NEW {
            state.believed = Believed { wall: now, steady, doubt: None };
        }
        state.believed.look(now, steady, SLACK);
        state.least.look(ahead(now, steady), steady);
        (now, steady, state.believed.at(steady))
    }
}

/// A time that was believed, and for how long the wall clock had shown another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The time.
    pub at: TimeMs,
    /// As long as another one was shown.
    pub doubt: Duration,
}

impl Noted {
    /// Two numbers, in milliseconds.
    fn parse(text: &str) -> Option<Self> {
        let (at, doubt) = text.split_once(' ')?;
        Some(Self { at: TimeMs(at.parse().ok()?), doubt: Duration::from_millis(doubt.parse().ok()?) })
    }
}

impl std::fmt::Display for Noted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.at.0, self.doubt.as_millis())
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
mod tests {
    use hexa_model::ManualClock;

    use super::*;

    const BEGIN: TimeMs = TimeMs(1_000_000);
    const DAY_MS: i64 = 86_400_000;

    fn guard(clock: &Arc<ManualClock>) -> ClockGuard {
        ClockGuard::new(Arc::clone(clock) as Arc<dyn Clock>)
    }

    #[test]
    fn a_start_long_after_the_last_row_removes_nothing_for_a_day() {
        let clock = Arc::new(ManualClock::at(BEGIN.plus(30 * DAY)));
        let start = |written| {
            let guard = guard(&clock);
            guard.was_written(written);
            guard
        };
        assert!(guard(&clock).trusted() && start(BEGIN.plus(29 * DAY)).trusted());
        let guard = start(BEGIN);
        assert!(!guard.trusted());
        clock.jump(-30 * DAY_MS);
        assert!(guard.trusted(), "it was wrong, and was set");
        clock.jump(30 * DAY_MS);
        assert!(!guard.trusted());
        clock.advance(DAY);
        assert!(guard.trusted(), "the machine was off for a month");
    }

    #[test]
    fn a_clock_that_was_set_ahead_is_not_believed_until_it_is_right_again() {
        let clock = Arc::new(ManualClock::at(BEGIN));
        let guard = guard(&clock);
        assert!(guard.trusted());
        clock.advance(400 * DAY);
        assert!(guard.trusted(), "time that passed on both clocks is time");
        clock.jump(2 * DAY_MS);
        assert!(!guard.trusted());
        clock.jump(-2 * DAY_MS);
        assert!(guard.trusted());
    }

    #[test]
    fn what_was_asked_for_an_hour_ago_is_an_hour_old_however_the_clock_is_set() {
        let clock = Arc::new(ManualClock::at(BEGIN));
        let now = guard(&clock);
        clock.advance(Duration::from_secs(3_600));
        let true_time = clock.now();
        for jump in [25 * 3_600_000, -3 * DAY_MS] {
            clock.jump(jump);
            assert!(now.earliest() <= true_time && true_time <= now.latest(), "{jump}");
            clock.jump(-jump);
        }
        assert_eq!((now.earliest(), now.latest()), (true_time, true_time));
        // A start two days ahead of what was written last.
        clock.jump(2 * DAY_MS);
        let started = guard(&clock);
        started.was_written(true_time);
        assert_eq!(started.earliest(), true_time);
    }

    #[test]
    fn the_time_of_credentials_does_not_go_back_with_the_clock() {
        let clock = Arc::new(ManualClock::at(BEGIN));
        let guard = guard(&clock);
        // Ahead for a moment: judged by it then, and not any more when it is set right.
        clock.jump(23 * 3_600_000);
        assert_eq!(guard.latest(), BEGIN.plus(23 * HOUR));
        clock.jump(-23 * 3_600_000);
        assert_eq!(guard.latest(), BEGIN);
        // Ahead for an hour.
        clock.jump(3_600_000);
        guard.latest();
        clock.advance(HOUR);
        assert_eq!(guard.latest(), BEGIN.plus(2 * HOUR));
        clock.jump(-2 * 3_600_000);
        clock.advance(Duration::from_secs(60));
        assert_eq!(guard.latest(), BEGIN.plus(2 * HOUR + Duration::from_secs(60)), "it goes on with what passes");
        // Set back for good: believed after a day.
        clock.advance(DAY - Duration::from_secs(60));
        guard.latest();
        clock.advance(Duration::from_secs(60));
        assert_eq!(guard.latest(), clock.now());
        // Far ahead for a moment: whoever asks then is told so, and it leaves nothing behind.
        clock.jump(400 * DAY_MS);
        assert_eq!(guard.latest(), clock.now());
        clock.jump(-400 * DAY_MS);
        assert_eq!(guard.latest(), clock.now());
    }

    #[test]
    fn a_start_goes_on_from_what_was_noted_unless_it_is_a_little_later() {
        let noted = BEGIN.plus(100 * DAY);
        for (start, latest) in [(BEGIN, noted), (noted.plus(DAY / 2), noted.plus(DAY / 2))] {
            let clock = Arc::new(ManualClock::at(start));
            let guard = guard(&clock);
            guard.was_running(Noted { at: noted, doubt: Duration::ZERO });
            assert_eq!(guard.latest(), latest);
        }
        // The machine was off for a month, or its clock is wrong: it is what it shows, and not kept when it is set.
        let clock = Arc::new(ManualClock::at(noted.plus(30 * DAY)));
        let guard = guard(&clock);
        guard.was_running(Noted { at: noted, doubt: Duration::ZERO });
        assert_eq!((guard.latest(), guard.noted().at), (noted.plus(30 * DAY), noted));
        clock.advance(DAY);
        assert_eq!(guard.noted().at, clock.now(), "it has stayed so for a day");
    }

    #[test]
    fn a_machine_that_started_in_1970_works_again_a_day_after_its_clock_was_set() {
        let clock = Arc::new(ManualClock::at(TimeMs(0)));
        let (guard, true_time) = (guard(&clock), BEGIN.plus(20_000 * DAY));
        guard.was_running(Noted { at: true_time, doubt: Duration::ZERO });
        assert_eq!((guard.latest(), guard.earliest()), (true_time, TimeMs(0)));
        clock.jump(true_time.0);
        assert!(guard.trusted());
        for _ in 0..2 {
            guard.earliest();
            clock.advance(DAY);
        }
        assert_eq!((guard.earliest(), guard.latest()), (clock.now(), clock.now()));
    }

    #[test]
    fn a_new_server_believes_what_it_is_told_for_some_minutes() {
        let clock = Arc::new(ManualClock::at(BEGIN.plus(400 * DAY)));
        let guard = guard(&clock);
        guard.is_new();
        clock.jump(-399 * DAY_MS);
        assert_eq!(guard.latest(), clock.now());
        clock.advance(NEW);
        assert_eq!(guard.latest(), clock.now());
        clock.jump(-DAY_MS);
        assert_eq!(guard.latest(), clock.now().plus(DAY));
    }

    #[test]
    fn a_doubt_goes_on_over_restarts_and_ends() {
        let (wrong, true_time) = (BEGIN.plus(4_000 * DAY), BEGIN.plus(DAY));
        let mut noted = Noted { at: wrong, doubt: Duration::ZERO };
        for day in 0..3 {
            // Nine hours a day, which is never a day in one go.
            let clock = Arc::new(ManualClock::at(true_time.plus(day * DAY)));
            let guard = guard(&clock);
            guard.was_running(noted);
            clock.advance(DAY * 9 / 24);
            guard.latest();
            noted = Noted::parse(&guard.noted().to_string()).unwrap();
            assert_eq!(noted.at < wrong, day == 2, "day {day}: {noted:?}");
        }
        assert_eq!(noted.doubt, Duration::ZERO);
    }

    #[test]
    fn what_took_a_day_is_a_day_old_however_the_clock_was_set_meanwhile() {
        let clock = Arc::new(ManualClock::at(BEGIN));
        let guard = guard(&clock);
        let asked = guard.earliest();
        // Ahead by twenty hours, which is believed at once by whoever judges credentials.
        clock.jump(20 * 3_600_000);
        for hour in 0..24 {
            assert!(guard.earliest() < asked.plus(DAY), "{hour}");
            clock.advance(DAY / 24);
        }
        assert!(guard.earliest() >= asked.plus(DAY));
    }
}
