//! The relay path against F2, F2C and SQ, in interleaved slices of one run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures_util::SinkExt;
use hexa_model::UserKey;
use hexa_platform::limit::{Limiter, Rate};
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::{self, Fixture, Metrics, Options};
use crate::load::{self, Slice, Target};
use crate::process::{Running, Usage, own_cpu_us, usage};
use crate::report::{Check, Goal, Report, Spread};
use crate::{nodered, sqlite, writer};

/// Devices of each target.
const DEVICES: usize = 1000;
/// Above this a single durable commit of the bare loop makes F2C the floor, in microseconds.
const SLOW_COMMIT_US: f64 = 500.0;

/// One row of cells: so many in flight, for so long in a quick and in a full run.
const CELLS: [(usize, u64, u64); 4] = [(1, 250, 1500), (64, 400, 1500), (256, 300, 1500), (1000, 350, 2000)];

struct Cell {
    f2: Slice,
    f2_used: Usage,
    f2c: Option<Slice>,
    /// SQ: single commits, microseconds. Measured with one in flight only.
    single_us: f64,
    mine: Slice,
    used: Usage,
    counted: Counters,
}

struct Run {
    f2: Target,
    f2c: Target,
    floor: Running,
    ours: Target,
    fixture: Fixture,
    bare: sqlite::Loop,
    durable_floor: bool,
}

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options, node_red: Option<&Path>) -> Result<Report> {
    let mut report = Report::new("relay", options.quick);
    let dir = tempfile::tempdir()?;
    let _awake = Running::awake()?;
    report.note(fixture::RAISED);
    report.note(format!(
        "{DEVICES} devices of one user and one dashboard that subscribes to all; generator, floors and server share the \
         machine; a nice-19 thread per core keeps the cores awake"
    ));
    let seen = Arc::new(AtomicU64::new(0));
    let mut run = prepare(options, dir.path(), &seen).await?;
    let mut single = Spread::of(run.single(Duration::from_millis(200)));
    run.durable_floor = !options.quick || single.median > SLOW_COMMIT_US;
    let rounds = if options.quick { 3 } else { 7 };
    let mut cells: [Vec<Cell>; 4] = Default::default();
    // The first round warms up, shortly, and is not counted.
    for round in 0..=rounds {
        for (n, (in_flight, quick, full)) in CELLS.into_iter().enumerate() {
            let time = Duration::from_millis(if options.quick { quick } else { full } / if round == 0 { 3 } else { 1 });
            let cell = run.cell(in_flight, time).await?;
            if round > 0 {
                cells[n].push(cell);
            }
        }
    }
    single = Spread::of(cells[0].iter().map(|c| c.single_us).chain([single.median]));
    let slow = single.median > SLOW_COMMIT_US && run.durable_floor;
    report.note(format!(
        "SQ, one durable commit of the bare loop: {single} us; so the floor of the goals is {}",
        if slow { "F2C, a raw relay with one group-committed writer" } else { "F2, a raw relay" }
    ));
    rows(&cells, slow, &mut report);
    report.note(format!("the dashboard got {} frames", seen.load(Ordering::Relaxed)));
    report.push(limiter(options.quick));
    if let Some(node_red) = node_red {
        let (rounds, time) = if options.quick { (2, 400) } else { (5, 1500) };
        match nodered::Flow::start(node_red, dir.path()).await {
            Ok(flow) => report.push(flow.measure(&mut run.ours, rounds, Duration::from_millis(time)).await?),
            Err(why) => report.note(format!("Node-RED is left out: {why:#}")),
        }
    }
    drop(run);
    let (rounds, time) = if options.quick { (3, 150) } else { (7, 700) };
    writer::measure(&dir.path().join("writer"), rounds, Duration::from_millis(time), &mut report).await?;
    Ok(report)
}

