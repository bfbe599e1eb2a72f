//! Accounts and settings.

use hexa_model::{Role, TimeMs, UserId, UserKey};

use crate::db::{Row, query};
use crate::error::StoreError;
use crate::{Store, Tx};

/// An account.
#[derive(Clone)]
pub struct UserRow {
    /// Key.
    pub key: UserKey,
    /// Public id.
    pub id: UserId,
    /// Lower case.
    pub email: String,
    /// Shown name.
    pub name: Option<String>,
    /// Role.
    pub role: Role,
    /// Whether it may sign in.
    pub active: bool,
    /// Raised to end older tokens.
    pub epoch: i64,
    /// PHC string.
    pub password_hash: String,
    /// When it was made.
    pub created_at: TimeMs,
}

impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRow").field("id", &self.id).field("role", &self.role).finish_non_exhaustive()
    }
}

/// An account to be made.
pub struct NewUser {
    /// Public id.
    pub id: UserId,
    /// Lower case, unique.
    pub email: String,
    /// Shown name.
    pub name: Option<String>,
    /// Role.
    pub role: Role,
    /// PHC string.
    pub password_hash: String,
    /// Now.
    pub created_at: TimeMs,
}

const COLUMNS: &str = "select id, uid, email, name, role, active, epoch, password_hash, created_at from users where ";

fn user(row: &Row) -> Result<UserRow, StoreError> {
    let (uid, role): (String, String) = (row.get("uid")?, row.get("role")?);
    Ok(UserRow {
        key: UserKey(row.get("id")?),
        id: UserId::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("user id {uid:?}")))?,
        email: row.get("email")?,
        name: row.get("name")?,
        role: Role::parse(&role).ok_or_else(|| StoreError::Corrupt(format!("role {role:?}")))?,
        active: row.get("active")?,
        epoch: row.get("epoch")?,
        password_hash: row.get("password_hash")?,
        created_at: TimeMs(row.get("created_at")?),
    })
}

impl Store {
    /// By e-mail, which the caller has lower-cased.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<UserRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} email = $1"));
        query(sql).bind(email).fetch_optional(self.reader()).await?.as_ref().map(user).transpose()
    }
    /// By key.
    pub async fn user_by_key(&self, key: UserKey) -> Result<Option<UserRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} id = $1"));
        query(sql).bind(key.0).fetch_optional(self.reader()).await?.as_ref().map(user).transpose()
    }
    /// By public id.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<UserRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} uid = $1"));
        query(sql).bind(id.to_string()).fetch_optional(self.reader()).await?.as_ref().map(user).transpose()
    }
    /// A single setting.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let row = query("select value from settings where name = $1").bind(name);
        row.fetch_optional(self.reader()).await?.map(|r| r.get("value")).transpose()
    }
}

impl Tx {
    /// Makes an account.
    ///
    /// # Errors
    /// `Conflict("users.email")`.
    pub async fn insert_user(&mut self, new: &NewUser) -> Result<UserKey, StoreError> {
        let row = query(
            "insert into users (uid, email, name, role, password_hash, created_at, updated_at) \
             values ($1, $2, $3, $4, $5, $6, $6) returning id",
        )
        .bind(new.id.to_string())
        .bind(&new.email)
        .bind(&new.name)
        .bind(new.role.as_str())
        .bind(&new.password_hash)
        .bind(new.created_at.0)
        .fetch_one(self.on())
        .await?;
        Ok(UserKey(row.get("id")?))
    }
    /// Stores a new password hash.
    pub async fn set_password_hash(&mut self, key: UserKey, hash: &str) -> Result<bool, StoreError> {
        let update = query("update users set password_hash = $2 where id = $1").bind(key.0).bind(hash);
        Ok(update.execute(self.on()).await? == 1)
    }
    /// Whether an active admin exists.
    pub async fn has_admin(&mut self) -> Result<bool, StoreError> {
        let row = query("select exists (select 1 from users where role = 'admin' and active) as found");
        row.fetch_one(self.on()).await?.get("found")
    }
    /// Sets a setting.
    pub async fn put_setting(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        let sql = "insert into settings (name, value) values ($1, $2) \
             on conflict (name) do update set value = excluded.value";
        query(sql).bind(name).bind(value).execute(self.on()).await?;
        Ok(())
    }
    /// Takes a setting away and gives what it was.
    pub async fn take_setting(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        let row = query("delete from settings where name = $1 returning value").bind(name);
        row.fetch_optional(self.on()).await?.map(|r| r.get("value")).transpose()
    }
}
