//! What a database says of the relay path, and the invariants that must hold in it
//! (docs/PLATFORM.md#invariants).
//!
//! The checks know nothing of SQL: whoever can read an [`Evidence`] out of a database can be judged.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

/// Gives the evidence of one database, read in one transaction.
pub trait Witness {
    /// Everything, at one moment.
    fn evidence(&self) -> Evidence;
}

/// A row of the audit with its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainRow {
    /// Place in the chain, from 1.
    pub seq: i64,
    /// Name of the chain, that of its node.
    pub chain: String,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Who acted: `user`, `device` or `system`.
    pub actor_kind: String,
    /// Key of the user's row.
    pub actor_id: Option<i64>,
    /// Where it came from: `api`, `ws`, `device`, `system`.
    pub source: String,
    /// Name of the action, such as `set_relay`.
    pub action: String,
    /// Key of the device's row.
    pub device_id: Option<i64>,
    /// The command, 16 bytes.
    pub command_id: Option<Vec<u8>>,
    /// Whether it follows up its command.
    pub follow_up: bool,
    /// How it ended, such as `executed`.
    pub outcome: String,
    /// The relay asked for.
    pub relay: Option<i64>,
    /// The state asked for.
    pub state: Option<bool>,
    /// From acceptance to the end.
    pub latency_ms: Option<i64>,
    /// What changed, as `[[index, 0 or 1, version], …]`.
    pub changes: Option<String>,
    /// Details as JSON text.
    pub details: Option<String>,
    /// Hash of the row before it.
    pub prev: Vec<u8>,
    /// Hash of this row, as stored.
    pub hash: Vec<u8>,
}

impl ChainRow {
    /// The hash that the row must have, computed apart from the product's own code: SHA-256 over the predecessor's
    /// hash and every field, each with a tag and its length.
    pub fn computed_hash(&self) -> [u8; 32] {
        let mut bytes = self.prev.clone();
        let mut field = |value: Option<&[u8]>| match value {
            None => bytes.push(0),
            Some(value) => {
                bytes.push(1);
                bytes.extend_from_slice(&u32::try_from(value.len()).expect("a short field").to_be_bytes());
                bytes.extend_from_slice(value);
            }
        };
        let number = |n: i64| n.to_be_bytes();
        field(Some(self.chain.as_bytes()));
        field(Some(&number(self.seq)));
        field(Some(&number(self.at)));
        field(Some(self.actor_kind.as_bytes()));
        field(self.actor_id.map(number).as_ref().map(|n| &n[..]));
        field(Some(self.source.as_bytes()));
        field(Some(self.action.as_bytes()));
        field(self.device_id.map(number).as_ref().map(|n| &n[..]));
        field(self.command_id.as_deref());
        field(Some(&[u8::from(self.follow_up)]));
        field(Some(self.outcome.as_bytes()));
        field(self.relay.map(number).as_ref().map(|n| &n[..]));
        field(self.state.map(|s| [u8::from(s)]).as_ref().map(|s| &s[..]));
        field(self.latency_ms.map(number).as_ref().map(|n| &n[..]));
        field(self.changes.as_deref().map(str::as_bytes));
        field(self.details.as_deref().map(str::as_bytes));
        Sha256::digest(&bytes).into()
    }
    /// The changes as (relay, state, version).
    ///
    /// # Panics
    /// When they are no such list.
    pub fn changed(&self) -> Vec<(u16, bool, i64)> {
        let Some(text) = &self.changes else { return Vec::new() };
        let list: Vec<(u16, u8, i64)> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        list.into_iter().map(|(relay, on, version)| (relay, on == 1, version)).collect()
    }
}

/// A stored relay state.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct RelayRow {
    /// Key of the device's row.
    pub device_id: i64,
    /// The device's public id.
    pub uid: String,
    /// Index of the relay, from 0.
    pub relay: u16,
    /// Whether the relay is on.
    pub state: bool,
    /// Raised by one with every stored state.
    pub version: i64,
}

/// A database at one moment.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The whole audit, by sequence.
    pub audit: Vec<ChainRow>,
    /// The stored state of every relay.
    pub relays: Vec<RelayRow>,
    /// What the database itself finds damaged: its own integrity check and broken references.
    pub damage: Vec<String>,
}

/// An answer that a caller got: from here on it may be relied on.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Public id of the device.
    pub uid: String,
    /// The command, as text.
    pub command_id: String,
    /// The outcome, `executed` or `noop`.
    pub outcome: String,
    /// Relay, state and version, for each relay.
    pub relays: Vec<(u16, bool, i64)>,
}

