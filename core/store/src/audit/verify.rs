//! Recomputing the audit: every checkpoint, every row, every chain, and what is wrong with the first that does not fit.

use hexa_model::TimeMs;

use super::checkpoint::{self, Checkpoint};
use super::{AuditReader, BOTH, chained};
use crate::Store;
use crate::chain::{ChainedRow, GENESIS};
use crate::db::{Row, query};
use crate::error::StoreError;

/// Rows, or checkpoints, that are read at a time.
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
        /// The place in the chain that its hash was made for.
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
    /// Name of the chain: the `NODE_ID` of the server that writes it.
    pub chain: String,
    /// Number of its newest row; 0 when it has none.
    pub seq: i64,
    /// Hash (SHA-256) of that row; all zero when there is none.
    pub hash: [u8; 32],
}

/// What became of reading one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainCheck {
    /// The chain's end, as far as it was read.
    pub head: AuditHead,
    /// Rows that were recomputed and fit.
    pub rows: u64,
    /// Checkpoints that were recomputed; 0 when one of them does not fit.
    pub checkpoints: u64,
    /// Rows that were removed under checkpoints.
    pub removed: u64,
    /// The first row (or checkpoint, by the last row it covers) that does not fit.
    pub first_bad: Option<i64>,
    /// What is wrong with it.
    pub wrong: Option<Wrong>,
    /// When it says that it was written.
    pub bad_at: Option<TimeMs>,
    /// The newest noted head whose row was removed under a checkpoint: there is nothing left to compare it with.
    pub uncompared: Option<i64>,
}

impl ChainCheck {
    fn of(chain: String) -> Self {
        let head = AuditHead { chain, seq: 0, hash: GENESIS };
        Self { head, rows: 0, checkpoints: 0, removed: 0, first_bad: None, wrong: None, bad_at: None, uncompared: None }
    }
    fn bad(&mut self, seq: i64, wrong: Wrong) {
        (self.first_bad, self.wrong) = (Some(seq), Some(wrong));
    }
}

/// The result of reading everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditCheck {
    /// Each chain by itself, in the order of their names.
    pub chains: Vec<ChainCheck>,
    /// Rows recomputed, in all chains.
    pub rows: u64,
    /// Checkpoints recomputed, in all chains.
    pub checkpoints: u64,
    /// Rows that were removed under checkpoints, in all chains.
    pub removed: u64,
    /// That of the first chain that does not fit.
    pub first_bad: Option<i64>,
    /// What is wrong with it.
    pub wrong: Option<Wrong>,
    /// When it says that it was written.
    pub bad_at: Option<TimeMs>,
    /// Each chain's end, as far as it was read.
    pub heads: Vec<AuditHead>,
}

impl AuditCheck {
    fn add(&mut self, chain: ChainCheck) {
        self.rows += chain.rows;
        self.checkpoints += chain.checkpoints;
        self.removed += chain.removed;
        if self.wrong.is_none() {
            (self.first_bad, self.wrong, self.bad_at) = (chain.first_bad, chain.wrong, chain.bad_at);
        }
        self.heads.push(chain.head.clone());
        self.chains.push(chain);
    }
}

impl Store {
    /// Reads the whole audit in order and recomputes it.
    ///
    /// # Errors
    /// When the database does not answer; what does not fit is part of the result.
    pub async fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        self.audit_reader().verify(&[]).await
    }
}

/// One chain while it is read.
struct Walk<'a> {
    reader: &'a AuditReader,
    check: ChainCheck,
    /// The heads of all chains that the caller noted.
    noted: &'a [AuditHead],
    from: Checkpoint,
    /// Whether a row of the audit names `from`.
    named: bool,
    seq: i64,
    prev: [u8; 32],
}

