//! Old rows of the audit go, under checkpoints (`AUDIT_RETENTION_DAYS`).

use std::time::Duration;

use crate::Services;

/// Rows per transaction: while one is open, every writer waits.
const PIECE: u32 = 1_000;
/// Checkpoints, likewise.
const CHECKPOINTS: u32 = 200;
/// Between two transactions, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(20);

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

/// Removes checkpoints that no row names any more, piece by piece: a checkpoint lives as long as the row that was written
/// with it, and the newest one of the chain stays. Gives how many.
///
/// # Errors
/// When the database does not take it; what was removed before stays removed.
pub async fn forget_checkpoints(services: &Services) -> Result<u64, hexa_store::StoreError> {
    let mut removed = 0;
    while !services.stopping() {
        let gone = services.store.forget_checkpoints(CHECKPOINTS).await?;
        removed += gone;
        if gone < u64::from(CHECKPOINTS) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = services.stop.cancelled() => {}
        }
    }
    Ok(removed)
}