impl Answer {
    /// Reads the body of a 200 or a `command_result`.
    ///
    /// # Panics
    /// When it is none.
    pub fn from_json(uid: &str, body: &serde_json::Value) -> Self {
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name}: {body}")).to_owned();
        let relays = body["relays"].as_array().unwrap_or_else(|| panic!("no relays: {body}"));
        let relay = |r: &serde_json::Value| {
            let read =
                || Some((u16::try_from(r["index"].as_u64()?).ok()?, r["state"].as_bool()?, r["version"].as_i64()?));
            read().unwrap_or_else(|| panic!("no relay state: {body}"))
        };
        Self {
            uid: uid.to_owned(),
            command_id: text("command_id"),
            outcome: text("status"),
            relays: relays.iter().map(relay).collect(),
        }
    }
}

impl Evidence {
    /// State and version of a relay.
    pub fn relay(&self, uid: &str, relay: u16) -> Option<(bool, i64)> {
        self.relays.iter().find(|r| r.uid == uid && r.relay == relay).map(|r| (r.state, r.version))
    }

    /// The highest sequence number.
    pub fn last_seq(&self) -> i64 {
        self.audit.last().map_or(0, |row| row.seq)
    }

    /// Everything that must hold whatever happened: no damage, an unbroken chain, I2 and I3.
    ///
    /// # Panics
    /// Naming the first thing that does not.
    pub fn assert_whole(&self) {
        assert!(self.damage.is_empty(), "the database is damaged: {:?}", self.damage);
        self.assert_chain();
        self.assert_one_primary_row_each();
        self.assert_versions_have_causes();
    }

    fn assert_chain(&self) {
        let mut prev = vec![0u8; 32];
        for (place, row) in self.audit.iter().enumerate() {
            assert_eq!(row.seq, place as i64 + 1, "the audit's sequence has a gap");
            assert_eq!(row.prev, prev, "the audit's chain is broken at {}", row.seq);
            assert_eq!(row.hash, row.computed_hash(), "audit row {} is not what was hashed", row.seq);
            prev.clone_from(&row.hash);
        }
    }

    /// I2: per command one primary row, at most one follow-up.
    fn assert_one_primary_row_each(&self) {
        let mut rows: HashMap<&[u8], (u32, u32)> = HashMap::new();
        for row in &self.audit {
            if let Some(id) = &row.command_id {
                let (primary, follow_up) = rows.entry(id).or_default();
                *(if row.follow_up { follow_up } else { primary }) += 1;
            }
        }
        for (id, (primary, follow_up)) in rows {
            assert!(primary <= 1 && follow_up <= 1, "{id:02x?}: {primary} primary rows, {follow_up} follow-ups");
        }
    }

    /// I3: the versions in the causes are 1, 2, 3, … without gaps, and the last cause is the stored state.
    fn assert_versions_have_causes(&self) {
        let mut last: HashMap<(i64, u16), (bool, i64)> = HashMap::new();
        for row in &self.audit {
            for (relay, state, version) in row.changed() {
                let device = row.device_id.unwrap_or_else(|| panic!("changes without a device: {row:?}"));
                let before = last.insert((device, relay), (state, version)).map_or(0, |(_, v)| v);
                assert_eq!(version, before + 1, "relay {relay} of device {device}: audit row {}", row.seq);
            }
        }
        for stored in &self.relays {
            let cause = last.remove(&(stored.device_id, stored.relay));
            assert_eq!(cause, Some((stored.state, stored.version)), "{stored:?} and its last cause");
        }
        assert!(last.is_empty(), "causes without a stored state: {last:?}");
    }

    /// I1: every answer has its one row that says the same, with the version that was told, and that version is
    /// reached. Gives how many were looked up.
    ///
    /// # Panics
    /// Naming the answer that was lost.
    pub fn assert_answered(&self, answers: &[Answer]) -> usize {
        let mut primary: HashMap<&[u8], Vec<&ChainRow>> = HashMap::new();
        for row in self.audit.iter().filter(|r| !r.follow_up) {
            if let Some(id) = &row.command_id {
                primary.entry(id).or_default().push(row);
            }
        }
        let states: HashMap<_, _> = self.relays.iter().map(|r| ((r.uid.as_str(), r.relay), r)).collect();
        for answer in answers {
            let id = uuid::Uuid::parse_str(&answer.command_id).expect("an answer names its command");
            let rows = primary.get(&id.as_bytes()[..]).map_or(&[][..], Vec::as_slice);
            assert_eq!(rows.len(), 1, "lost or doubled: {answer:?}: {rows:?}");
            assert_eq!(rows[0].outcome, answer.outcome, "{answer:?}: {:?}", rows[0]);
            for (relay, state, version) in &answer.relays {
                let stored = states.get(&(answer.uid.as_str(), *relay)).unwrap_or_else(|| panic!("lost: {answer:?}"));
                assert!(stored.version >= *version, "{answer:?}: stored is version {}", stored.version);
                let own = rows[0].changed();
                let same = own.is_empty() || own.contains(&(*relay, *state, *version));
                assert!(same || answer.outcome == "noop", "{answer:?}: {:?}", rows[0]);
            }
        }
        answers.len()
    }

