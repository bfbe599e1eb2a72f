//! Refresh families and their tokens.

use std::collections::HashMap;

use hexa_model::{SessionId, TimeMs, UserKey};

use crate::db::{Executor, query};
use crate::error::StoreError;
use crate::{Store, Tx, dialect};

/// A session to begin.
#[derive(Debug)]
pub struct NewFamily {
    /// Id that the API will show.
    pub id: SessionId,
    /// The account that signs in.
    pub user: UserKey,
    /// The present time, set by the caller.
    pub created_at: TimeMs,
    /// It ends then, used or not.
    pub expires_at: TimeMs,
    /// For the session list.
    pub user_agent: Option<String>,
    /// For the session list.
    pub ip: Option<String>,
}

/// A refresh token with its family.
#[derive(Clone, Debug)]
pub struct RefreshRow {
    /// Key of the row.
    pub id: i64,
    /// Key of the family's row.
    pub family: i64,
    /// The account that is signed in.
    pub user: UserKey,
    /// The family's id that the API shows.
    pub family_id: SessionId,
    /// When it was issued.
    pub issued_at: TimeMs,
    /// Until then it may be spent.
    pub expires_at: TimeMs,
    /// When it was spent.
    pub spent_at: Option<TimeMs>,
    /// The token it was spent for.
    pub successor: Option<i64>,
    /// SHA-256 of the successor.
    pub successor_hash: Option<[u8; 32]>,
    /// Whether that one was spent in turn.
    pub successor_spent: bool,
    /// When the family ends, however often it is renewed.
    pub family_expires_at: TimeMs,
    /// When the family was revoked.
    pub family_revoked_at: Option<TimeMs>,
}

/// A living session, for the list of its user.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Id that the API shows.
    pub id: SessionId,
    /// When the account signed in.
    pub created_at: TimeMs,
    /// When its token was last renewed.
    pub last_used_at: TimeMs,
    /// It ends then, unless it is renewed before or its family ends.
    pub expires_at: TimeMs,
    /// `User-Agent` of the sign-in.
    pub user_agent: Option<String>,
    /// Client address of the sign-in.
    pub ip: Option<String>,
}

fn session_id(row: &crate::db::Row) -> Result<SessionId, StoreError> {
    let uid: String = row.get("uid")?;
    SessionId::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("session id {uid:?}")))
}

impl Store {
    /// A user's living sessions, the last used first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sessions_of(&self, user: UserKey, now: TimeMs) -> Result<Vec<SessionRow>, StoreError> {
        let sql = "select f.uid, f.created_at, max(t.issued_at) as last_used_at, max(t.expires_at) as ends_at, \
             f.user_agent, f.ip from refresh_families f join refresh_tokens t on t.family_id = f.id \
             where f.user_id = $1 and f.revoked_at is null and f.expires_at > $2 and t.spent_at is null \
             and t.expires_at > $2 group by f.id, f.uid, f.created_at, f.user_agent, f.ip order by last_used_at desc";
        let rows = query(sql).bind(user.0).bind(now.0).fetch_all(self.reader()).await?;
        rows.iter()
            .map(|row| {
                Ok(SessionRow {
                    id: session_id(row)?,
                    created_at: TimeMs(row.get("created_at")?),
                    last_used_at: TimeMs(row.get("last_used_at")?),
                    expires_at: TimeMs(row.get("ends_at")?),
                    user_agent: row.get("user_agent")?,
                    ip: row.get("ip")?,
                })
            })
            .collect()
    }
    /// Addresses that the user signed in from since then, the last ones, each once.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn places_of(&self, user: UserKey, since: TimeMs) -> Result<Vec<String>, StoreError> {
        let sql = "select ip, max(created_at) as last from refresh_families where user_id = $1 and ip is not null \
             and created_at > $2 group by ip order by last desc limit 1000";
        let rows = query(sql).bind(user.0).bind(since.0).fetch_all(self.reader()).await?;
        rows.iter().map(|row| row.get("ip")).collect()
    }
    /// Whose session a refresh token belongs to, and whether it may still be spent or is known as spent: looked at
    /// before anything waits for its turn to write.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn refresh_known(&self, hash: &[u8; 32], now: TimeMs) -> Result<bool, StoreError> {
        let sql = "select exists (select 1 from refresh_tokens t join refresh_families f on f.id = t.family_id \
             where t.hash = $1 and f.revoked_at is null and f.expires_at > $2 and t.expires_at > $2) as found";
        query(sql).bind(hash.to_vec()).bind(now.0).fetch_one(self.reader()).await?.get("found")
    }
    /// Those of these sessions that go on, and until when they do if nobody renews them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn living_sessions(
        &self,
        ids: &[SessionId],
        now: TimeMs,
    ) -> Result<HashMap<SessionId, TimeMs>, StoreError> {
        let list: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let rows = self.either(dialect::LIVING_SESSIONS).bind(list).bind(now.0).fetch_all(self.reader()).await?;
        rows.iter()
            .map(|row| {
                let (family, token): (i64, i64) = (row.get("expires_at")?, row.get("ends_at")?);
                Ok((session_id(row)?, TimeMs(family.min(token))))
            })
            .collect()
    }
    /// Whether the session exists and was not revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn family_active(&self, id: SessionId) -> Result<bool, StoreError> {
        let sql = "select exists (select 1 from refresh_families where uid = $1 and revoked_at is null) as found";
        query(sql).bind(id.to_string()).fetch_one(self.reader()).await?.get("found")
    }
}

