//! Devices as their owners see them: stored facts under live ones; and the names that owners give.

use std::collections::HashSet;
use std::sync::Arc;

use hexa_model::audit::{AuditEntry, RelayStates};
use hexa_model::driver::InputEvent;
use hexa_model::{Change, DeviceChange, DeviceKey, DeviceUid, ErrorCode, Source, TimeMs, UserKey};
pub use hexa_store::PersonRow;
use hexa_store::{DeviceFilter, DeviceOrder, DeviceRow, Tx};
use serde_json::json;

use crate::Devices;
use crate::authorize::Visibility;
use crate::contest::{self, Contested};
use crate::handle::{DeviceHandle, LastAction};
use hexa_platform::change::{Decided, asked};
use hexa_platform::error::{Error, Result, named};
use hexa_platform::idempotency::Key;
use hexa_platform::principal::Principal;

/// A device with everything that its page shows.
#[derive(Clone, Debug)]
pub struct DeviceView {
    /// The device's row, as the database has it.
    pub row: DeviceRow,
    /// Live facts, when this process has touched it.
    pub live: Option<LiveFacts>,
    /// Committed states; unknown relays are missing.
    pub relays: RelayStates,
    /// Names that the owner gave.
    pub names: Vec<(u16, String)>,
    /// How much of it whoever looks may see.
    pub sight: Visibility,
    /// Connected, and silent for longer than it should be.
    pub stale: bool,
    /// Whose it is, as far as whoever looks may know ([`shown_owner`]).
    pub owner: Option<PersonRow>,
    /// Another device has its identity.
    pub contested: Option<Contested>,
}

/// What a process that has touched a device knows of it beyond its row, at one moment.
#[derive(Clone, Debug)]
pub struct LiveFacts {
    /// A session is connected.
    pub online: bool,
    /// Last frame or pong from it.
    pub last_seen: Option<TimeMs>,
    /// The firmware version that the device reported last; none where it never gave one.
    pub firmware: Option<String>,
    /// Its address: of the connection, or the last stored one.
    pub ip: Option<String>,
    /// The last relay change since the process started.
    pub last_action: Option<LastAction>,
    /// The last input event since the process started.
    pub last_input: Option<(Arc<InputEvent>, TimeMs)>,
}

impl LiveFacts {
    /// The facts of this moment, read from the entry in memory.
    pub(super) fn of(live: &DeviceHandle) -> Self {
        Self {
            online: live.online(),
            last_seen: live.last_seen(),
            firmware: live.firmware(),
            ip: live.ip(),
            last_action: live.last_action(),
            last_input: live.last_input(),
        }
    }
}

/// Whose device it is, for admins alone: a grantee must not learn names and e-mails of others here, and an owner knows.
pub(super) fn shown_owner(by: &Principal, row: &DeviceRow) -> Option<UserKey> {
    row.owner.filter(|_| by.is_admin())
}

/// Whether a device is connected and was not heard of for longer than its heartbeat allows (docs/PLATFORM.md#stale).
pub(super) fn is_stale(services: &Devices, live: Option<&Arc<DeviceHandle>>) -> bool {
    let silence = live.and_then(|live| live.session()).map(|s| s.silence(services.clock.monotonic()));
    silence.is_some_and(|silence| silence > services.config.device.stale_after())
}

/// New names; `None` leaves, an empty text removes.
#[derive(Debug, Default)]
pub struct Names {
    /// The new name of the device itself.
    pub device: Option<String>,
    /// New names of relays, each with the index of its relay, from 0.
    pub relays: Vec<(u16, String)>,
}

/// The device of this uid, if the principal may see it; a foreign one is not there.
///
/// # Errors
/// `not_found`; `storage_unavailable`.
pub async fn find(services: &Devices, by: &Principal, uid: &str) -> Result<(Arc<DeviceHandle>, Visibility)> {
    let uid = DeviceUid::parse(uid).ok_or_else(Error::no_device)?;
    let live = services.registry.find(&uid).await?.filter(|l| l.active()).ok_or_else(Error::no_device)?;
    let sight = services.sight(by.actor(), &live)?;
    Ok((live, sight))
}

/// The same for what only an owner may do with it.
///
/// # Errors
/// `not_found`; `forbidden` for a grantee.
pub async fn find_own(services: &Devices, by: &Principal, uid: &str) -> Result<Arc<DeviceHandle>> {
    let (live, _) = find(services, by, uid).await?;
    services.may_manage(by.actor(), &live)?;
    Ok(live)
}

/// One device.
///
/// # Errors
/// `not_found`; `storage_unavailable`.
pub async fn get(services: &Devices, by: &Principal, uid: &str) -> Result<DeviceView> {
    let (live, sight) = find(services, by, uid).await?;
    let row = services.store.device_by_key(live.key).await?.ok_or_else(Error::no_device)?;
    let names = services.store.relay_names(live.key).await?;
    let relays = live.relays();
    let stale = is_stale(services, Some(&live));
    let owner = match shown_owner(by, &row) {
        Some(key) => services.store.people(&[key]).await?.remove(&key),
        None => None,
    };
    let contested = contest::of(services, Some(&live));
    Ok(DeviceView { row, relays, names, sight, stale, owner, contested, live: Some(LiveFacts::of(&live)) })
}

