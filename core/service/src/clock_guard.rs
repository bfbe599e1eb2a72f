//! How far the wall clock can be believed where a mistake cannot be taken back.
//!
//! A machine may start with any date until the network has told it the time, and a clock may be set while the server runs.
//! What is refused because of the time is allowed again when the clock is right; what is removed because of it is gone,
//! and a command that is sent again has been sent twice.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hexa_model::{Clock, TimeMs};

/// A wall clock that has gained so much on what was known was set: nothing is removed, or ended for good, by it. And for so
/// long after a start, what was written last counts instead of what the clock said first.
const DAY: Duration = Duration::from_secs(86_400);

/// Compares the wall clock with the monotonic one, from a moment at which something was known.
pub struct ClockGuard {
    clock: Arc<dyn Clock>,
    wall: TimeMs,
    steady: Duration,
    /// When something was last written before this start.
    written: OnceLock<TimeMs>,
}

impl ClockGuard {
    /// As far as anybody knows, the clock is right now.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { wall: clock.now(), steady: clock.monotonic(), clock, written: OnceLock::new() }
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

    /// The latest that it can be now, as far as the clock was right when the services were made.
    pub fn latest(&self) -> TimeMs {
        self.clock.now().max(self.wall.plus(self.passed()))
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
}
