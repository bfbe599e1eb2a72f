//! What a connected device costs while nothing happens, what is left when all have gone, and the cold start.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, Options, start, wait_for};
use crate::lean::{self, Lean};
use crate::process::{Running, raise_open_files, resident, settled};
use crate::report::{Check, Goal, Report, Spread};

const MB: f64 = 1e6;
/// Devices in the database at the cold start.
const REGISTERED: usize = 10_000;
/// How many sockets are opened at the same time: this bench is no storm.
const AT_ONCE: usize = 200;

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("devices", options.quick);
    let (few, many) = if options.quick { (1_000, 6_000) } else { (1_000, 15_000) };
    let limit = raise_open_files()?;
    ensure!(limit > many as u64 + 500, "RLIMIT_NOFILE is {limit}: too few for {many} sockets");
    let dir = tempfile::tempdir()?;
    report.note(format!(
        "{few} -> {many} idle devices from 127.0.0.2-6; each has reported its 4 relays and answers pings; soft \
         RLIMIT_NOFILE raised to the hard {limit}, which is the limit of one server here; RSS without the kernel's sockets"
    ));
    let (floor, address) = floor(dir.path())?;
    let requests = |n: usize| lean::upgrade(&address, &format!("/device/d{n}"), "");
    let raw = slope(floor.pid(), address.parse()?, &requests, None, few..many).await?;
    drop((raw.sockets, floor));
    let fixture = Fixture::new(options, &dir.path().join("ours"), many).await?;
    let pid = fixture.server.pid();
    let idle = settled(pid, Duration::from_secs(if options.quick { 3 } else { 10 })).await;
    let requests = |n: usize| fixture.upgrade(n);
    let ours = slope(pid, fixture.socket_address()?, &requests, Some(&fixture), few..many).await?;
    let per_device =
        Check::plain("memory per idle device", "bytes", Spread::one(ours.bytes), Goal::AtMost(6.5 * 1024.0));
    let against = "raw axum WebSocket, buffers of 4 KiB, glibc";
    report.push(Check { timed: false, ..per_device }.beside(against, Spread::one(raw.bytes)));
    report.push(Check::counted(&format!("memory with {many} devices"), "MB", ours.resident / MB, Goal::None));
    drop(ours.sockets);
    let begun = Instant::now();
    let bar = idle * 1.5 + 10.0 * MB;
    let mut left = resident(pid);
    while left > bar && begun.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        left = resident(pid);
    }
    report.note(format!(
        "all gone: {:.1} MB after {:.1} s; the bar is 1.5 x {:.1} MB + 10 MB",
        left / MB,
        begun.elapsed().as_secs_f64(),
        idle / MB
    ));
    let over = Check::counted("memory 10 s after all left", "x of its bar", left / bar, Goal::AtMost(1.0));
    report.push(over.beside("before", Spread::one(idle / bar)));
    report.push(Check::counted("memory with no device", "MB", idle / MB, Goal::AtMost(40.0)));
    fixture.server.stop()?;
    cold_start(options, dir.path(), &mut report).await?;
    let binary = std::fs::metadata(&options.hexa)?.len() as f64;
    report.push(Check::counted("binary, stripped", "MB", binary / MB, Goal::AtMost(35.0)));
    Ok(report)
}

fn floor(dir: &Path) -> Result<(Running, String)> {
    let database = dir.join("floor");
    Running::own(&["floor", &database.to_string_lossy(), "1"])
}

struct Slope {
    /// Memory for each device.
    bytes: f64,
    /// With all of them.
    resident: f64,
    sockets: JoinSet<()>,
}

