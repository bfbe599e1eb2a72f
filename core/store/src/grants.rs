//! Grants: what owners share of their devices, with whom.

use hexa_model::{DeviceKey, DeviceUid, Grant, GrantAccess, GrantId, RelayMask, TimeMs, UserId, UserKey};

use crate::db::{Executor, Row, query};
use crate::error::StoreError;
use crate::{Store, Tx};

/// A grant with everything that its page shows.
#[derive(Clone, Debug)]
pub struct GrantRow {
    /// The grant, as services use it.
    pub grant: Grant,
    /// Public id of the grantee.
    pub user: UserId,
    /// The grantee's e-mail address.
    pub email: String,
    /// The grantee's name, if they gave one.
    pub name: Option<String>,
    /// How many uses it was made for.
    pub max_uses: Option<u32>,
    /// How many are left.
    pub uses_left: Option<u32>,
    /// When it was made.
    pub created_at: TimeMs,
}

const SELECT: &str = "select g.id, g.uid, g.device_id, d.uid as device_uid, g.user_id, u.uid as user_uid, u.email, \
     u.name, g.access, g.relays, g.starts_at, g.expires_at, g.max_uses, g.uses_left, g.created_at from grants g \
     join devices d on d.id = g.device_id join users u on u.id = g.user_id where g.ended_at is null";

/// SQL integers have a sign; the bits are the same.
fn bits(mask: RelayMask) -> Option<i64> {
    (!mask.is_all()).then_some(mask.0 as i64)
}

fn grant(row: &Row) -> Result<GrantRow, StoreError> {
    let (uid, device, user): (String, String, String) = (row.get("uid")?, row.get("device_uid")?, row.get("user_uid")?);
    let access: String = row.get("access")?;
    let count = |column: &str| -> Result<Option<u32>, StoreError> {
        Ok(row.get::<Option<i64>>(column)?.map(|n| u32::try_from(n).unwrap_or(0)))
    };
    let max_uses = count("max_uses")?;
    Ok(GrantRow {
        grant: Grant {
            key: row.get("id")?,
            id: GrantId::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("grant id {uid:?}")))?,
            device: DeviceKey(row.get("device_id")?),
            uid: DeviceUid::parse(&device).ok_or_else(|| StoreError::Corrupt(format!("device uid {device:?}")))?,
            user: UserKey(row.get("user_id")?),
            access: GrantAccess::parse(&access).ok_or_else(|| StoreError::Corrupt(format!("access {access:?}")))?,
            relays: row.get::<Option<i64>>("relays")?.map_or(RelayMask::ALL, |bits| RelayMask(bits as u64)),
            starts_at: row.time("starts_at")?,
            expires_at: row.time("expires_at")?,
            counted: max_uses.is_some(),
        },
        user: UserId::parse(&user).ok_or_else(|| StoreError::Corrupt(format!("user id {user:?}")))?,
        email: row.get("email")?,
        name: row.get("name")?,
        max_uses,
        uses_left: count("uses_left")?,
        created_at: TimeMs(row.get("created_at")?),
    })
}

/// Those of a device that have not ended, the oldest first.
pub(crate) async fn living(device: DeviceKey, on: Executor<'_>) -> Result<Vec<Grant>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} and g.device_id = $1 order by g.id"));
    query(sql).bind(device.0).fetch_all(on).await?.iter().map(|row| Ok(grant(row)?.grant)).collect()
}

impl Store {
    /// Every grant that has not ended: they are all kept in memory.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn living_grants(&self) -> Result<Vec<Grant>, StoreError> {
        let rows = query(sqlx::AssertSqlSafe(format!("{SELECT} order by g.id"))).fetch_all(self.reader()).await?;
        rows.iter().map(|row| Ok(grant(row)?.grant)).collect()
    }
    /// Those of a device, the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn grants_of(&self, device: DeviceKey) -> Result<Vec<GrantRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} and g.device_id = $1 order by g.id"));
        query(sql).bind(device.0).fetch_all(self.reader()).await?.iter().map(grant).collect()
    }
}