impl AuditReader {
    /// Reads the whole audit in order and recomputes it: checkpoints, then rows, chain by chain; what is wrong with one
    /// keeps none of the others from being read. `noted` are heads that somebody has written down elsewhere; only
    /// with one can it be seen that the chain's newest rows were cut off.
    ///
    /// # Errors
    /// When the database does not answer; what does not fit is part of the result.
    pub async fn verify(&self, noted: &[AuditHead]) -> Result<AuditCheck, StoreError> {
        let mut check = AuditCheck::default();
        for chain in self.chains().await? {
            let mut walk = Walk {
                reader: self,
                check: ChainCheck::of(chain),
                noted,
                from: Checkpoint::none(),
                named: true,
                seq: 0,
                prev: GENESIS,
            };
            if walk.checkpoints().await? && walk.nothing_before().await? && walk.noted_before() {
                walk.run().await?;
            }
            let Walk { check: mut chain, seq, prev, .. } = walk;
            (chain.head.seq, chain.head.hash) = (seq, prev);
            check.add(chain);
        }
        for gone in noted.iter().filter(|noted| check.heads.iter().all(|h| h.chain != noted.chain)).collect::<Vec<_>>()
        {
            let mut chain = ChainCheck::of(gone.chain.clone());
            chain.bad(gone.seq, Wrong::Head);
            check.add(chain);
        }
        Ok(check)
    }

