//! What is over is removed after a while, in small pieces: while one is being removed, every writer waits.

use std::sync::Arc;
use std::time::Duration;

use hexa_model::{Clock, TimeMs};
use tokio::time::MissedTickBehavior;

use crate::Services;
use crate::auth::keys;
use crate::change::{Decided, internal};
use crate::error::Result;
use crate::idempotency;

/// What ended is kept for so long: a refresh token that comes again is known, and who looks back finds what was.
const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// Between two looks.
const EVERY: Duration = Duration::from_secs(3_600);
/// Rows in one transaction.
const PIECE: u32 = 200;
/// Between two transactions, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(10);
/// A wall clock that has gained so much on the monotonic one was set: nothing is removed, or ended for good, by it.
const TRUSTED: Duration = Duration::from_secs(86_400);

/// Whether the wall clock can be believed for what cannot be taken back: it has not been set ahead since this was made. What is refused because of the
/// time is allowed again when the clock is right; what is removed because of it is gone.
pub struct ClockGuard {
    clock: Arc<dyn Clock>,
    wall: TimeMs,
    steady: Duration,
    /// Until this monotonic time, what was last written counts instead of what the clock said first.
    doubt: Option<(TimeMs, Duration)>,
}

impl ClockGuard {
    /// The clock is right now.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { wall: clock.now(), steady: clock.monotonic(), clock, doubt: None }
    }

    /// At a start, with the time of the newest row of the audit. A machine whose clock is wrong until the network has
    /// told it the time starts with any date: when it comes more than a day after what was written last, it is not
    /// believed for a day.
    pub fn at_start(clock: Arc<dyn Clock>, newest: Option<TimeMs>) -> Self {
        let guard = Self::new(clock);
        let doubt = newest.filter(|newest| guard.wall > newest.plus(TRUSTED));
        Self { doubt: doubt.map(|newest| (newest, guard.steady + TRUSTED)), ..guard }
    }

    /// False while it is ahead by more than a day of what the monotonic clock says.
    pub(crate) fn trusted(&self) -> bool {
        let now = self.clock.monotonic();
        let wall = self.doubt.filter(|(_, until)| now < *until).map_or(self.wall, |(newest, _)| newest);
        self.clock.now() <= wall.plus(now.saturating_sub(self.steady) + TRUSTED)
    }
}

/// Removes what is over, at once and every hour, and looks after the signing keys, until the services stop.
pub async fn run(services: Arc<Services>, guard: Arc<ClockGuard>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = services.stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if !guard.trusted() {
            tracing::warn!("the clock is more than a day ahead of what was known: nothing is removed by it for now");
            continue;
        }
        if let Err(error) = keys::tend(&services).await {
            tracing::warn!(%error, "the signing keys of access tokens were not checked for rotation");
        }
        if let Err(error) = purge(&services).await {
            tracing::warn!(%error, "expired rows were not removed; tried again in an hour");
        }
    }
}

/// Removes everything that is over now; gives how many rows.
///
/// # Errors
/// When the database does not take it; what was removed before stays removed.
pub async fn purge(services: &Services) -> Result<u64> {
    let now = services.clock.now();
    let before = TimeMs(now.0.saturating_sub(KEEP.as_millis() as i64));
    let mut gone = 0;
    while !services.stopping() {
        let piece = internal(&services.store, move |tx| {
            Box::pin(async move {
                let mut piece = tx.forget_sessions(before, PIECE).await?;
                piece += tx.forget_tokens(before, PIECE).await?;
                Ok(Decided::done(piece + tx.forget_grants(before, PIECE).await?))
            })
        });
        let piece = piece.await? + idempotency::forget(services, PIECE).await?;
        gone += piece;
        if piece == 0 {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = services.stop.cancelled() => {}
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use hexa_model::ManualClock;

    use super::*;

    #[test]
    fn a_start_long_after_the_last_row_removes_nothing_for_a_day() {
        let day = Duration::from_secs(86_400);
        let clock = Arc::new(ManualClock::at(TimeMs(1_000_000).plus(30 * day)));
        let start = |newest| ClockGuard::at_start(Arc::clone(&clock) as Arc<dyn Clock>, newest);
        assert!(start(None).trusted() && start(Some(TimeMs(1_000_000).plus(29 * day))).trusted());
        let guard = start(Some(TimeMs(1_000_000)));
        assert!(!guard.trusted());
        clock.jump(-30 * 86_400_000);
        assert!(guard.trusted(), "it was wrong, and was set");
        clock.jump(30 * 86_400_000);
        assert!(!guard.trusted());
        clock.advance(day);
        assert!(guard.trusted(), "the machine was off for a month");
    }

    #[test]
    fn a_clock_that_was_set_ahead_is_not_believed_until_it_is_right_again() {
        let clock = Arc::new(ManualClock::at(TimeMs(1_000_000)));
        let guard = ClockGuard::new(Arc::clone(&clock) as Arc<dyn Clock>);
        assert!(guard.trusted());
        clock.advance(Duration::from_secs(400 * 86_400));
        assert!(guard.trusted(), "time that passed on both clocks is time");
        clock.jump(2 * 86_400_000);
        assert!(!guard.trusted());
        clock.jump(-2 * 86_400_000);
        assert!(guard.trusted());
    }
}
