//! Folded names of rows that were written before there were any, or by a server that folded otherwise.
//!
//! They are made at the start, before anything is searched: in pieces, each with the place that was reached, so that a
//! start that is cut off goes on where it was.

use hexa_model::names::{FOLDING, fold};
use serde_json::{Value, json};

use crate::db::query;
use crate::error::StoreError;
use crate::{Changed, Store, Tx, dialect};

/// Devices or accounts per transaction; a device brings the names of its relays.
const PIECE: usize = 500;
/// The setting that holds how far this has come.
const PLACE: &str = "folded_names";

/// What is folded, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Devices behind this key.
    Devices(i64),
    /// Accounts behind this key.
    Users(i64),
    Done,
}

impl Place {
    /// Where a run of this version goes on; from the beginning after one of another version.
    fn read(stored: Option<&str>) -> Self {
        let parts = || {
            let mut parts = stored?.split(' ');
            let version = parts.next()?.parse::<u32>().ok()?;
            let place = match (parts.next()?, parts.next().and_then(|key| key.parse().ok())) {
                ("devices", Some(key)) => Self::Devices(key),
                ("users", Some(key)) => Self::Users(key),
                ("done", None) => Self::Done,
                _ => return None,
            };
            (version == FOLDING).then_some(place)
        };
        parts().unwrap_or(Self::Devices(0))
    }

    fn written(self) -> String {
        match self {
            Self::Devices(key) => format!("{FOLDING} devices {key}"),
            Self::Users(key) => format!("{FOLDING} users {key}"),
            Self::Done => format!("{FOLDING} done"),
        }
    }
}

impl Store {
    /// Folds the names that no server of this version has folded.
    pub(crate) async fn fold_names(&self) -> Result<(), StoreError> {
        let mut place = Place::read(self.setting(PLACE).await?.as_deref());
        let mut rows = 0;
        while place != Place::Done {
            let store = self.clone();
            let piece = self.change(move |tx| Box::pin(async move { store.fold_piece(tx, place).await }));
            let (next, folded) = piece.await?;
            (place, rows) = (next, rows + folded);
        }
        if rows > 0 {
            tracing::info!(rows, version = FOLDING, "names were folded for searches and lists");
        }
        Ok(())
    }

    async fn fold_piece(&self, tx: &mut Tx, place: Place) -> Result<Changed<(Place, usize)>, StoreError> {
        let (next, folded) = match place {
            Place::Devices(after) => self.fold_devices(tx, after).await?,
            Place::Users(after) => self.fold_users(tx, after).await?,
            Place::Done => (Place::Done, 0),
        };
        tx.put_setting(PLACE, &next.written()).await?;
        Ok(Changed::only((next, folded)))
    }

    async fn fold_devices(&self, tx: &mut Tx, after: i64) -> Result<(Place, usize), StoreError> {
        let piece = query("select id, coalesce(name, uid) as called from devices where id > $1 order by id limit $2");
        let rows = piece.bind(after).bind(PIECE as i64).fetch_all(tx.on()).await?;
        let (mut keys, mut devices) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in &rows {
            let (key, called) = (row.get::<i64>("id")?, row.get::<String>("called")?);
            devices.push(json!([key, fold(&called)]));
            keys.push(key);
        }
        let Some(last) = keys.last().copied() else { return Ok((Place::Users(0), 0)) };
        let mut relays = Vec::new();
        for row in self.either(dialect::RELAY_NAMES_OF).bind(keys).fetch_all(tx.on()).await? {
            let (device, relay) = (row.get::<i64>("device_id")?, row.small("relay")?);
            relays.push(json!([device, relay, fold(&row.get::<String>("name")?)]));
        }
        let folded = devices.len() + relays.len();
        for (update, values) in [(dialect::FOLD_DEVICES, devices), (dialect::FOLD_RELAYS, relays)] {
            self.either(update).bind(Value::from(values).to_string()).execute(tx.on()).await?;
        }
        Ok((Place::Devices(last), folded))
    }

    async fn fold_users(&self, tx: &mut Tx, after: i64) -> Result<(Place, usize), StoreError> {
        let piece = query("select id, email, name from users where id > $1 order by id limit $2");
        let rows = piece.bind(after).bind(PIECE as i64).fetch_all(tx.on()).await?;
        let (mut last, mut users) = (None, Vec::with_capacity(rows.len()));
        for row in &rows {
            let key: i64 = row.get("id")?;
            let (email, name) = (row.get::<String>("email")?, row.get::<Option<String>>("name")?);
            users.push(json!([key, fold(&email), name.as_deref().map(fold)]));
            last = Some(key);
        }
        let Some(last) = last else { return Ok((Place::Done, 0)) };
        let folded = users.len();
        self.either(dialect::FOLD_USERS).bind(Value::from(users).to_string()).execute(tx.on()).await?;
        Ok((Place::Users(last), folded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_begins_anew_with_another_version() {
        for place in [Place::Devices(7), Place::Users(0), Place::Done] {
            assert_eq!(Place::read(Some(&place.written())), place);
        }
        let other = format!("{} done", FOLDING + 1);
        for stored in [None, Some(other.as_str()), Some(""), Some("1 cats 7"), Some("done")] {
            assert_eq!(Place::read(stored), Place::Devices(0), "{stored:?}");
        }
    }
}