    async fn has_checkpoint(&self, chain: &str, up_to: i64, name: &str) -> Result<bool, StoreError> {
        let sql = "select hash from audit_checkpoints where chain = $1 and up_to_seq = $2";
        let row = query(sql).bind(chain).bind(up_to).fetch_optional(self.on()).await?;
        Ok(row.is_some_and(|row| super::hash(&row, "hash").is_ok_and(|hash| checkpoint::hex(&hash) == name)))
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
}

impl Walk<'_> {
    /// Recomputes the chain's checkpoints and begins behind the newest; false when one does not fit.
    async fn checkpoints(&mut self) -> Result<bool, StoreError> {
        let sql = "select * from audit_checkpoints where chain = $1 and up_to_seq > $2 order by up_to_seq limit $3";
        let (mut last, mut count) = (Checkpoint::none(), 0);
        loop {
            let chain = self.check.head.chain.as_str();
            let rows = query(sql).bind(chain).bind(last.up_to_seq).bind(CHUNK).fetch_all(self.reader.on()).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let next = Checkpoint::read(row).ok().filter(|next| next.follows(&last, chain));
                let Some(next) = next else {
                    let seq = row.get("up_to_seq")?;
                    self.check.bad(seq, Wrong::Checkpoint);
                    return Ok(false);
                };
                count += 1;
                last = next;
            }
        }
        // Whatever went before the first one that is left is part of the newest's place.
        (self.check.checkpoints, self.check.removed) = (count, last.up_to_seq as u64);
        (self.seq, self.prev, self.named) = (last.up_to_seq, last.up_to_hash, last.up_to_seq == 0);
        self.from = last;
        Ok(true)
    }

    /// Rows in front of the first place, or under the checkpoint that took their place, were put there by somebody else.
    async fn nothing_before(&mut self) -> Result<bool, StoreError> {
        let sql = format!("select min(seq) as seq from {BOTH} where chain = $1 and seq <= $2");
        let read = query(sqlx::AssertSqlSafe(sql)).bind(self.check.head.chain.as_str()).bind(self.seq);
        let Some(seq) = read.fetch_one(self.reader.on()).await?.get::<Option<i64>>("seq")? else { return Ok(true) };
        self.check.bad(seq, Wrong::Foreign);
        Ok(false)
    }

    /// The heads of this chain that somebody noted.
    fn noted(&self) -> impl Iterator<Item = &AuditHead> {
        self.noted.iter().filter(|head| head.chain == self.check.head.chain)
    }

    /// Compares those that the newest checkpoint stands on, or took away.
    fn noted_before(&mut self) -> bool {
        let (up_to, hash) = (self.from.up_to_seq, self.from.up_to_hash);
        if self.noted().any(|noted| noted.seq == up_to && noted.hash != hash) {
            self.check.bad(up_to, Wrong::Head);
            return false;
        }
        self.check.uncompared = self.noted().map(|noted| noted.seq).filter(|seq| *seq < up_to).max();
        true
    }

    async fn run(&mut self) -> Result<(), StoreError> {
        let sql = format!("select * from {BOTH} where chain = $1 and seq > $2 order by seq limit $3");
        loop {
            let read = query(sqlx::AssertSqlSafe(sql.clone())).bind(self.check.head.chain.as_str());
            let mut rows = read.bind(self.seq).bind(CHUNK).fetch_all(self.reader.on()).await?;
            let full = rows.len() == CHUNK as usize;
            if full {
                // Two rows of one place must not be parted: the last place of a full read is read again with the next.
                let last: i64 = rows[rows.len() - 1].get("seq")?;
                let same = rows.iter().rev().take_while(|r| r.get::<i64>("seq").is_ok_and(|seq| seq == last)).count();
                rows.truncate(rows.len() - same);
            }
            let mut jumped = false;
            for row in &rows {
                let Some((place, wrong)) = self.step(row).await? else {
                    self.check.rows += 1;
                    continue;
                };
                // The retention job may have removed what is being read.
                jumped = matches!(wrong, Wrong::Missing { .. } | Wrong::Checkpoint) && self.jump().await?;
                if jumped {
                    break;
                }
                self.check.bad(place, wrong);
                self.check.bad_at = row.get::<i64>("at").ok().map(TimeMs);
                return Ok(());
            }
            if !full && !jumped {
                break;
            }
        }
        if !self.named {
            self.check.bad(self.from.up_to_seq, Wrong::Checkpoint);
        } else if let Some(noted) = self.noted().filter(|noted| noted.seq > self.seq).map(|noted| noted.seq).min() {
            self.check.bad(noted, Wrong::Head);
        }
        Ok(())
    }

    /// Goes on behind a checkpoint that was made meanwhile, if there is one.
    async fn jump(&mut self) -> Result<bool, StoreError> {
        let Walk { reader, noted, .. } = *self;
        let mut again = Walk {
            reader,
            check: ChainCheck::of(self.check.head.chain.clone()),
            noted,
            from: Checkpoint::none(),
            named: true,
            seq: 0,
            prev: GENESIS,
        };
        if !again.checkpoints().await? || again.seq <= self.seq {
            return Ok(false);
        }
        again.check.rows = self.check.rows;
        *self = again;
        Ok(true)
    }

    /// The next row; where something does not fit, and what.
    async fn step(&mut self, row: &Row) -> Result<Option<(i64, Wrong)>, StoreError> {
        let (seq, chain) = (row.get::<i64>("seq")?, self.check.head.chain.as_str());
        if seq > self.seq + 1 {
            return Ok(Some((seq, Wrong::Missing { from: self.seq + 1, to: seq - 1 })));
        }
        // A value of a wrong kind is an edit too.
        let Ok(row) = chained(row) else { return Ok(Some((seq, Wrong::Edited))) };
        if row.computed_hash(chain) != row.hash {
            let wrong = place(row, chain).map_or(Wrong::Edited, |belongs_at| Wrong::Swapped { belongs_at });
            return Ok(Some((seq, wrong)));
        }
        if row.seq != self.seq + 1 || row.prev != self.prev {
            return Ok(Some((seq, Wrong::Foreign)));
        }
        if self.noted().any(|noted| noted.seq == row.seq && noted.hash != row.hash) {
            return Ok(Some((seq, Wrong::Head)));
        }
        if row.action == checkpoint::ACTION
            && let Some((up_to, name)) = checkpoint::name_in(row.details.as_deref())
        {
            // A checkpoint stays as long as the row that names it.
            if !self.reader.has_checkpoint(chain, up_to, &name).await? {
                return Ok(Some((up_to, Wrong::Checkpoint)));
            }
            self.named |= name == checkpoint::hex(&self.from.hash);
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
