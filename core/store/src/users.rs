//! Accounts, and the settings that the server keeps for itself.

use std::collections::HashMap;

use hexa_model::{Role, TimeMs, UserId, UserKey, names};

use crate::db::{Row, query};
use crate::error::StoreError;
use crate::{Store, Tx, dialect};

/// An account as it is stored.
#[derive(Clone)]
pub struct UserRow {
    /// Key of the row.
    pub key: UserKey,
    /// Id that the API shows.
    pub id: UserId,
    /// E-mail address, in lower case.
    pub email: String,
    /// The name that is shown, if there is one.
    pub name: Option<String>,
    /// User or admin; admins may do everything.
    pub role: Role,
    /// Whether it may sign in.
    pub active: bool,
    /// Raised to end older tokens.
    pub epoch: i64,
    /// Argon2id hash of the password, as a PHC string.
    pub password_hash: String,
    /// Wrong passwords in a row, from wherever.
    pub failed_logins: i64,
    /// When the last of them came.
    pub failed_at: Option<TimeMs>,
    /// When it was made.
    pub created_at: TimeMs,
}

impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRow").field("id", &self.id).field("role", &self.role).finish_non_exhaustive()
    }
}

/// What is shown of an account beside something else.
#[derive(Clone, Debug)]
pub struct PersonRow {
    /// Id that the API shows.
    pub id: UserId,
    /// E-mail address, in lower case.
    pub email: String,
    /// The name that is shown, if there is one.
    pub name: Option<String>,
}

impl From<UserRow> for PersonRow {
    fn from(row: UserRow) -> Self {
        Self { id: row.id, email: row.email, name: row.name }
    }
}

/// An account to be made.
pub struct NewUser {
    /// Id that the API will show.
    pub id: UserId,
    /// E-mail address, in lower case; no two accounts have the same.
    pub email: String,
    /// The name that is shown, if there is one.
    pub name: Option<String>,
    /// User or admin; admins may do everything.
    pub role: Role,
    /// Argon2id hash of the password, as a PHC string.
    pub password_hash: String,
    /// The present time, set by the caller.
    pub created_at: TimeMs,
}

/// Which accounts an admin wants to see.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// A part of the e-mail or the name, in any case.
    pub search: Option<String>,
    /// Only of this role.
    pub role: Option<Role>,
    /// Only active or only deactivated ones.
    pub active: Option<bool>,
    /// Only accounts behind this key: the cursor of the page before.
    pub after: Option<UserKey>,
    /// At most so many.
    pub limit: u32,
}

const COLUMNS: &str = "select id, uid, email, name, role, active, epoch, password_hash, failed_logins, failed_at, \
     created_at from users where ";

fn user_id(row: &Row) -> Result<UserId, StoreError> {
    let uid: String = row.get("uid")?;
    UserId::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("user id {uid:?}")))
}

fn user(row: &Row) -> Result<UserRow, StoreError> {
    let role: String = row.get("role")?;
    Ok(UserRow {
        key: UserKey(row.get("id")?),
        id: user_id(row)?,
        email: row.get("email")?,
        name: row.get("name")?,
        role: Role::parse(&role).ok_or_else(|| StoreError::Corrupt(format!("role {role:?}")))?,
        active: row.get("active")?,
        epoch: row.get("epoch")?,
        password_hash: row.get("password_hash")?,
        failed_logins: row.get("failed_logins")?,
        failed_at: row.time("failed_at")?,
        created_at: TimeMs(row.get("created_at")?),
    })
}