    /// The answers whose command has no row or whose version is not reached: what a loss looks like.
    pub fn lost<'a>(&self, answers: &'a [Answer]) -> Vec<&'a Answer> {
        let rows: HashSet<&[u8]> =
            self.audit.iter().filter(|r| !r.follow_up).filter_map(|r| r.command_id.as_deref()).collect();
        let there = |answer: &Answer| {
            let id = uuid::Uuid::parse_str(&answer.command_id).expect("an answer names its command");
            let reached = |(relay, _, version): &(u16, bool, i64)| {
                self.relay(&answer.uid, *relay).is_some_and(|(_, stored)| stored >= *version)
            };
            rows.contains(&id.as_bytes()[..]) && answer.relays.iter().all(reached)
        };
        answers.iter().filter(|answer| !there(answer)).collect()
    }

    /// Primary command rows after `seq`, by source and by the outcome that the counters know.
    pub fn ended_since(&self, seq: i64) -> HashMap<(String, &'static str), u64> {
        let mut counts = HashMap::new();
        let rows = self.audit.iter().filter(|r| r.seq > seq && r.command_id.is_some() && !r.follow_up);
        for row in rows {
            let outcome = match row.outcome.as_str() {
                "executed" | "noop" => "success",
                "timeout" => "timeout",
                _ => "error",
            };
            *counts.entry((row.source.clone(), outcome)).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, changes: &str) -> ChainRow {
        let mut row = ChainRow {
            seq,
            chain: "main".into(),
            at: 1,
            actor_kind: "user".into(),
            actor_id: Some(1),
            source: "api".into(),
            action: "set_relay".into(),
            device_id: Some(7),
            command_id: Some(vec![seq as u8; 16]),
            follow_up: false,
            outcome: "executed".into(),
            relay: Some(0),
            state: Some(true),
            latency_ms: Some(1),
            changes: Some(changes.into()),
            details: None,
            prev: vec![0; 32],
            hash: Vec::new(),
        };
        row.hash = row.computed_hash().to_vec();
        row
    }

    fn sound() -> Evidence {
        let first = row(1, "[[0,1,1]]");
        let mut second = row(2, "[[0,0,2]]");
        second.prev.clone_from(&first.hash);
        second.hash = second.computed_hash().to_vec();
        let stored = RelayRow { device_id: 7, uid: "hx1".into(), relay: 0, state: false, version: 2 };
        Evidence { audit: vec![first, second], relays: vec![stored], damage: Vec::new() }
    }

    fn refused(spoil: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = sound();
        evidence.assert_whole();
        spoil(&mut evidence);
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| evidence.assert_whole()));
        *judged.expect_err("what was spoiled is found").downcast::<String>().expect("a formatted message")
    }

    #[test]
    fn what_is_lost_doubled_or_altered_is_found() {
        assert!(refused(|e| drop(e.audit.remove(0))).contains("gap"));
        assert!(refused(|e| e.audit[0].outcome = "noop".into()).contains("not what was hashed"));
        assert!(refused(|e| e.audit[1].prev[0] ^= 1).contains("chain is broken"));
        assert!(refused(|e| e.relays[0].version = 3).contains("last cause"));
        assert!(refused(|e| e.relays.clear()).contains("without a stored state"));
        assert!(refused(|e| e.damage.push("page 3".into())).contains("page 3"));
        let doubled = refused(|e| {
            let mut twice = row(2, "[[0,0,2]]");
            twice.command_id.clone_from(&e.audit[0].command_id);
            twice.prev.clone_from(&e.audit[0].hash);
            twice.hash = twice.computed_hash().to_vec();
            e.audit[1] = twice;
        });
        assert!(doubled.contains("2 primary rows"), "{doubled}");
        let skipped = refused(|e| {
            e.audit[1].changes = Some("[[0,0,3]]".into());
            e.audit[1].hash = e.audit[1].computed_hash().to_vec();
        });
        assert!(skipped.contains("relay 0 of device 7"), "{skipped}");
    }

    #[test]
    fn an_answer_that_is_not_there_is_found() {
        let answer = |n: u8, version: i64| Answer {
            uid: "hx1".into(),
            command_id: uuid::Uuid::from_bytes([n; 16]).to_string(),
            outcome: "executed".into(),
            relays: vec![(0, n == 1, version)],
        };
        let evidence = sound();
        assert_eq!(evidence.assert_answered(&[answer(1, 1), answer(2, 2)]), 2);
        for lost in [answer(3, 1), answer(2, 3), answer(1, 2)] {
            let judged = std::panic::catch_unwind(|| evidence.assert_answered(std::slice::from_ref(&lost)));
            assert!(judged.is_err(), "{lost:?}");
        }
    }
}
