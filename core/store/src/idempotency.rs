//! Requests with an idempotency key, and how they ended.

use hexa_model::{CommandId, IdempotencyKey, TimeMs};

use crate::db::query;
use crate::error::StoreError;
use crate::{Store, Tx};

/// Keys of one caller at the same time: they are kept for a day, and cost their caller no disk without end.
pub(crate) const MAX_KEYS: i64 = 10_000;

/// A key that was used.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Of what was asked for.
    pub fingerprint: [u8; 32],
    /// Of the first request.
    pub request_id: String,
    /// The relay command that it became; its answer is in the audit.
    pub command: Option<CommandId>,
    /// The sealed answer; none for a command, whose answer is in the audit.
    pub answer: Option<Vec<u8>>,
}

impl Store {
    /// What became of the request with this key; none when there was none, or it is too long ago.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn kept_answer(&self, scope: &[u8; 32], key: &str, now: TimeMs) -> Result<Option<Kept>, StoreError> {
        let sql = "select fingerprint, request_id, command_id, answer from idempotency \
             where scope = $1 and key = $2 and expires_at > $3";
        let found = query(sql).bind(scope).bind(key).bind(now).fetch_optional(self.reader()).await?;
        let Some(row) = found else { return Ok(None) };
        let corrupt = |what: &str| StoreError::Corrupt(format!("idempotency.{what}"));
        let fingerprint: Vec<u8> = row.get("fingerprint")?;
        let command = match row.get::<Option<Vec<u8>>>("command_id")? {
            None => None,
            Some(bytes) => {
                let bytes: [u8; 16] = bytes.try_into().map_err(|_| corrupt("command_id"))?;
                Some(CommandId(uuid::Uuid::from_bytes(bytes)))
            }
        };
        Ok(Some(Kept {
            fingerprint: fingerprint.try_into().map_err(|_| corrupt("fingerprint"))?,
            request_id: row.get("request_id")?,
            command,
            answer: row.get("answer")?,
        }))
    }
}

/// The key of a command: it is on the disk with the command's id before the frame is sent, so that
/// whoever asks again after a crash hears of this command and none is sent a second time.
#[derive(Clone, Debug)]
pub struct CommandClaim {
    /// The key, and whose it is.
    pub claim: IdempotencyKey,
    /// What it stands for.
    pub command: CommandId,
}

/// A key that is over is taken over, with everything of the one that takes it; one that is not refuses its row.
macro_rules! unless_used {
    ($insert:literal $(, $and:literal)?) => {
        concat!(
            $insert,
            " on conflict (scope, key) do update set fingerprint = excluded.fingerprint, \
             request_id = excluded.request_id, command_id = excluded.command_id, answer = excluded.answer, \
             created_at = excluded.created_at, expires_at = excluded.expires_at \
             where idempotency.expires_at <= excluded.created_at"
            $(, $and)?
        )
    };
}

/// Takes a key. Parameters in column order.
pub(crate) const TAKE_KEY: &str = unless_used!(
    "insert into idempotency (scope, key, fingerprint, request_id, command_id, answer, created_at, expires_at) \
     values ($1, $2, $3, $4, $5, $6, $7, $8)"
);

/// Takes the keys of many commands, as PostgreSQL can, and gives those that were taken. Arrays in column order, without the
/// answers, which commands have none of.
pub(crate) const TAKE_KEYS: &str = unless_used!(
    "insert into idempotency (scope, key, fingerprint, request_id, command_id, created_at, expires_at) \
     select * from unnest($1::bytea[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::bigint[], $7::bigint[])",
    " returning scope, key"
);

/// How many keys a caller has.
pub(crate) const COUNT_KEYS: &str = "select count(*) as n from idempotency where scope = $1";

/// The key was used.
pub(crate) fn used() -> StoreError {
    StoreError::Conflict("idempotency.key".into())
}

/// Its caller has too many.
pub(crate) fn full() -> StoreError {
    StoreError::Conflict("idempotency.full".into())
}

impl Tx {
    /// Takes the key for an answer.
    ///
    /// # Errors
    /// `Conflict("idempotency.key")` when it was used; `Conflict("idempotency.full")` when its caller has too many.
    pub async fn keep_answer(&mut self, claim: &IdempotencyKey, answer: &[u8]) -> Result<(), StoreError> {
        if claim.counted {
            let count: i64 = query(COUNT_KEYS).bind(claim.scope).fetch_one(self.on()).await?.get("n")?;
            if count >= MAX_KEYS {
                return Err(full());
            }
        }
        let taken = query(TAKE_KEY)
            .bind(claim.scope)
            .bind(&claim.key)
            .bind(claim.fingerprint)
            .bind(&claim.request_id)
            .bind(None::<Vec<u8>>)
            .bind(Some(answer.to_vec()))
            .bind(claim.at)
            .bind(claim.expires_at)
            .execute(self.on())
            .await?;
        if taken == 1 { Ok(()) } else { Err(used()) }
    }

    /// Gives a key back that came to nothing.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn release_key(&mut self, claim: &IdempotencyKey) -> Result<bool, StoreError> {
        let delete = query("delete from idempotency where scope = $1 and key = $2 and fingerprint = $3");
        Ok(delete.bind(claim.scope).bind(&claim.key).bind(claim.fingerprint).execute(self.on()).await? == 1)
    }

    /// Removes keys that are over; at most `limit`.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn forget_keys(&mut self, now: TimeMs, limit: u32) -> Result<u64, StoreError> {
        let sql = "delete from idempotency where id in (select id from idempotency where expires_at <= $1 limit $2)";
        query(sql).bind(now).bind(limit).execute(self.on()).await
    }
}
