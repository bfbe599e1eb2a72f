//! The one place that answers "may this principal do this to that device": its owner, an admin, or somebody with
//! whom it is shared. Entry points, the relay path, lists and sockets all ask here.

use hexa_model::{Action, Actor, Grant, GrantAccess, RelayAction, RelayMask, Role, UserKey};
use hexa_model::{ErrorCode, TimeMs};

use crate::Devices;
use crate::handle::{DeviceHandle, SharedAccess};
use hexa_platform::error::{Error, Result};

/// As what somebody looks at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLevel {
    /// The account has claimed the device and owns it.
    Owner,
    /// They may see and do everything.
    Admin,
    /// It is shared with them.
    Guest(GrantAccess),
}

impl AccessLevel {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Guest(access) => access.as_str(),
        }
    }
}

/// How much of a device somebody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// In which role they see it; shown as `access` in the API.
    pub standing: AccessLevel,
    /// Which relays they see; every one for the owner and for admins.
    pub relays: RelayMask,
}

impl Visibility {
    /// The owner sees everything of the device, and every relay.
    pub const OWNER: Self = Self { standing: AccessLevel::Owner, relays: RelayMask::ALL };
    /// Everything, of somebody else's.
    pub const ADMIN: Self = Self { standing: AccessLevel::Admin, relays: RelayMask::ALL };

    /// Whether it is only a grantee's, who is not shown where the device is and what it is numbered.
    pub fn is_guest(self) -> bool {
        matches!(self.standing, AccessLevel::Guest(_))
    }
}

/// That a command may be given.
#[derive(Debug)]
pub(crate) enum Permit {
    /// As often as they like: owner, admin, the server itself.
    Own,
    /// By this grant; a command takes one of its uses where they are counted.
    Grantee(Grant),
}

impl Devices {
    /// What an actor sees of a device. The times of grants are looked at now.
    ///
    /// # Errors
    /// `not_found`: it is not there for them.
    pub fn sight(&self, actor: Actor, live: &DeviceHandle) -> Result<Visibility> {
        let Actor::User { key, role, .. } = actor else { return Ok(Visibility::ADMIN) };
        if live.owner() == Some(key) {
            return Ok(Visibility::OWNER);
        }
        if role == Role::Admin {
            return Ok(Visibility::ADMIN);
        }
        let shares = shares(live)?;
        let now = self.guard.latest();
        let of = |sight: Option<Visibility>, grant: &Grant| {
            let before = sight.map_or((GrantAccess::Read, RelayMask::default()), |s| match s.standing {
                AccessLevel::Guest(access) => (access, s.relays),
                _ => (GrantAccess::Control, s.relays),
            });
            let standing = AccessLevel::Guest(before.0.max(grant.access));
            Some(Visibility { standing, relays: before.1.or(grant.relays) })
        };
        living(&shares, key, now).fold(None, of).ok_or_else(Error::no_device)
    }

    /// Whether an actor may do what only an owner may: rename, release, rotate the token, configure, share.
    ///
    /// # Errors
    /// `not_found`; `forbidden` for a grantee, who knows that it is there.
    pub fn may_manage(&self, actor: Actor, live: &DeviceHandle) -> Result<()> {
        if self.sight(actor, live)?.is_guest() {
            let what = "this device is shared with you; only its owner may do this";
            return Err(Error::new(ErrorCode::Forbidden, what));
        }
        Ok(())
    }

    /// Whether an actor may give a command.
    ///
    /// # Errors
    /// `not_found`; `forbidden` for a grantee who may only look, or whose relays are others.
    pub(crate) fn may_command(&self, actor: Actor, live: &DeviceHandle, action: &Action) -> Result<Permit> {
        let Actor::User { key, role, .. } = actor else { return Ok(Permit::Own) };
        if role == Role::Admin || live.owner() == Some(key) {
            return Ok(Permit::Own);
        }
        let shares = shares(live)?;
        let now = self.guard.latest();
        // Single relays are shared one by one; everything else is of whom the whole device is shared with.
        let relay = action.relay().and_then(RelayAction::index);
        let covers = |grant: &Grant| match relay {
            Some(index) => grant.relays.has(index),
            None => grant.relays.is_all(),
        };
        let control = |grant: &&Grant| grant.access == GrantAccess::Control && covers(grant);
        // One that costs nothing first, then the one that ends first.
        let best = living(&shares, key, now).filter(control).min_by_key(|g| (g.counted, g.expires_at.unwrap_or(LAST)));
        if let Some(grant) = best {
            return Ok(Permit::Grantee(grant.clone()));
        }
        self.sight(actor, live)?;
        let what = match relay {
            Some(_) => "this relay is not shared with you for control; ask the device's owner",
            None => "only single relays are shared with you, or none for control; ask the device's owner",
        };
        Err(Error::new(ErrorCode::Forbidden, what))
    }
}

const LAST: TimeMs = TimeMs(i64::MAX);

/// A device without an owner is shared with nobody.
fn shares(live: &DeviceHandle) -> Result<std::sync::Arc<SharedAccess>> {
    live.owner().and_then(|_| live.shares()).ok_or_else(Error::no_device)
}

fn living(shares: &SharedAccess, user: UserKey, now: TimeMs) -> impl Iterator<Item = &Grant> {
    shares.grants.iter().filter(move |g| g.user == user && g.holds(now))
}