/// One device as it is in this transaction.
pub(crate) async fn within(
    services: &Devices,
    tx: &mut Tx,
    by: &Principal,
    key: DeviceKey,
    sight: Visibility,
) -> Result<DeviceView> {
    let row = tx.device_by_key(key).await?.ok_or_else(Error::no_device)?;
    let names = tx.relay_names(key).await?;
    let live = services.registry.find(&row.uid).await?;
    let relays = live.as_ref().map(|live| live.relays()).unwrap_or_default();
    let stale = is_stale(services, live.as_ref());
    let owner = match shown_owner(by, &row) {
        Some(key) => tx.user_by_key(key).await?.map(PersonRow::from),
        None => None,
    };
    let contested = contest::of(services, live.as_ref());
    let live = live.as_deref().map(LiveFacts::of);
    Ok(DeviceView { row, live, relays, names, sight, stale, owner, contested })
}

/// Those of these devices that the principal may see, and the uids of the others: one statement, however many they are.
///
/// # Errors
/// `storage_unavailable`.
pub async fn find_many<'a>(
    services: &Devices,
    by: &Principal,
    uids: &'a [String],
) -> Result<(Vec<(Arc<DeviceHandle>, Visibility)>, Vec<&'a str>)> {
    let parsed: Vec<_> = uids.iter().map(|uid| DeviceUid::parse(uid)).collect();
    let known: Vec<_> = parsed.iter().flatten().collect();
    let loaded = services.registry.find_many(&known).await?;
    let (mut found, mut gone) = (Vec::with_capacity(uids.len()), Vec::new());
    for (uid, parsed) in uids.iter().zip(&parsed) {
        let live = parsed.as_ref().and_then(|uid| loaded.get(uid)).filter(|live| live.active());
        match live.map(|live| services.sight(by.actor(), live).map(|sight| (Arc::clone(live), sight))) {
            Some(Ok(seen)) => found.push(seen),
            Some(Err(error)) if error.code != ErrorCode::NotFound => return Err(error),
            _ => gone.push(uid.as_str()),
        }
    }
    Ok((found, gone))
}

/// Every device that an account owns or is a grantee of, live: what a client socket's snapshot shows.
///
/// # Errors
/// `storage_unavailable`.
pub async fn all_of(services: &Devices, by: &Principal) -> Result<Vec<(Arc<DeviceHandle>, Visibility)>> {
    const PAGE: u32 = 500;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let order = DeviceOrder::Added(after);
        let filter = DeviceFilter { owner: Some(by.account.key), order, limit: PAGE, ..DeviceFilter::default() };
        let moment = services.registry.moment();
        let rows = services.store.list_devices(&filter).await?;
        let full = rows.len() == PAGE as usize;
        after = rows.last().map(|r| r.key);
        found.extend(
            services.registry.enter_many(rows, moment).await?.into_iter().map(|live| (live, Visibility::OWNER)),
        );
        if !full {
            break;
        }
    }
    let shared = services.grants.devices_of(by.account.key, None, services.guard.latest());
    for together in shared.chunks(PAGE as usize) {
        let moment = services.registry.moment();
        let rows = services.store.devices_by_key(together).await?;
        for live in services.registry.enter_many(rows, moment).await? {
            if let Ok(sight) = services.sight(by.actor(), &live) {
                found.push((live, sight));
            }
        }
    }
    Ok(found)
}

/// Renames a device and its relays in one transaction.
///
/// # Errors
/// `validation_error` for a name that is too long or a relay that is not there; nothing is changed then.
pub async fn rename(
    services: &Arc<Devices>,
    by: &Principal,
    key: Key<DeviceView>,
    live: &Arc<DeviceHandle>,
    mut names: Names,
) -> Result<DeviceView> {
    if let Some(name) = &mut names.device {
        *name = named("name", name)?.unwrap_or_default();
    }
    if names.relays.len() > usize::from(live.relay_count) {
        let what = format!("this device has {} relays; name each of them once", live.relay_count);
        return Err(Error::validation("relays", what));
    }
    let mut indexes = HashSet::with_capacity(names.relays.len());
    for (index, name) in &mut names.relays {
        *name = named("relays", name)?.unwrap_or_default();
        if *index >= live.relay_count {
            return Err(Error::validation("relays", format!("this device has no relay {index}")));
        }
        if !indexes.insert(*index) {
            return Err(Error::validation("relays", format!("relay {index} is named twice")));
        }
    }
    let now = services.clock.now();
    let (house, by, live) = (Arc::clone(services), by.clone(), Arc::clone(live));
    asked(&services.store, &by.clone(), key, move |tx| {
        Box::pin(async move {
            // Asked again where nothing can come in between: it may have been released since.
            let sight = house.sight(by.actor(), &live)?;
            let row = tx.device_by_key(live.key).await?.ok_or_else(Error::no_device)?;
            if !by.is_admin() && row.owner != Some(by.account.key) {
                return Err(Error::no_device());
            }
            if let Some(name) = &names.device {
                let name = Some(name.as_str()).filter(|n| !n.is_empty());
                tx.rename_device(live.key, name, now).await?;
            }
            if !names.relays.is_empty() {
                tx.set_relay_names(live.key, &names.relays).await?;
            }
            let entry = AuditEntry::event(now, by.actor(), Source::Api, "device.renamed").device(live.key);
            tx.audit(&entry.details(&json!({ "name": names.device, "relays": names.relays }))).await?;
            let view = within(&house, tx, &by, live.key, sight).await?;
            let (uid, version) = (view.row.uid.clone(), view.row.access_version);
            let renamed = Change::Device { device: live.key, uid, version, what: DeviceChange::Renamed };
            Ok(Decided::done(view).telling(renamed))
        })
    })
    .await
}
