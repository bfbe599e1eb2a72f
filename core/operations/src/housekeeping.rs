//! What is over is removed after a while, in small pieces: while one is being removed, every writer waits.

use std::sync::Arc;
use std::time::Duration;

use hexa_model::TimeMs;
use tokio::time::MissedTickBehavior;

use crate::Operations;
use hexa_accounts::keys;
use hexa_platform::audit::retention;
use hexa_platform::change::{Decided, internal};
use hexa_platform::error::Result;
use hexa_platform::idempotency;

/// What ended is kept for so long: a refresh token that comes again is known, and who looks back finds what was.
const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// Between two looks.
const EVERY: Duration = Duration::from_secs(3_600);
/// Rows in one transaction.
const PIECE: u32 = 200;
/// Between two transactions, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(10);
/// Removes what is over, at once and every hour, and looks after the signing keys, until the services stop. Audit rows
/// go when they are older than `audit_retention`, if ever.
pub async fn run(services: Arc<Operations>, audit_retention: Option<Duration>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = services.stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if !services.guard.trusted() {
            tracing::warn!("the clock is more than a day ahead of what was known: nothing is removed by it for now");
            continue;
        }
        if let Err(error) = keys::tend(&services).await {
            tracing::warn!(%error, "the signing keys of access tokens were not checked for rotation");
        }
        if let Err(error) = purge(&services).await {
            tracing::warn!(%error, "expired rows were not removed; tried again in an hour");
        }
        if let Err(error) = retention::forget_checkpoints(&services).await {
            tracing::warn!(%error, "checkpoints that no audit row names were not removed; tried again in an hour");
        }
        match audit_retention {
            None => {}
            Some(keep) => match retention::prune(&services, keep).await {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "old audit rows removed under a checkpoint"),
                Err(error) => tracing::error!(%error, "old audit rows were not removed"),
            },
        }
    }
}

/// Removes everything that is over now; gives how many rows.
///
/// # Errors
/// When the database does not take it; what was removed before stays removed.
pub async fn purge(services: &Operations) -> Result<u64> {
    let now = services.clock.now();
    let before = TimeMs(now.0.saturating_sub(KEEP.as_millis() as i64));
    let over = services.guard.earliest();
    let mut gone = 0;
    while !services.stopping() {
        let codes = services.store.codes_over(over, PIECE).await?;
        let piece = internal(&services.store, move |tx| {
            Box::pin(async move {
                let mut piece = tx.forget_codes(&codes, over).await?;
                piece += tx.forget_sessions(before, PIECE).await?;
                piece += tx.forget_tokens(before, PIECE).await?;
                piece += tx.forget_invitations(before, PIECE).await?;
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