impl Store {
    /// By e-mail, which the caller has lower-cased; as it stands, or in the form in which new ones are kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<UserRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} email in ($1, $2) order by email = $1 desc limit 1"));
        query(sql)
            .bind(email)
            .bind(names::composed(email))
            .fetch_optional(self.reader())
            .await?
            .as_ref()
            .map(user)
            .transpose()
    }
    /// By key.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user_by_key(&self, key: UserKey) -> Result<Option<UserRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} id = $1"));
        query(sql).bind(key.0).fetch_optional(self.reader()).await?.as_ref().map(user).transpose()
    }
    /// Whether an active admin exists.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_admin(&self) -> Result<bool, StoreError> {
        let row = query("select exists (select 1 from users where role = 'admin' and active) as found");
        row.fetch_one(self.reader()).await?.get("found")
    }
    /// By public id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<UserRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} uid = $1"));
        query(sql).bind(id.to_string()).fetch_optional(self.reader()).await?.as_ref().map(user).transpose()
    }
    /// A page of accounts, in the order of their keys.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list_users(&self, filter: &UserFilter) -> Result<Vec<UserRow>, StoreError> {
        // An absent filter is an always-true clause, so that there is one statement (and NULL has a type).
        let sql = sqlx::AssertSqlSafe(format!(
            "{COLUMNS} id > $1 and ($2 = '' or email_folded like $2 escape '!' or name_folded like $2 escape '!') and \
              ($3 = '' or role = $3) and ($4 = '' or active = ($4 = 'y')) order by id limit $5"
        ));
        let like = match filter.search.as_deref().map(contains) {
            None => String::new(),
            Some(Some(like)) => like,
            Some(None) => return Ok(Vec::new()),
        };
        let active = filter.active.map_or("", |a| if a { "y" } else { "n" });
        let rows = query(sql)
            .bind(filter.after.map_or(0, |k| k.0))
            .bind(like)
            .bind(filter.role.map_or("", Role::as_str))
            .bind(active)
            .bind(filter.limit)
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(user).collect()
    }
    /// Who these are, with one statement.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn people(&self, keys: &[UserKey]) -> Result<HashMap<UserKey, PersonRow>, StoreError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let list: Vec<i64> = keys.iter().map(|k| k.0).collect();
        let rows = self.either(dialect::PEOPLE).bind(list).fetch_all(self.reader()).await?;
        let person = |row: &Row| {
            let person = PersonRow { id: user_id(row)?, email: row.get("email")?, name: row.get("name")? };
            Ok((UserKey(row.get("id")?), person))
        };
        rows.iter().map(person).collect()
    }
    /// How many accounts there are, how many are active, and how many of those are admins.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user_counts(&self) -> Result<(u64, u64, u64), StoreError> {
        let sql = "select count(*) as n, count(case when active then 1 end) as active, \
             count(case when active and role = 'admin' then 1 end) as admins from users";
        let row = query(sql).fetch_one(self.reader()).await?;
        let count = |name: &str| Ok::<_, StoreError>(row.get::<i64>(name)? as u64);
        Ok((count("n")?, count("active")?, count("admins")?))
    }
    /// A single setting.
    ///
    /// # Errors
    /// When the database does not answer.
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
            "insert into users (uid, email, name, role, password_hash, created_at, updated_at, email_folded, name_folded) \
             values ($1, $2, $3, $4, $5, $6, $6, $7, $8) returning id",
        )
        .bind(new.id.to_string())
        .bind(&new.email)
        .bind(&new.name)
        .bind(new.role.as_str())
        .bind(&new.password_hash)
        .bind(new.created_at.0)
        .bind(names::fold(&new.email))
        .bind(new.name.as_deref().map(names::fold))
        .fetch_one(self.on())
        .await?;
        Ok(UserKey(row.get("id")?))
    }
    /// By key, in this transaction.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn user_by_key(&mut self, key: UserKey) -> Result<Option<UserRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} id = $1"));
        query(sql).bind(key.0).fetch_optional(self.on()).await?.as_ref().map(user).transpose()
    }
    /// Sets role and activation. Access tokens that were issued before are dead.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn set_standing(
        &mut self,
        key: UserKey,
        role: Role,
        active: bool,
        at: TimeMs,
    ) -> Result<bool, StoreError> {
        let sql = "update users set role = $2, active = $3, epoch = epoch + 1, updated_at = $4 where id = $1";
        let update = query(sql).bind(key.0).bind(role.as_str()).bind(active).bind(at.0);
        Ok(update.execute(self.on()).await? == 1)
    }
    /// Renames an account; none takes the name away.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn set_user_name(&mut self, key: UserKey, name: Option<&str>, at: TimeMs) -> Result<bool, StoreError> {
        let update = query("update users set name = $2, name_folded = $4, updated_at = $3 where id = $1");
        let update = update.bind(key.0).bind(name).bind(at.0).bind(name.map(names::fold));
        Ok(update.execute(self.on()).await? == 1)
    }
    /// Stores another password. Access tokens that were issued before are dead, wrong passwords forgotten.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn set_password(&mut self, key: UserKey, hash: &str, at: TimeMs) -> Result<bool, StoreError> {
        let sql = "update users set password_hash = $2, epoch = epoch + 1, failed_logins = 0, failed_at = null, \
             updated_at = $3 where id = $1";
        Ok(query(sql).bind(key.0).bind(hash).bind(at.0).execute(self.on()).await? == 1)
    }
    /// Counts a wrong password.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn login_failed(&mut self, key: UserKey, at: TimeMs) -> Result<bool, StoreError> {
        let sql = "update users set failed_logins = failed_logins + 1, failed_at = $2 where id = $1";
        Ok(query(sql).bind(key.0).bind(at.0).execute(self.on()).await? == 1)
    }
    /// Forgets wrong passwords.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn login_succeeded(&mut self, key: UserKey) -> Result<bool, StoreError> {
        let sql = "update users set failed_logins = 0, failed_at = null where id = $1 and failed_logins > 0";
        Ok(query(sql).bind(key.0).execute(self.on()).await? == 1)
    }
    /// Whether an active admin other than this one exists.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn has_other_admin(&mut self, key: UserKey) -> Result<bool, StoreError> {
        let sql = "select exists (select 1 from users where role = 'admin' and active and id <> $1) as found";
        query(sql).bind(key.0).fetch_one(self.on()).await?.get("found")
    }
    /// Stores the same password, hashed with today's parameters.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn set_password_hash(&mut self, key: UserKey, hash: &str) -> Result<bool, StoreError> {
        let update = query("update users set password_hash = $2 where id = $1").bind(key.0).bind(hash);
        Ok(update.execute(self.on()).await? == 1)
    }
    /// Sets a setting.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn put_setting(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        let sql = "insert into settings (name, value) values ($1, $2) \
             on conflict (name) do update set value = excluded.value";
        query(sql).bind(name).bind(value).execute(self.on()).await?;
        Ok(())
    }
    /// Writes something that means nothing, to see whether writing works.
    pub(crate) async fn probe(&mut self) -> Result<(), StoreError> {
        let sql = "insert into settings (name, value) values ('write_probe', '1') \
             on conflict (name) do update set value = case settings.value when '1' then '2' else '1' end";
        query(sql).execute(self.on()).await?;
        Ok(())
    }
    /// Takes a setting away and gives what it was.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn take_setting(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        let row = query("delete from settings where name = $1 returning value").bind(name);
        row.fetch_optional(self.on()).await?.map(|r| r.get("value")).transpose()
    }
}

/// A pattern for `like … escape '!'` that finds the text anywhere in a folded one; none for a text of which nothing is
/// left, which is nowhere.
pub(crate) fn contains(text: &str) -> Option<String> {
    let folded = names::fold(text);
    if folded.is_empty() {
        return None;
    }
    let mut pattern = String::from("%");
    for c in folded.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    Some(pattern)
}
