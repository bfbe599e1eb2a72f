//! Paging through a long audit: a page far down against the first one, for each filter that has an index.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hexa_model::{DeviceKey, TimeMs, UserKey};
use hexa_store::{ActionFilter, AuditFilter, AuditPlace, AuditReader, Store, StoreConfig};
use rusqlite::{Connection, params};

use crate::fixture::Options;
use crate::report::{Check, Goal, Report, Spread};

const ROWS: i64 = 1_000_000;
/// So many rows are in the tail: what an idle writer leaves there.
const TAIL: i64 = 1_000;
const LIMIT: u32 = 50;
/// Page 10,000 begins behind so many rows.
const FAR: i64 = 9_999 * LIMIT as i64;
/// Pages one after the other in a measurement.
const PAGES: u32 = 20;

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("audit", options.quick);
    let dir = tempfile::tempdir()?;
    let config = StoreConfig::new(dir.path().to_owned());
    Store::open(config.clone()).await?.close().await;
    fill(&dir.path().join("hexa.db"))?;
    report.note(format!("{ROWS} rows written directly, {TAIL} of them into the tail; pages of {LIMIT}, store only"));
    let store = Store::open(config).await?;
    let reader = store.audit_reader();
    let none = AuditFilter::default;
    // Half of all rows are about one device, by one user, and not of the commonest kinds, so that each has a far page.
    let filters: [(&str, AuditFilter); 7] = [
        ("no filter", none()),
        ("a device", AuditFilter { device: Some(DeviceKey(1)), ..none() }),
        ("a user", AuditFilter { actor: Some(UserKey(1)), ..none() }),
        ("an action", AuditFilter { action: Some(ActionFilter::Exact("set_relay".into())), ..none() }),
        ("a prefix of actions", AuditFilter { action: Some(ActionFilter::Prefix("s".into())), ..none() }),
        ("an outcome", AuditFilter { outcome: Some("rejected".into()), ..none() }),
        ("a time", AuditFilter { since: Some(TimeMs(1)), until: Some(TimeMs(ROWS)), ..none() }),
    ];
    let (rounds, time) = if options.quick { (5, 100) } else { (15, 300) };
    for (what, filter) in filters {
        let mut pairs = Vec::new();
        for round in 0..=rounds {
            let far = slice(&reader, &filter, FAR, Duration::from_millis(time)).await?;
            let first = slice(&reader, &filter, 0, Duration::from_millis(time)).await?;
            // The first round warms up.
            if round > 0 {
                pairs.push((far, first));
            }
        }
        report.floor(Spread::of(pairs.iter().map(|p| p.1)));
        let what = format!("page 10,000 of 1 M audit rows, {what}");
        report.push(Check::ratio(&what, "us", "page 1", &pairs, Goal::AtMost(1.2)));
    }
    store.close().await;
    Ok(report)
}

/// Microseconds per page, over twenty pages that begin behind `skip` rows of any kind.
async fn slice(reader: &AuditReader, filter: &AuditFilter, skip: i64, time: Duration) -> Result<f64> {
    let started = Instant::now();
    let mut pages = 0;
    while started.elapsed() < time {
        let newest = ROWS - skip;
        let mut before = (skip > 0).then_some(AuditPlace { at: TimeMs(newest), chain: "main".into(), seq: newest });
        for _ in 0..PAGES {
            let rows = reader.list(filter, before.as_ref(), LIMIT).await?;
            ensure!(rows.len() == LIMIT as usize, "a page of {} rows behind {before:?}", rows.len());
            before = rows.last().map(|r| r.place.clone());
        }
        pages += PAGES;
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(pages))
}

/// Row n is of millisecond n; every second one is of the kinds that are asked for.
fn fill(db: &Path) -> Result<()> {
    let mut connection = Connection::open(db)?;
    connection.execute_batch("pragma synchronous = off; pragma cache_size = -200000")?;
    let tx = connection.transaction()?;
    for (table, from, to) in [("audit", 1, ROWS - TAIL), ("audit_tail", ROWS - TAIL + 1, ROWS)] {
        let mut insert = tx.prepare(&format!(
            "insert into {table} (seq, chain, at, actor_kind, actor_id, source, action, device_id, command_id, \
             follow_up, outcome, relay, state, latency_ms, changes, prev, hash) \
             values (?1, 'main', ?1, 'user', ?2, 'ws', ?3, ?4, ?5, 0, ?6, 0, 1, 3, '[[0,1,5]]', ?7, ?7)"
        ))?;
        for n in from..=to {
            let mut command = [0u8; 16];
            command[..8].copy_from_slice(&n.to_be_bytes());
            let (who, action, outcome) = match n % 2 {
                0 => (1, "set_relay", "rejected"),
                _ => (n % 1_000 + 2, "device.renamed", "executed"),
            };
            insert.execute(params![n, who, action, who, command, outcome, [n as u8; 32]])?;
        }
    }
    tx.commit()?;
    connection.execute_batch("pragma wal_checkpoint(truncate)")?;
    Ok(())
}
