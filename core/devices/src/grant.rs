//! Sharing: an owner lets another account see or switch a device or some of its relays, for a while or for a number of
//! uses. Grants that have not ended are all in memory, so that no command and no event waits for the database; what
//! they are good for is asked in [`crate::authorize`].

use hexa_platform::worker::{self, RunsOn, WorkerSpec};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::random_bytes;
use hexa_model::audit::AuditEntry;
use hexa_model::event::{Event, EventDevice, ShareChange};
use hexa_model::{
    Actor, Change, DeviceChange, DeviceKey, DeviceUid, ErrorCode, Grant, GrantAccess, GrantId, RelayMask, Source,
    TimeMs, UserKey, Viewer,
};
pub use hexa_store::GrantRow;
use hexa_store::Store;
use parking_lot::RwLock;
use serde_json::json;

use crate::Devices;
use crate::claim::changed;
use crate::handle::{DeviceHandle, SharedAccess};
use hexa_platform::change::{Decided, asked, internal};
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;
use hexa_platform::limit::{FailureLimiter, Rate};
use hexa_platform::principal::Principal;

/// Grants of one device that have not ended.
const MAX_GRANTS: i64 = 100;
/// The latest end, from now on.
const MAX_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The most uses of one grant.
const MAX_USES: u32 = 1_000_000;
/// How often it is looked whether one began or ended; commands and reads look at the time themselves.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What somebody wants to share.
#[derive(Debug)]
pub struct ShareRequest {
    /// With whom: the e-mail of an account.
    pub email: String,
    /// What the grantee may do: only read, or also control.
    pub access: GrantAccess,
    /// Which relays; none = the whole device.
    pub relays: Option<Vec<u16>>,
    /// When the grant begins, before `expires_at`; none = at once.
    pub starts_at: Option<TimeMs>,
    /// Not from then on.
    pub expires_at: Option<TimeMs>,
    /// For so many commands.
    pub max_uses: Option<u32>,
}

#[derive(Default)]
struct Table {
    /// With the viewers that were told so.
    by_device: HashMap<DeviceKey, Arc<SharedAccess>>,
    by_user: HashMap<UserKey, BTreeSet<DeviceKey>>,
}

/// Every grant that has not ended.
pub struct Grants {
    table: RwLock<Table>,
    wrong_emails: FailureLimiter<UserKey>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grants").field("devices", &self.table.read().by_device.len()).finish_non_exhaustive()
    }
}

impl Grants {
    /// None; `failures` limits how many e-mails may be tried.
    pub fn new(failures: Rate) -> Self {
        Self { table: RwLock::default(), wrong_emails: FailureLimiter::new("e-mails without an account", failures) }
    }