/// Finds a token by its hash.
async fn refresh_by_hash(hash: &[u8; 32], on: Executor<'_>) -> Result<Option<RefreshRow>, StoreError> {
    let sql = "select t.id, t.family_id, f.user_id, f.uid, t.issued_at, t.expires_at, t.spent_at, t.successor_id, \
         s.hash as successor_hash, s.spent_at is not null as successor_spent, f.expires_at as family_expires_at, f.revoked_at \
         from refresh_tokens t join refresh_families f on f.id = t.family_id \
         left join refresh_tokens s on s.id = t.successor_id where t.hash = $1";
    let Some(row) = query(sql).bind(hash.to_vec()).fetch_optional(on).await? else {
        return Ok(None);
    };
    let uid: String = row.get("uid")?;
    Ok(Some(RefreshRow {
        id: row.get("id")?,
        family: row.get("family_id")?,
        user: UserKey(row.get("user_id")?),
        family_id: SessionId::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("session id {uid:?}")))?,
        issued_at: TimeMs(row.get("issued_at")?),
        expires_at: TimeMs(row.get("expires_at")?),
        spent_at: row.time("spent_at")?,
        successor: row.get("successor_id")?,
        successor_hash: row.get::<Option<Vec<u8>>>("successor_hash")?.and_then(|hash| hash.try_into().ok()),
        successor_spent: row.get("successor_spent")?,
        family_expires_at: TimeMs(row.get("family_expires_at")?),
        family_revoked_at: row.time("revoked_at")?,
    }))
}

impl Store {
    /// Finds a refresh token by its hash, before anything is written because of it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn refresh_by_hash(&self, hash: &[u8; 32]) -> Result<Option<RefreshRow>, StoreError> {
        refresh_by_hash(hash, self.reader()).await
    }
}

