//! Relay states and names. States are written by the hot writer only.

use std::collections::HashMap;

use hexa_model::audit::RelayStates;
use hexa_model::{DeviceKey, RelayState, TimeMs, names};

use crate::db::{Row, query};
use crate::error::StoreError;
use crate::{Store, Tx, dialect};

fn state(row: &Row) -> Result<RelayState, StoreError> {
    Ok(RelayState {
        index: row.small("relay")?,
        on: row.get("state")?,
        version: row.get::<i64>("version")? as u64,
        updated_at: TimeMs(row.get("updated_at")?),
    })
}

impl Store {
    /// States of one device; relays without a row are unknown.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn relay_states(&self, device: DeviceKey) -> Result<RelayStates, StoreError> {
        let sql = "select relay, state, version, updated_at from relay_states where device_id = $1 order by relay";
        let rows = query(sql).bind(device.0).fetch_all(self.reader()).await?;
        rows.iter().map(state).collect()
    }

    /// States of many devices with one statement.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn relay_states_of(&self, keys: &[DeviceKey]) -> Result<HashMap<DeviceKey, RelayStates>, StoreError> {
        let list: Vec<i64> = keys.iter().map(|k| k.0).collect();
        let rows = self.either(dialect::RELAY_STATES_OF).bind(list).fetch_all(self.reader()).await?;
        let mut found: HashMap<_, RelayStates> = HashMap::with_capacity(keys.len());
        for row in &rows {
            found.entry(DeviceKey(row.get("device_id")?)).or_default().push(state(row)?);
        }
        Ok(found)
    }

    /// Names that the owner gave, by index.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn relay_names(&self, device: DeviceKey) -> Result<Vec<(u16, String)>, StoreError> {
        Ok(self.relay_names_of(&[device]).await?.remove(&device).unwrap_or_default())
    }

    /// Names of many devices with one statement.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn relay_names_of(
        &self,
        keys: &[DeviceKey],
    ) -> Result<HashMap<DeviceKey, Vec<(u16, String)>>, StoreError> {
        let list: Vec<i64> = keys.iter().map(|k| k.0).collect();
        let rows = self.either(dialect::RELAY_NAMES_OF).bind(list).fetch_all(self.reader()).await?;
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for row in &rows {
            let name = (row.small("relay")?, row.get("name")?);
            found.entry(DeviceKey(row.get("device_id")?)).or_default().push(name);
        }
        Ok(found)
    }
}

impl Tx {
    /// Sets names; an empty one is removed.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn set_relay_names(&mut self, device: DeviceKey, names: &[(u16, String)]) -> Result<(), StoreError> {
        for (relay, name) in names {
            let name = name.trim();
            if name.is_empty() {
                let delete = query("delete from relay_names where device_id = $1 and relay = $2");
                delete.bind(device.0).bind(*relay).execute(self.on()).await?;
            } else {
                let sql = "insert into relay_names (device_id, relay, name, name_folded) values ($1, $2, $3, $4) \
                     on conflict (device_id, relay) do update \
                     set name = excluded.name, name_folded = excluded.name_folded";
                query(sql).bind(device.0).bind(*relay).bind(name).bind(names::fold(name)).execute(self.on()).await?;
            }
        }
        Ok(())
    }
}