/// Connects devices up to the first, then up to the second end of `steps`, and looks at the memory each time.
async fn slope(
    pid: u32,
    to: SocketAddr,
    request: &dyn Fn(usize) -> Vec<u8>,
    fixture: Option<&Fixture>,
    steps: std::ops::Range<usize>,
) -> Result<Slope> {
    let (few, many) = (steps.start, steps.end);
    // Longer where there is more to give back.
    let patience = Duration::from_secs(if many > 10_000 { 20 } else { 4 });
    let mut sockets = JoinSet::new();
    connect(to, request, 0..few, fixture, &mut sockets).await?;
    let first = settled(pid, patience).await;
    connect(to, request, few..many, fixture, &mut sockets).await?;
    let last = settled(pid, patience).await;
    Ok(Slope { bytes: (last - first) / (many - few) as f64, resident: last, sockets })
}

async fn connect(
    to: SocketAddr,
    request: &dyn Fn(usize) -> Vec<u8>,
    devices: std::ops::Range<usize>,
    fixture: Option<&Fixture>,
    sockets: &mut JoinSet<()>,
) -> Result<()> {
    const REPORT: &str = "{\"type\":\"state_report\",\"relays\":[{\"index\":0,\"state\":true},\
        {\"index\":1,\"state\":false},{\"index\":2,\"state\":false},{\"index\":3,\"state\":false}]}";
    let reports = fixture.is_some();
    let end = devices.end;
    let mut opening = JoinSet::new();
    for n in devices {
        if opening.len() >= AT_ONCE {
            keep(opening.join_next().await, sockets)?;
        }
        let request = request(n);
        opening.spawn(async move {
            let mut socket = Lean::open(to, lean::source(n), &request, None).await?;
            if reports {
                socket.text(REPORT).await?;
            }
            anyhow::Ok(socket)
        });
    }
    while !opening.is_empty() {
        keep(opening.join_next().await, sockets)?;
    }
    if let Some(fixture) = fixture {
        fixture.connected(end).await?;
    }
    Ok(())
}

fn keep(opened: Option<Result<Result<Lean>, tokio::task::JoinError>>, sockets: &mut JoinSet<()>) -> Result<()> {
    if let Some(opened) = opened {
        sockets.spawn(opened??.stay());
    }
    Ok(())
}

/// From exec to the first 200 of `/ready`, with the compiled plugins in the cache and nothing else warm but the disk.
async fn cold_start(options: &Options, dir: &Path, report: &mut Report) -> Result<()> {
    let (full, empty) = (dir.join("full"), dir.join("empty"));
    let fixture = Fixture::new(options, &full, REGISTERED).await?;
    fixture.server.stop()?;
    Fixture::new(options, &empty, 0).await?.server.stop()?;
    let (mut pairs, mut bare, mut after) = (Vec::new(), Vec::new(), Vec::new());
    let rounds = if options.quick { 5 } else { 11 };
    for round in 0..=rounds {
        let loaded = binary_alone(&options.hexa)?;
        let without = begin(options, &empty).await?;
        let with = begin(options, &full).await?;
        if round > 0 {
            pairs.push((with, without));
            bare.push(loaded);
            after.push(with - loaded);
        }
    }
    report.floor(Spread::of(pairs.iter().map(|p| p.1)));
    report.note(
        "cold start: from exec to /ready, the compiled plugins cached and the files in the page cache; `the binary \
         alone` is exec to exit of `hexa --version`",
    );
    let after =
        Check::plain("cold start with 10,000 devices, binary loaded", "ms", Spread::of(after), Goal::AtMost(150.0));
    report.push(after.beside("the binary alone", Spread::of(bare)));
    report.push(Check::ratio("cold start with 10,000 devices", "ms", "empty database", &pairs, Goal::None));
    Ok(())
}

fn binary_alone(hexa: &Path) -> Result<f64> {
    let begun = Instant::now();
    let status = Command::new(hexa).arg("--version").stdout(Stdio::null()).status()?;
    ensure!(status.success(), "hexa --version failed");
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

async fn begin(options: &Options, dir: &Path) -> Result<f64> {
    std::fs::remove_file(dir.join("data/listen.addr")).context("listen.addr")?;
    let begun = Instant::now();
    let server = start(options, dir)?;
    wait_for(dir).await?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    server.stop()?;
    Ok(took)
}
