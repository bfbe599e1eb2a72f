//! A device comes in: provisioning with the fleet key, and the check of its token at every connect.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::{random_bytes, token};
use hexa_model::audit::AuditEntry;
use hexa_model::device::{MAX_INPUTS, MAX_RELAYS};
use hexa_model::{Actor, Change, DeviceChange, DeviceClass, DeviceUid, ErrorCode, Outcome, Source, TimeMs};
use hexa_store::{DeviceRow, KeptCode, NewDevice, StoreError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::Devices;
use crate::codes::Codes;
use crate::config::ProvisionConfig;
use crate::handle::DeviceHandle;
use crate::registry::READ_AGAIN;
use hexa_platform::change::{Decided, asked, change, internal};
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;
use hexa_platform::limit::{FailureLimiter, Limiter, network};
use hexa_platform::principal::Principal;

/// Claim codes on factory labels live this long.
const LABEL_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Keys and limits of the provisioning entry point.
#[derive(Debug)]
pub struct Provision {
    pub(crate) config: ProvisionConfig,
    wrong_keys: FailureLimiter<Option<IpAddr>>,
    right_keys: Limiter<()>,
    pub(crate) wrong_codes: FailureLimiter<hexa_model::UserKey>,
    pub(crate) all_wrong_codes: FailureLimiter<()>,
    pub(crate) codes: Codes,
}

impl Provision {
    /// With these keys and limits; claim codes are kept under a key that is derived from `secret`.
    pub fn new(config: ProvisionConfig, secret: &SecretString) -> Self {
        Self {
            wrong_keys: FailureLimiter::new("wrong provisioning keys", config.failures),
            right_keys: Limiter::new("provisioning requests", config.rate),
            wrong_codes: FailureLimiter::new("wrong claim codes", config.claim_failures),
            all_wrong_codes: FailureLimiter::new("wrong claim codes on this server", config.total_claim_failures),
            codes: Codes::new(secret),
            config,
        }
    }

    fn key_fits(&self, offered: &SecretString) -> bool {
        // Every key is compared, so that the time does not tell which one was close.
        self.config
            .keys
            .iter()
            .fold(false, |fits, key| fits | token::same_text(key.expose_secret(), offered.expose_secret()))
    }
}

/// What a device says of itself when it comes in; checked by [`register`].
#[derive(Debug, Default)]
pub struct Registration {
    /// The class, which picks the driver; required for a serial that is not known.
    pub class: Option<DeviceClass>,
    /// The name of the model: 1 to 64 printable ASCII characters.
    pub model: Option<String>,
    /// The hardware revision: 1 to 64 printable ASCII characters.
    pub hardware: Option<String>,
    /// The firmware version: 1 to 64 printable ASCII characters; later reports of the device replace it.
    pub firmware: Option<String>,
    /// Serial number, unique in the fleet.
    pub serial: Option<String>,
    /// How many relays it has.
    pub relay_count: u16,
    /// How many inputs it has.
    pub input_count: u16,
    /// Beyond those of its class.
    pub capabilities: Option<Vec<String>>,
    /// The claim code goes onto a printed label: it lives ten years.
    pub label: bool,
}

/// A device's credentials, shown once.
#[derive(Debug)]
pub struct Provisioned {
    /// Its public id, made at random for a new device, and kept by a known one.
    pub uid: DeviceUid,
    /// For `/ws/device` and `Authorization: Device`.
    pub token: SecretString,
    /// For its future owner.
    pub claim: ClaimCode,
}

/// A claim code, shown once.
#[derive(Debug)]
pub struct ClaimCode {
    /// The code as people type it, `XXXXX-XXXXX`; only a keyed hash is stored.
    pub code: SecretString,
    /// By the time that credentials are judged by.
    pub made_at: TimeMs,
    /// From this time on the code claims nothing; the device may ask for another one.
    pub expires_at: TimeMs,
}

/// The owner has allowed a device to come in anew.
#[derive(Debug)]
pub struct ResetAllowed {
    /// The permission ends at this time, or with its first use.
    pub until: TimeMs,
}

/// Who calls the provisioning entry point.
#[derive(Debug)]
pub struct Caller {
    /// The address of the caller, by which wrong keys are counted; none where it is not known.
    pub ip: Option<IpAddr>,
    /// The fleet key that was sent, from the header `x-provision-key`.
    pub key: Option<SecretString>,
    /// The old credentials, to take a known serial over.
    pub proof: Option<(DeviceUid, SecretString)>,
}

/// Provisions a device.
///
/// # Errors
/// `invalid_provision_key`, `rate_limited`, `validation_error`, `already_provisioned`.
pub async fn register(
    services: &Devices,
    caller: Caller,
    key: Key<Provisioned>,
    new: Registration,
) -> Result<Provisioned> {
    check_key(services, &caller).await?;
    check(&new)?;
    services.provision.right_keys.take(&())?;
    let known = match &new.serial {
        Some(serial) => services.store.device_by_serial(serial).await?,
        None => None,
    };
    match known {
        Some(row) => reissue(services, &caller, key, row, &new).await,
        None => create(services, key, new).await,
    }
}

async fn check_key(services: &Devices, caller: &Caller) -> Result<()> {
    let attempt = services.provision.wrong_keys.attempt(&caller.ip.map(network), services.clock.monotonic())?;
    if caller.key.as_ref().is_some_and(|key| services.provision.key_fits(key)) {
        attempt.forgive();
        return Ok(());
    }
    drop(attempt);
    let ip = caller.ip.map(|ip| ip.to_string());
    audit(services, None, "security.wrong_provision_key", Outcome::Rejected, &json!({ "ip": ip })).await?;
    Err(Error::new(ErrorCode::InvalidProvisionKey, "the header x-provision-key is missing or wrong"))
}

fn check(new: &Registration) -> Result<()> {
    if new.relay_count > MAX_RELAYS {
        return Err(Error::validation("relay_count", format!("a device has at most {MAX_RELAYS} relays")));
    }
    if new.input_count > MAX_INPUTS {
        return Err(Error::validation("input_count", format!("a device has at most {MAX_INPUTS} inputs")));
    }
    let texts = [
        ("model", &new.model),
        ("hardware", &new.hardware),
        ("firmware_version", &new.firmware),
        ("serial", &new.serial),
    ];
    for (field, text) in texts {
        if let Some(text) = text
            && (text.is_empty() || text.len() > 64 || !text.bytes().all(|b| (0x20..0x7f).contains(&b)))
        {
            return Err(Error::validation(field, format!("{field} has 1 to 64 printable ASCII characters")));
        }
    }
    if let Some(serial) = &new.serial
        && DeviceUid::parse(serial).is_none()
    {
        return Err(Error::validation("serial", "a serial has 1 to 64 of A-Z a-z 0-9 _ -"));
    }
    if let Some(capabilities) = &new.capabilities {
        let fits =
            |c: &String| !c.is_empty() && c.len() <= 32 && c.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if capabilities.len() > 16 || !capabilities.iter().all(fits) {
            let what = "at most 16 capabilities of 1 to 32 lower-case letters and _";
            return Err(Error::validation("capabilities", what));
        }
    }
    Ok(())
}

async fn create(services: &Devices, key: Key<Provisioned>, new: Registration) -> Result<Provisioned> {
    let class = new.class.ok_or_else(|| Error::validation("device_class", "device_class is required"))?;
    let most = u64::from(services.provision.config.max_unclaimed);
    if services.store.unclaimed_count().await? >= most {
        return Err(Error::rate_limited(format!("{most} devices wait to be claimed; claim or delete some first"), 60));
    }
    let now = services.clock.now();
    let token = token::generate("hxd_");
    let (claim, kept) = new_claim_code(services, new.label);
    let mut capabilities: Vec<String> = class.default_capabilities().iter().map(|c| (*c).to_owned()).collect();
    capabilities.extend(new.capabilities.unwrap_or_default());
    capabilities.sort();
    capabilities.dedup();
    let device = NewDevice {
        uid: DeviceUid::generate(random_bytes()),
        class,
        model: new.model,
        hardware: new.hardware,
        firmware: new.firmware,
        serial: new.serial,
        relay_count: new.relay_count,
        input_count: new.input_count,
        capabilities,
        token_hash: token::sha256(token.expose_secret().as_bytes()),
        claim: kept,
        claim_expires_at: claim.expires_at,
        claim_made_at: claim.made_at,
        created_at: now,
    };
    change(&services.store, key, move |tx| {
        Box::pin(async move {
            let key = tx.insert_device(&device).await.map_err(|e| match e {
                StoreError::Conflict(_) => already_provisioned(),
                other => other.into(),
            })?;
            let entry = AuditEntry::event(now, Actor::Device, Source::Device, "device.provisioned").device(key);
            tx.audit(&entry.details(&json!({ "uid": device.uid.as_str(), "class": class.as_str() }))).await?;
            let added = Change::Device { device: key, uid: device.uid.clone(), version: 0, what: DeviceChange::Added };
            Ok(Decided::done(Provisioned { uid: device.uid, token, claim }).telling(added))
        })
    })
    .await
}

/// A known serial comes again: an unclaimed device that proves its old token gets a new one; anything else
/// changes nothing.
async fn reissue(
    services: &Devices,
    caller: &Caller,
    key: Key<Provisioned>,
    row: DeviceRow,
    new: &Registration,
) -> Result<Provisioned> {
    let proven = caller.proof.as_ref().is_some_and(|(uid, token)| {
        *uid == row.uid && token::same(&row.token_hash, &token::sha256(token.expose_secret().as_bytes()))
    });
    let (now, judged) = (services.clock.now(), services.guard.latest());
    let setting = reset_setting(row.key);
    let allowed = services.store.setting(&setting).await?.is_some_and(|until| is_open(&until, judged));
    if !allowed && (row.owner.is_some() || !proven) {
        let ip = caller.ip.map(|ip| ip.to_string());
        let what = "security.provision_refused";
        audit(services, Some(row.key), what, Outcome::Rejected, &json!({ "ip": ip })).await?;
        return Err(already_provisioned());
    }
    let token = token::generate("hxd_");
    let (claim, kept) = new_claim_code(services, new.label);
    let ip = caller.ip.map(|ip| ip.to_string());
    change(&services.store, key, move |tx| {
        Box::pin(async move {
            let hash = token::sha256(token.expose_secret().as_bytes());
            // Compared where nothing can come in between: it may have been claimed, or given a token, since it was read;
            // and of two that come at the same time after a reset the second one finds the owner's word taken.
            let replaced = if allowed {
                let word = tx.take_setting(&setting).await?;
                word.is_some_and(|until| is_open(&until, judged)) && tx.rotate_token(row.key, hash, None, now).await?
            } else {
                tx.replace_token(row.key, row.token_hash, hash, now).await?
            };
            if !replaced {
                return Err(already_provisioned());
            }
            // One that has an owner already has no use for a code, and this one claims nothing from them.
            tx.set_claim_code(row.key, &kept, (claim.made_at, claim.expires_at)).await?;
            let entry = AuditEntry::event(now, Actor::Device, Source::Device, "device.reprovisioned").device(row.key);
            tx.audit(&entry.details(&json!({ "ip": ip, "after_reset": allowed }))).await?;
            let version = tx.raise_access(row.key).await?.ok_or_else(already_provisioned)?;
            let (device, uid) = (row.key, row.uid.clone());
            let rotated = Change::Device { device, uid, version, what: DeviceChange::TokenRotated };
            Ok(Decided::done(Provisioned { uid: row.uid, token, claim }).telling(rotated))
        })
    })
    .await
}

/// The owner's word that a device of this serial may come in anew without its old token, until the time that it holds.
pub(crate) fn reset_setting(device: hexa_model::DeviceKey) -> String {
    format!("reset:{}", device.0)
}

fn is_open(until: &str, now: TimeMs) -> bool {
    until.parse().is_ok_and(|until: i64| now.0 < until)
}

/// After a factory reset a device has lost its token, and the fleet key alone takes over no device that is known. Its
/// owner may let it in once, within the lifetime of a claim code.
///
/// # Errors
/// `unsupported_command` where the device has no serial to be known by.
pub async fn allow_reset(
    services: &Devices,
    by: &Principal,
    key: Key<ResetAllowed>,
    live: &DeviceHandle,
) -> Result<ResetAllowed> {
    let (now, actor, device, owner) = (services.clock.now(), by.actor(), live.key, live.owner());
    let until = services.guard.latest().plus(services.provision.config.claim_lifetime);
    asked(&services.store, by, key, move |tx| {
        Box::pin(async move {
            let row = tx.device_by_key(device).await?.filter(|row| row.owner == owner).ok_or_else(Error::no_device)?;
            if row.serial.is_none() {
                let what = "the device has no serial: after a reset it comes in as a new one";
                return Err(Error::new(ErrorCode::UnsupportedCommand, what));
            }
            tx.put_setting(&reset_setting(device), &until.0.to_string()).await?;
            tx.audit(&AuditEntry::event(now, actor, Source::Api, "device.reset_allowed").device(device)).await?;
            Ok(Decided::done(ResetAllowed { until }))
        })
    })
    .await
}

fn already_provisioned() -> Error {
    Error::new(
        ErrorCode::AlreadyProvisioned,
        "a device with this serial exists; an unclaimed one proves its old token with Authorization: Device uid:token, and \
         the owner of a claimed one may allow it to come in anew after a reset",
    )
}

pub(crate) fn new_claim_code(services: &Devices, label: bool) -> (ClaimCode, KeptCode) {
    let code = token::generate_claim_code();
    let hash = token::claim_code_hash(code.expose_secret()).unwrap_or_default();
    let lifetime = if label { LABEL_LIFETIME } else { services.provision.config.claim_lifetime };
    let kept = services.provision.codes.kept(&hash);
    let made_at = services.guard.latest();
    (ClaimCode { code, made_at, expires_at: made_at.plus(lifetime) }, kept)
}

async fn audit(
    services: &Devices,
    device: Option<hexa_model::DeviceKey>,
    action: &'static str,
    outcome: Outcome,
    details: &serde_json::Value,
) -> Result<()> {
    let mut entry = AuditEntry::event(services.clock.now(), Actor::System, Source::Device, action);
    entry.device = device;
    let entry = entry.outcome(outcome).details(details);
    internal(&services.store, move |tx| Box::pin(async move { Ok(Decided::done(tx.audit(&entry).await?)) })).await
}

/// A device that has proved its token.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The device whose token was good.
    pub live: Arc<DeviceHandle>,
    /// Its access version when the token was good.
    pub access_version: i64,
}

