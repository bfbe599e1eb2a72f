//! Times that lie beyond what can have been: they were written while the clock was ahead, and it has been set back since.
//!
//! Idempotency keys are none of them: one that is remembered for too long harms nobody, and one that is forgotten too early
//! sends a command twice. Those of a new server's first minutes get their end when it is known what time it is.

use std::time::Duration;

use hexa_model::TimeMs;

use crate::db::query;
use crate::error::StoreError;
use crate::{Store, Tx};

/// Which times cannot be, and what is put in their place.
#[derive(Clone, Copy, Debug)]
pub struct SetRight {
    /// Nothing can have been made, or have happened, after this.
    pub newest: TimeMs,
    /// What time it is.
    pub now: TimeMs,
    /// How long the former token of a device is good, of which only the end is kept.
    pub rotation_grace: Duration,
    /// How long a session goes on without use, if it does not end before.
    pub refresh_idle: Duration,
    /// How long an idempotency key is kept.
    pub key_lifetime: Duration,
    /// How long the owner's word is good that a device may come in anew, of which only the end is kept.
    pub reset_lifetime: Duration,
}

/// The end of an idempotency key that is to be kept for a while after it is known what time it is: the year 9999.
pub const NOT_KNOWN_YET: TimeMs = TimeMs(253_402_300_799_000);

impl SetRight {
    /// A time that lies this long after another one cannot be later than the first; the second is what it becomes.
    fn bounds(&self, rule: &Rule) -> (TimeMs, TimeMs) {
        let lasts = match rule.lasts {
            Lasts::NotKnownYet => return (TimeMs(NOT_KNOWN_YET.0 - 1), self.now.plus(self.key_lifetime)),
            Lasts::Not | Lasts::RefreshIdle => Duration::ZERO,
            Lasts::RotationGrace => self.rotation_grace,
        };
        (self.newest.plus(lasts), self.now.plus(lasts))
    }
}

/// How long after something was made the time lies that is compared.
enum Lasts {
    Not,
    /// Not compared, but the end is made of it: `$4`.
    RefreshIdle,
    /// As [`NOT_KNOWN_YET`] has it.
    NotKnownYet,
    RotationGrace,
}

/// Rows with a time later than `$1` are looked for, at most `$2` behind the row `$3`; then the row `$1` gets the time `$2`, if
/// its own is still later than `$3`.
struct Rule {
    lasts: Lasts,
    find: &'static str,
    set: &'static str,
}

const fn rule(find: &'static str, set: &'static str) -> Rule {
    Rule { lasts: Lasts::Not, find, set }
}

const ROWS: [Rule; 14] = [
    Rule {
        lasts: Lasts::NotKnownYet,
        find: "select id from idempotency where expires_at > $1 and id > $3 order by id limit $2",
        set: "update idempotency set expires_at = $2 where id = $1 and expires_at > $3",
    },
    // What ends so long after it was made does so from now on.
    rule(
        "select id from refresh_families where created_at > $1 and id > $3 order by id limit $2",
        "update refresh_families set expires_at = expires_at - created_at + $2, created_at = $2 \
         where id = $1 and created_at > $3",
    ),
    // The end of the session, which has been put right before, may have cut it off.
    Rule {
        lasts: Lasts::RefreshIdle,
        find: "select id from refresh_tokens where issued_at > $1 and id > $3 order by id limit $2",
        set: "update refresh_tokens set issued_at = $2, expires_at = (select case when f.expires_at < $4 then f.expires_at \
              else $4 end from refresh_families f where f.id = refresh_tokens.family_id) where id = $1 and issued_at > $3",
    },
    rule(
        "select id from access_tokens where created_at > $1 and id > $3 order by id limit $2",
        "update access_tokens set expires_at = expires_at - created_at + $2, created_at = $2 \
         where id = $1 and created_at > $3",
    ),
    rule(
        "select id from invitations where created_at > $1 and id > $3 order by id limit $2",
        "update invitations set expires_at = expires_at - created_at + $2, created_at = $2 \
         where id = $1 and created_at > $3",
    ),
    rule(
        "select id from devices where claim_made_at > $1 and id > $3 order by id limit $2",
        "update devices set claim_expires_at = claim_expires_at - claim_made_at + $2, claim_made_at = $2 \
         where id = $1 and claim_made_at > $3",
    ),
    Rule {
        lasts: Lasts::RotationGrace,
        find: "select id from devices where previous_token_until > $1 and id > $3 order by id limit $2",
        set: "update devices set previous_token_until = $2 where id = $1 and previous_token_until > $3",
    },
    // What happened, and stands in the way of something for a while, or is kept for a while.
    rule(
        "select id from users where failed_at > $1 and id > $3 order by id limit $2",
        "update users set failed_at = $2 where id = $1 and failed_at > $3",
    ),
    rule(
        "select id from refresh_tokens where spent_at > $1 and id > $3 order by id limit $2",
        "update refresh_tokens set spent_at = $2 where id = $1 and spent_at > $3",
    ),
    rule(
        "select id from refresh_families where revoked_at > $1 and id > $3 order by id limit $2",
        "update refresh_families set revoked_at = $2 where id = $1 and revoked_at > $3",
    ),
    rule(
        "select id from access_tokens where revoked_at > $1 and id > $3 order by id limit $2",
        "update access_tokens set revoked_at = $2 where id = $1 and revoked_at > $3",
    ),
    rule(
        "select id from access_tokens where last_used_at > $1 and id > $3 order by id limit $2",
        "update access_tokens set last_used_at = $2 where id = $1 and last_used_at > $3",
    ),
    rule(
        "select id from invitations where ended_at > $1 and id > $3 order by id limit $2",
        "update invitations set ended_at = $2 where id = $1 and ended_at > $3",
    ),
    rule(
        "select id from grants where ended_at > $1 and id > $3 order by id limit $2",
        "update grants set ended_at = $2 where id = $1 and ended_at > $3",
    ),
];

