//! The one place that answers "may this principal do this to that device" (AZ-1): its owner, an admin, or somebody with
//! whom it is shared. Doors, the relay path, lists and sockets all ask here.

use hexa_model::{Actor, Grant, GrantAccess, RelayAction, RelayMask, Role, UserKey};
use hexa_model::{ErrorCode, TimeMs};

use crate::Services;
use crate::device::live::{Live, Shares};
use crate::error::{Error, Result};

/// As what somebody looks at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is theirs.
    Owner,
    /// They may see and do everything.
    Admin,
    /// It is shared with them.
    Guest(GrantAccess),
}

impl Standing {
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
pub struct Sight {
    /// As what.
    pub standing: Standing,
    /// Which relays.
    pub relays: RelayMask,
}

impl Sight {
    /// Everything.
    pub const OWNER: Self = Self { standing: Standing::Owner, relays: RelayMask::ALL };
    /// Everything, of somebody else's.
    pub const ADMIN: Self = Self { standing: Standing::Admin, relays: RelayMask::ALL };

    /// Whether it is only a guest's, who is not shown where the device is and what it is numbered.
    pub fn is_guest(self) -> bool {
        matches!(self.standing, Standing::Guest(_))
    }
}

/// That a command may be given.
#[derive(Debug)]
pub(crate) enum Permit {
    /// As often as they like: owner, admin, the house itself.
    Own,
    /// By this grant.
    Guest(Grant),
}

impl Services {
    /// What an actor sees of a device. The times of grants are looked at now.
    ///
    /// # Errors
    /// `not_found`: it is not there for them (AZ-2).
    pub fn sight(&self, actor: Actor, live: &Live) -> Result<Sight> {
        let Actor::User { key, role, .. } = actor else { return Ok(Sight::ADMIN) };
        if live.owner() == Some(key) {
            return Ok(Sight::OWNER);
        }
        if role == Role::Admin {
            return Ok(Sight::ADMIN);
        }
        let shares = shares(live)?;
        let now = self.guard.latest();
        let of = |sight: Option<Sight>, grant: &Grant| {
            let before = sight.map_or((GrantAccess::Read, RelayMask::default()), |s| match s.standing {
                Standing::Guest(access) => (access, s.relays),
                _ => (GrantAccess::Control, s.relays),
            });
            let standing = Standing::Guest(before.0.max(grant.access));
            Some(Sight { standing, relays: before.1.or(grant.relays) })
        };
        living(&shares, key, now).fold(None, of).ok_or_else(Error::no_device)
    }

    /// Whether an actor may do what only an owner may: rename, release, rotate the token, configure, share.
    ///
    /// # Errors
    /// `not_found`; `forbidden` for a guest, who knows that it is there.
    pub fn may_manage(&self, actor: Actor, live: &Live) -> Result<()> {
        if self.sight(actor, live)?.is_guest() {
            let what = "this device is shared with you; only its owner may do this";
            return Err(Error::new(ErrorCode::Forbidden, what));
        }
        Ok(())
    }

    /// Whether an actor may give a command.
    ///
    /// # Errors
    /// `not_found`; `forbidden` for a guest who may only look, or whose relays are others.
    pub(crate) fn may_command(&self, actor: Actor, live: &Live, action: RelayAction) -> Result<Permit> {
        let Actor::User { key, role, .. } = actor else { return Ok(Permit::Own) };
        if role == Role::Admin || live.owner() == Some(key) {
            return Ok(Permit::Own);
        }
        let shares = shares(live)?;
        let now = self.guard.latest();
        let covers = |grant: &Grant| match action.index() {
            Some(index) => grant.relays.has(index),
            None => grant.relays.is_all(),
        };
        let control = |grant: &&Grant| grant.access == GrantAccess::Control && covers(grant);
        // One that costs nothing first, then the one that ends first.
        let best = living(&shares, key, now).filter(control).min_by_key(|g| (g.counted, g.expires_at.unwrap_or(LAST)));
        if let Some(grant) = best {
            return Ok(Permit::Guest(grant.clone()));
        }
        self.sight(actor, live)?;
        let what = match action.index() {
            Some(_) => "this relay is not shared with you for control; ask the device's owner",
            None => "only single relays are shared with you, or none for control; ask the device's owner",
        };
        Err(Error::new(ErrorCode::Forbidden, what))
    }
}

const LAST: TimeMs = TimeMs(i64::MAX);

/// A device without an owner is shared with nobody.
fn shares(live: &Live) -> Result<std::sync::Arc<Shares>> {
    live.owner().and_then(|_| live.shares()).ok_or_else(Error::no_device)
}

fn living(shares: &Shares, user: UserKey, now: TimeMs) -> impl Iterator<Item = &Grant> {
    shares.grants.iter().filter(move |g| g.user == user && g.holds(now))
}
