//! Recomputing the audit: every checkpoint, every row, every chain, and what is wrong with the first that does not fit.

use hexa_model::TimeMs;

use super::checkpoint::{self, Checkpoint};
use super::{AuditReader, BOTH, chained};
use crate::Store;
use crate::chain::ChainedRow;
use crate::db::{Row, query};
use crate::error::StoreError;

/// Rows per read.
const CHUNK: i64 = 2_000;
/// How far around a row its proper place is looked for.
const NEAR: i64 = 100_000;

/// What is wrong with the first row or checkpoint that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its contents are not the ones that its hash was made of.
    Edited,
    /// Rows before it are not there.
    Missing {
        /// The first of them.
        from: i64,
        /// The last of them.
        to: i64,
    },
    /// It is whole, but belongs elsewhere.
    Swapped {
        /// Its own place.
        belongs_at: i64,
    },
    /// It is whole by itself, but does not go on from the row before it: one of the two was put there later.
    Foreign,
    /// A checkpoint that was edited, removed, or is not the one that the audit itself names.
    Checkpoint,
    /// A head that was noted earlier is not there any more: the newest rows were cut off or rewritten.
    Head,
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The chain's name.
    pub chain: String,
    /// Its newest row.
    pub seq: i64,
    /// That row's hash.
    pub hash: [u8; 32],
}

/// The result of reading everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditCheck {
    /// Rows recomputed.
    pub rows: u64,
    /// Checkpoints recomputed.
    pub checkpoints: u64,
    /// Rows that were removed under them.
    pub removed: u64,
    /// The first row (or checkpoint, by the last row it covers) that does not fit.
    pub first_bad: Option<i64>,
    /// What is wrong with it.
    pub wrong: Option<Wrong>,
    /// When it says that it was written.
    pub bad_at: Option<TimeMs>,
    /// Each chain's end, as far as it was read.
    pub heads: Vec<AuditHead>,
}

impl Store {
    /// Reads the whole audit in order and recomputes it.
    ///
    /// # Errors
    /// When the database does not answer; what does not fit is part of the result.
    pub async fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        self.audit_reader().verify(None).await
    }
}

/// One chain while it is read.
struct Walk<'a> {
    reader: &'a AuditReader,
    chain: String,
    from: Checkpoint,
    /// Whether a row of the audit names `from`.
    named: bool,
    seq: i64,
    prev: [u8; 32],
}

impl AuditReader {
    /// Reads the whole audit in order and recomputes it: checkpoints, then rows, chain by chain. `noted` is a head that
    /// somebody has written down elsewhere; only with one can it be seen that the newest rows were cut off.
    ///
    /// # Errors
    /// When the database does not answer; what does not fit is part of the result.
    pub async fn verify(&self, noted: Option<&AuditHead>) -> Result<AuditCheck, StoreError> {
        let mut check = AuditCheck::default();
        for chain in self.chains().await? {
            let noted = noted.filter(|head| head.chain == chain);
            let from = self.checkpoints(&chain, &mut check).await?;
            if check.wrong.is_some() {
                return Ok(check);
            }
            let (seq, prev) = (from.up_to_seq, from.up_to_hash);
            let named = from.up_to_seq == 0;
            let mut walk = Walk { reader: self, chain, from, named, seq, prev };
            walk.run(&mut check, noted).await?;
            check.heads.push(AuditHead { chain: walk.chain, seq: walk.seq, hash: walk.prev });
            if check.wrong.is_some() {
                return Ok(check);
            }
        }
        if let Some(noted) = noted.filter(|noted| check.heads.iter().all(|h| h.chain != noted.chain)) {
            (check.first_bad, check.wrong) = (Some(noted.seq), Some(Wrong::Head));
        }
        Ok(check)
    }

    /// Every chain that has left a trace, one after the other by an index.
    async fn chains(&self) -> Result<Vec<String>, StoreError> {
        let sql = "select min(chain) as chain from (\
             select min(chain) as chain from audit_tail where chain > $1 \
             union all select min(chain) as chain from audit where chain > $1 \
             union all select min(chain) as chain from audit_checkpoints where chain > $1) as parts";
        let mut chains: Vec<String> = Vec::new();
        loop {
            let last = chains.last().map_or("", String::as_str);
            let next: Option<String> = query(sql).bind(last).fetch_one(self.on()).await?.get("chain")?;
            match next {
                Some(next) => chains.push(next),
                None => return Ok(chains),
            }
        }
    }

