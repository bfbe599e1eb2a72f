//! The audit's hash chain: each row's hash covers the row and its predecessor's hash, so that an edit, a gap or a
//! swap anywhere is found by reading.

use hexa_model::audit::{AuditEntry, RelayStates};
use sha2::{Digest, Sha256};

use crate::db::Row;
use crate::error::StoreError;

/// The predecessor of the first row.
pub(crate) const GENESIS: [u8; 32] = [0; 32];

/// Where the chain stands. It advances only when the transaction that extended it was committed.
#[derive(Clone, Debug)]
pub(crate) struct ChainHead {
    pub(crate) node: String,
    pub(crate) seq: i64,
    pub(crate) hash: [u8; 32],
}

/// A row with its place in the chain, ready to be inserted.
#[derive(Debug)]
pub(crate) struct ChainedRow {
    pub(crate) seq: i64,
    pub(crate) at: i64,
    pub(crate) actor_kind: String,
    pub(crate) actor_id: Option<i64>,
    pub(crate) source: String,
    pub(crate) action: String,
    pub(crate) device_id: Option<i64>,
    pub(crate) command_id: Option<[u8; 16]>,
    pub(crate) follow_up: bool,
    pub(crate) outcome: String,
    pub(crate) relay: Option<i64>,
    pub(crate) state: Option<bool>,
    pub(crate) latency_ms: Option<i64>,
    pub(crate) changes: Option<String>,
    pub(crate) details: Option<String>,
    pub(crate) prev: [u8; 32],
    pub(crate) hash: [u8; 32],
}

/// What both writers take before they write: it serialises them and holds the chain's head.
#[derive(Debug)]
pub(crate) struct ChainLock {
    pub(crate) head: ChainHead,
    /// A commit ended without an answer: the head is to be read again.
    pub(crate) stale: bool,
}

/// Whether a conflict on this constraint says that the chain's head is another one than we thought. The gate is held and
/// the head was read when there was a doubt, so only somebody else can have moved it.
pub(crate) fn is_head(constraint: &str) -> bool {
    ["audit_tail.chain, audit_tail.seq", "audit.chain, audit.seq", "audit_tail_pkey", "audit_pkey"]
        .contains(&constraint)
}

/// The chain went on behind the head that was known, under the gate: somebody else writes to this database.
pub(crate) fn somebody_else(seq: i64) -> StoreError {
    StoreError::Fenced(format!(
        "another process has written to this database: its audit goes on behind row {seq}. Two servers must never share \
         one database; stop one of them, and let `hexa.lock` be"
    ))
}

/// The newest row of a chain, which is either in the tail or in the table.
pub(crate) const NEWEST: &str = "select seq, hash from (select seq, hash from audit_tail where chain = $1 union all \
     select seq, hash from audit where chain = $1) as newest order by seq desc limit 1";

impl ChainHead {
    /// From what [`NEWEST`] gave.
    pub(crate) fn of(node: &str, newest: &[Row]) -> Result<Self, StoreError> {
        let (seq, hash) = match newest.first() {
            None => (0, GENESIS),
            Some(row) => {
                let hash: Vec<u8> = row.get("hash")?;
                let hash = hash.try_into().map_err(|_| StoreError::Corrupt("an audit hash has not 32 bytes".into()))?;
                (row.get("seq")?, hash)
            }
        };
        Ok(Self { node: node.to_owned(), seq, hash })
    }

    /// The row behind this head, which then points to it.
    pub(crate) fn append(&mut self, entry: &AuditEntry, changes: &RelayStates) -> ChainedRow {
        let mut row = ChainedRow {
            seq: self.seq + 1,
            at: entry.at.0,
            actor_kind: entry.actor.kind().to_owned(),
            actor_id: entry.actor.user_key().map(|k| k.0),
            source: entry.source.as_str().to_owned(),
            action: entry.action.to_owned(),
            device_id: entry.device.map(|k| k.0),
            command_id: entry.command.map(|c| *c.0.as_bytes()),
            follow_up: entry.follow_up,
            outcome: entry.outcome.as_str().to_owned(),
            relay: entry.relay.map(i64::from),
            state: entry.state,
            latency_ms: entry.latency_ms.map(i64::from),
            changes: changes_json(changes),
            details: entry.details.clone(),
            prev: self.hash,
            hash: GENESIS,
        };
        row.hash = row.computed_hash(&self.node);
        self.seq = row.seq;
        self.hash = row.hash;
        row
    }
}

impl ChainedRow {
    /// SHA-256 over the predecessor's hash and every field, each with a tag and its length, so that no two different
    /// rows have the same bytes.
    pub(crate) fn computed_hash(&self, node: &str) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.prev);
        let mut field = |value: Option<&[u8]>| match value {
            None => bytes.push(0),
            Some(value) => {
                bytes.push(1);
                bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
                bytes.extend_from_slice(value);
            }
        };
        let number = |n: i64| n.to_be_bytes();
        field(Some(node.as_bytes()));
        field(Some(&number(self.seq)));
        field(Some(&number(self.at)));
        field(Some(self.actor_kind.as_bytes()));
        field(self.actor_id.map(number).as_ref().map(|n| &n[..]));
        field(Some(self.source.as_bytes()));
        field(Some(self.action.as_bytes()));
        field(self.device_id.map(number).as_ref().map(|n| &n[..]));
        field(self.command_id.as_ref().map(|c| &c[..]));
        field(Some(&[u8::from(self.follow_up)]));
        field(Some(self.outcome.as_bytes()));
        field(self.relay.map(number).as_ref().map(|n| &n[..]));
        field(self.state.map(|s| [u8::from(s)]).as_ref().map(|s| &s[..]));
        field(self.latency_ms.map(number).as_ref().map(|n| &n[..]));
        field(self.changes.as_deref().map(str::as_bytes));
        field(self.details.as_deref().map(str::as_bytes));
        Sha256::digest(&bytes).into()
    }
}

/// `[[index, 0|1, version], …]`, or none when nothing changed.
fn changes_json(changes: &RelayStates) -> Option<String> {
    use std::fmt::Write;
    if changes.is_empty() {
        return None;
    }
    let mut text = String::from("[");
    for (i, c) in changes.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(text, "{comma}[{},{},{}]", c.index, u8::from(c.on), c.version);
    }
    text.push(']');
    Some(text)
}

#[cfg(test)]
mod tests {
    use hexa_model::{Actor, Source, TimeMs};

    use super::*;

    #[test]
    fn every_field_counts() {
        let entry = AuditEntry::event(TimeMs(5), Actor::System, Source::System, "test");
        let mut head = ChainHead { node: "main".into(), seq: 0, hash: GENESIS };
        let first = head.append(&entry, &RelayStates::new());
        assert_eq!((first.seq, first.prev, first.hash), (1, GENESIS, head.hash));
        let second = head.append(&entry, &RelayStates::new());
        assert_eq!(second.prev, first.hash);
        assert_ne!(second.hash, first.hash);
        let other = ChainedRow { action: "tesu".into(), ..second };
        assert_ne!(other.computed_hash("main"), other.hash);
        assert_ne!(first.computed_hash("node2"), first.hash);
    }
}
