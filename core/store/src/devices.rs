//! Devices: rows, claims, tokens.

use std::collections::HashMap;

use hexa_model::{DeviceClass, DeviceKey, DeviceUid, TimeMs, UserKey, names};

use crate::change::DeviceAccess;
use crate::claim_codes::KeptCode;
use crate::db::{Executor, Row, query};
use crate::error::StoreError;
use crate::{Store, Tx, dialect};

/// A device as it is stored.
#[derive(Clone)]
pub struct DeviceRow {
    /// Key of the row.
    pub key: DeviceKey,
    /// Id that the API and the device use.
    pub uid: DeviceUid,
    /// The owner; none while it is unclaimed.
    pub owner: Option<UserKey>,
    /// The name that the owner gave.
    pub name: Option<String>,
    /// The hardware line, which selects the driver.
    pub class: DeviceClass,
    /// Model, as the device named it when it was provisioned.
    pub model: Option<String>,
    /// Hardware revision, as the device named it.
    pub hardware: Option<String>,
    /// Firmware version, latest stored.
    pub firmware: Option<String>,
    /// Serial number; no two devices have the same.
    pub serial: Option<String>,
    /// How many relays it has, 0 to 64.
    pub relay_count: u16,
    /// How many inputs (buttons, switches) it has.
    pub input_count: u16,
    /// What it can do: normalized names, sorted.
    pub capabilities: Vec<String>,
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// SHA-256 of the token before a rotation.
    pub previous_token_hash: Option<[u8; 32]>,
    /// Until then it is good.
    pub previous_token_until: Option<TimeMs>,
    /// Until then the claim code is good.
    pub claim_expires_at: Option<TimeMs>,
    /// Whether it may connect; false when an admin disabled it.
    pub active: bool,
    /// Raised with each change of who may do what with it.
    pub access_version: i64,
    /// The latest sign of life that was stored; memory may know a later one.
    pub last_seen_at: Option<TimeMs>,
    /// The latest address that was stored; memory may know a later one.
    pub last_ip: Option<String>,
    /// Which driver wrote `driver_durable`.
    pub driver_version: Option<String>,
    /// Opaque state of the driver.
    pub driver_durable: Option<Vec<u8>>,
    /// When it was provisioned.
    pub created_at: TimeMs,
    /// When the owner claimed it.
    pub claimed_at: Option<TimeMs>,
}

impl DeviceRow {
    /// What it is called: its name, or its uid as long as it has none.
    pub fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.uid.as_str())
    }
}

impl std::fmt::Debug for DeviceRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceRow").field("uid", &self.uid).field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// A device to be made.
pub struct NewDevice {
    /// Id that the API and the device will use.
    pub uid: DeviceUid,
    /// The hardware line, which selects the driver.
    pub class: DeviceClass,
    /// Model, as the device names it.
    pub model: Option<String>,
    /// Hardware revision, as the device names it.
    pub hardware: Option<String>,
    /// Firmware version, as the device names it.
    pub firmware: Option<String>,
    /// Serial number; a second device with the same one is refused.
    pub serial: Option<String>,
    /// How many relays it has, 0 to 64.
    pub relay_count: u16,
    /// How many inputs (buttons, switches) it has.
    pub input_count: u16,
    /// What it can do: normalized names, sorted.
    pub capabilities: Vec<String>,
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// Its claim code, without the code itself.
    pub claim: KeptCode,
    /// Until then it is good.
    pub claim_expires_at: TimeMs,
    /// When it was made, by the time that credentials are judged by.
    pub claim_made_at: TimeMs,
    /// The present time, set by the caller.
    pub created_at: TimeMs,
}

const SELECT: &str = "select * from devices where ";

fn hash(row: &Row, column: &str) -> Result<Option<[u8; 32]>, StoreError> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    let fixed = bytes.map(<[u8; 32]>::try_from).transpose();
    fixed.map_err(|_| StoreError::Corrupt(format!("devices.{column} has not 32 bytes")))
}