impl Proven {
    /// For a device whose token was looked at by other means.
    pub fn now(live: &Arc<DeviceHandle>) -> Self {
        Self { live: Arc::clone(live), access_version: live.access_version() }
    }
}

/// Checks a device's uid and token. Unknown uid and wrong token answer alike, so that nobody learns which there are.
///
/// # Errors
/// `invalid_token`; `account_disabled` never: a disabled device looks like a wrong token.
pub async fn authenticate(services: &Devices, uid: &str, given: &SecretString) -> Result<Proven> {
    let wrong = || Error::new(ErrorCode::InvalidToken, "the device's uid or token is wrong");
    let uid = DeviceUid::parse(uid).ok_or_else(wrong)?;
    let hash = token::sha256(given.expose_secret().as_bytes());
    for _ in 0..READ_AGAIN {
        let seen = services.registry.seen(&uid);
        let stored = services.registry.stored(&uid).await?.ok_or_else(wrong)?;
        let row = &stored.row;
        let (key, access_version) = (row.key, row.access_version);
        if token::same(&row.token_hash, &hash) {
            if row.previous_token_hash.is_some() {
                // The new token is in use: the old one ends here.
                let drop_it = internal(&services.store, move |tx| {
                    Box::pin(async move { Ok(Decided::done(tx.drop_previous_token(key, hash).await?)) })
                });
                drop_it.await?;
            }
        } else {
            let now = services.guard.latest();
            let old = row.previous_token_hash.is_some_and(|h| token::same(&h, &hash));
            if !old || row.previous_token_until.is_none_or(|until| until <= now) {
                return Err(wrong());
            }
        }
        if let Some(live) = services.registry.enter(stored, seen).await? {
            return if live.active() { Ok(Proven { live, access_version }) } else { Err(wrong()) };
        }
    }
    Err(Error::new(ErrorCode::Busy, "this device changes all the time; try again").retry_after(1))
}