impl Tx {
    /// Whether a session of this user is there and was not revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_session(&mut self, user: UserKey, id: SessionId) -> Result<bool, StoreError> {
        let sql = "select exists (select 1 from refresh_families where uid = $1 and user_id = $2 \
             and revoked_at is null) as found";
        query(sql).bind(id.to_string()).bind(user.0).fetch_one(self.on()).await?.get("found")
    }
    /// Begins a family; gives its row.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn insert_family(&mut self, new: &NewFamily) -> Result<i64, StoreError> {
        let row = query(
            "insert into refresh_families (uid, user_id, created_at, expires_at, user_agent, ip) \
             values ($1, $2, $3, $4, $5, $6) returning id",
        )
        .bind(new.id.to_string())
        .bind(new.user.0)
        .bind(new.created_at.0)
        .bind(new.expires_at.0)
        .bind(&new.user_agent)
        .bind(&new.ip)
        .fetch_one(self.on())
        .await?;
        row.get("id")
    }

    /// Adds a token to a family; gives its row.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn insert_refresh(
        &mut self,
        family: i64,
        hash: &[u8; 32],
        issued_at: TimeMs,
        expires_at: TimeMs,
    ) -> Result<i64, StoreError> {
        let sql = "insert into refresh_tokens (family_id, hash, issued_at, expires_at) values ($1, $2, $3, $4) \
             returning id";
        let insert = query(sql).bind(family).bind(hash.to_vec()).bind(issued_at.0).bind(expires_at.0);
        insert.fetch_one(self.on()).await?.get("id")
    }

    /// Finds a token by its hash.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn refresh_by_hash(&mut self, hash: &[u8; 32]) -> Result<Option<RefreshRow>, StoreError> {
        refresh_by_hash(hash, self.on()).await
    }

    /// Removes a session's spent tokens but the newest so many, which end at `newest`.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn forget_spent(&mut self, family: i64, newest: i64, keep: u32) -> Result<u64, StoreError> {
        let sql = "delete from refresh_tokens where family_id = $1 and spent_at is not null and id <= \
             (select id from refresh_tokens where family_id = $1 and spent_at is not null and id <= $2 \
             order by id desc limit 1 offset $3)";
        query(sql).bind(family).bind(newest).bind(keep).execute(self.on()).await
    }

    /// Spends a token for its successor, if it is not spent yet.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn spend_refresh(&mut self, id: i64, successor: i64, at: TimeMs) -> Result<bool, StoreError> {
        let sql = "update refresh_tokens set spent_at = $3, successor_id = $2 where id = $1 and spent_at is null";
        let update = query(sql).bind(id).bind(successor).bind(at.0);
        Ok(update.execute(self.on()).await? == 1)
    }

    /// Puts another successor into a lost one's place.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn replace_successor(&mut self, id: i64, successor: i64) -> Result<bool, StoreError> {
        let update = query("update refresh_tokens set successor_id = $2 where id = $1").bind(id).bind(successor);
        Ok(update.execute(self.on()).await? == 1)
    }

    /// Removes a token that was never used.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn delete_refresh(&mut self, id: i64) -> Result<bool, StoreError> {
        let delete = query("delete from refresh_tokens where id = $1").bind(id);
        Ok(delete.execute(self.on()).await? == 1)
    }

    /// Ends a family; false when it was ended before.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn revoke_family(&mut self, family: i64, at: TimeMs) -> Result<bool, StoreError> {
        let sql = "update refresh_families set revoked_at = $2 where id = $1 and revoked_at is null";
        Ok(query(sql).bind(family).bind(at.0).execute(self.on()).await? == 1)
    }

    /// Ends one session of a user; false when it is not there or ended before.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn revoke_session(&mut self, user: UserKey, id: SessionId, at: TimeMs) -> Result<bool, StoreError> {
        let sql = "update refresh_families set revoked_at = $3 where user_id = $1 and uid = $2 and revoked_at is null";
        Ok(query(sql).bind(user.0).bind(id.to_string()).bind(at.0).execute(self.on()).await? == 1)
    }

    /// Ends every session of a user but one, also those whose time seems to be over: a clock that is ahead for a moment
    /// must leave none that lives on. Gives those that ended.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn revoke_sessions_of(
        &mut self,
        user: UserKey,
        except: Option<SessionId>,
        at: TimeMs,
    ) -> Result<Vec<SessionId>, StoreError> {
        let sql = "update refresh_families set revoked_at = $3 where user_id = $1 and uid <> $2 and revoked_at is null \
             returning uid";
        let except = except.map(|id| id.to_string()).unwrap_or_default();
        let rows = query(sql).bind(user.0).bind(except).bind(at.0).fetch_all(self.on()).await?;
        rows.iter().map(session_id).collect()
    }

    /// Ends the sessions of a user but for the `keep` that were used last; gives those that ended.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn revoke_idlest(&mut self, user: UserKey, keep: u32, at: TimeMs) -> Result<Vec<SessionId>, StoreError> {
        let sql = "update refresh_families set revoked_at = $3 where id in (select f.id from refresh_families f \
             where f.user_id = $1 and f.revoked_at is null and f.expires_at > $3 order by \
             (select max(t.issued_at) from refresh_tokens t where t.family_id = f.id) desc, f.id desc \
             limit 1000 offset $2) returning uid";
        let rows = query(sql).bind(user.0).bind(keep).bind(at.0).fetch_all(self.on()).await?;
        rows.iter().map(session_id).collect()
    }

    /// Removes sessions that ended before then, first their tokens, at most `limit` rows in all; gives how many. A session
    /// may have any number of tokens, so that one statement for both could take any time.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn forget_sessions(&mut self, before: TimeMs, limit: u32) -> Result<u64, StoreError> {
        let tokens = "delete from refresh_tokens where id in (select t.id from refresh_families f \
             join refresh_tokens t on t.family_id = f.id where f.expires_at < $1 or f.revoked_at < $1 limit $2)";
        let gone = query(tokens).bind(before.0).bind(limit).execute(self.on()).await?;
        if gone >= u64::from(limit) {
            return Ok(gone);
        }
        let families = "delete from refresh_families where id in (select f.id from refresh_families f \
             where (f.expires_at < $1 or f.revoked_at < $1) \
             and not exists (select 1 from refresh_tokens t where t.family_id = f.id) limit $2)";
        Ok(gone + query(families).bind(before.0).bind(limit).execute(self.on()).await?)
    }
}
