//! Invitations to make an account.

use hexa_model::{InvitationId, InvitationState, TimeMs, UserId, UserKey};

use crate::db::{Row, query};
use crate::error::StoreError;
use crate::{PersonRow, Store, Tx};

/// An invitation, without its token: only its hash is stored.
#[derive(Clone, Debug)]
pub struct InvitationRow {
    /// Key of the row.
    pub key: i64,
    /// Id that the API shows.
    pub id: InvitationId,
    /// The one e-mail that may be registered with it, in the form in which accounts keep theirs; none = any.
    pub email: Option<String>,
    /// What its maker wrote beside it.
    pub note: Option<String>,
    /// The admin who created it.
    pub maker: PersonRow,
    /// Whether they are an active admin by now.
    pub maker_stands: bool,
    /// When it was made.
    pub created_at: TimeMs,
    /// It is good for nothing from then on.
    pub expires_at: TimeMs,
    /// When and how it ended, once that was written down.
    pub ended: Option<(TimeMs, InvitationState)>,
    /// The account that was made with it.
    pub user: Option<PersonRow>,
}

impl InvitationRow {
    /// What it is good for at this time.
    pub fn state(&self, now: TimeMs) -> InvitationState {
        match self.ended {
            Some((_, how)) => how,
            None if self.expires_at <= now => InvitationState::Expired,
            None if !self.maker_stands => InvitationState::Revoked,
            None => InvitationState::Open,
        }
    }
}

/// An invitation to be made.
#[derive(Debug)]
pub struct NewInvitation {
    /// Id that the API will show.
    pub id: InvitationId,
    /// SHA-256 of its token.
    pub hash: [u8; 32],
    /// The admin who creates it.
    pub maker: UserKey,
    /// The one e-mail that may be registered with it.
    pub email: Option<String>,
    /// What its maker wrote beside it.
    pub note: Option<String>,
    /// The present time, set by the caller.
    pub created_at: TimeMs,
    /// It is good for nothing from then on.
    pub expires_at: TimeMs,
}

/// Which invitations an admin wants to see.
#[derive(Clone, Debug)]
pub struct InvitationFilter {
    /// Only in this state.
    pub state: Option<InvitationState>,
    /// What time it is.
    pub now: TimeMs,
    /// Only rows older than this one: the cursor of the page before.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

const SELECT: &str = "select i.id, i.uid, i.email, i.note, i.created_at, i.expires_at, i.ended_at, i.ended_why, \
     m.uid as maker_uid, m.email as maker_email, m.name as maker_name, m.active as maker_active, m.role as maker_role, \
     u.uid as user_uid, u.email as user_email, u.name as user_name \
     from invitations i join users m on m.id = i.maker_id left join users u on u.id = i.user_id where ";

fn user_id(uid: &str) -> Result<UserId, StoreError> {
    UserId::parse(uid).ok_or_else(|| StoreError::Corrupt(format!("user id {uid:?}")))
}

fn invitation(row: &Row) -> Result<InvitationRow, StoreError> {
    let (uid, maker): (String, String) = (row.get("uid")?, row.get("maker_uid")?);
    let (active, role): (bool, String) = (row.get("maker_active")?, row.get("maker_role")?);
    let state = |text: String| {
        InvitationState::parse(&text).ok_or_else(|| StoreError::Corrupt(format!("end of an invitation {text:?}")))
    };
    let ended_why = row.get::<Option<String>>("ended_why")?.map(state).transpose()?;
    let user = match row.get::<Option<String>>("user_uid")? {
        None => None,
        Some(uid) => Some(PersonRow { id: user_id(&uid)?, email: row.get("user_email")?, name: row.get("user_name")? }),
    };
    Ok(InvitationRow {
        key: row.get("id")?,
        id: InvitationId::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("invitation id {uid:?}")))?,
        email: row.get("email")?,
        note: row.get("note")?,
        maker: PersonRow { id: user_id(&maker)?, email: row.get("maker_email")?, name: row.get("maker_name")? },
        maker_stands: active && role == "admin",
        created_at: TimeMs(row.get("created_at")?),
        expires_at: TimeMs(row.get("expires_at")?),
        ended: row.time("ended_at")?.zip(ended_why),
        user,
    })
}