    /// Recomputes a chain's checkpoints and gives the newest.
    async fn checkpoints(&self, chain: &str, check: &mut AuditCheck) -> Result<Checkpoint, StoreError> {
        let sql = "select * from audit_checkpoints where chain = $1 and up_to_seq > $2 order by up_to_seq limit $3";
        let mut last = Checkpoint::none();
        loop {
            let rows = query(sql).bind(chain).bind(last.up_to_seq).bind(CHUNK).fetch_all(self.on()).await?;
            if rows.is_empty() {
                return Ok(last);
            }
            for row in &rows {
                let next = Checkpoint::read(row).ok().filter(|next| next.follows(&last, chain));
                let Some(next) = next else {
                    check.first_bad = Some(row.get("up_to_seq")?);
                    check.wrong = Some(Wrong::Checkpoint);
                    return Ok(last);
                };
                check.checkpoints += 1;
                check.removed += next.rows as u64;
                last = next;
            }
        }
    }
}

impl Walk<'_> {
    async fn run(&mut self, check: &mut AuditCheck, noted: Option<&AuditHead>) -> Result<(), StoreError> {
        let sql = format!("select * from {BOTH} where chain = $1 and seq > $2 order by seq limit $3");
        loop {
            let read = query(sqlx::AssertSqlSafe(sql.clone())).bind(self.chain.as_str()).bind(self.seq).bind(CHUNK);
            let mut rows = read.fetch_all(self.reader.on()).await?;
            let full = rows.len() == CHUNK as usize;
            if full {
                // Two rows of one place must not be parted: the last place of a full read is read again with the next.
                let last: i64 = rows[rows.len() - 1].get("seq")?;
                let same = rows.iter().rev().take_while(|r| r.get::<i64>("seq").is_ok_and(|seq| seq == last)).count();
                rows.truncate(rows.len() - same);
            }
            let mut jumped = false;
            for row in &rows {
                let Some(wrong) = self.step(row, noted)? else {
                    check.rows += 1;
                    continue;
                };
                // The retention job may have removed what is being read.
                jumped = matches!(wrong, Wrong::Missing { .. }) && self.jump(check).await?;
                if jumped {
                    break;
                }
                check.first_bad = Some(row.get("seq")?);
                check.bad_at = row.get::<i64>("at").ok().map(TimeMs);
                check.wrong = Some(wrong);
                return Ok(());
            }
            if !full && !jumped {
                break;
            }
        }
        if !self.named {
            (check.first_bad, check.wrong) = (Some(self.from.up_to_seq), Some(Wrong::Checkpoint));
        } else if let Some(noted) = noted.filter(|noted| noted.seq > self.seq) {
            (check.first_bad, check.wrong) = (Some(noted.seq), Some(Wrong::Head));
        }
        Ok(())
    }

    /// Goes on behind a checkpoint that was made meanwhile, if there is one.
    async fn jump(&mut self, check: &mut AuditCheck) -> Result<bool, StoreError> {
        let mut again = AuditCheck::default();
        let newest = self.reader.checkpoints(&self.chain, &mut again).await?;
        if again.wrong.is_some() || newest.up_to_seq <= self.seq {
            return Ok(false);
        }
        check.checkpoints += again.checkpoints;
        check.removed += again.removed;
        (self.seq, self.prev, self.named) = (newest.up_to_seq, newest.up_to_hash, false);
        self.from = newest;
        Ok(true)
    }

    fn step(&mut self, row: &Row, noted: Option<&AuditHead>) -> Result<Option<Wrong>, StoreError> {
        let seq: i64 = row.get("seq")?;
        if seq > self.seq + 1 {
            return Ok(Some(Wrong::Missing { from: self.seq + 1, to: seq - 1 }));
        }
        // A value of a wrong kind is an edit too.
        let Ok(row) = chained(row) else { return Ok(Some(Wrong::Edited)) };
        if row.computed_hash(&self.chain) != row.hash {
            return Ok(Some(place(row, &self.chain).map_or(Wrong::Edited, |belongs_at| Wrong::Swapped { belongs_at })));
        }
        if row.seq != self.seq + 1 || row.prev != self.prev {
            return Ok(Some(Wrong::Foreign));
        }
        if noted.is_some_and(|noted| noted.seq == row.seq && noted.hash != row.hash) {
            return Ok(Some(Wrong::Head));
        }
        if !self.named && row.action == checkpoint::ACTION {
            let details: Option<serde_json::Value> = row.details.and_then(|d| serde_json::from_str(&d).ok());
            self.named = details.is_some_and(|d| d["checkpoint"] == checkpoint::hex(&self.from.hash).as_str());
        }
        (self.seq, self.prev) = (row.seq, row.hash);
        Ok(None)
    }
}

/// The place that a row's hash was made for, when it is another one near by.
fn place(mut row: ChainedRow, chain: &str) -> Option<i64> {
    let here = row.seq;
    (1..=NEAR).flat_map(|n| [here - n, here + n]).find(|seq| {
        row.seq = *seq;
        *seq > 0 && row.computed_hash(chain) == row.hash
    })
}
