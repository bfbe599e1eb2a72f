//! Pages of devices, searched and filtered.

use hexa_model::{DeviceClass, DeviceKey};
use hexa_store::{DeviceFilter, DeviceRow};

use super::view::{self, DeviceView};
use crate::Services;
use crate::auth::principal::Principal;
use crate::authorize::Sight;
use crate::error::Result;

/// Rows that one page may look at when it asks for what only this process knows (`online`).
const MOST_LOOKED_AT: u32 = 5_000;
const PIECE: u32 = 500;

/// Which devices.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Everybody's; for admins.
    pub all: bool,
    /// A part of uid, name, model; of own ones also of serial number and names of relays.
    pub search: Option<String>,
    /// Of this class.
    pub class: Option<DeviceClass>,
    /// With or without an owner.
    pub claimed: Option<bool>,
    /// Connected or not.
    pub online: Option<bool>,
}

/// One page of devices.
#[derive(Debug)]
pub struct DevicePage {
    /// In order of their keys.
    pub items: Vec<DeviceView>,
    /// Where the next page starts.
    pub next: Option<DeviceKey>,
}

/// A page of the caller's devices; an admin with `all` sees everybody's. It may have fewer items than asked for, also
/// none, and still a next one.
///
/// # Errors
/// `forbidden` for `all` by anybody else.
pub async fn page(
    services: &Services,
    by: &Principal,
    wanted: &Wanted,
    after: Option<DeviceKey>,
    limit: u32,
) -> Result<DevicePage> {
    if wanted.all {
        by.require_admin()?;
    }
    let me = by.account.key;
    let shared = if wanted.all { Vec::new() } else { services.grants.devices_of(me, after, services.clock.now()) };
    let filter = DeviceFilter {
        owner: (!wanted.all).then_some(me),
        shared,
        search: wanted.search.clone(),
        class: wanted.class,
        claimed: wanted.claimed,
        after,
        limit: limit + 1,
    };
    let (mut rows, more) = match wanted.online {
        // One more than asked for tells whether there is a next page.
        None => {
            let rows = services.store.list_devices(&filter).await?;
            let more = rows.len() > limit as usize;
            (rows, more.then_some(()))
        }
        Some(online) => {
            let (rows, looked_at) = by_presence(services, filter, online, limit).await?;
            return views(services, by, wanted.all, rows, looked_at).await;
        }
    };
    rows.truncate(limit as usize);
    let next = more.and_then(|()| rows.last().map(|r| r.key));
    views(services, by, wanted.all, rows, next).await
}

/// Whether a device is connected is in no table: rows are looked at until there are enough, or too many were.
async fn by_presence(
    services: &Services,
    mut filter: DeviceFilter,
    online: bool,
    limit: u32,
) -> Result<(Vec<DeviceRow>, Option<DeviceKey>)> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    filter.limit = PIECE;
    loop {
        let rows = services.store.list_devices(&filter).await?;
        let full = rows.len() == PIECE as usize;
        looked_at += PIECE;
        for row in rows {
            if found.len() == limit as usize {
                return Ok((found, filter.after));
            }
            filter.after = Some(row.key);
            if services.registry.peek(&row.uid).is_some_and(|live| live.online()) == online {
                found.push(row);
            }
        }
        if !full {
            return Ok((found, None));
        }
        if looked_at >= MOST_LOOKED_AT {
            return Ok((found, filter.after));
        }
    }
}

async fn views(
    services: &Services,
    by: &Principal,
    all: bool,
    rows: Vec<DeviceRow>,
    next: Option<DeviceKey>,
) -> Result<DevicePage> {
    let keys: Vec<_> = rows.iter().map(|r| r.key).collect();
    let mut states = services.store.relay_states_of(&keys).await?;
    let mut names = services.store.relay_names_of(&keys).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let sight = if row.owner == Some(by.account.key) {
            Sight::OWNER
        } else if all {
            Sight::ADMIN
        } else {
            // The times of its grants are looked at here; one that ended a moment ago shows nothing.
            match services.registry.find(&row.uid).await?.map(|live| services.sight(by.actor(), &live)) {
                Some(Ok(sight)) => sight,
                _ => continue,
            }
        };
        let live = services.registry.peek(&row.uid);
        // The cache is at least as new as the rows just read.
        let relays = match &live {
            Some(live) => live.cache.lock().all(),
            None => states.remove(&row.key).unwrap_or_default(),
        };
        let names = names.remove(&row.key).unwrap_or_default();
        let stale = view::is_stale(services, live.as_ref());
        items.push(DeviceView { row, live, relays, names, sight, stale });
    }
    Ok(DevicePage { items, next })
}
