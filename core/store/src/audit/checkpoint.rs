//! Checkpoints: where the audit begins when its oldest rows are gone, and their removal.
//!
//! A checkpoint holds place and hash of the last row that went with it, and the hash of the checkpoint before it. A row of
//! the audit, written in the same transaction, holds the checkpoint's own hash: so neither can be changed unseen.
//! A checkpoint lives as long as the row that names it; the newest one of a chain stays.

use std::collections::HashSet;

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Source, TimeMs};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{BOTH, chained};
use crate::chain::{ChainedRow, GENESIS};
use crate::db::{Executor, Row, query};
use crate::error::StoreError;
use crate::{Changed, Store, Tx};

/// The action of the row that names a checkpoint.
pub(super) const ACTION: &str = "audit.checkpoint";

/// A checkpoint as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) up_to_seq: i64,
    pub(super) up_to_hash: [u8; 32],
    pub(super) rows: i64,
    pub(super) at: i64,
    pub(super) prev: [u8; 32],
    pub(super) hash: [u8; 32],
}

impl Checkpoint {
    /// What stands before the first one.
    pub(super) fn none() -> Self {
        Self { up_to_seq: 0, up_to_hash: GENESIS, rows: 0, at: 0, prev: GENESIS, hash: GENESIS }
    }

    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            up_to_seq: row.get("up_to_seq")?,
            up_to_hash: super::hash(row, "up_to_hash")?,
            rows: row.get("row_count")?,
            at: row.get("at")?,
            prev: super::hash(row, "prev")?,
            hash: super::hash(row, "hash")?,
        })
    }

    /// SHA-256 over everything in it; all parts but the chain's name have a fixed length.
    pub(super) fn computed_hash(&self, chain: &str) -> [u8; 32] {
        let mut sha = Sha256::new();
        sha.update(b"hexa audit checkpoint\0");
        sha.update(self.prev);
        for number in [self.up_to_seq, self.rows, self.at] {
            sha.update(number.to_be_bytes());
        }
        sha.update(self.up_to_hash);
        sha.update(chain.as_bytes());
        sha.finalize().into()
    }

    /// Whether it goes on where the one before ended. The first one that is left follows others that went, if it says so:
    /// its own hash holds theirs.
    pub(super) fn follows(&self, before: &Self, chain: &str) -> bool {
        let whole = self.rows > 0 && self.hash == self.computed_hash(chain);
        let first_left = before.up_to_seq == 0 && self.prev != GENESIS && self.up_to_seq > self.rows;
        whole && (first_left || self.prev == before.hash && self.up_to_seq == before.up_to_seq + self.rows)
    }
}

/// The newest checkpoint of a chain; [`Checkpoint::none`] when there is none.
pub(super) async fn newest(chain: &str, on: Executor<'_>) -> Result<Checkpoint, StoreError> {
    let sql = "select * from audit_checkpoints where chain = $1 order by up_to_seq desc limit 1";
    let row = query(sql).bind(chain).fetch_optional(on).await?;
    row.as_ref().map_or_else(|| Ok(Checkpoint::none()), Checkpoint::read)
}