async fn prepare(options: &Options, dir: &Path, seen: &Arc<AtomicU64>) -> Result<Run> {
    let floor_dir = dir.join("floor");
    let (floor, address) = Running::own(&["floor", &floor_dir.to_string_lossy(), &DEVICES.to_string()])?;
    let (mut direct, mut durable) = (Vec::new(), Vec::new());
    for n in 0..DEVICES {
        tokio::spawn(load::raw_device(load::socket(&address, &format!("/device/d{n}"), None).await?));
        let request = |route: &str, on: u8| {
            format!("POST /{route}/d{n}/{on} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").into_bytes()
        };
        direct.push([0, 1].map(|on| request("cmd", on)));
        durable.push([0, 1].map(|on| request("durable", on)));
    }
    let fixture = Fixture::new(options, &dir.join("ours"), DEVICES).await?;
    let ours = fixture.target(0..DEVICES).await?;
    let mut dashboard = load::socket(&fixture.address, "/ws/client", Some(&fixture.token)).await?;
    dashboard.send(Message::text("{\"type\":\"subscribe\"}")).await?;
    tokio::spawn(load::watcher(dashboard, Arc::clone(seen)));
    let bare = sqlite::Loop::new(&dir.join("sq"), DEVICES as i64).await?;
    let (f2, f2c) = (Target::new(address.clone(), direct), Target::new(address, durable));
    Ok(Run { f2, f2c, floor, ours, fixture, bare, durable_floor: false })
}

impl Run {
    /// One commit a batch.
    fn single(&mut self, time: Duration) -> Option<f64> {
        tokio::task::block_in_place(|| self.bare.slice(1, time)).ok().map(|(_, us)| us)
    }

    async fn cell(&mut self, in_flight: usize, time: Duration) -> Result<Cell> {
        self.f2.connect(in_flight).await?;
        let before = usage(self.floor.pid());
        let f2 = self.f2.slice(in_flight, time).await?;
        let f2_used = usage(self.floor.pid()) - before;
        let f2c = if self.durable_floor { Some(self.f2c.slice(in_flight, time).await?) } else { None };
        let single_us = if in_flight == 1 { self.single(time / 2).unwrap_or(f64::NAN) } else { f64::NAN };
        self.ours.connect(in_flight).await?;
        let (counted, before) = (Counters::of(&self.fixture.metrics().await?), usage(self.fixture.server.pid()));
        let mine = self.ours.slice(in_flight, time).await?;
        let used = usage(self.fixture.server.pid()) - before;
        let counted = Counters::of(&self.fixture.metrics().await?).since(&counted);
        Ok(Cell { f2, f2_used, f2c, single_us, mine, used, counted })
    }
}

#[derive(Default)]
struct Counters {
    transactions: f64,
    encodes: f64,
}

impl Counters {
    fn of(metrics: &Metrics) -> Self {
        Self {
            transactions: metrics.sum("hexa_writer_transactions_total{"),
            encodes: metrics.sum("hexa_broadcast_encodes_total "),
        }
    }
    fn since(&self, before: &Self) -> Self {
        Self { transactions: self.transactions - before.transactions, encodes: self.encodes - before.encodes }
    }
}

/// Ours and the floor's `figure`, pair by pair.
fn pairs(cells: &[Cell], durable: bool, figure: impl Fn(&Slice) -> f64) -> Vec<(f64, f64)> {
    let floor = |c: &Cell| if durable { c.f2c.as_ref().map_or(f64::NAN, &figure) } else { figure(&c.f2) };
    cells.iter().map(|c| (figure(&c.mine), floor(c))).collect()
}