    /// Reads them all, before the first device comes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn load(&self, store: &Store, now: TimeMs) -> Result<()> {
        let mut by_device: HashMap<DeviceKey, Vec<Grant>> = HashMap::new();
        let mut table = Table::default();
        for grant in store.living_grants().await? {
            table.by_user.entry(grant.user).or_default().insert(grant.device);
            by_device.entry(grant.device).or_default().push(grant);
        }
        table.by_device = by_device.into_iter().map(|(device, grants)| (device, shares(grants, now))).collect();
        *self.table.write() = table;
        Ok(())
    }

    /// For a device that is loaded.
    pub(crate) fn shares_of(&self, device: DeviceKey) -> Option<Arc<SharedAccess>> {
        self.table.read().by_device.get(&device).cloned()
    }

    /// Devices that an account sees as a grantee, in order, behind this one.
    pub(crate) fn devices_of(&self, user: UserKey, after: Option<DeviceKey>, now: TimeMs) -> Vec<DeviceKey> {
        let table = self.table.read();
        let Some(devices) = table.by_user.get(&user) else { return Vec::new() };
        let seen = |device: &DeviceKey| {
            let grants = table.by_device.get(device).map_or(&[][..], |s| s.grants.as_slice());
            after.is_none_or(|a| *device > a) && grants.iter().any(|g| g.user == user && g.holds(now))
        };
        devices.iter().copied().filter(seen).collect()
    }

    /// Sets the grants of a device to what is stored, and tells the grantees what became of their view. `live` is its
    /// entry, if it is loaded.
    pub(crate) fn set(
        &self,
        services: &Devices,
        (key, uid, owner): (DeviceKey, &DeviceUid, Option<UserKey>),
        live: Option<&DeviceHandle>,
        grants: Vec<Grant>,
    ) {
        let now = services.guard.latest();
        let mut table = self.table.write();
        let former = table.by_device.remove(&key);
        let mut users: BTreeSet<_> = former.iter().flat_map(|s| &s.grants).map(|g| g.user).collect();
        users.extend(grants.iter().map(|g| g.user));
        for user in users {
            let devices = table.by_user.entry(user).or_default();
            if grants.iter().any(|g| g.user == user) {
                devices.insert(key);
            } else {
                devices.remove(&key);
            }
            if devices.is_empty() {
                table.by_user.remove(&user);
            }
        }
        let fresh = (!grants.is_empty()).then(|| shares(grants, now));
        if let Some(fresh) = &fresh {
            table.by_device.insert(key, Arc::clone(fresh));
        }
        // Under the table's lock: two changes reach the device and its watchers in the order in which they were made.
        if let Some(live) = live {
            live.set_shares(fresh.clone());
        }
        let viewers =
            |shares: &Option<Arc<SharedAccess>>| shares.as_ref().map_or_else(Vec::new, |s| s.viewers.to_vec());
        let device = || {
            live.map_or_else(
                || {
                    let viewers = fresh.as_ref().map(|s| Arc::clone(&s.viewers));
                    EventDevice { key, uid: uid.clone(), owner, viewers }
                },
                |device| device.event_device(),
            )
        };
        tell(services, device, &viewers(&former), &viewers(&fresh));
    }

    /// Shows a device to those whose time has come.
    fn look_again(&self, services: &Devices, live: &DeviceHandle) {
        let grants = self.shares_of(live.key).map_or_else(Vec::new, |s| s.grants.clone());
        self.set(services, (live.key, &live.uid, live.owner()), Some(live), grants);
    }

    /// The device is gone.
    fn forget(&self, device: DeviceKey) {
        let mut table = self.table.write();
        table.by_device.remove(&device);
        table.by_user.retain(|_, devices| {
            devices.remove(&device);
            !devices.is_empty()
        });
    }

    /// Grants that are over, and devices where one has begun of which its grantee was not informed.
    fn due(&self, now: TimeMs) -> (Vec<Grant>, Vec<DeviceUid>) {
        let table = self.table.read();
        let (mut over, mut begun) = (Vec::new(), Vec::new());
        for shares in table.by_device.values() {
            over.extend(shares.grants.iter().filter(|g| g.is_over(now)).cloned());
            let told = |g: &Grant| shares.viewers.iter().any(|v| v.user == g.user && v.relays.or(g.relays) == v.relays);
            begun.extend(shares.grants.iter().find(|g| g.holds(now) && !told(g)).map(|g| g.uid.clone()));
        }
        (over, begun)
    }
}

fn shares(grants: Vec<Grant>, now: TimeMs) -> Arc<SharedAccess> {
    let mut viewers: Vec<Viewer> = Vec::new();
    for grant in grants.iter().filter(|g| g.holds(now)) {
        match viewers.iter_mut().find(|v| v.user == grant.user) {
            Some(viewer) => viewer.relays = viewer.relays.or(grant.relays),
            None => viewers.push(Viewer { user: grant.user, relays: grant.relays }),
        }
    }
    Arc::new(SharedAccess { grants, viewers: viewers.into() })
}