/// The name of a hash in a row's details.
pub(super) fn hex(hash: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    hash.iter().fold(String::with_capacity(64), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

impl Store {
    /// Removes up to `limit` of the audit's oldest rows that are all older than `before`, under a checkpoint, in one
    /// transaction; gives how many. Rows are removed from the beginning only: one that is not old enough keeps those
    /// behind it.
    ///
    /// # Errors
    /// `Corrupt` when the rows do not fit together: what shows tampering is never removed.
    pub async fn prune_audit(&self, before: TimeMs, now: TimeMs, limit: u32) -> Result<u64, StoreError> {
        let chain = self.inner.config.node.clone();
        self.change(move |tx| {
            Box::pin(async move { Ok(Changed::only(prune(tx, &chain, (before, now), limit).await?)) })
        })
        .await
    }
}

impl Store {
    /// Removes up to `limit` of this chain's oldest checkpoints that no row names any more; gives how many. The newest
    /// one stays. Which ones is looked at before anything waits for it: a row that is gone does not come back.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_checkpoints(&self, limit: u32) -> Result<u64, StoreError> {
        let chain = self.inner.config.node.clone();
        let oldest = "select * from audit_checkpoints c where chain = $1 and exists (select 1 from audit_checkpoints n \
             where n.chain = c.chain and n.up_to_seq > c.up_to_seq) order by up_to_seq limit $2";
        let rows = query(oldest).bind(chain.as_str()).bind(limit).fetch_all(self.reader()).await?;
        let old = rows.iter().map(Checkpoint::read).collect::<Result<Vec<_>, _>>()?;
        let times = old.iter().map(|c| c.at);
        let Some((from, to)) = times.clone().min().zip(times.max()) else { return Ok(0) };
        let sql = "select details from audit_tail where chain = $1 and action = $2 and at >= $3 and at <= $4 \
             union all select details from audit where chain = $1 and action = $2 and at >= $3 and at <= $4";
        let naming = query(sql).bind(chain.as_str()).bind(ACTION).bind(from).bind(to);
        let mut named = HashSet::new();
        for row in naming.fetch_all(self.reader()).await? {
            named.extend(name_in(row.get::<Option<String>>("details")?.as_deref()).map(|(_, name)| name));
        }
        let unnamed = old.iter().take_while(|c| !named.contains(&hex(&c.hash)));
        let Some(last) = unnamed.last().map(|c| c.up_to_seq) else { return Ok(0) };
        self.change(move |tx| {
            Box::pin(async move {
                let delete = query("delete from audit_checkpoints where chain = $1 and up_to_seq <= $2");
                Ok(Changed::only(delete.bind(chain.as_str()).bind(last).execute(tx.on()).await?))
            })
        })
        .await
    }
}

/// The checkpoint that a row with [`ACTION`] names: its place and its hash.
pub(super) fn name_in(details: Option<&str>) -> Option<(i64, String)> {
    let details: serde_json::Value = serde_json::from_str(details?).ok()?;
    Some((details["up_to_seq"].as_i64()?, details["checkpoint"].as_str()?.to_owned()))
}

async fn prune(tx: &mut Tx, chain: &str, (before, now): (TimeMs, TimeMs), limit: u32) -> Result<u64, StoreError> {
    let last = newest(chain, tx.on()).await?;
    let old = oldest(tx, chain, &last, before, limit).await?;
    let Some(end) = old.last() else { return Ok(0) };
    let mut next = Checkpoint {
        up_to_seq: end.seq,
        up_to_hash: end.hash,
        rows: old.len() as i64,
        at: now.0,
        prev: last.hash,
        hash: GENESIS,
    };
    next.hash = next.computed_hash(chain);
    let moved = leave_tail(tx, chain, end.seq).await?;
    tx.left_tail(moved);
    insert(tx, chain, &next).await?;
    let delete = query("delete from audit where chain = $1 and seq <= $2").bind(chain).bind(next.up_to_seq);
    let gone = delete.execute(tx.on()).await?;
    if gone != old.len() as u64 {
        return Err(StoreError::Corrupt(format!("{gone} rows below {} instead of {}", end.seq, old.len())));
    }
    let details = json!({ "up_to_seq": next.up_to_seq, "rows": next.rows, "checkpoint": hex(&next.hash) });
    tx.audit(&AuditEntry::event(now, Actor::System, Source::System, ACTION).details(&details)).await?;
    Ok(gone)
}

/// The oldest rows that may go, recomputed.
async fn oldest(
    tx: &mut Tx,
    chain: &str,
    last: &Checkpoint,
    before: TimeMs,
    limit: u32,
) -> Result<Vec<ChainedRow>, StoreError> {
    let sql = format!("select * from {BOTH} where chain = $1 and seq > $2 order by seq limit $3");
    let read = query(sqlx::AssertSqlSafe(sql)).bind(chain).bind(last.up_to_seq).bind(limit);
    let (mut seq, mut prev) = (last.up_to_seq, last.up_to_hash);
    let mut old = Vec::new();
    for row in read.fetch_all(tx.on()).await? {
        let row = chained(&row)?;
        if row.at >= before.0 {
            break;
        }
        if row.seq != seq + 1 || row.prev != prev || row.computed_hash(chain) != row.hash {
            let what = format!("audit row {} does not fit; `hexa audit verify` says more, nothing is removed", row.seq);
            return Err(StoreError::Corrupt(what));
        }
        (seq, prev) = (row.seq, row.hash);
        old.push(row);
    }
    Ok(old)
}

/// Rows leave through the table only; in a quiet house the oldest may still be in the tail.
async fn leave_tail(tx: &mut Tx, chain: &str, up_to: i64) -> Result<u64, StoreError> {
    let copy = "insert into audit select * from audit_tail where chain = $1 and seq <= $2";
    query(copy).bind(chain).bind(up_to).execute(tx.on()).await?;
    let delete = query("delete from audit_tail where chain = $1 and seq <= $2").bind(chain).bind(up_to);
    delete.execute(tx.on()).await
}

async fn insert(tx: &mut Tx, chain: &str, new: &Checkpoint) -> Result<(), StoreError> {
    let sql = "insert into audit_checkpoints (chain, up_to_seq, up_to_hash, row_count, at, prev, hash) \
         values ($1, $2, $3, $4, $5, $6, $7)";
    let insert = query(sql).bind(chain).bind(new.up_to_seq).bind(new.up_to_hash).bind(new.rows).bind(new.at);
    insert.bind(new.prev).bind(new.hash).execute(tx.on()).await?;
    Ok(())
}
