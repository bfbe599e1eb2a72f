//! What is over is removed after a while, in small pieces: while one is being removed, every writer waits.

use std::sync::Arc;
use std::time::Duration;

use hexa_model::TimeMs;

use crate::Operations;
use hexa_accounts::keys;
use hexa_platform::audit::retention;
use hexa_platform::change::{Decided, internal};
use hexa_platform::error::Result;
use hexa_platform::idempotency;
use hexa_platform::worker::{self, RunsOn, WorkerSpec};

/// What ended is kept for so long: a refresh token that comes again is known, and who looks back finds what was.
const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// Time between two runs of the worker: one hour.
const EVERY: Duration = Duration::from_secs(3_600);
/// Rows in one transaction.
const PIECE: u32 = 200;
/// Between two transactions, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(10);

const PURGES: WorkerSpec = WorkerSpec {
    name: "housekeeping",
    purpose: "removes what is over, and rotates the keys of access tokens when they are due",
    runs_on: RunsOn::OneNode,
};

/// Starts the worker that removes what is over, at once and every hour, and looks after the signing keys. Audit rows go
/// when they are older than `audit_retention`, if ever.
pub(crate) fn start(operations: &Arc<Operations>, audit_retention: Option<Duration>) {
    let shared = Arc::clone(operations);
    operations.workers.periodic(PURGES, EVERY, move |_| {
        let operations = Arc::clone(&shared);
        worker::run(async move { run_once(&operations, audit_retention).await })
    });
}

/// Each of the things is done, whether the others could be or not; all errors are given.
async fn run_once(operations: &Operations, audit_retention: Option<Duration>) -> Result<(), String> {
    if !operations.guard.trusted() {
        return Err("the clock is more than a day ahead of what was known: nothing is removed by it for now".to_owned());
    }
    let mut failed = Vec::new();
    if let Err(error) = keys::rotate_if_due(operations).await {
        failed.push(format!("the signing keys of access tokens were not checked for rotation: {error}"));
    }
    if let Err(error) = purge(operations).await {
        failed.push(format!("expired rows were not removed: {error}"));
    }
    if let Err(error) = retention::purge_checkpoints(operations).await {
        failed.push(format!("checkpoints that no audit row names were not removed: {error}"));
    }
    match audit_retention {
        None => {}
        Some(keep) => match retention::prune(operations, keep).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old audit rows removed under a checkpoint"),
            Err(error) => {
                // Perhaps they do not fit together: that is said each time.
                tracing::error!(%error, "old audit rows were not removed");
                failed.push(format!("old audit rows were not removed: {error}"));
            }
        },
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
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
        let piece = piece.await? + idempotency::purge_keys(services, PIECE).await?;
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