impl Store {
    /// The invitation with a token of this hash.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn invitation_by_hash(&self, hash: &[u8; 32]) -> Result<Option<InvitationRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} i.hash = $1"));
        query(sql).bind(hash).fetch_optional(self.reader()).await?.as_ref().map(invitation).transpose()
    }
    /// A page of invitations, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list_invitations(&self, filter: &InvitationFilter) -> Result<Vec<InvitationRow>, StoreError> {
        // As `InvitationRow::state` says.
        let sql = sqlx::AssertSqlSafe(format!(
            "{SELECT} i.id < $1 and ($2 = '' or $2 = coalesce(i.ended_why, case when i.expires_at <= $3 then 'expired' \
             when not m.active or m.role <> 'admin' then 'revoked' else 'open' end)) order by i.id desc limit $4"
        ));
        let rows = query(sql)
            .bind(filter.after.unwrap_or(i64::MAX))
            .bind(filter.state.map_or("", InvitationState::as_str))
            .bind(filter.now)
            .bind(filter.limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(invitation).collect()
    }
    /// Whether one is over at this time and that was not written down.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_expired_invitations(&self, now: TimeMs) -> Result<bool, StoreError> {
        let sql = "select exists (select 1 from invitations where ended_at is null and expires_at <= $1) as found";
        query(sql).bind(now).fetch_one(self.reader()).await?.get("found")
    }
}

impl Tx {
    /// Makes an invitation; gives its row.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn insert_invitation(&mut self, new: &NewInvitation) -> Result<i64, StoreError> {
        let sql = "insert into invitations (uid, hash, maker_id, email, note, created_at, expires_at) \
             values ($1, $2, $3, $4, $5, $6, $7) returning id";
        let inserted = query(sql)
            .bind(new.id.to_string())
            .bind(new.hash)
            .bind(new.maker.0)
            .bind(&new.email)
            .bind(&new.note)
            .bind(new.created_at)
            .bind(new.expires_at)
            .fetch_one(self.on())
            .await?;
        inserted.get("id")
    }
    /// The invitation with a token of this hash, read for this transaction.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn invitation_by_hash(&mut self, hash: &[u8; 32]) -> Result<Option<InvitationRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} i.hash = $1"));
        query(sql).bind(hash).fetch_optional(self.on()).await?.as_ref().map(invitation).transpose()
    }
    /// How many are open at this time, of makers who may still invite.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_open_invitations(&mut self, now: TimeMs) -> Result<i64, StoreError> {
        let sql = "select count(*) as n from invitations i join users m on m.id = i.maker_id \
             where i.ended_at is null and i.expires_at > $1 and m.active and m.role = 'admin'";
        query(sql).bind(now).fetch_one(self.on()).await?.get("n")
    }
    /// Notes that an account was made with it; false when it had ended before.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn use_invitation(&mut self, key: i64, user: UserKey, at: TimeMs) -> Result<bool, StoreError> {
        let sql = "update invitations set ended_at = $3, ended_why = 'used', user_id = $2 \
             where id = $1 and ended_at is null";
        Ok(query(sql).bind(key).bind(user.0).bind(at).execute(self.on()).await? == 1)
    }
    /// Takes one back; false when it is not there, or not open at this time.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn revoke_invitation(&mut self, id: InvitationId, now: TimeMs, at: TimeMs) -> Result<bool, StoreError> {
        let sql = "update invitations set ended_at = $3, ended_why = 'revoked' \
             where uid = $1 and ended_at is null and expires_at > $2";
        Ok(query(sql).bind(id.to_string()).bind(now).bind(at).execute(self.on()).await? == 1)
    }
    /// Takes back everything open that this account made; says how many.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn revoke_invitations_of(&mut self, maker: UserKey, at: TimeMs) -> Result<u64, StoreError> {
        let sql = "update invitations set ended_at = $2, ended_why = 'revoked' \
             where maker_id = $1 and ended_at is null";
        query(sql).bind(maker.0).bind(at).execute(self.on()).await
    }
    /// Writes down that those that are over at this time are over, so that they stay so; says how many.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn expire_invitations(&mut self, now: TimeMs, limit: u32) -> Result<u64, StoreError> {
        let sql = "update invitations set ended_at = expires_at, ended_why = 'expired' where id in \
             (select id from invitations where ended_at is null and expires_at <= $1 limit $2)";
        query(sql).bind(now).bind(limit).execute(self.on()).await
    }
    /// Removes those that ended before then; at most `limit`.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn forget_invitations(&mut self, before: TimeMs, limit: u32) -> Result<u64, StoreError> {
        let sql = "delete from invitations where id in (select id from invitations where ended_at < $1 limit $2)";
        query(sql).bind(before).bind(limit).execute(self.on()).await
    }
}
