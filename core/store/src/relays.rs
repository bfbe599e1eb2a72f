//! Relay states and names. States are written by the hot writer only.

use std::collections::HashMap;

use hexa_model::audit::RelayStates;
use hexa_model::{DeviceKey, RelayState, TimeMs};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::error::StoreError;
use crate::{Store, Tx, dialect};

fn state(row: &SqliteRow) -> Result<RelayState, StoreError> {
    Ok(RelayState {
        index: row.try_get("relay")?,
        on: row.try_get("state")?,
        version: row.try_get::<i64, _>("version")? as u64,
        updated_at: TimeMs(row.try_get("updated_at")?),
    })
}

impl Store {
    /// States of one device; relays without a row are unknown.
    pub async fn relay_states(&self, device: DeviceKey) -> Result<RelayStates, StoreError> {
        let sql = "select relay, state, version, updated_at from relay_states where device_id = $1 order by relay";
        let rows = sqlx::query(sql).bind(device.0).fetch_all(self.readers()).await?;
        rows.iter().map(state).collect()
    }

    /// States of many devices with one statement.
    pub async fn relay_states_of(&self, keys: &[DeviceKey]) -> Result<HashMap<DeviceKey, RelayStates>, StoreError> {
        let list = dialect::key_list(keys.iter().map(|k| k.0));
        let rows = sqlx::query(dialect::RELAY_STATES_OF).bind(list).fetch_all(self.readers()).await?;
        let mut found: HashMap<_, RelayStates> = HashMap::with_capacity(keys.len());
        for row in &rows {
            found.entry(DeviceKey(row.try_get("device_id")?)).or_default().push(state(row)?);
        }
        Ok(found)
    }

    /// Names that the owner gave, by index.
    pub async fn relay_names(&self, device: DeviceKey) -> Result<Vec<(u16, String)>, StoreError> {
        Ok(self.relay_names_of(&[device]).await?.remove(&device).unwrap_or_default())
    }

    /// Names of many devices with one statement.
    pub async fn relay_names_of(
        &self,
        keys: &[DeviceKey],
    ) -> Result<HashMap<DeviceKey, Vec<(u16, String)>>, StoreError> {
        let list = dialect::key_list(keys.iter().map(|k| k.0));
        let rows = sqlx::query(dialect::RELAY_NAMES_OF).bind(list).fetch_all(self.readers()).await?;
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for row in &rows {
            let name = (row.try_get("relay")?, row.try_get("name")?);
            found.entry(DeviceKey(row.try_get("device_id")?)).or_default().push(name);
        }
        Ok(found)
    }
}

impl Tx {
    /// Sets names; an empty one is removed.
    pub async fn set_relay_names(&mut self, device: DeviceKey, names: &[(u16, String)]) -> Result<(), StoreError> {
        for (relay, name) in names {
            let name = name.trim();
            if name.is_empty() {
                let delete = sqlx::query("delete from relay_names where device_id = $1 and relay = $2");
                delete.bind(device.0).bind(relay).execute(&mut *self.inner).await?;
            } else {
                let sql = "insert into relay_names (device_id, relay, name) values ($1, $2, $3) \
                     on conflict (device_id, relay) do update set name = excluded.name";
                sqlx::query(sql).bind(device.0).bind(relay).bind(name).execute(&mut *self.inner).await?;
            }
        }
        Ok(())
    }
}
