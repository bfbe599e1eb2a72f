//! Personal access tokens: created, listed, looked up and revoked.

use std::collections::HashMap;

use hexa_model::{Scopes, TimeMs, TokenId, UserId, UserKey};

use crate::db::{Row, query};
use crate::error::StoreError;
use crate::{Store, Tx, dialect};

/// A token, without itself: only its hash is stored.
#[derive(Clone, Debug)]
pub struct TokenRow {
    /// Key of the row.
    pub key: i64,
    /// Id that the API shows.
    pub id: TokenId,
    /// Public id of the account that owns it.
    pub user: UserId,
    /// What its user calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: TimeMs,
    /// It is dead then; none = never.
    pub expires_at: Option<TimeMs>,
    /// About when it was last used.
    pub last_used_at: Option<TimeMs>,
}

/// A token to be made.
#[derive(Debug)]
pub struct NewToken {
    /// Id that the API will show.
    pub id: TokenId,
    /// The account that owns it.
    pub user: UserKey,
    /// What its user calls it.
    pub name: String,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// What it may be used for.
    pub scopes: Scopes,
    /// The present time, set by the caller.
    pub created_at: TimeMs,
    /// It is dead then; none = never.
    pub expires_at: Option<TimeMs>,
}

const SELECT: &str = "select t.id, t.uid, u.uid as user_uid, t.name, t.scopes, t.created_at, t.expires_at, \
     t.last_used_at from access_tokens t join users u on u.id = t.user_id where t.revoked_at is null and ";

fn token(row: &Row) -> Result<TokenRow, StoreError> {
    let (uid, user, scopes): (String, String, String) = (row.get("uid")?, row.get("user_uid")?, row.get("scopes")?);
    Ok(TokenRow {
        key: row.get("id")?,
        id: TokenId::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("token id {uid:?}")))?,
        user: UserId::parse(&user).ok_or_else(|| StoreError::Corrupt(format!("user id {user:?}")))?,
        name: row.get("name")?,
        scopes: Scopes::parse(&scopes),
        created_at: TimeMs(row.get("created_at")?),
        expires_at: row.time("expires_at")?,
        last_used_at: row.time("last_used_at")?,
    })
}

impl Store {
    /// The token of this hash, unless it was revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} t.hash = $1"));
        query(sql).bind(hash).fetch_optional(self.reader()).await?.as_ref().map(token).transpose()
    }
    /// Those of these tokens that were not revoked, and until when they are good.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn living_tokens(&self, ids: &[TokenId]) -> Result<HashMap<TokenId, Option<TimeMs>>, StoreError> {
        let list: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let rows = self.either(dialect::LIVING_TOKENS).bind(list).fetch_all(self.reader()).await?;
        rows.iter()
            .map(|row| {
                let uid: String = row.get("uid")?;
                let id = TokenId::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("token id {uid:?}")))?;
                Ok((id, row.time("expires_at")?))
            })
            .collect()
    }
    /// A user's tokens that were not revoked, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tokens_of(&self, user: UserKey) -> Result<Vec<TokenRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} t.user_id = $1 order by t.id desc"));
        query(sql).bind(user.0).fetch_all(self.reader()).await?.iter().map(token).collect()
    }
}

impl Tx {
    /// Makes a token.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn insert_token(&mut self, new: &NewToken) -> Result<(), StoreError> {
        let sql = "insert into access_tokens (uid, user_id, name, hash, scopes, created_at, expires_at) \
             values ($1, $2, $3, $4, $5, $6, $7)";
        query(sql)
            .bind(new.id.to_string())
            .bind(new.user.0)
            .bind(&new.name)
            .bind(new.hash)
            .bind(new.scopes.to_text())
            .bind(new.created_at)
            .bind(new.expires_at)
            .execute(self.on())
            .await?;
        Ok(())
    }
    /// Whether a token of this user is there and was not revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_token(&mut self, user: UserKey, id: TokenId) -> Result<bool, StoreError> {
        let sql = "select exists (select 1 from access_tokens where uid = $1 and user_id = $2 \
             and revoked_at is null) as found";
        query(sql).bind(id.to_string()).bind(user.0).fetch_one(self.on()).await?.get("found")
    }
    /// How many tokens of a user were not revoked.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn count_tokens(&mut self, user: UserKey) -> Result<i64, StoreError> {
        let sql = "select count(*) as n from access_tokens where user_id = $1 and revoked_at is null";
        query(sql).bind(user.0).fetch_one(self.on()).await?.get("n")
    }
    /// Revokes a token of a user; false when it is not there or was revoked before.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn revoke_token(&mut self, user: UserKey, id: TokenId, at: TimeMs) -> Result<bool, StoreError> {
        let sql = "update access_tokens set revoked_at = $3 where user_id = $1 and uid = $2 and revoked_at is null";
        Ok(query(sql).bind(user.0).bind(id.to_string()).bind(at.0).execute(self.on()).await? == 1)
    }
    /// Removes tokens that were revoked, or expired, before then; at most `limit`.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn forget_tokens(&mut self, before: TimeMs, limit: u32) -> Result<u64, StoreError> {
        let sql = "delete from access_tokens where id in \
             (select id from access_tokens where revoked_at < $1 or expires_at < $1 limit $2)";
        query(sql).bind(before.0).bind(limit).execute(self.on()).await
    }
    /// Notes that a token is in use.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn touch_token(&mut self, key: i64, at: TimeMs) -> Result<bool, StoreError> {
        let update = query("update access_tokens set last_used_at = $2 where id = $1").bind(key).bind(at.0);
        Ok(update.execute(self.on()).await? == 1)
    }
}
