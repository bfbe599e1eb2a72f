//! What happened to a device, for those who see it: its audit rows from the moment it was claimed.

use hexa_model::RelayMask;
use hexa_store::{AuditFilter, AuditPlace, ListedRow};

use super::view;
use crate::Devices;
use crate::authorize::{AccessLevel, Visibility};
use hexa_platform::error::{Error, Result};
use hexa_platform::principal::Principal;

/// One page, newest first, and where the next one begins. A grantee sees what happened to the shared relays, without
/// others' names; a former owner's time is nobody's but an admin's.
///
/// # Errors
/// `not_found` as for the device.
pub async fn page(
    services: &Devices,
    by: &Principal,
    uid: &str,
    before: Option<AuditPlace>,
    limit: u32,
) -> Result<(Vec<ListedRow>, Option<AuditPlace>)> {
    let (live, sight) = view::find(services, by, uid).await?;
    let row = services.store.device_by_key(live.key).await?.ok_or_else(Error::no_device)?;
    let since = match sight.standing {
        AccessLevel::Admin => row.created_at,
        _ => row.claimed_at.unwrap_or(row.created_at),
    };
    let filter = AuditFilter { device: Some(live.key), since: Some(since), ..AuditFilter::default() };
    let mut rows = services.store.audit_reader().list(&filter, before.as_ref(), limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = if more { rows.last().map(|r| r.place.clone()) } else { None };
    if sight.is_guest() {
        let me = by.account.id.to_string();
        rows = rows.into_iter().filter_map(|row| cut(row, sight, &me)).collect();
    }
    Ok((rows, next))
}

/// As much of a row as a grantee may see.
fn cut(mut row: ListedRow, sight: Visibility, me: &str) -> Option<ListedRow> {
    let seen = |mask: RelayMask, relay: Option<i64>| match relay.and_then(|r| u16::try_from(r).ok()) {
        Some(index) => mask.has(index),
        None => mask.is_all(),
    };
    let told = !row.changes.is_empty() || row.command.is_some();
    row.changes.retain(|state| sight.relays.has(state.index));
    if !told || (row.changes.is_empty() && !seen(sight.relays, row.relay)) {
        return None;
    }
    row.actor = row.actor.filter(|(id, _)| id == me);
    row.details = None;
    Some(row)
}
