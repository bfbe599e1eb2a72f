//! What was made while the clock was ahead, and is to end as if it was made when the clock was set back.
//!
//! Whoever signs in, provisions or invites while the clock is ahead must be served, by whatever it shows: so a quarter of an
//! hour would end in a year. Once it is known that the clock was wrong, each such time is put right.

use std::sync::Arc;
use std::time::Duration;

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Change, Source};
use hexa_store::set_right::{KEYS, RULES, SetRight};
use parking_lot::Mutex;

use crate::Operations;
use hexa_platform::change::{Decided, internal};
use hexa_platform::clock_guard::LOOK_EVERY;
use hexa_platform::error::Result;
use hexa_platform::idempotency;
use hexa_platform::worker::{self, RunsOn, WorkerSpec};

/// Rows in one transaction: while it lasts, every other writer waits.
const PIECE: u32 = 50;
/// Between two transactions, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(10);
/// After a database that took nothing.
const RETRY: Duration = Duration::from_secs(10);

const SETS_RIGHT: WorkerSpec = WorkerSpec {
    name: "clock_set_right",
    purpose: "puts right what was made while the clock was ahead",
    runs_on: RunsOn::OneNode,
};

/// What the worker knows from one look to the next.
struct Looks {
    /// When it is tried again; at the start, at once: the clock may have been set back while the server was off, or just
    /// before a crash.
    again: Option<Duration>,
    said: bool,
}

/// Starts the worker that puts times right whenever the clock has turned out to have been ahead.
pub fn start(operations: &Arc<Operations>) {
    let shared = Arc::clone(operations);
    let looks = Arc::new(Mutex::new(Looks { again: Some(Duration::ZERO), said: false }));
    operations.workers.periodic(SETS_RIGHT, LOOK_EVERY, move |_| {
        let (operations, looks) = (Arc::clone(&shared), Arc::clone(&looks));
        worker::run(async move { look(&operations, &looks).await })
    });
}

async fn look(operations: &Operations, looks: &Mutex<Looks>) -> Result<()> {
    let believed_ahead = operations.guard.believed_ahead();
    let said = std::mem::replace(&mut looks.lock().said, believed_ahead.is_some());
    if let Some(ahead) = believed_ahead.filter(|_| !said) {
        tracing::warn!(
            seconds = ahead.as_secs(),
            "the clock is behind what was believed before, for long enough to be believed itself: what was made before \
             ends by the former time. Where the clock is right now, start the server once with HEXA_BELIEVE_CLOCK set to \
             the day (UTC), and it ends as if it was made now"
        );
    }
    if !operations.guard.has_stayed() {
        return Ok(());
    }
    let now = operations.clock.monotonic();
    let returned = operations.guard.take_returned();
    if !returned && looks.lock().again.is_none_or(|at| now < at) {
        return Ok(());
    }
    let done = set_right(operations).await;
    looks.lock().again = done.is_err().then_some(now + RETRY);
    done.map(drop)
}

/// Puts every time right that lies beyond what can have been, when the clock has stayed as it is for some minutes; gives how
/// many.
///
/// # Errors
/// When the database does not take it; what was put right before stays so, and each kind of row is tried.
pub async fn set_right(services: &Operations) -> Result<u64> {
    let (mut all, mut failed) = (0, None);
    if !services.guard.has_stayed() {
        return Ok(0);
    }
    for rule in 0..RULES {
        match by_rule(services, rule, all == 0 && rule != KEYS).await {
            Ok(_) if rule == KEYS => {}
            Ok(times) => all += times,
            Err(error) => failed = Some(error),
        }
    }
    if all > 0 {
        tracing::warn!(
            times = all,
            "what was made while the clock was ahead ends as if it was made when the clock was set back"
        );
    }
    failed.map_or(Ok(all), Err)
}

/// The limits of this moment: the time goes on while rows are looked for, and the clock may be set again.
fn limits(services: &Operations) -> SetRight {
    let (newest, now) = services.guard.newest();
    SetRight {
        newest,
        now,
        rotation_grace: services.config.provision.rotation_grace,
        reset_lifetime: services.config.provision.claim_lifetime,
        key_lifetime: idempotency::LIFETIME,
        refresh_idle: services.accounts.config.refresh_idle,
    }
}

/// `first` when it is to be told as the first that is put right in this run.
async fn by_rule(services: &Operations, rule: usize, mut first: bool) -> Result<u64> {
    let (mut all, mut after) = (0, None);
    while !services.stopping() {
        let beyond = services.store.beyond(rule, &limits(services), after, PIECE).await?;
        let Some(last) = beyond.last() else { break };
        after = Some(last);
        let (at, by) = (services.clock.now(), limits(services));
        let piece = internal(&services.store, move |tx| {
            Box::pin(async move {
                let times = tx.set_right(&beyond, &by).await?;
                if times > 0 && first {
                    // It is also the last row by which a start would go that finds nothing noted.
                    tx.audit(&AuditEntry::event(at, Actor::System, Source::System, "clock.set_right")).await?;
                }
                // Memory has the ends of access tokens.
                Ok(Decided::done(times).telling(Change::TimesSetRight))
            })
        });
        let times = piece.await?;
        first &= times == 0;
        all += times;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = services.stop.cancelled() => {}
        }
    }
    Ok(all)
}
