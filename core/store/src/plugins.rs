//! Faults of plugins, as rows that outlive a restart.

use hexa_model::plugin::PluginFault;
use hexa_model::{DeviceUid, TimeMs};

use crate::db::{Row, query};
use crate::error::StoreError;
use crate::{Store, Tx};

/// So many faults of a plugin are kept, the newest ones.
const KEPT: i64 = 256;

/// A fault of a plugin's call, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRow {
    /// Its place: rises with time.
    pub id: i64,
    /// Version of the plugin.
    pub version: String,
    /// Function of the contract.
    pub function: String,
    /// `trap`, `cpu`, `wall`, `memory`, `output`, `io`.
    pub kind: String,
    /// Name, allowed and actual value of the limit that was broken.
    pub limit: Option<(String, i64, i64)>,
    /// What happened, for people.
    pub message: String,
    /// Whose call it was.
    pub device: Option<DeviceUid>,
    /// The beginning of the input, masked.
    pub sample: String,
    /// When the call failed.
    pub at: TimeMs,
}

impl Tx {
    /// Keeps a fault, and of its plugin the newest 256.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn plugin_fault(&mut self, fault: &PluginFault) -> Result<(), StoreError> {
        let limit = fault.limit.as_ref();
        let number = |n: Option<u64>| n.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        query(
            "insert into plugin_faults \
             (plugin, version, function, kind, limit_name, allowed, actual, message, device_uid, sample, at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(&fault.plugin)
        .bind(&fault.version)
        .bind(fault.function)
        .bind(fault.kind)
        .bind(limit.map(|l| l.limit))
        .bind(number(limit.map(|l| l.allowed)))
        .bind(number(limit.map(|l| l.actual)))
        .bind(&fault.message)
        .bind(fault.device.as_ref().map(DeviceUid::as_str))
        .bind(&fault.sample)
        .bind(fault.at)
        .execute(self.on())
        .await?;
        query(
            "delete from plugin_faults where plugin = $1 and id <= \
             (select id from plugin_faults where plugin = $1 order by id desc limit 1 offset $2)",
        )
        .bind(&fault.plugin)
        .bind(KEPT)
        .execute(self.on())
        .await?;
        Ok(())
    }
}

impl Store {
    /// A plugin's faults, newest first, below `before`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn plugin_faults(
        &self,
        plugin: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<FaultRow>, StoreError> {
        let sql = "select * from plugin_faults where plugin = $1 and id < $2 order by id desc limit $3";
        let before = before.unwrap_or(i64::MAX);
        let rows = query(sql).bind(plugin).bind(before).bind(limit).fetch_all(self.reader()).await?;
        rows.iter().map(fault).collect()
    }
}

fn fault(row: &Row) -> Result<FaultRow, StoreError> {
    let limit: (Option<String>, Option<i64>, Option<i64>) =
        (row.get("limit_name")?, row.get("allowed")?, row.get("actual")?);
    Ok(FaultRow {
        id: row.get("id")?,
        version: row.get("version")?,
        function: row.get("function")?,
        kind: row.get("kind")?,
        limit: match limit {
            (Some(name), Some(allowed), Some(actual)) => Some((name, allowed, actual)),
            _ => None,
        },
        message: row.get("message")?,
        device: row.get::<Option<String>>("device_uid")?.and_then(|uid| DeviceUid::parse(&uid)),
        sample: row.get("sample")?,
        at: TimeMs(row.get("at")?),
    })
}
