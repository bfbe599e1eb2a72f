//! A device changes hands: claim, release, delete, token rotation, new claim codes.

use std::sync::Arc;

use hexa_crypto::token;
use hexa_model::audit::AuditEntry;
use hexa_model::event::{Event, EventDevice};
use hexa_model::{Actor, ErrorCode, Outcome, Source, TimeMs};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::Services;
use crate::auth::principal::Principal;
use crate::authorize::Sight;
use crate::device::live::Live;
use crate::device::provision::{ClaimCode, new_claim_code};
use crate::device::session::CloseReason;
use crate::device::view::{self, DeviceView};
use crate::error::{Error, Result};
use crate::idempotency;
use crate::relay::pending::Ended;

/// A rotated token, shown once.
#[derive(Debug)]
pub struct Rotated {
    /// The new one.
    pub token: SecretString,
    /// The old one works until then, or until the new one is used.
    pub previous_until: TimeMs,
}

/// Claims the device of this code for the caller: one conditional update, so that of many at once one gets it.
///
/// # Errors
/// `not_found` for a wrong, spent or expired code; `rate_limited` after too many of them.
pub async fn claim(services: &Services, by: &Principal, code: &str) -> Result<DeviceView> {
    let (user, now) = (by.account.key, services.clock.now());
    let attempt = services.provision.wrong_codes.attempt(&user, services.clock.monotonic())?;
    let hash = token::claim_code_hash(code);
    let looked_up = async {
        let mut tx = services.store.begin().await?;
        let claimed = match &hash {
            Some(hash) => tx.claim_device(hash, user, now).await?,
            None => None,
        };
        Ok::<_, Error>((tx, claimed))
    };
    let looked_up = looked_up.await;
    if !matches!(looked_up, Ok((_, None))) {
        attempt.forgive();
    }
    let (mut tx, claimed) = looked_up?;
    let Some(key) = claimed else {
        let entry = AuditEntry::event(now, by.actor(), Source::Api, "security.wrong_claim_code");
        tx.audit(&entry.outcome(Outcome::Rejected)).await?;
        tx.commit().await?;
        return Err(Error::new(ErrorCode::NotFound, "no device waits with this claim code; it may be used or expired"));
    };
    tx.audit(&AuditEntry::event(now, by.actor(), Source::Api, "device.claimed").device(key)).await?;
    let view = view::within(services, &mut tx, by, key, Sight::OWNER).await?;
    hexa_model::crash_point!("claim.in_tx");
    idempotency::commit(tx, &view).await?;
    let live = services.registry.find(&view.row.uid).await?.ok_or_else(Error::no_device)?;
    live.set_owner(Some(user));
    services.bus.publish(&Event::DeviceClaimed { device: live.event_device() });
    Ok(view)
}

/// Gives a device up: its socket closes, its open commands end, and a new claim code waits for the next owner.
///
/// # Errors
/// `not_found` when it is not the caller's (an admin may release any), or has no owner.
pub async fn release(services: &Services, by: &Principal, live: &Arc<Live>) -> Result<ClaimCode> {
    let former = live.owner();
    let now = services.clock.now();
    let (claim, hash) = new_claim_code(services, false);
    // Before the commit: from here on nobody's command is sent (I9). Put back if the store refuses.
    live.set_owner(None);
    let stored = async {
        let mut tx = services.store.begin().await?;
        if !tx.release_device(live.key, former, now).await? {
            return Err(Error::no_device());
        }
        tx.set_claim_code(live.key, &hash, claim.expires_at).await?;
        let ended = tx.end_grants_of(live.key, now, "released").await?;
        let entry = AuditEntry::event(now, by.actor(), Source::Api, "device.released").device(live.key);
        tx.audit(&entry.details(&json!({ "grants_ended": ended }))).await?;
        idempotency::commit(tx, &claim).await
    };
    if let Err(error) = stored.await {
        live.set_owner(former);
        // Somebody may have been let in meanwhile.
        services.grants.reload(services, live).await?;
        return Err(error);
    }
    leave(services, live, former);
    Ok(claim)
}

/// Deletes a device with its states and names; the audit keeps its rows.
///
/// # Errors
/// `not_found` when it is gone already.
pub async fn delete(services: &Services, by: &Principal, live: &Arc<Live>) -> Result<()> {
    let (former, now) = (live.owner(), services.clock.now());
    live.set_active(false);
    let stored = async {
        let mut tx = services.store.begin().await?;
        if !tx.delete_device(live.key).await? {
            return Err(Error::no_device());
        }
        let entry = AuditEntry::event(now, by.actor(), Source::Api, "device.deleted").device(live.key);
        tx.audit(&entry.details(&json!({ "uid": live.uid.as_str() }))).await?;
        idempotency::commit(tx, &()).await
    };
    if let Err(error) = stored.await {
        live.set_active(true);
        return Err(error);
    }
    live.set_owner(None);
    leave(services, live, former);
    services.registry.forget(&live.uid);
    Ok(())
}

/// What release and delete share: commands end, the socket closes, the former owner's view loses the device.
fn leave(services: &Services, live: &Live, former: Option<hexa_model::UserKey>) {
    let open = live.pending.lock().cancel(true);
    for command in open {
        let what = "the device was released or deleted while the command was open; whether it acted is unknown";
        command.end(Ended::Failed(Error::new(ErrorCode::NotFound, what)));
    }
    if let Some(session) = live.session() {
        session.close(CloseReason::Revoked);
    }
    services.grants.change(services, live, Vec::clear);
    let device = EventDevice { key: live.key, uid: live.uid.clone(), owner: former, viewers: None };
    services.bus.publish(&Event::DeviceReleased { device });
}

/// A new device token. The old one goes on working for the grace time or until the new one is used; the socket that
/// it opened is closed.
pub async fn rotate_token(services: &Services, by: &Principal, live: &Arc<Live>) -> Result<Rotated> {
    let now = services.clock.now();
    let fresh = token::generate("hxd_");
    let previous_until = now.plus(services.provision.config.rotation_grace);
    let mut tx = services.store.begin().await?;
    let hash = token::sha256(fresh.expose_secret().as_bytes());
    if !tx.rotate_token(live.key, hash, Some(previous_until), now).await? {
        return Err(Error::no_device());
    }
    tx.audit(&AuditEntry::event(now, by.actor(), Source::Api, "device.token_rotated").device(live.key)).await?;
    let rotated = Rotated { token: fresh, previous_until };
    idempotency::commit(tx, &rotated).await?;
    if let Some(session) = live.session() {
        session.close(CloseReason::Revoked);
    }
    Ok(rotated)
}

/// A new claim code for an unclaimed device, asked for by itself or by an admin; the former code is dead.
///
/// # Errors
/// `already_claimed`.
pub async fn renew_claim_code(services: &Services, actor: Actor, live: &Live) -> Result<ClaimCode> {
    if live.owner().is_some() {
        return Err(Error::new(ErrorCode::AlreadyClaimed, "the device has an owner; release it first"));
    }
    let now = services.clock.now();
    let (claim, hash) = new_claim_code(services, false);
    let mut tx = services.store.begin().await?;
    tx.set_claim_code(live.key, &hash, claim.expires_at).await?;
    tx.audit(&AuditEntry::event(now, actor, Source::Api, "device.claim_code_renewed").device(live.key)).await?;
    idempotency::commit(tx, &claim).await?;
    Ok(claim)
}