fn tell(services: &Devices, device: impl Fn() -> EventDevice, before: &[Viewer], after: &[Viewer]) {
    let of = |viewers: &[Viewer], user| viewers.iter().find(|v| v.user == user).map(|v| v.relays);
    let users: BTreeSet<UserKey> = before.iter().chain(after).map(|v| v.user).collect();
    for user in users {
        let change = match (of(before, user), of(after, user)) {
            (None, Some(_)) => ShareChange::Began,
            (Some(_), None) => ShareChange::Ended,
            (Some(old), Some(new)) if old != new => ShareChange::Changed,
            _ => continue,
        };
        services.bus.publish(&Event::ShareChanged { device: device(), user, change });
    }
}

/// Grants of a device that have not ended: all of them for who may manage it, their own for a grantee.
///
/// # Errors
/// `not_found` for who may not see the device; `storage_unavailable`.
pub async fn list(services: &Devices, by: &Principal, live: &DeviceHandle) -> Result<Vec<GrantRow>> {
    let guest = services.sight(by.actor(), live)?.is_guest();
    let mut rows = services.store.grants_of(live.key).await?;
    let now = services.guard.latest();
    rows.retain(|row| !row.grant.is_over(now) && (!guest || row.grant.user == by.account.key));
    Ok(rows)
}

fn check(request: &ShareRequest, live: &DeviceHandle, now: TimeMs) -> Result<RelayMask> {
    let relays = match &request.relays {
        None => RelayMask::ALL,
        Some(list) => {
            if list.is_empty() {
                return Err(Error::validation("relays", "name at least one relay, or leave relays out to share all"));
            }
            if let Some(index) = list.iter().find(|i| **i >= live.relay_count) {
                return Err(Error::validation("relays", format!("this device has no relay {index}")));
            }
            RelayMask::of(list.iter().copied())
        }
    };
    if request.expires_at.is_some_and(|at| at <= now || at > now.plus(MAX_LIFE)) {
        return Err(Error::validation("expires_at", "expires_at is in the future, within ten years"));
    }
    let ends = request.expires_at.unwrap_or(now.plus(MAX_LIFE));
    if request.starts_at.is_some_and(|at| at >= ends) {
        return Err(Error::validation("starts_at", "starts_at is before expires_at, within ten years"));
    }
    if let Some(uses) = request.max_uses {
        if request.access == GrantAccess::Read {
            return Err(Error::validation("max_uses", "uses are counted by commands; access read has none"));
        }
        if !(1..=MAX_USES).contains(&uses) {
            return Err(Error::validation("max_uses", format!("max_uses is 1 to {MAX_USES}")));
        }
    }
    Ok(relays)
}

