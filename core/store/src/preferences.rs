//! Preference documents: kept and given as text; what is in them is nobody's business here.

use hexa_model::{TimeMs, UserKey};

use crate::db::{Executor, query};
use crate::error::StoreError;
use crate::{Store, Tx};

/// A document of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceRow {
    /// Name of the document, such as `dashboard_layout`.
    pub name: String,
    /// JSON text, exactly as it was stored.
    pub document: String,
}

async fn preferences_of(user: UserKey, on: Executor<'_>) -> Result<Vec<PreferenceRow>, StoreError> {
    let sql = "select name, document from user_preferences where user_id = $1 order by name";
    let rows = query(sql).bind(user.0).fetch_all(on).await?;
    rows.iter().map(|row| Ok(PreferenceRow { name: row.get("name")?, document: row.get("document")? })).collect()
}

impl Store {
    /// Everything that a user has stored.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn preferences(&self, user: UserKey) -> Result<Vec<PreferenceRow>, StoreError> {
        preferences_of(user, self.reader()).await
    }
}

impl Tx {
    /// The same, and nobody changes it before this transaction ends: the user's row is taken first, on either
    /// database and by however many processes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn preferences_to_change(&mut self, user: UserKey) -> Result<Vec<PreferenceRow>, StoreError> {
        query("update users set updated_at = updated_at where id = $1").bind(user.0).execute(self.on()).await?;
        preferences_of(user, self.on()).await
    }

    /// Stores a document in the place of whatever was there.
    ///
    /// # Errors
    /// `Conflict` when there is no such user.
    pub async fn put_preference(&mut self, user: UserKey, row: &PreferenceRow, at: TimeMs) -> Result<(), StoreError> {
        let sql = "insert into user_preferences (user_id, name, document, updated_at) values ($1, $2, $3, $4) \
             on conflict (user_id, name) do update set document = excluded.document, updated_at = excluded.updated_at";
        query(sql).bind(user.0).bind(&row.name).bind(&row.document).bind(at).execute(self.on()).await?;
        Ok(())
    }

    /// Removes a document; false when there was none.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn delete_preference(&mut self, user: UserKey, name: &str) -> Result<bool, StoreError> {
        let delete = query("delete from user_preferences where user_id = $1 and name = $2").bind(user.0).bind(name);
        Ok(delete.execute(self.on()).await? == 1)
    }
}
