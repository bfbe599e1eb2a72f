//! A device changes hands: claim, release, delete, token rotation, new claim codes.

use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::token;
use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Change, DeviceChange, ErrorCode, Outcome, Source, TimeMs, UserKey};
use hexa_store::Tx;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::Devices;
use crate::authorize::Visibility;
use crate::handle::DeviceHandle;
use crate::provision::{ClaimCode, new_claim_code, reset_setting};
use crate::view::{self, DeviceView};
use hexa_platform::change::{Decided, asked, internal};
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;
use hexa_platform::limit::Attempt;
use hexa_platform::principal::Principal;

/// A rotated token, shown once.
#[derive(Debug)]
pub struct Rotated {
    /// The new device token (`hxd_...`); only its hash is stored.
    pub token: SecretString,
    /// The old one works until then, or until the new one is used.
    pub previous_until: TimeMs,
}

/// What every process must hear of a device whose access changed in this transaction.
pub(super) async fn changed(tx: &mut Tx, live: &DeviceHandle, what: DeviceChange) -> Result<Change> {
    let version = tx.raise_access(live.key).await?.ok_or_else(Error::no_device)?;
    Ok(Change::Device { device: live.key, uid: live.uid.clone(), version, what })
}

/// A code under way, counted for its account and for all of them together while it is. It goes with the change, so that
/// its end does not depend on whether its caller waits; a change that is never made was nobody's guess.
struct Guess(Option<(Attempt<UserKey>, Option<Attempt<()>>)>);

impl Guess {
    /// It was wrong: it stays counted.
    fn wrong(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        if let Some((own, all)) = self.0.take() {
            own.forgive();
            if let Some(all) = all {
                all.forgive();
            }
        }
    }
}

/// The account may try; so may all of them together, or the code is not even looked at.
async fn begin(services: &Devices, own: Attempt<UserKey>) -> Result<Guess> {
    let (all, at) = (&services.provision.all_wrong_codes, services.clock.monotonic());
    match all.attempt(&(), at) {
        Ok(attempt) => Ok(Guess(Some((own, Some(attempt))))),
        Err(refused) => {
            own.forgive();
            if let Some(wait) = all.tell_once(&(), at) {
                limited(services, wait).await;
            }
            Err(refused)
        }
    }
}

/// Many accounts guess, each within its own bound: said once, in the log and in the audit.
async fn limited(services: &Devices, wait: Duration) {
    let (seconds, limit) = (wait.as_secs(), services.provision.config.total_claim_failures.burst.get());
    tracing::warn!(
        limit,
        seconds,
        "so many wrong claim codes came from all accounts together that nobody claims by code until the time is over: \
         somebody may be guessing; the audit has each as security.wrong_claim_code"
    );
    let entry = AuditEntry::event(services.clock.now(), Actor::System, Source::Api, "security.claim_codes_limited");
    let entry = entry.outcome(Outcome::Rejected).details(&json!({ "limit": limit, "seconds": seconds }));
    let told = internal(&services.store, move |tx| Box::pin(async move { Ok(Decided::done(tx.audit(&entry).await?)) }));
    if let Err(error) = told.await {
        tracing::warn!(%error, "the limit of wrong claim codes is not in the audit");
    }
}

/// Claims the device of this code for the caller: one conditional update, so that of many at once one gets it.
///
/// # Errors
/// `not_found` for a wrong, spent or expired code; `rate_limited` after too many of them, of this account or of all.
pub async fn claim(services: &Arc<Devices>, by: &Principal, key: Key<DeviceView>, code: &str) -> Result<DeviceView> {
    let (user, now) = (by.account.key, services.clock.now());
    let judged = services.guard.latest();
    let own = services.provision.wrong_codes.attempt(&user, services.clock.monotonic())?;
    let hash = token::claim_code_hash(code);
    let attempt = match &hash {
        Some(_) => begin(services, own).await?,
        // What cannot be a code guesses none.
        None => Guess(Some((own, None))),
    };
    let kept = hash.map(|hash| services.provision.codes.kept(&hash));
    let (house, by) = (Arc::clone(services), by.clone());
    asked(&services.store, &by.clone(), key, move |tx| {
        Box::pin(async move {
            let claimed = match &kept {
                Some(kept) => tx.claim_device(kept, user, (now, judged)).await,
                None => Ok(None),
            };
            let Some(device) = claimed? else {
                attempt.wrong();
                let entry = AuditEntry::event(now, by.actor(), Source::Api, "security.wrong_claim_code");
                tx.audit(&entry.outcome(Outcome::Rejected)).await?;
                let what = "no device waits with this claim code; it may be used or expired";
                return Ok(Decided::refused(Error::new(ErrorCode::NotFound, what)));
            };
            tx.audit(&AuditEntry::event(now, by.actor(), Source::Api, "device.claimed").device(device)).await?;
            let version = tx.raise_access(device).await?.ok_or_else(Error::no_device)?;
            let view = view::within(&house, tx, &by, device, Visibility::OWNER).await?;
            hexa_model::crash_point!("claim.in_tx");
            let uid = view.row.uid.clone();
            Ok(Decided::done(view).telling(Change::Device { device, uid, version, what: DeviceChange::Claimed }))
        })
    })
    .await
}