/// Shares a device.
///
/// # Errors
/// `not_found` when no active account has this e-mail, `rate_limited` after too many of those; `validation_error`;
/// `forbidden` for a grantee.
pub async fn create(
    services: &Devices,
    by: &Principal,
    key: Key<GrantRow>,
    live: &Arc<DeviceHandle>,
    request: ShareRequest,
) -> Result<GrantRow> {
    services.may_manage(by.actor(), live)?;
    let now = services.clock.now();
    let relays = check(&request, live, services.guard.latest())?;
    let owner = live.owner().ok_or_else(|| {
        Error::new(ErrorCode::DeviceNotReady, "the device has no owner; only an owner's device can be shared")
    })?;
    let attempt = services.grants.wrong_emails.attempt(&by.account.key, services.clock.monotonic())?;
    let email = request.email.trim().to_lowercase();
    let guest = services.store.user_by_email(&email).await.map(|found| found.filter(|user| user.active));
    if !matches!(guest, Ok(None)) {
        attempt.forgive();
    }
    let Some(guest) = guest? else {
        return Err(no_account());
    };
    if guest.key == owner {
        return Err(Error::validation("email", "this is the device's owner, who may do everything already"));
    }
    let mut row = GrantRow {
        grant: Grant {
            key: 0,
            id: GrantId::at(now, random_bytes()),
            device: live.key,
            uid: live.uid.clone(),
            user: guest.key,
            access: request.access,
            relays,
            starts_at: request.starts_at,
            expires_at: request.expires_at,
            counted: request.max_uses.is_some(),
        },
        user: guest.id,
        email,
        name: guest.name,
        max_uses: request.max_uses,
        uses_left: request.max_uses,
        created_at: now,
    };
    let (actor, live) = (by.actor(), Arc::clone(live));
    asked(&services.store, by, key, move |tx| {
        Box::pin(async move {
            // It may have been released meanwhile: what a former owner shares would bind the next one.
            if !tx.device_has_owner(live.key, owner).await? {
                return Err(Error::no_device());
            }
            // And the grantee may have been deactivated.
            if !tx.user_by_key(row.grant.user).await?.is_some_and(|user| user.active) {
                return Err(no_account());
            }
            if tx.count_grants(live.key).await? >= MAX_GRANTS {
                let what = format!("a device is shared at most {MAX_GRANTS} times; revoke a grant first");
                return Err(Error::validation("email", what));
            }
            row.grant.key = tx.insert_grant(&row).await?;
            let entry = AuditEntry::event(now, actor, Source::Api, "device.shared").device(live.key);
            tx.audit(&entry.details(&facts(&row))).await?;
            let shared = changed(tx, &live, DeviceChange::Shared).await?;
            Ok(Decided::done(row).telling(shared))
        })
    })
    .await
}

fn no_account() -> Error {
    Error::new(ErrorCode::NotFound, "no account here has this e-mail; who shares it must register first")
}

fn facts(row: &GrantRow) -> serde_json::Value {
    json!({
        "grant": row.grant.id.to_string(),
        "user": row.user.to_string(),
        "access": row.grant.access.as_str(),
        "relays": row.grant.relays.indexes(),
        "starts_at": row.grant.starts_at.map(|t| t.0),
        "expires_at": row.grant.expires_at.map(|t| t.0),
        "max_uses": row.max_uses,
    })
}

/// Ends a grant: by the owner, an admin, or the grantee, who may leave. Queued commands of grantees are not sent.
///
/// # Errors
/// `not_found`.
pub async fn revoke(
    services: &Devices,
    by: &Principal,
    key: Key<()>,
    live: &Arc<DeviceHandle>,
    id: GrantId,
) -> Result<()> {
    let none = || Error::new(ErrorCode::NotFound, "there is no such grant, or it has ended");
    let row = list(services, by, live).await?.into_iter().find(|row| row.grant.id == id);
    let (now, actor, live) = (services.clock.now(), by.actor(), Arc::clone(live));
    let manages = services.may_manage(actor, &live).is_ok();
    asked(&services.store, by, key, move |tx| {
        Box::pin(async move {
            let Some(row) = row else {
                // Its last use may be given back in a moment; whoever wanted it ended does not want that.
                if manages {
                    tx.close_used_up(live.key, Some(id)).await?;
                }
                return Ok(Decided::refused(none()));
            };
            if !tx.end_grant(row.grant.key, now, "revoked").await? {
                if manages {
                    tx.close_used_up(live.key, Some(id)).await?;
                }
                return Ok(Decided::refused(none()));
            }
            let entry = AuditEntry::event(now, actor, Source::Api, "device.grant_revoked").device(live.key);
            let who = json!({ "grant": id.to_string(), "user": row.user.to_string() });
            tx.audit(&entry.details(&who)).await?;
            let unshared = changed(tx, &live, DeviceChange::Unshared).await?;
            Ok(Decided::done(()).telling(unshared))
        })
    })
    .await
}

