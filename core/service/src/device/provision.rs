//! A device comes in: provisioning with the fleet key, and the check of its token at every connect.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::{random_bytes, token};
use hexa_model::audit::AuditEntry;
use hexa_model::device::{MAX_INPUTS, MAX_RELAYS};
use hexa_model::{Actor, DeviceClass, DeviceUid, ErrorCode, Outcome, Source, TimeMs};
use hexa_store::{DeviceRow, NewDevice, StoreError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::Services;
use crate::config::ProvisionConfig;
use crate::device::live::Live;
use crate::device::session::CloseReason;
use crate::error::{Error, Result};
use crate::idempotency;
use crate::limit::{FailureLimiter, Limiter, network};

/// Claim codes on factory labels live this long.
const LABEL_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Keys and limits of the provisioning door.
#[derive(Debug)]
pub struct Provision {
    pub(crate) config: ProvisionConfig,
    wrong_keys: FailureLimiter<Option<IpAddr>>,
    right_keys: Limiter<()>,
    pub(crate) wrong_codes: FailureLimiter<hexa_model::UserKey>,
}

impl Provision {
    /// With these keys and limits.
    pub fn new(config: ProvisionConfig) -> Self {
        Self {
            wrong_keys: FailureLimiter::new("wrong provisioning keys", config.failures),
            right_keys: Limiter::new("provisioning requests", config.rate),
            wrong_codes: FailureLimiter::new("wrong claim codes", config.claim_failures),
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
    /// Its class.
    pub class: Option<DeviceClass>,
    /// Model.
    pub model: Option<String>,
    /// Hardware revision.
    pub hardware: Option<String>,
    /// Firmware version.
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
    /// Public id.
    pub uid: DeviceUid,
    /// For `/ws/device` and `Authorization: Device`.
    pub token: SecretString,
    /// For its future owner.
    pub claim: ClaimCode,
}

/// A claim code, shown once.
#[derive(Debug)]
pub struct ClaimCode {
    /// `XXXXX-XXXXX`.
    pub code: SecretString,
    /// Until then.
    pub expires_at: TimeMs,
}

/// Who calls the provisioning door.
#[derive(Debug)]
pub struct Caller {
    /// Peer address.
    pub ip: Option<IpAddr>,
    /// `x-provision-key`.
    pub key: Option<SecretString>,
    /// The old credentials, to take a known serial over.
    pub proof: Option<(DeviceUid, SecretString)>,
}

/// Provisions a device.
///
/// # Errors
/// `invalid_provision_key`, `rate_limited`, `validation_error`, `already_provisioned`.
pub async fn register(services: &Services, caller: Caller, new: Registration) -> Result<Provisioned> {
    check_key(services, &caller).await?;
    check(&new)?;
    services.provision.right_keys.take(&())?;
    let known = match &new.serial {
        Some(serial) => services.store.device_by_serial(serial).await?,
        None => None,
    };
    match known {
        Some(row) => reissue(services, &caller, row, &new).await,
        None => create(services, new).await,
    }
}

async fn check_key(services: &Services, caller: &Caller) -> Result<()> {
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

async fn create(services: &Services, new: Registration) -> Result<Provisioned> {
    let class = new.class.ok_or_else(|| Error::validation("device_class", "device_class is required"))?;
    let most = u64::from(services.provision.config.max_unclaimed);
    if services.store.unclaimed_count().await? >= most {
        return Err(Error::rate_limited(format!("{most} devices wait to be claimed; claim or delete some first"), 60));
    }
    let now = services.clock.now();
    let token = token::generate("hxd_");
    let (claim, claim_hash) = new_claim_code(services, new.label);
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
        claim_hash,
        claim_expires_at: claim.expires_at,
        created_at: now,
    };
    let mut tx = services.store.begin().await?;
    let key = tx.insert_device(&device).await.map_err(|e| match e {
        StoreError::Conflict(_) => already_provisioned(),
        other => other.into(),
    })?;
    let entry = AuditEntry::event(now, Actor::Device, Source::Device, "device.provisioned").device(key);
    tx.audit(&entry.details(&json!({ "uid": device.uid.as_str(), "class": class.as_str() }))).await?;
    let provisioned = Provisioned { uid: device.uid, token, claim };
    idempotency::commit(tx, &provisioned).await?;
    if let Some(row) = services.store.device_by_key(key).await? {
        services.registry.insert(Live::new(row, &smallvec::SmallVec::new()));
    }
    Ok(provisioned)
}

/// A known serial comes again (DV-2): an unclaimed device that proves its old token gets a new one; anything else
/// changes nothing.
async fn reissue(services: &Services, caller: &Caller, row: DeviceRow, new: &Registration) -> Result<Provisioned> {
    let proven = caller.proof.as_ref().is_some_and(|(uid, token)| {
        *uid == row.uid && token::same(&row.token_hash, &token::sha256(token.expose_secret().as_bytes()))
    });
    if row.owner.is_some() || !proven {
        let ip = caller.ip.map(|ip| ip.to_string());
        let what = "security.provision_refused";
        audit(services, Some(row.key), what, Outcome::Rejected, &json!({ "ip": ip })).await?;
        return Err(already_provisioned());
    }
    let now = services.clock.now();
    let token = token::generate("hxd_");
    let (claim, claim_hash) = new_claim_code(services, new.label);
    let mut tx = services.store.begin().await?;
    let hash = token::sha256(token.expose_secret().as_bytes());
    if !tx.rotate_token(row.key, hash, None, now).await? {
        return Err(already_provisioned());
    }
    tx.set_claim_code(row.key, &claim_hash, claim.expires_at).await?;
    tx.audit(&AuditEntry::event(now, Actor::Device, Source::Device, "device.reprovisioned").device(row.key)).await?;
    let provisioned = Provisioned { uid: row.uid.clone(), token, claim };
    idempotency::commit(tx, &provisioned).await?;
    if let Some(session) = services.registry.peek(&row.uid).and_then(|live| live.session()) {
        session.close(CloseReason::Revoked);
    }
    Ok(provisioned)
}

fn already_provisioned() -> Error {
    Error::new(
        ErrorCode::AlreadyProvisioned,
        "a device with this serial exists; an unclaimed one proves its old token with Authorization: Device uid:token",
    )
}

pub(crate) fn new_claim_code(services: &Services, label: bool) -> (ClaimCode, token::Hash) {
    let code = token::generate_claim_code();
    let hash = token::claim_code_hash(code.expose_secret()).unwrap_or_default();
    let lifetime = if label { LABEL_LIFETIME } else { services.provision.config.claim_lifetime };
    (ClaimCode { code, expires_at: services.clock.now().plus(lifetime) }, hash)
}

async fn audit(
    services: &Services,
    device: Option<hexa_model::DeviceKey>,
    action: &'static str,
    outcome: Outcome,
    details: &serde_json::Value,
) -> Result<()> {
    let mut entry = AuditEntry::event(services.clock.now(), Actor::System, Source::Device, action);
    entry.device = device;
    let mut tx = services.store.begin().await?;
    tx.audit(&entry.outcome(outcome).details(details)).await?;
    Ok(tx.commit().await?)
}

/// Checks a device's uid and token. Unknown uid and wrong token answer alike (WS-7).
///
/// # Errors
/// `invalid_token`; `account_disabled` never: a disabled device looks like a wrong token.
pub async fn authenticate(services: &Services, uid: &str, given: &SecretString) -> Result<Arc<Live>> {
    let wrong = || Error::new(ErrorCode::InvalidToken, "the device's uid or token is wrong");
    let uid = DeviceUid::parse(uid).ok_or_else(wrong)?;
    let stored = services.registry.stored(&uid).await?.ok_or_else(wrong)?;
    let row = &stored.row;
    let hash = token::sha256(given.expose_secret().as_bytes());
    let now = services.clock.now();
    if token::same(&row.token_hash, &hash) {
        if row.previous_token_hash.is_some() {
            // The new token is in use: the old one ends here (DV-4).
            let mut tx = services.store.begin().await?;
            tx.drop_previous_token(row.key).await?;
            tx.commit().await?;
        }
    } else {
        let old = row.previous_token_hash.is_some_and(|h| token::same(&h, &hash));
        if !old || row.previous_token_until.is_none_or(|until| until <= now) {
            return Err(wrong());
        }
    }
    Some(services.registry.enter(stored).await?).filter(|l| l.active()).ok_or_else(wrong)
}