pub(crate) fn device(row: &Row) -> Result<DeviceRow, StoreError> {
    let (uid, class): (String, String) = (row.get("uid")?, row.get("device_class")?);
    Ok(DeviceRow {
        key: DeviceKey(row.get("id")?),
        uid: DeviceUid::parse(&uid).ok_or_else(|| StoreError::Corrupt(format!("device uid {uid:?}")))?,
        owner: row.get::<Option<i64>>("owner_id")?.map(UserKey),
        name: row.get("name")?,
        class: DeviceClass::parse(&class).ok_or_else(|| StoreError::Corrupt(format!("device class {class:?}")))?,
        model: row.get("model")?,
        hardware: row.get("hardware")?,
        firmware: row.get("firmware_version")?,
        serial: row.get("serial")?,
        relay_count: row.small("relay_count")?,
        input_count: row.small("input_count")?,
        capabilities: Vec::new(),
        token_hash: hash(row, "token_hash")?.ok_or_else(|| StoreError::Corrupt("devices.token_hash is null".into()))?,
        previous_token_hash: hash(row, "previous_token_hash")?,
        previous_token_until: row.time("previous_token_until")?,
        claim_expires_at: row.time("claim_expires_at")?,
        active: row.get("active")?,
        access_version: row.get("access_version")?,
        last_seen_at: row.time("last_seen_at")?,
        last_ip: row.get("last_ip")?,
        driver_version: row.get("driver_version")?,
        driver_durable: row.get("driver_durable")?,
        created_at: TimeMs(row.get("created_at")?),
        claimed_at: row.time("claimed_at")?,
    })
}

/// Who may do what with a device, without its grants; none when it is gone.
pub(crate) async fn access(device: DeviceKey, on: Executor<'_>) -> Result<Option<DeviceAccess>, StoreError> {
    let row = query("select owner_id, active, access_version from devices where id = $1").bind(device.0);
    let Some(row) = row.fetch_optional(on).await? else { return Ok(None) };
    Ok(Some(DeviceAccess {
        version: row.get("access_version")?,
        owner: row.get::<Option<i64>>("owner_id")?.map(UserKey),
        active: row.flag("active")?.unwrap_or(false),
        grants: Vec::new(),
    }))
}

impl Store {
    /// By public id. Capabilities are left out: this is asked at every connect.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn device_by_uid(&self, uid: &DeviceUid) -> Result<Option<DeviceRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} uid = $1"));
        query(sql).bind(uid.as_str()).fetch_optional(self.reader()).await?.as_ref().map(device).transpose()
    }

    /// By public id, many with one statement: for each uid, in order, its row, none, or why its row cannot be read.
    /// Capabilities are left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn devices_by_uid(
        &self,
        uids: &[&DeviceUid],
    ) -> Result<Vec<Result<Option<DeviceRow>, StoreError>>, StoreError> {
        let list: Vec<String> = uids.iter().map(|uid| uid.as_str().to_owned()).collect();
        let rows = self.either(dialect::DEVICES_BY_UID).bind(list).fetch_all(self.reader()).await?;
        let by_uid: HashMap<String, &Row> =
            rows.iter().map(|row| Ok((row.get("uid")?, row))).collect::<Result<_, StoreError>>()?;
        // Read for each uid anew: the same may be asked for twice.
        Ok(uids.iter().map(|uid| by_uid.get(uid.as_str()).map(|row| device(row)).transpose()).collect())
    }

    /// By key, with capabilities.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn device_by_key(&self, key: DeviceKey) -> Result<Option<DeviceRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} id = $1"));
        let row = query(sql).bind(key.0).fetch_optional(self.reader()).await?;
        let mut found: Vec<DeviceRow> = row.as_ref().map(device).transpose()?.into_iter().collect();
        self.add_capabilities(&mut found).await?;
        Ok(found.pop())
    }

    /// By serial number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn device_by_serial(&self, serial: &str) -> Result<Option<DeviceRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} serial = $1"));
        query(sql).bind(serial).fetch_optional(self.reader()).await?.as_ref().map(device).transpose()
    }

    /// These devices, in order of their keys, with capabilities; those that are gone are missing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn devices_by_key(&self, keys: &[DeviceKey]) -> Result<Vec<DeviceRow>, StoreError> {
        let list: Vec<i64> = keys.iter().map(|k| k.0).collect();
        let rows = self.either(dialect::DEVICES_BY_KEY).bind(list).fetch_all(self.reader()).await?;
        let mut found = rows.iter().map(device).collect::<Result<Vec<_>, _>>()?;
        self.add_capabilities(&mut found).await?;
        Ok(found)
    }

    pub(crate) async fn add_capabilities(&self, devices: &mut [DeviceRow]) -> Result<(), StoreError> {
        let keys: Vec<i64> = devices.iter().map(|d| d.key.0).collect();
        let rows = self.either(dialect::CAPABILITIES_OF).bind(keys).fetch_all(self.reader()).await?;
        let mut by_key: HashMap<_, _> = devices.iter_mut().map(|d| (d.key, &mut d.capabilities)).collect();
        for row in &rows {
            if let Some(capabilities) = by_key.get_mut(&DeviceKey(row.get("device_id")?)) {
                capabilities.push(row.get("capability")?);
            }
        }
        Ok(())
    }

    /// How many devices there are, and how many of them have an owner.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn device_counts(&self) -> Result<(u64, u64), StoreError> {
        let row = query("select count(*) as n, count(owner_id) as claimed from devices");
        let row = row.fetch_one(self.reader()).await?;
        Ok((row.get::<i64>("n")? as u64, row.get::<i64>("claimed")? as u64))
    }

    /// How many devices wait for an owner.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unclaimed_count(&self) -> Result<u64, StoreError> {
        let row = query("select count(*) as n from devices where owner_id is null");
        Ok(row.fetch_one(self.reader()).await?.get::<i64>("n")? as u64)
    }
}