/// The owner's word is taken away: it is given again in a moment. Other settings hold other texts.
const RESETS: &str = "select name from settings where case when name like 'reset:%' then cast(value as bigint) end > $1 \
     and name > $3 order by name limit $2";

/// How many kinds of times there are.
pub const RULES: usize = ROWS.len() + 1;
/// The kind of [`NOT_KNOWN_YET`], the only one that is not a wrong time.
pub const KEYS: usize = 0;

/// The place of a row among those of its kind.
#[derive(Clone, Debug)]
pub struct Place(Row);

#[derive(Clone, Debug)]
enum Row {
    Id(i64),
    Reset(String),
}

/// Rows of one kind with times that cannot be.
#[derive(Debug)]
pub struct Beyond {
    rule: usize,
    rows: Vec<Row>,
}

impl Beyond {
    /// Behind which the next ones are; none when there was none.
    pub fn last(&self) -> Option<Place> {
        self.rows.last().cloned().map(Place)
    }
}

impl Store {
    /// At most `limit` rows with times that cannot be, of the kind `rule` (less than [`RULES`]) and behind a place. Read
    /// beside the writers: the whole table is looked through once.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn beyond(
        &self,
        rule: usize,
        by: &SetRight,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Beyond, StoreError> {
        let find = if let Some(kind) = ROWS.get(rule) {
            let after = if let Some(Place(Row::Id(id))) = after { id } else { i64::MIN };
            query(kind.find).bind(by.bounds(kind).0).bind(limit).bind(after)
        } else {
            let after = if let Some(Place(Row::Reset(name))) = after { name } else { String::new() };
            query(RESETS).bind(by.newest.plus(by.reset_lifetime)).bind(limit).bind(after)
        };
        let mut rows = Vec::new();
        for row in find.fetch_all(self.reader()).await? {
            rows.push(if rule < ROWS.len() { Row::Id(row.get("id")?) } else { Row::Reset(row.get("name")?) });
        }
        Ok(Beyond { rule, rows })
    }
}

impl Tx {
    /// Puts times in the place of those that cannot be; gives how many.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn set_right(&mut self, beyond: &Beyond, by: &SetRight) -> Result<u64, StoreError> {
        let mut changed = 0;
        for row in &beyond.rows {
            changed += match (row, ROWS.get(beyond.rule)) {
                (Row::Id(id), Some(kind)) => {
                    let (newest, now) = by.bounds(kind);
                    let set = query(kind.set).bind(*id).bind(now).bind(newest);
                    let set = match kind.lasts {
                        Lasts::RefreshIdle => set.bind(now.plus(by.refresh_idle)),
                        _ => set,
                    };
                    set.execute(self.on()).await?
                }
                (Row::Reset(name), _) => u64::from(self.take_setting(name).await?.is_some()),
                (Row::Id(_), None) => 0,
            };
        }
        Ok(changed)
    }
}
