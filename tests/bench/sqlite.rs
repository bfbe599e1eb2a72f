//! SQ: a bare loop of the same durable batches: the writer's own statements on the writer's own schema, and nothing
//! around them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use hexa_store::writer::{INSERT_AUDIT, UPSERT_RELAY};
use rusqlite::{Connection, params};

/// A database that only this loop uses.
pub(crate) struct Loop {
    connection: Connection,
    devices: i64,
    seq: i64,
}

impl Loop {
    /// Lets the store make the schema, then takes the file over.
    pub(crate) async fn new(dir: &Path, devices: i64) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let store = hexa_store::Store::open(hexa_store::StoreConfig::new(dir.to_owned())).await?;
        store.close().await;
        let connection = Connection::open(dir.join("hexa.db"))?;
        connection.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; \
             pragma wal_autocheckpoint = 4000; pragma cache_size = -16000;",
        )?;
        let synchronous: i64 = connection.query_row("pragma synchronous", [], |r| r.get(0))?;
        anyhow::ensure!(synchronous == 2, "the floor must be as durable as the server");
        for n in 1..=devices {
            connection.execute(
                "insert into devices (id, uid, device_class, relay_count, token_hash, created_at, updated_at) \
                 values ($1, $2, 'relay_controller', 4, x'00', 0, 0)",
                params![n, format!("d{n}")],
            )?;
        }
        Ok(Self { connection, devices, seq: 0 })
    }

    /// Commits batches of `size` for `time`; gives commands per second and the median batch in microseconds.
    pub(crate) fn slice(&mut self, size: i64, time: Duration) -> Result<(f64, f64)> {
        let started = Instant::now();
        let (mut rows, mut batches) = (0i64, Vec::new());
        while started.elapsed() < time {
            let begun = Instant::now();
            let (devices, seq) = (self.devices, self.seq);
            let next = (1..=size).map(|n| ((seq + n) % devices + 1, (seq + n) / devices % 2 == 1));
            self.batch(next)?;
            rows += size;
            batches.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        batches.sort_by(f64::total_cmp);
        Ok((rows as f64 / started.elapsed().as_secs_f64(), batches[batches.len() / 2]))
    }

    /// One durable transaction: for each device and state, the state and its audit row.
    pub(crate) fn batch(&mut self, items: impl Iterator<Item = (i64, bool)>) -> Result<()> {
        let c = &self.connection;
        c.prepare_cached("begin immediate")?.execute([])?;
        let mut upsert = c.prepare_cached(UPSERT_RELAY)?;
        let mut audit = c.prepare_cached(INSERT_AUDIT)?;
        for (device, on) in items {
            self.seq += 1;
            let version: i64 = upsert.query_row(params![device, 0, on, self.seq], |r| r.get(0))?;
            let command = (u128::from(self.seq as u64) << 64).to_be_bytes();
            let hash = [version as u8; 32];
            audit.execute(params![
                self.seq,
                "main",
                self.seq,
                "user",
                1,
                "api",
                "set_relay",
                device,
                command,
                false,
                "executed",
                0,
                on,
                1,
                format!("[[0,{},{version}]]", u8::from(on)),
                None::<String>,
                hash,
                hash
            ])?;
        }
        c.prepare_cached("commit")?.execute([])?;
        Ok(())
    }
}
