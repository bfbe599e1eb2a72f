//! The writer alone: queue to commit, against a bare loop of the same statements in the same batches.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use hexa_model::audit::{AuditEntry, RelaySet};
use hexa_model::{Actor, CommandId, DeviceKey, Outcome, Source, TimeMs};
use hexa_store::{Effect, HotWrite, Store, StoreConfig};

use crate::fixture::seed;
use crate::report::{Check, Goal, Report, Spread};
use crate::sqlite::Loop;

const DEVICES: usize = 1000;

/// Rows for batches of 64 and 256.
pub(crate) async fn measure(dir: &Path, rounds: usize, time: Duration, report: &mut Report) -> Result<()> {
    let mut bare = Loop::new(&dir.join("bare"), DEVICES as i64).await?;
    let shipped = opened(&dir.join("shipped"), None).await?;
    let at_once = opened(&dir.join("at-once"), Some(Duration::ZERO)).await?;
    let mut seq = 0;
    for size in [64, 256] {
        let (mut pairs, mut eager, mut batches) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            // The first round warms up, shortly.
            let time = if round == 0 { time / 3 } else { time };
            let (with_linger, batch) = slice(&shipped, size, time, &mut seq).await?;
            let (sq, _) = tokio::task::block_in_place(|| bare.slice(batch, time))?;
            let (without, batch) = slice(&at_once, size, time, &mut seq).await?;
            let (sq_without, _) = tokio::task::block_in_place(|| bare.slice(batch, time))?;
            if round > 0 {
                pairs.push((with_linger, sq));
                eager.push((without, sq_without));
                batches.push(batch as f64);
            }
        }
        let batch = Spread::of(batches).median;
        let what = format!("writer alone, batches of {size} ({batch} met), no linger");
        report.push(Check::ratio(&what, "/s", "SQ", &eager, Goal::AtLeast(0.8)));
        // The linger makes small batches wait on purpose: fewer transactions for the same commands.
        let what = format!("writer alone, batches of {size}, linger 300 us");
        report.push(Check::ratio(&what, "/s", "SQ", &pairs, Goal::None));
    }
    shipped.close().await;
    at_once.close().await;
    Ok(())
}

async fn opened(dir: &Path, linger: Option<Duration>) -> Result<Store> {
    std::fs::create_dir_all(dir)?;
    let mut config = StoreConfig::new(dir.to_owned());
    config.linger = linger.unwrap_or(config.linger);
    Store::open(config.clone()).await?.close().await;
    seed(&dir.join("hexa.db"), DEVICES, None)?;
    Ok(Store::open(config).await?)
}

/// Commands per second and rows per batch. One group of `size` is queued while the writer commits the other, because
/// the bare loop never waits for anybody either.
async fn slice(store: &Store, size: usize, time: Duration, seq: &mut u64) -> Result<(f64, i64)> {
    let mut group = || {
        let mut next = || {
            *seq += 1;
            store.writer().send(write(*seq))
        };
        (0..size).map(|_| next()).collect::<Vec<_>>()
    };
    let (started, before) = (Instant::now(), store.writer().stats());
    let mut waiting = VecDeque::from([group(), group()]);
    let mut done = 0;
    while let Some(first) = waiting.pop_front() {
        for commit in first {
            commit.await??;
            done += 1;
        }
        if started.elapsed() < time {
            waiting.push_back(group());
        }
    }
    let (seconds, after) = (started.elapsed().as_secs_f64(), store.writer().stats());
    let batch = (after.rows - before.rows) / (after.batches - before.batches).max(1);
    Ok((f64::from(done) / seconds, batch.max(1) as i64))
}

fn write(seq: u64) -> HotWrite {
    let device = DeviceKey((seq % DEVICES as u64) as i64 + 1);
    let on = (seq / DEVICES as u64).is_multiple_of(2);
    let mut entry = AuditEntry::event(TimeMs(seq as i64), Actor::Device, Source::Api, "set_relay");
    entry.device = Some(device);
    entry.outcome = Outcome::Executed;
    entry.relay = Some(0);
    entry.state = Some(on);
    entry.latency_ms = Some(1);
    entry.command = Some(CommandId::at(TimeMs(seq as i64), [0; 10]));
    HotWrite::row(device, entry).with(Effect::Relays([RelaySet { index: 0, on }].into_iter().collect()))
}
