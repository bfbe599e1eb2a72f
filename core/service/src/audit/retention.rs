//! Old rows of the audit go, under checkpoints (`AUDIT_RETENTION_DAYS`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::Services;
use crate::housekeeping::ClockGuard;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(3_600);
/// Rows per transaction: while one is open, every writer waits.
const PIECE: u32 = 1_000;
/// Between two transactions, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(20);

/// Removes what is older than `keep`, at once and every hour, until the services stop.
pub async fn keep(services: Arc<Services>, keep: Duration, guard: Arc<ClockGuard>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = services.stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if !guard.trusted() {
            tracing::warn!("the clock is more than a day ahead of what was known: no audit row is removed for now");
            continue;
        }
        match prune(&services, keep).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old audit rows removed under a checkpoint"),
            Err(error) => tracing::error!(%error, "old audit rows were not removed"),
        }
    }
}

/// Removes what is older than `keep` now, piece by piece; gives how many rows.
///
/// # Errors
/// When the database does not take it, or the rows do not fit together; what was removed before stays removed.
pub async fn prune(services: &Services, keep: Duration) -> Result<u64, hexa_store::StoreError> {
    let mut removed = 0;
    while !services.stopping() {
        let now = services.clock.now();
        let before = hexa_model::TimeMs(now.0.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)));
        let rows = services.store.prune_audit(before, now, PIECE).await?;
        removed += rows;
        if rows < u64::from(PIECE) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = services.stop.cancelled() => {}
        }
    }
    Ok(removed)
}