/// Gives a device up: its socket closes, its open commands end, and a new claim code waits for the next owner.
///
/// # Errors
/// `not_found` when it is not the caller's (an admin may release any), or has no owner.
pub async fn release(
    services: &Arc<Devices>,
    by: &Principal,
    key: Key<ClaimCode>,
    live: &Arc<DeviceHandle>,
) -> Result<ClaimCode> {
    let (former, now, actor) = (live.owner(), services.clock.now(), by.actor());
    let (claim, kept) = new_claim_code(services, false);
    let live = Arc::clone(live);
    asked(&services.store, by, key, move |tx| {
        Box::pin(async move {
            if !tx.release_device(live.key, former, now).await? {
                return Err(Error::no_device());
            }
            tx.set_claim_code(live.key, &kept, (claim.made_at, claim.expires_at)).await?;
            tx.take_setting(&reset_setting(live.key)).await?;
            let ended = tx.end_grants_of(live.key, now, "released").await?;
            let entry = AuditEntry::event(now, actor, Source::Api, "device.released").device(live.key);
            tx.audit(&entry.details(&json!({ "grants_ended": ended }))).await?;
            let released = changed(tx, &live, DeviceChange::Released).await?;
            Ok(Decided::done(claim).telling(released))
        })
    })
    .await
}

/// Deletes a device with its states and names; the audit keeps its rows.
///
/// # Errors
/// `not_found` when it is gone already.
pub async fn delete(services: &Arc<Devices>, by: &Principal, key: Key<()>, live: &Arc<DeviceHandle>) -> Result<()> {
    let (now, actor) = (services.clock.now(), by.actor());
    let live = Arc::clone(live);
    asked(&services.store, by, key, move |tx| {
        Box::pin(async move {
            let version = tx.raise_access(live.key).await?.ok_or_else(Error::no_device)?;
            if !tx.delete_device(live.key).await? {
                return Err(Error::no_device());
            }
            tx.take_setting(&reset_setting(live.key)).await?;
            let entry = AuditEntry::event(now, actor, Source::Api, "device.deleted").device(live.key);
            tx.audit(&entry.details(&json!({ "uid": live.uid.as_str() }))).await?;
            let (device, uid) = (live.key, live.uid.clone());
            Ok(Decided::done(()).telling(Change::Device { device, uid, version, what: DeviceChange::Deleted }))
        })
    })
    .await
}

/// A new device token. The old one goes on working for the grace time or until the new one is used; the socket that
/// it opened is closed.
///
/// # Errors
/// `not_found` when the device is gone, or has another owner by now.
pub async fn rotate_token(
    services: &Arc<Devices>,
    by: &Principal,
    key: Key<Rotated>,
    live: &Arc<DeviceHandle>,
) -> Result<Rotated> {
    let (now, actor, owner) = (services.clock.now(), by.actor(), live.owner());
    let fresh = token::generate("hxd_");
    let previous_until = services.guard.latest().plus(services.provision.config.rotation_grace);
    let live = Arc::clone(live);
    asked(&services.store, by, key, move |tx| {
        Box::pin(async move {
            let hash = token::sha256(fresh.expose_secret().as_bytes());
            if tx.device_by_key(live.key).await?.is_none_or(|row| row.owner != owner)
                || !tx.rotate_token(live.key, hash, Some(previous_until), now).await?
            {
                return Err(Error::no_device());
            }
            tx.audit(&AuditEntry::event(now, actor, Source::Api, "device.token_rotated").device(live.key)).await?;
            let rotated = changed(tx, &live, DeviceChange::TokenRotated).await?;
            Ok(Decided::done(Rotated { token: fresh, previous_until }).telling(rotated))
        })
    })
    .await
}

/// A new claim code for an unclaimed device, asked for by itself or by an admin; the former code is dead.
///
/// # Errors
/// `already_claimed`.
pub async fn renew_claim_code(
    services: &Arc<Devices>,
    by: Option<&Principal>,
    key: Key<ClaimCode>,
    live: &Arc<DeviceHandle>,
) -> Result<ClaimCode> {
    let now = services.clock.now();
    let actor = by.map_or(Actor::Device, Principal::actor);
    let (claim, kept) = new_claim_code(services, false);
    let device = live.key;
    asked(&services.store, by, key, move |tx| {
        Box::pin(async move {
            // Who owns it is asked here: a claim that came in between leaves no code that would do nothing.
            if !tx.set_claim_code(device, &kept, (claim.made_at, claim.expires_at)).await? {
                let what = "the device has an owner; release it first";
                return Err(Error::new(ErrorCode::AlreadyClaimed, what));
            }
            tx.audit(&AuditEntry::event(now, actor, Source::Api, "device.claim_code_renewed").device(device)).await?;
            Ok(Decided::done(claim))
        })
    })
    .await
}
