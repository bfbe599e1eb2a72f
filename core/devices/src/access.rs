//! Who may do what with a device, as this process has it in memory: brought to what the database says, by version.

use std::sync::Arc;

use hexa_model::event::{Event, EventDevice};
use hexa_model::{DeviceChange, DeviceKey, DeviceUid, UserKey};
use hexa_store::DeviceAccess;

use crate::Devices;
use crate::command::answer;
use crate::command::pending::{Completion, complete};
use crate::contest;
use crate::handle::DeviceHandle;
use crate::session::CloseReason;

/// Brings what is in memory to what the database says, and tells everybody who sees more or less by it. `access` is none
/// when the device is gone. What is older than what is known changes nothing; the same twice leaves memory as it is,
/// and may be told twice.
pub(crate) fn apply(
    services: &Arc<Devices>,
    (key, uid): (DeviceKey, &DeviceUid),
    version: i64,
    what: DeviceChange,
    access: Option<&DeviceAccess>,
) {
    // A load of this device that is under way may have read what was before.
    services.registry.changed(uid);
    let live = services.registry.peek(uid).filter(|live| live.key == key);
    let now_version = access.map_or(i64::MAX, |a| a.version.max(version));
    let owner = access.and_then(|a| a.owner);
    let former = live.as_ref().and_then(|live| live.owner());
    if let Some(live) = &live {
        if live.access_version() > now_version {
            return;
        }
        if what.ends_access() {
            // Before anything else: from here on no command that was authorized before is sent.
            live.count_revocation();
        }
        live.set_access(now_version, owner, access.is_some_and(|a| a.active));
        if what.ends_session() {
            live.end_sessions_before(now_version);
        }
    }
    let grants = access.filter(|a| a.owner.is_some()).map_or_else(Vec::new, |a| a.grants.clone());
    services.grants.set(services, (key, uid, owner), live.as_deref(), grants);
    if let Some(live) = &live {
        leave(live, former, owner, what, now_version);
    }
    tell(services, (key, uid), (former, owner), live.as_deref(), what);
    if access.is_none() {
        services.registry.forget(uid);
    }
}

/// Ends what a former owner, or a former token, has open.
fn leave(live: &DeviceHandle, former: Option<UserKey>, owner: Option<UserKey>, what: DeviceChange, version: i64) {
    if former.is_some() && former != owner || what == DeviceChange::Deleted {
        let open = live.held.commands.lock().cancel(true);
        for pending in open {
            let sent = pending.command.sent();
            complete(pending, Completion::Failed(answer::released(sent)));
        }
    }
    if former != owner {
        // What a former owner, or an admin while nobody owned it, asked of it is not the next one's.
        live.held.commands.lock().forget_ended();
    }
    if what.ends_session() {
        contest::over(live);
    }
    if what.ends_session()
        && let Some(session) = live.session()
        && session.access_version < version
    {
        session.close(CloseReason::Revoked);
    }
}

fn tell(
    services: &Devices,
    (key, uid): (DeviceKey, &DeviceUid),
    (former, owner): (Option<UserKey>, Option<UserKey>),
    live: Option<&DeviceHandle>,
    what: DeviceChange,
) {
    let plain = |owner| EventDevice { key, uid: uid.clone(), owner, viewers: None };
    if former.is_some() && former != owner {
        services.bus.publish(&Event::DeviceReleased { device: plain(former) });
    }
    // What is not loaded has no former owner that is known; a claim is one all the same.
    if owner.is_some() && (former != owner && live.is_some() || live.is_none() && what == DeviceChange::Claimed) {
        let device = live.map_or_else(|| plain(owner), |device| device.event_device());
        services.bus.publish(&Event::DeviceClaimed { device });
    }
    if what == DeviceChange::Renamed {
        let device = live.map_or_else(|| plain(owner), |device| device.event_device());
        services.bus.publish(&Event::DeviceUpdated { device });
    }
}