/// Takes one use before a command is sent, durably; the last one ends the grant.
///
/// # Errors
/// `forbidden` when there is none left.
pub(crate) async fn spend(services: &Devices, live: &Arc<DeviceHandle>, grant: &Grant) -> Result<()> {
    let (now, live, key, id) = (services.clock.now(), Arc::clone(live), grant.key, grant.id);
    internal(&services.store, move |tx| {
        Box::pin(async move {
            let Some(left) = tx.spend_grant(key).await? else {
                let what = "what was shared with you has no uses left, or was revoked";
                return Err(Error::new(ErrorCode::Forbidden, what));
            };
            if left > 0 {
                return Ok(Decided::done(()));
            }
            tx.end_grant(key, now, "used_up").await?;
            let entry = AuditEntry::event(now, Actor::System, Source::System, "device.grant_used_up").device(live.key);
            tx.audit(&entry.details(&json!({ "grant": id.to_string() }))).await?;
            // Its last command is yet to be sent, and ends no other one: nothing is taken from anybody.
            let used_up = changed(tx, &live, DeviceChange::Shared).await?;
            Ok(Decided::done(()).telling(used_up))
        })
    })
    .await
}

/// Gives a use back: the command was not sent.
pub(crate) async fn give_back(services: &Devices, live: &Arc<DeviceHandle>, grant: &Grant) -> Result<()> {
    let (live, key) = (Arc::clone(live), grant.key);
    internal(&services.store, move |tx| {
        Box::pin(async move {
            if !tx.restore_use(key).await? {
                return Ok(Decided::done(()));
            }
            let back = changed(tx, &live, DeviceChange::Shared).await?;
            Ok(Decided::done(()).telling(back))
        })
    })
    .await
}

const TIMES: WorkerSpec = WorkerSpec {
    name: "grant_times",
    purpose: "ends grants that are over and shows those that begin",
    runs_on: RunsOn::EveryNode,
};

/// Starts the worker that looks at the times of grants.
pub(crate) fn start(services: &Arc<Devices>) {
    let shared = Arc::clone(services);
    services.workers.periodic(TIMES, LOOK_EVERY, move |_| {
        let services = Arc::clone(&shared);
        worker::run(async move { look(&services).await })
    });
}

/// Ends the grants that are over now, and shows those that have begun.
///
/// # Errors
/// When one could not be ended: nobody can use it meanwhile.
pub async fn look(services: &Devices) -> Result<()> {
    let (over, begun) = services.grants.due(services.guard.latest());
    // One whose time seems to have passed is good for nothing meanwhile; ended for good it is when it surely has.
    let sure = services.guard.earliest();
    let mut failed = Ok(());
    for grant in over.into_iter().filter(|grant| grant.is_over(sure)) {
        if let Err(error) = expire(services, &grant).await {
            let message = format!("grant {} is over and was not ended: {}", grant.id, error.message).into();
            failed = Err(Error { message, ..error });
            break;
        }
    }
    for uid in begun {
        if let Ok(Some(live)) = services.registry.find(&uid).await {
            services.grants.look_again(services, &live);
        }
    }
    failed
}

async fn expire(services: &Devices, grant: &Grant) -> Result<()> {
    let (now, grant) = (services.clock.now(), grant.clone());
    let device = grant.device;
    let known = internal(&services.store, move |tx| {
        Box::pin(async move {
            if tx.end_grant(grant.key, now, "expired").await? {
                let entry = AuditEntry::event(now, Actor::System, Source::System, "device.grant_expired");
                let entry = entry.device(grant.device).details(&json!({ "grant": grant.id.to_string() }));
                tx.audit(&entry).await?;
            }
            // Deleted meanwhile, when there is no version.
            let Some(version) = tx.raise_access(grant.device).await? else { return Ok(Decided::done(false)) };
            let (device, uid) = (grant.device, grant.uid);
            let expired = Change::Device { device, uid, version, what: DeviceChange::Unshared };
            Ok(Decided::done(true).telling(expired))
        })
    });
    if !known.await? {
        services.grants.forget(device);
    }
    Ok(())
}
