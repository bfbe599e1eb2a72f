//! How long commands wait for what is not a command: 200 users' settings at once, and what was noted of a whole fleet.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, DeviceKey, Source, TimeMs};
use hexa_store::{DevicePresence, HotWrite, Store, StoreConfig};
use tokio::task::JoinSet;

use crate::fixture::{self, Fixture, Options, seed};
use crate::load::{Http, Target};
use crate::report::{Check, Goal, Report, Spread};

/// Requests that change settings, all at once.
const PUTS: usize = 200;
const IN_FLIGHT: usize = 16;
/// Devices whose last sign of life is written in one go.
const FLEET: usize = 100_000;
/// What was noted is written so often here; it takes the same pieces as with the shipped interval.
const FLUSH: Duration = Duration::from_secs(1);

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("gate", options.quick);
    let dir = tempfile::tempdir()?;
    report.note(fixture::RAISED);
    report.note(format!(
        "the wait for a flush is the longest of writes one after the other while the last signs of life of {FLEET} \
         devices are written; beside it the longest without"
    ));
    let fixture = Fixture::new(options, &dir.path().join("server"), IN_FLIGHT).await?;
    settings(&fixture, &mut report, options.quick).await?;
    drop(fixture);
    flush(&dir.path().join("store"), &mut report).await?;
    Ok(report)
}

/// Pairs of bursts with the settings and as long without.
async fn settings(fixture: &Fixture, report: &mut Report, quick: bool) -> Result<()> {
    let mut target = fixture.target(0..IN_FLIGHT).await?;
    let rounds = if quick { 5 } else { 11 };
    let (mut beside, mut calm) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (busy, took) = burst(fixture, &mut target).await?;
        let alone = target.slice(IN_FLIGHT, took).await?;
        ensure!(busy.refused + alone.refused == 0.0, "a command was not answered 200");
        if round > 0 {
            beside.push(busy.p99_us / 1e3);
            calm.push(alone.p99_us / 1e3);
        }
    }
    report.floor(Spread::of(calm.iter().copied()));
    let delays = beside.iter().zip(&calm).map(|(with, without)| with - without);
    let what = "a command's p99 is later beside 200 PUT /preferences at once by";
    let check = Check::plain(what, "ms", Spread::of(delays), Goal::AtMost(15.0));
    report.push(check.beside("p99 without", Spread::of(calm)));
    Ok(())
}

/// Commands from the first to the last of the settings; and how long that took.
async fn burst(fixture: &Fixture, target: &mut Target) -> Result<(crate::load::Slice, Duration)> {
    let body = "{\"dashboard_settings\":{\"theme\":\"dark\"}}";
    let request = format!(
        "PUT /api/v1/preferences HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        fixture.token,
        body.len()
    );
    let request = Arc::new(request.into_bytes());
    let mut connections = Vec::new();
    for _ in 0..PUTS {
        connections.push(Http::open(&fixture.address).await?);
    }
    target.connect(IN_FLIGHT).await?;
    let over = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for mut http in connections {
        let request = Arc::clone(&request);
        all.spawn(async move { anyhow::Ok(http.call(&request).await?.0) });
    }
    let flag = Arc::clone(&over);
    let putting = tokio::spawn(async move {
        let mut statuses = Vec::new();
        while let Some(status) = all.join_next().await {
            statuses.push(status);
        }
        flag.store(true, Ordering::Release);
        for status in statuses {
            let status = status??;
            ensure!(matches!(status, 200 | 204), "PUT /preferences answered {status}");
        }
        anyhow::Ok(begun.elapsed())
    });
    let seen = target.run(IN_FLIGHT, None, Arc::new(move || over.load(Ordering::Acquire))).await?;
    Ok((seen, putting.await??))
}

async fn flush(dir: &Path, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut config = StoreConfig::new(dir.to_owned());
    config.note_flush = FLUSH;
    Store::open(config.clone()).await?.close().await;
    let database = dir.join("hexa.db");
    seed(&database, FLEET, None)?;
    let store = Store::open(config).await?;
    let calm = longest(&store, || Ok(false)).await?;
    let seen = |n: usize| DevicePresence {
        device: DeviceKey(n as i64),
        last_seen_at: TimeMs(1),
        ip: Some("192.0.2.1".into()),
        firmware: Some("1.0".into()),
        online: Some(true),
    };
    for n in 1..=FLEET {
        store.writer().note(seen(n));
    }
    let reader = rusqlite::Connection::open(&database)?;
    let left = || {
        let sql = "select count(*) from (select 1 from devices where last_seen_at is null limit 1)";
        Ok(reader.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
    };
    let during = longest(&store, left).await?;
    store.close().await;
    let what = format!("the longest wait of a write while {FLEET} devices' last signs of life are written");
    report
        .push(Check::plain(&what, "ms", Spread::one(during), Goal::AtMost(30.0)).beside("without", Spread::one(calm)));
    Ok(())
}

/// The longest wait of writes one after the other, in milliseconds: for two seconds, and as long as there is more.
async fn longest(store: &Store, more: impl Fn() -> Result<bool>) -> Result<f64> {
    let (begun, mut longest, mut asked) = (Instant::now(), Duration::ZERO, 0u32);
    loop {
        let entry = AuditEntry::event(TimeMs(2), Actor::System, Source::Api, "bench");
        let write = HotWrite::row(DeviceKey(0), entry);
        let sent = Instant::now();
        store.writer().commit(write).await?;
        longest = longest.max(sent.elapsed());
        asked += 1;
        if asked.is_multiple_of(64) && begun.elapsed() > 2 * FLUSH && !more()? {
            return Ok(longest.as_secs_f64() * 1e3);
        }
    }
}