fn rows(cells: &[Vec<Cell>; 4], slow: bool, report: &mut Report) {
    let [one, sixty_four, many, thousand] = cells;
    let name = if slow { "F2C" } else { "F2" };
    let (rate, tail) =
        if slow { (Goal::AtLeast(0.7), Goal::AtMost(1.3)) } else { (Goal::AtLeast(0.55), Goal::AtMost(1.4)) };
    let tail_of = |s: &Slice| s.p99_us / s.p50_us;
    let per_second = |s: &Slice| s.per_second;
    let floor = pairs(sixty_four, slow, per_second);
    report.floor(Spread::of(floor.iter().map(|p| p.1)));
    report.push(Check::ratio("commands/s, 64 in flight", "/s", name, &floor, rate));
    report.push(Check::ratio("commands/s, 256 in flight", "/s", name, &pairs(many, slow, per_second), rate));
    report.push(Check::ratio("p99/p50, 64 in flight", "x", name, &pairs(sixty_four, slow, tail_of), tail));
    report.push(Check::ratio("p99/p50, 256 in flight", "x", name, &pairs(many, slow, tail_of), tail));
    if sixty_four.iter().all(|c| c.f2c.is_some()) {
        let other = if slow { "F2" } else { "F2C" };
        let of = |cells: &[Cell]| pairs(cells, !slow, per_second);
        report.push(Check::ratio("commands/s, 64 in flight", "/s", other, &of(sixty_four), Goal::None));
        report.push(Check::ratio("commands/s, 256 in flight", "/s", other, &of(many), Goal::None));
    }
    let own: Vec<_> = thousand.iter().zip(sixty_four).map(|(t, s)| (t.mine.per_second, s.mine.per_second)).collect();
    let goal = Goal::AtLeast(0.95);
    report.push(Check::ratio("commands/s, 1,000 in flight", "/s", "own rate at 64 in flight", &own, goal));
    let what = "commands/s, 1,000 in flight";
    report.push(Check::ratio(what, "/s", name, &pairs(thousand, slow, per_second), Goal::None));
    let refused = cells.iter().flatten().map(|c| c.mine.refused).sum();
    report.push(Check::counted("timeouts and refusals in all slices", "commands", refused, Goal::AtMost(0.0)));
    let latency: Vec<_> = one.iter().map(|c| (c.mine.p50_us, c.f2.p50_us + c.single_us)).collect();
    report.push(Check::ratio("p50, 1 in flight", "us", "F2 + SQ's single commit", &latency, Goal::AtMost(1.5)));
    let cpu = |of: &dyn Fn(&Cell) -> f64| Spread::of(sixty_four.iter().map(of));
    let goal = if slow { Goal::None } else { Goal::AtMost(55.0) };
    let ours = cpu(&|c| c.used.cpu_us / c.mine.commands);
    let floor = cpu(&|c| c.f2_used.cpu_us / c.f2.commands);
    report.push(Check::plain("server CPU per command, 64 in flight", "us", ours, goal).beside("F2", floor));
    let commands: f64 = sixty_four.iter().map(|c| c.mine.commands).sum();
    let per_command = |of: &dyn Fn(&Cell) -> f64| sixty_four.iter().map(of).sum::<f64>() / commands.max(1.0);
    let transactions = per_command(&|c| c.counted.transactions);
    let what = "transactions per command, 64 in flight";
    // How many commands meet in one transaction depends on how fast they come, but hardly on noise.
    report.push(Check::counted(what, "", transactions, Goal::AtMost(0.05)));
    let switches = per_command(&|c| c.used.switches);
    report.push(Check::counted("voluntary switches per command, 64 in flight", "", switches, Goal::AtMost(0.6)));
    let encodes = per_command(&|c| c.counted.encodes);
    report.push(Check::counted("encodes per command with one dashboard", "", encodes, Goal::AtMost(1.01)));
}

/// What the per-user request limiter costs a request: its check alone, for one busy user among 10,000.
fn limiter(quick: bool) -> Check {
    let limiter = Limiter::new("requests", Rate::new(1_000_000_000, Duration::from_secs(1)));
    for user in 0..10_000 {
        drop(limiter.take(&UserKey(user)));
    }
    let calls = if quick { 200_000u32 } else { 1_000_000 };
    let round = || {
        let begun = own_cpu_us();
        for _ in 0..calls {
            drop(std::hint::black_box(limiter.take(&UserKey(7))));
        }
        (own_cpu_us() - begun) / f64::from(calls)
    };
    let cost = Spread::of((0..5).map(|_| round()));
    Check::plain("request limiter, its check alone, per command", "us", cost, Goal::None)
}
