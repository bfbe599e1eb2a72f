//! Checkpoints: where the audit begins when its oldest rows are gone, and their removal.
//!
//! A checkpoint holds place and hash of the last row that went with it, and the hash of the checkpoint before it. A row of
//! the audit, written in the same transaction, holds the checkpoint's own hash: so neither can be changed unseen.

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Source, TimeMs};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{BOTH, chained};
use crate::chain::{ChainedRow, GENESIS};
use crate::db::{On, Row, query};
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

    /// Whether it goes on where the one before ended.
    pub(super) fn follows(&self, before: &Self, chain: &str) -> bool {
        self.prev == before.hash
            && self.rows > 0
            && self.up_to_seq == before.up_to_seq + self.rows
            && self.hash == self.computed_hash(chain)
    }
}

/// The newest checkpoint of a chain; [`Checkpoint::none`] when there is none.
pub(super) async fn newest(chain: &str, on: On<'_>) -> Result<Checkpoint, StoreError> {
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
