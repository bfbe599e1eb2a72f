//! How far the wall clock can be believed where a mistake cannot be taken back.
//!
//! A machine may start with any date until the network has told it the time, and a clock may be set while the server runs.
//! What is refused because of the time is allowed again when the clock is right; what is removed because of it is gone,
//! a command that is sent again has been sent twice, and a credential that was over must not be good again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hexa_model::{Clock, TimeMs};
use hexa_store::StoreError;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use crate::Services;
use crate::change::{Decided, internal};

/// A wall clock that has gained so much on what was known was set: nothing is removed, or ended for good, by it. And for so
/// long after a start, what was written last counts instead of what the clock said first.
const DAY: Duration = Duration::from_secs(86_400);
/// A clock that is so little behind is being slowed down, not set.
const SLACK: Duration = Duration::from_secs(60);
/// How often the time is noted for the next start, which may begin with a clock that is behind.
const NOTE_EVERY: Duration = Duration::from_secs(300);
/// Under this name, in milliseconds.
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
        let now = services.guard.believed().0.to_string();
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
pub async fn noted(store: &hexa_store::Store) -> Result<Option<TimeMs>, StoreError> {
    Ok(store.setting(SETTING).await?.and_then(|at| at.parse().ok()).map(TimeMs))
}

/// Compares the wall clock with the monotonic one, from a moment at which something was known.
pub struct ClockGuard {
    clock: Arc<dyn Clock>,
    wall: TimeMs,
    steady: Duration,
    /// When something was last written before this start.
    written: OnceLock<TimeMs>,
    believed: Mutex<Believed>,
}

/// What the wall clock showed when it was believed, carried on by the monotonic one.
#[derive(Clone, Copy, Debug)]
struct Believed {
    wall: TimeMs,
    steady: Duration,
    /// Since when the wall clock has shown something else.
    doubt: Option<Duration>,
}

impl Believed {
    fn at(&self, steady: Duration) -> TimeMs {
        self.wall.plus(steady.saturating_sub(self.steady))
    }

    /// A clock that goes ahead by less than a day is believed at once; what was set otherwise, when it has stayed so for a
    /// day: else one mistake would last for ever.
    fn look(&mut self, now: TimeMs, steady: Duration) {
        let expected = self.at(steady);
        if now >= expected && now <= expected.plus(DAY) {
            *self = Self { wall: now, steady, doubt: None };
        } else if now.plus(SLACK) >= expected && now <= expected {
            self.doubt = None;
        } else {
            let since = *self.doubt.get_or_insert(steady);
            if steady.saturating_sub(since) >= DAY {
                *self = Self { wall: now, steady, doubt: None };
            }
        }
    }
}

impl ClockGuard {
    /// As far as anybody knows, the clock is right now.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (wall, steady) = (clock.now(), clock.monotonic());
        let believed = Mutex::new(Believed { wall, steady, doubt: None });
        Self { wall, steady, clock, written: OnceLock::new(), believed }
    }

    /// A former process believed this to be the time when it last noted it. Told once, before anything is judged.
    pub fn was_running(&self, at: TimeMs) {
        let mut believed = self.believed.lock();
        *believed = Believed { wall: at, steady: self.steady, doubt: None };
        believed.look(self.wall, self.steady);
    }

    /// Something was written at this time before this start, as far as is known the last of all. Told once, before
    /// anything is written.
    pub fn was_written(&self, at: TimeMs) {
        let _ = self.written.set(at);
    }

    /// False while the clock is ahead by more than a day of what is known.
    pub fn trusted(&self) -> bool {
        let passed = self.passed();
        // A start soon after the last row is believed: else a machine that is off at night would remove nothing.
        let late = self.written.get().filter(|at| passed < DAY && self.wall > at.plus(DAY));
        self.clock.now() <= late.copied().unwrap_or(self.wall).plus(passed + DAY)
    }

    /// The earliest that it can be now: what is over at this time is over whatever the clock does.
    pub fn earliest(&self) -> TimeMs {
        let passed = self.passed();
        let written = self.written.get().filter(|_| passed < DAY).map_or(self.wall, |at| self.wall.min(*at));
        self.clock.now().min(written.plus(passed))
    }

    /// The latest that it can be now, as far as the clock was ever right: the time by which credentials begin and end.
    /// It does not go back when the clock is set back, unless that lasts for a day.
    pub fn latest(&self) -> TimeMs {
        let (now, steady) = (self.clock.now(), self.clock.monotonic());
        let mut believed = self.believed.lock();
        believed.look(now, steady);
        now.max(believed.at(steady))
    }

    /// What there is to be found again after a restart.
    fn believed(&self) -> TimeMs {
        self.latest();
        self.believed.lock().at(self.clock.monotonic())
    }

    fn passed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.steady)
    }
}

impl std::fmt::Debug for ClockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClockGuard").field("wall", &self.wall).field("written", &self.written).finish_non_exhaustive()
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
        clock.jump(3_600_000);
        assert_eq!(guard.latest(), BEGIN.plus(DAY / 24));
        clock.jump(-2 * 3_600_000);
        clock.advance(Duration::from_secs(60));
        assert_eq!(guard.latest(), BEGIN.plus(DAY / 24 + Duration::from_secs(60)), "it goes on with what passes");
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
            guard.was_running(noted);
            assert_eq!(guard.latest(), latest);
        }
        // The machine was off for a month, or its clock is wrong: it is what it shows, and not kept when it is set.
        let clock = Arc::new(ManualClock::at(noted.plus(30 * DAY)));
        let guard = guard(&clock);
        guard.was_running(noted);
        assert_eq!((guard.latest(), guard.believed()), (noted.plus(30 * DAY), noted));
        clock.advance(DAY);
        assert_eq!(guard.believed(), clock.now(), "it has stayed so for a day");
    }
}
