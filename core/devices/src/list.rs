//! Pages of devices, searched, filtered and sorted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hexa_model::{DeviceClass, UserId};
pub use hexa_store::DeviceOrder;
use hexa_store::{DeviceFilter, DeviceRow};

use super::contest;
use super::handle::DeviceHandle;
use super::view::{self, DeviceView};
use crate::Devices;
use crate::authorize::Visibility;
use hexa_platform::error::{Error, Result};
use hexa_platform::principal::Principal;

/// Rows that one page may look at when it asks for what only this process knows ([`Presence`]).
const MOST_LOOKED_AT: u32 = 5_000;
const PIECE: u32 = 500;

/// Which devices a list is to show, and in which order.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Devices of every owner, for admins only; false = own and shared ones.
    pub all: bool,
    /// Of everybody's, those of this account.
    pub owner: Option<UserId>,
    /// A part of uid, name, model; of own ones also of serial number and names of relays; of everybody's also of their
    /// owners' e-mails and names.
    pub search: Option<String>,
    /// Only devices of this class; none = every class.
    pub class: Option<DeviceClass>,
    /// With or without an owner.
    pub claimed: Option<bool>,
    /// How they are connected.
    pub presence: Presence,
    /// In which order, and from where on.
    pub order: DeviceOrder,
}

/// What is asked of a device that is in no table: only this process knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presence {
    /// Whether a session is connected to this process; none = both.
    pub online: Option<bool>,
    /// Connected and silent for longer than it should be, or not.
    pub stale: Option<bool>,
}

impl Presence {
    fn is_asked(self) -> bool {
        self.online.is_some() || self.stale.is_some()
    }

    fn fits(self, services: &Devices, live: Option<&Arc<DeviceHandle>>) -> bool {
        self.online.is_none_or(|wanted| live.is_some_and(|l| l.online()) == wanted)
            && self.stale.is_none_or(|wanted| view::is_stale(services, live) == wanted)
    }
}

/// One page of devices.
#[derive(Debug, Default)]
pub struct DevicePage {
    /// In the order that was asked for.
    pub items: Vec<DeviceView>,
    /// Where the next page starts.
    pub next: Option<DeviceOrder>,
}

/// A page of the caller's devices; an admin with `all` sees everybody's. It may have fewer items than asked for, also
/// none, and still a next one.
///
/// # Errors
/// `forbidden` for `all` and `owner` by anybody else, `validation_error` for `owner` without `all`.
pub async fn page(services: &Devices, by: &Principal, wanted: Wanted, limit: u32) -> Result<DevicePage> {
    let (all, presence) = (wanted.all, wanted.presence);
    let Some(filter) = resolve(services, by, wanted).await? else { return Ok(DevicePage::default()) };
    let moment = services.registry.moment();
    let (rows, next) = if presence.is_asked() {
        by_presence(services, filter, presence, limit).await?
    } else {
        stored(services, filter, limit).await?
    };
    Ok(DevicePage { items: views(services, by, all, (rows, moment)).await?, next })
}

/// None where the owner is nobody.
async fn resolve(services: &Devices, by: &Principal, wanted: Wanted) -> Result<Option<DeviceFilter>> {
    if wanted.all || wanted.owner.is_some() {
        by.require_admin()?;
    }
    let me = by.account.key;
    let owner = match wanted.owner {
        None => (!wanted.all).then_some(me),
        Some(_) if !wanted.all => {
            return Err(Error::validation("owner", "owner picks from everybody's devices; send all=true with it"));
        }
        Some(id) => match services.store.user_by_id(id).await? {
            Some(user) => Some(user.key),
            None => return Ok(None),
        },
    };
    // By name, those with smaller keys may come later.
    let behind = match &wanted.order {
        DeviceOrder::Added(after) => *after,
        DeviceOrder::Name(_) => None,
    };
    let shared = if wanted.all { Vec::new() } else { services.grants.devices_of(me, behind, services.guard.latest()) };
    Ok(Some(DeviceFilter {
        owner,
        shared,
        search: wanted.search,
        search_owners: wanted.all,
        class: wanted.class,
        claimed: wanted.claimed,
        order: wanted.order,
        limit: 0,
    }))
}

async fn stored(
    services: &Devices,
    mut filter: DeviceFilter,
    limit: u32,
) -> Result<(Vec<DeviceRow>, Option<DeviceOrder>)> {
    // One more than asked for tells whether there is a next page.
    filter.limit = limit + 1;
    let mut rows = services.store.list_devices(&filter).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| filter.order.behind(row));
    Ok((rows, next))
}

/// Whether a device is connected is in no table: rows are looked at until there are enough, or too many were.
async fn by_presence(
    services: &Devices,
    mut filter: DeviceFilter,
    wanted: Presence,
    limit: u32,
) -> Result<(Vec<DeviceRow>, Option<DeviceOrder>)> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    filter.limit = PIECE;
    loop {
        let rows = services.store.list_devices(&filter).await?;
        let full = rows.len() == PIECE as usize;
        looked_at += PIECE;
        for row in rows {
            if found.len() == limit as usize {
                return Ok((found, Some(filter.order)));
            }
            filter.order = filter.order.behind(&row);
            if wanted.fits(services, services.registry.peek(&row.uid).as_ref()) {
                found.push(row);
            }
        }
        if !full {
            return Ok((found, None));
        }
        if looked_at >= MOST_LOOKED_AT {
            return Ok((found, Some(filter.order)));
        }
    }
}

/// Of rows that were read after `moment`.
async fn views(
    services: &Devices,
    by: &Principal,
    all: bool,
    (rows, moment): (Vec<DeviceRow>, u64),
) -> Result<Vec<DeviceView>> {
    let keys: Vec<_> = rows.iter().map(|r| r.key).collect();
    let mut states = services.store.relay_states_of(&keys).await?;
    let mut names = services.store.relay_names_of(&keys).await?;
    let owners: BTreeSet<_> = rows.iter().filter_map(|r| view::shown_owner(by, r)).collect();
    let owners = services.store.people(&owners.into_iter().collect::<Vec<_>>()).await?;
    // Of what others share with the caller, the grants are with the device: all of them are loaded at once.
    let foreign = rows.iter().filter(|row| !all && row.owner != Some(by.account.key)).cloned().collect();
    let foreign = services.registry.enter_many(foreign, moment).await?;
    let foreign: HashMap<_, _> = foreign.into_iter().map(|live| (live.key, live)).collect();
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let sight = if row.owner == Some(by.account.key) {
            Visibility::OWNER
        } else if all {
            Visibility::ADMIN
        } else {
            // The times of its grants are looked at here; one that ended a moment ago shows nothing.
            match foreign.get(&row.key).map(|live| services.sight(by.actor(), live)) {
                Some(Ok(sight)) => sight,
                _ => continue,
            }
        };
        let live = services.registry.peek(&row.uid);
        // The cache is at least as new as the rows just read.
        let relays = match &live {
            Some(live) => live.relays(),
            None => states.remove(&row.key).unwrap_or_default(),
        };
        let names = names.remove(&row.key).unwrap_or_default();
        let stale = view::is_stale(services, live.as_ref());
        let owner = view::shown_owner(by, &row).and_then(|key| owners.get(&key).cloned());
        let contested = contest::of(services, live.as_ref());
        let live = live.as_deref().map(view::LiveFacts::of);
        items.push(DeviceView { row, live, relays, names, sight, stale, owner, contested });
    }
    Ok(items)
}
