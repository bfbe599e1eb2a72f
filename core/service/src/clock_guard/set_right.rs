//! What was made while the clock was ahead, and is to end as if it was made when the clock was set back.
//!
//! Whoever signs in, provisions or invites while the clock is ahead must be served, by whatever it shows: so a quarter of an
//! hour would end in a year. Once it is known that the clock was wrong, each such time is put right.

use std::time::Duration;

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Source};
use hexa_store::SetRight;
use serde_json::json;

use crate::Services;
use crate::change::{Decided, internal};
use crate::error::Result;
use crate::idempotency;

/// Rows of each kind in one transaction: while it lasts, every other writer waits.
const PIECE: u32 = 50;
/// Between two transactions, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(10);

/// Puts every time right that lies beyond what can have been; gives how many.
///
/// # Errors
/// When the database does not take it; what was put right before stays so.
pub async fn set_right(services: &Services) -> Result<u64> {
    let by = SetRight {
        newest: services.guard.newest(),
        now: services.guard.latest(),
        rotation_grace: services.provision.config.rotation_grace,
        reset_lifetime: services.provision.config.claim_lifetime,
        key_lifetime: idempotency::LIFETIME,
    };
    let mut all = 0;
    while !services.stopping() {
        let beyond = services.store.beyond(&by, PIECE).await?;
        if beyond.is_empty() {
            break;
        }
        let at = services.clock.now();
        let piece = internal(&services.store, move |tx| {
            Box::pin(async move {
                let times = tx.set_right(&beyond, &by).await?;
                if times > 0 {
                    // It is also the last row by which a start would go that finds nothing noted.
                    let entry = AuditEntry::event(at, Actor::System, Source::System, "clock.set_right");
                    tx.audit(&entry.details(&json!({ "times": times }))).await?;
                }
                Ok(Decided::done(times))
            })
        });
        let piece = piece.await?;
        // Also the ends of tokens that memory holds.
        services.auth.forget_tokens();
        all += piece;
        if piece == 0 {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = services.stop.cancelled() => {}
        }
    }
    if all > 0 {
        tracing::warn!(
            times = all,
            "what was made while the clock was ahead ends as if it was made when the clock was set back"
        );
    }
    Ok(all)
}