impl Tx {
    /// Makes a grant; gives its key.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn insert_grant(&mut self, row: &GrantRow) -> Result<i64, StoreError> {
        let sql = "insert into grants (uid, device_id, user_id, access, relays, starts_at, expires_at, max_uses, \
             uses_left, created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9) returning id";
        let inserted = query(sql)
            .bind(row.grant.id.to_string())
            .bind(row.grant.device.0)
            .bind(row.grant.user.0)
            .bind(row.grant.access.as_str())
            .bind(bits(row.grant.relays))
            .bind(row.grant.starts_at.map(|t| t.0))
            .bind(row.grant.expires_at.map(|t| t.0))
            .bind(row.max_uses.map(i64::from))
            .bind(row.created_at)
            .fetch_one(self.on())
            .await?;
        inserted.get("id")
    }
    /// How many of a device's grants have not ended.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn count_grants(&mut self, device: DeviceKey) -> Result<i64, StoreError> {
        let sql = "select count(*) as n from grants where device_id = $1 and ended_at is null";
        query(sql).bind(device.0).fetch_one(self.on()).await?.get("n")
    }
    /// Whether a device has this owner, read for this transaction.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn device_has_owner(&mut self, device: DeviceKey, owner: UserKey) -> Result<bool, StoreError> {
        let sql = "select 1 as one from devices where id = $1 and owner_id = $2";
        Ok(query(sql).bind(device.0).bind(owner.0).fetch_optional(self.on()).await?.is_some())
    }
    /// Takes one use; gives how many are left, or none when there was none to take.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn spend_grant(&mut self, key: i64) -> Result<Option<i64>, StoreError> {
        let sql = "update grants set uses_left = uses_left - 1 where id = $1 and ended_at is null and uses_left > 0 \
             returning uses_left";
        query(sql).bind(key).fetch_optional(self.on()).await?.map(|row| row.get("uses_left")).transpose()
    }
    /// Gives one use back, also to a grant that ended because it was the last; false when it ended otherwise.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn restore_use(&mut self, key: i64) -> Result<bool, StoreError> {
        let sql = "update grants set uses_left = uses_left + 1, ended_at = null, ended_why = null \
             where id = $1 and uses_left is not null and (ended_at is null or ended_why = 'used_up')";
        Ok(query(sql).bind(key).execute(self.on()).await? == 1)
    }
    /// Ends a grant; false when it had ended before.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn end_grant(&mut self, key: i64, at: TimeMs, why: &str) -> Result<bool, StoreError> {
        let sql = "update grants set ended_at = $2, ended_why = $3 where id = $1 and ended_at is null";
        Ok(query(sql).bind(key).bind(at).bind(why).execute(self.on()).await? == 1)
    }
    /// Nothing that is given back revives a grant of this device from here on: one that was used up stays ended.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn close_used_up(&mut self, device: DeviceKey, grant: Option<GrantId>) -> Result<u64, StoreError> {
        let sql = "update grants set ended_why = 'closed' where device_id = $1 and ended_why = 'used_up' \
             and uid = coalesce($2, uid)";
        query(sql).bind(device.0).bind(grant.map(|id| id.to_string())).execute(self.on()).await
    }
    /// Removes grants that ended before then; at most `limit`.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn forget_grants(&mut self, before: TimeMs, limit: u32) -> Result<u64, StoreError> {
        let sql = "delete from grants where id in (select id from grants where ended_at < $1 limit $2)";
        query(sql).bind(before.0).bind(limit).execute(self.on()).await
    }
    /// Ends all grants of a device; says how many.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn end_grants_of(&mut self, device: DeviceKey, at: TimeMs, why: &str) -> Result<u64, StoreError> {
        self.close_used_up(device, None).await?;
        let sql = "update grants set ended_at = $2, ended_why = $3 where device_id = $1 and ended_at is null";
        query(sql).bind(device.0).bind(at).bind(why).execute(self.on()).await
    }
}
