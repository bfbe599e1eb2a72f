//! Old rows of the audit go, under checkpoints (`AUDIT_RETENTION_DAYS`).

use std::time::Duration;

use crate::Platform;

/// Rows per transaction: while one is open, every writer waits.
const PIECE: u32 = 1_000;
/// Checkpoints per transaction, few for the same reason.
const CHECKPOINTS: u32 = 200;
/// Between two transactions, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(20);

/// Removes what is older than `keep` now, piece by piece; gives how many rows.
///
/// # Errors
/// When the database does not take it, or the rows do not fit together; what was removed before stays removed.
pub async fn prune(platform: &Platform, keep: Duration) -> Result<u64, hexa_store::StoreError> {
    let mut removed = 0;
    while !platform.stopping() {
        let now = platform.clock.now();
        let before = hexa_model::TimeMs(now.0.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)));
        let rows = platform.store.prune_audit(before, now, PIECE).await?;
        removed += rows;
        if rows < u64::from(PIECE) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = platform.stop.cancelled() => {}
        }
    }
    Ok(removed)
}

/// Removes checkpoints that no row names any more, piece by piece: a checkpoint lives as long as the row that was written
/// with it, and the newest one of the chain stays. Gives how many.
///
/// # Errors
/// When the database does not take it; what was removed before stays removed.
pub async fn purge_checkpoints(platform: &Platform) -> Result<u64, hexa_store::StoreError> {
    let mut removed = 0;
    while !platform.stopping() {
        let gone = platform.store.forget_checkpoints(CHECKPOINTS).await?;
        removed += gone;
        if gone < u64::from(CHECKPOINTS) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = platform.stop.cancelled() => {}
        }
    }
    Ok(removed)
}
