//! The keys of commands in a group commit: counted with one statement where they are counted, taken with another.

use std::collections::{HashMap, HashSet};

use hexa_model::IdempotencyKey;
use sqlx::{PgConnection, Row as _};

use super::super::HotWrite;
use super::super::batch::Cost;
use crate::error::StoreError;
use crate::idempotency::{MAX_KEYS, TAKE_KEYS, full, used};

const COUNT: &str = "select scope, count(*) as n from idempotency where scope = any($1) group by scope";

/// Takes the keys of these writes; gives, by the place of the write, why one was not taken. Nothing else of such a write
/// may be done.
pub(super) async fn take(
    tx: &mut PgConnection,
    writes: &[&HotWrite],
    cost: &mut Cost,
) -> Result<HashMap<usize, StoreError>, StoreError> {
    let mut refused = HashMap::new();
    let all: Vec<_> = writes.iter().enumerate().filter_map(|(at, w)| Some((at, w.claim.as_deref()?))).collect();
    if all.is_empty() {
        return Ok(refused);
    }
    let counted: Vec<_> = all.iter().filter(|(_, c)| c.claim.counted).map(|(_, c)| c.claim.scope.to_vec()).collect();
    let mut crowded = HashSet::new();
    if !counted.is_empty() {
        for row in sqlx::query(COUNT).bind(counted).fetch_all(&mut *tx).await? {
            if row.try_get::<i64, _>("n")? >= MAX_KEYS {
                crowded.insert(row.try_get::<Vec<u8>, _>("scope")?);
            }
        }
        cost.statements += 1;
    }
    let place = |claim: &IdempotencyKey| (claim.scope.to_vec(), claim.key.clone());
    let mut asked = HashSet::new();
    let mut taking = Vec::with_capacity(all.len());
    for (at, one) in all {
        if one.claim.counted && crowded.contains(&one.claim.scope[..]) {
            refused.insert(at, full());
        } else if asked.insert(place(&one.claim)) {
            taking.push((at, one));
        } else {
            // One statement changes no row twice.
            refused.insert(at, used());
        }
    }
    if taking.is_empty() {
        return Ok(refused);
    }
    // In the order of the keys, as every statement of a transaction that takes many rows.
    taking.sort_unstable_by(|(_, a), (_, b)| (a.claim.scope, &a.claim.key).cmp(&(b.claim.scope, &b.claim.key)));
    let claims = || taking.iter().map(|(_, one)| &one.claim);
    let rows = sqlx::query(TAKE_KEYS)
        .bind(claims().map(|c| c.scope.to_vec()).collect::<Vec<_>>())
        .bind(claims().map(|c| c.key.as_str()).collect::<Vec<_>>())
        .bind(claims().map(|c| c.fingerprint.to_vec()).collect::<Vec<_>>())
        .bind(claims().map(|c| c.request_id.as_str()).collect::<Vec<_>>())
        .bind(taking.iter().map(|(_, one)| one.command.0.as_bytes().to_vec()).collect::<Vec<_>>())
        .bind(claims().map(|c| c.at.0).collect::<Vec<_>>())
        .bind(claims().map(|c| c.expires_at.0).collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
    cost.statements += 1;
    let mut taken = HashSet::with_capacity(rows.len());
    for row in rows {
        taken.insert((row.try_get::<Vec<u8>, _>("scope")?, row.try_get::<String, _>("key")?));
    }
    for (at, one) in taking {
        if !taken.contains(&place(&one.claim)) {
            refused.insert(at, used());
        }
    }
    Ok(refused)
}
