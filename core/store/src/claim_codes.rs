//! Claim codes of devices that wait for an owner.

use hexa_model::{DeviceKey, TimeMs, UserKey};

use crate::db::query;
use crate::error::StoreError;
use crate::{Store, Tx};

/// A claim code as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCode {
    /// HMAC of the code's SHA-256, under a key outside of the database.
    pub mac: [u8; 32],
    /// The name of its key, which is not in the database.
    pub key: String,
}

impl Store {
    /// Up to `limit` devices whose codes were kept as a plain SHA-256 by an earlier version.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn plain_claim_codes(&self, limit: u32) -> Result<Vec<(DeviceKey, [u8; 32])>, StoreError> {
        let sql = "select id, claim_hash from devices where claim_hash is not null and claim_key is null \
             order by id limit $1";
        let rows = query(sql).bind(limit).fetch_all(self.reader()).await?;
        let code = |row: &crate::db::Row| {
            let hash: Vec<u8> = row.get("claim_hash")?;
            let hash =
                hash.try_into().map_err(|_| StoreError::Corrupt("devices.claim_hash has not 32 bytes".into()))?;
            Ok((DeviceKey(row.get("id")?), hash))
        };
        rows.iter().map(code).collect()
    }

    /// How many codes would still be good if they had not been kept under another key than this one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn void_claim_codes(&self, key: &str, now: TimeMs) -> Result<u64, StoreError> {
        let sql = "select count(*) as n from devices where claim_hash is not null and claim_key <> $1 \
             and owner_id is null and claim_expires_at > $2";
        let n: i64 = query(sql).bind(key).bind(now.0).fetch_one(self.reader()).await?.get("n")?;
        Ok(n as u64)
    }

    /// Devices with a claim code or a former token that is over at this time; at most `limit`. Read beside the writers: the
    /// whole table is looked through.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn codes_over(&self, now: TimeMs, limit: u32) -> Result<Vec<DeviceKey>, StoreError> {
        let sql = "select id from devices where claim_expires_at <= $1 or previous_token_until <= $1 limit $2";
        let rows = query(sql).bind(now.0).bind(limit).fetch_all(self.reader()).await?;
        rows.iter().map(|row| Ok(DeviceKey(row.get("id")?))).collect()
    }
}

impl Tx {
    /// Claims the device of a code that lives at the time `judged`: one conditional update, which also spends the code.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn claim_device(
        &mut self,
        code: &KeptCode,
        owner: UserKey,
        (now, judged): (TimeMs, TimeMs),
    ) -> Result<Option<DeviceKey>, StoreError> {
        let sql = "update devices set owner_id = $2, claimed_at = $3, updated_at = $3, claim_hash = null, \
             claim_key = null, claim_expires_at = null, claim_made_at = null where claim_hash = $1 and owner_id is null and active \
             and claim_expires_at > $4 returning id";
        let row = query(sql).bind(code.mac.to_vec()).bind(owner.0).bind(now.0).bind(judged.0);
        let row = row.fetch_optional(self.on()).await?;
        Ok(row.map(|r| r.get("id")).transpose()?.map(DeviceKey))
    }

    /// Sets a new claim code, made and over at these times; the old one is dead.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn set_claim_code(
        &mut self,
        device: DeviceKey,
        code: &KeptCode,
        (made_at, expires_at): (TimeMs, TimeMs),
    ) -> Result<bool, StoreError> {
        let sql = "update devices set claim_hash = $2, claim_key = $4, claim_expires_at = $3, claim_made_at = $5 \
             where id = $1 and owner_id is null";
        let update = query(sql).bind(device.0).bind(code.mac.to_vec()).bind(expires_at.0).bind(code.key.as_str());
        let update = update.bind(made_at.0);
        Ok(update.execute(self.on()).await? == 1)
    }

    /// Puts these in the place of plain hashes; the file keeps none of their bytes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn seal_claim_codes(&mut self, codes: &[(DeviceKey, KeptCode)]) -> Result<(), StoreError> {
        self.overwrite_freed(true).await?;
        let sealed = self.seal_each(codes).await;
        // Of the connection, not of the transaction.
        self.overwrite_freed(false).await?;
        sealed
    }

    async fn seal_each(&mut self, codes: &[(DeviceKey, KeptCode)]) -> Result<(), StoreError> {
        for (device, code) in codes {
            let sql = "update devices set claim_hash = $2, claim_key = $3 \
                 where id = $1 and claim_hash is not null and claim_key is null";
            let update = query(sql).bind(device.0).bind(code.mac.to_vec()).bind(code.key.as_str());
            update.execute(self.on()).await?;
        }
        Ok(())
    }

    /// Takes away what is over of these devices: claim codes and former tokens.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_codes(&mut self, devices: &[DeviceKey], now: TimeMs) -> Result<u64, StoreError> {
        let mut gone = 0;
        for device in devices {
            for sql in [
                "update devices set claim_hash = null, claim_key = null, claim_expires_at = null, claim_made_at = null \
                 where id = $1 and claim_expires_at <= $2",
                "update devices set previous_token_hash = null, previous_token_until = null \
                 where id = $1 and previous_token_until <= $2",
            ] {
                gone += query(sql).bind(device.0).bind(now.0).execute(self.on()).await?;
            }
        }
        Ok(gone)
    }

    /// Whether SQLite overwrites with zeros what it frees inside of its pages. PostgreSQL keeps former versions of a row
    /// until it is vacuumed, which it does by itself.
    async fn overwrite_freed(&mut self, on: bool) -> Result<(), StoreError> {
        if self.on().is_sqlite() {
            let set = if on { "pragma secure_delete = on" } else { "pragma secure_delete = off" };
            query(set).fetch_optional(self.on()).await?;
        }
        Ok(())
    }
}