impl Tx {
    /// By key, in this transaction.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn device_by_key(&mut self, key: DeviceKey) -> Result<Option<DeviceRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} id = $1"));
        let row = query(sql).bind(key.0).fetch_optional(self.on()).await?;
        let Some(mut found) = row.as_ref().map(device).transpose()? else { return Ok(None) };
        let sql = "select capability from device_capabilities where device_id = $1 order by capability";
        for row in query(sql).bind(key.0).fetch_all(self.on()).await? {
            found.capabilities.push(row.get("capability")?);
        }
        Ok(Some(found))
    }

    /// Names that the owner gave to relays, in this transaction.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn relay_names(&mut self, device: DeviceKey) -> Result<Vec<(u16, String)>, StoreError> {
        let sql = "select relay, name from relay_names where device_id = $1 order by relay";
        let rows = query(sql).bind(device.0).fetch_all(self.on()).await?;
        rows.iter().map(|row| Ok((row.small("relay")?, row.get("name")?))).collect()
    }

    /// Makes a device with its capabilities.
    ///
    /// # Errors
    /// `Conflict("devices.serial")` and the like.
    pub async fn insert_device(&mut self, new: &NewDevice) -> Result<DeviceKey, StoreError> {
        let sqlite = matches!(self.on(), Executor::SqliteTx(_));
        let row = query(if sqlite { dialect::INSERT_DEVICE.sqlite } else { dialect::INSERT_DEVICE.postgres })
            .bind(new.uid.as_str())
            .bind(new.class.as_str())
            .bind(&new.model)
            .bind(&new.hardware)
            .bind(&new.firmware)
            .bind(&new.serial)
            .bind(new.relay_count)
            .bind(new.input_count)
            .bind(new.token_hash.to_vec())
            .bind(new.claim.mac.to_vec())
            .bind(new.claim_expires_at.0)
            .bind(new.created_at.0)
            .bind(names::fold(new.uid.as_str()))
            .bind(new.claim.key.as_str())
            .bind(new.claim_made_at.0)
            .fetch_one(self.on())
            .await?;
        let key = DeviceKey(row.get("id")?);
        for capability in &new.capabilities {
            let sql = "insert into device_capabilities (device_id, capability) values ($1, $2)";
            query(sql).bind(key.0).bind(capability).execute(self.on()).await?;
        }
        Ok(key)
    }

    /// Raises a device's access version, with each change of who may do what with it; gives the new one, or none when the
    /// device is gone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn raise_access(&mut self, key: DeviceKey) -> Result<Option<i64>, StoreError> {
        let sql = "update devices set access_version = access_version + 1 where id = $1 returning access_version";
        let row = query(sql).bind(key.0).fetch_optional(self.on()).await?;
        row.map(|row| row.get("access_version")).transpose()
    }

    /// Takes a device from its owner, with the names that the owner gave. False when it is not the owner's any more.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn release_device(
        &mut self,
        key: DeviceKey,
        owner: Option<UserKey>,
        now: TimeMs,
    ) -> Result<bool, StoreError> {
        let uid = dialect::lowered(self.on().is_sqlite(), "uid");
        let sql = format!(
            "update devices set owner_id = null, claimed_at = null, name = null, name_folded = {uid}, \
             previous_token_hash = null, previous_token_until = null, updated_at = $3 where id = $1 and owner_id = $2"
        );
        let update = query(sqlx::AssertSqlSafe(sql)).bind(key.0).bind(owner.map(|o| o.0)).bind(now.0);
        if update.execute(self.on()).await? != 1 {
            return Ok(false);
        }
        query("delete from relay_names where device_id = $1").bind(key.0).execute(self.on()).await?;
        Ok(true)
    }

    /// Deletes a device with states, names and capabilities.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn delete_device(&mut self, key: DeviceKey) -> Result<bool, StoreError> {
        let delete = query("delete from devices where id = $1").bind(key.0);
        Ok(delete.execute(self.on()).await? == 1)
    }

    /// The same for a device that has no owner, if this is still its token; false when it is not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn replace_token(
        &mut self,
        key: DeviceKey,
        former: [u8; 32],
        token_hash: [u8; 32],
        now: TimeMs,
    ) -> Result<bool, StoreError> {
        let sql = "update devices set token_hash = $3, previous_token_hash = null, previous_token_until = null, \
             updated_at = $4 where id = $1 and token_hash = $2 and owner_id is null";
        let update = query(sql).bind(key.0).bind(former.to_vec()).bind(token_hash.to_vec()).bind(now.0);
        Ok(update.execute(self.on()).await? == 1)
    }

    /// A new token; with `previous_until` the old one stays good until then.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn rotate_token(
        &mut self,
        key: DeviceKey,
        token_hash: [u8; 32],
        previous_until: Option<TimeMs>,
        now: TimeMs,
    ) -> Result<bool, StoreError> {
        let sql = "update devices set previous_token_hash = case when $3 is null then null else token_hash end, \
             previous_token_until = $3, token_hash = $2, updated_at = $4 where id = $1";
        let update = query(sql).bind(key.0).bind(token_hash.to_vec()).bind(previous_until.map(|t| t.0)).bind(now.0);
        Ok(update.execute(self.on()).await? == 1)
    }

    /// The new token was used: the old one ends. Nothing happens when the token is another one by now.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn drop_previous_token(&mut self, key: DeviceKey, used: [u8; 32]) -> Result<bool, StoreError> {
        let sql = "update devices set previous_token_hash = null, previous_token_until = null \
             where id = $1 and token_hash = $2";
        Ok(query(sql).bind(key.0).bind(used.to_vec()).execute(self.on()).await? == 1)
    }

    /// Renames a device.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn rename_device(&mut self, key: DeviceKey, name: Option<&str>, now: TimeMs) -> Result<bool, StoreError> {
        let uid = dialect::lowered(self.on().is_sqlite(), "uid");
        let sql =
            format!("update devices set name = $2, name_folded = coalesce($4, {uid}), updated_at = $3 where id = $1");
        let update = query(sqlx::AssertSqlSafe(sql)).bind(key.0).bind(name).bind(now.0).bind(name.map(names::fold));
        Ok(update.execute(self.on()).await? == 1)
    }
}
