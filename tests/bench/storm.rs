//! A reconnect storm: thousands of devices connect at once, and others are switched meanwhile.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::ChildStdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::fixture::{self, Fixture, Options};
use crate::lean::{self, Lean};
use crate::load::{self, Slice, Target};
use crate::process::{Running, raise_open_files};
use crate::report::{Check, Goal, Report, Spread};

/// Devices that were connected before and are switched during the storm: each every 64 ms, 1,000 commands per second.
pub(crate) const CALM_DEVICES: usize = 64;
const EVERY: Duration = Duration::from_millis(64);

struct Stormed {
    /// Until the last one was answered, seconds.
    last: f64,
    /// Until the middle one was.
    middle: f64,
    refused: usize,
}

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("storm", options.quick);
    let (devices, rounds) = if options.quick { (4_000, 3) } else { (15_000, 5) };
    let limit = raise_open_files()?;
    ensure!(limit > devices as u64 + 500, "RLIMIT_NOFILE is {limit}: too few for {devices} sockets");
    let dir = tempfile::tempdir()?;
    report.note(fixture::RAISED);
    report.note(format!(
        "{devices} devices from 127.0.0.2-6 at once, {CALM_DEVICES} others switched 1,000 times a second from a process of \
         its own; soft RLIMIT_NOFILE raised to the hard {limit}; no limit of connections was raised, there is none per address"
    ));
    let (_bare, bare) = Running::own(&["accept"])?;
    let (_axum, axum) = Running::own(&["axum-accept"])?;
    let (bare, axum): (SocketAddr, SocketAddr) = (bare.parse()?, axum.parse()?);
    let fixture = Fixture::new(options, dir.path(), CALM_DEVICES + devices).await?;
    let ours = fixture.socket_address()?;
    let requests: Arc<Vec<Vec<u8>>> = Arc::new((0..devices).map(|n| fixture.upgrade(CALM_DEVICES + n)).collect());
    let mut commander = Commander::start(&fixture)?;
    fixture.connected(CALM_DEVICES).await?;
    let (mut last, mut against_axum, mut over_middle) = (Vec::new(), Vec::new(), Vec::new());
    let (mut tails, mut refused, mut timeouts) = (Vec::new(), 0, 0.0);
    for round in 0..=rounds {
        let raw = storm(bare, &requests).await?;
        let raw_axum = storm(axum, &requests).await?;
        let mine = storm(ours, &requests).await?;
        fixture.connected(CALM_DEVICES).await?;
        let calm = commander.during(tokio::time::sleep(Duration::from_millis(1500))).await?.0;
        let (busy, stormed) = commander.during(storm(ours, &requests)).await?;
        let stormed = stormed?;
        fixture.connected(CALM_DEVICES).await?;
        ensure!(raw.refused + raw_axum.refused == 0, "a floor refused connections");
        refused += mine.refused + stormed.refused;
        timeouts += busy.refused + calm.refused;
        if round > 0 {
            last.push((mine.last, raw.last));
            against_axum.push((mine.last, raw_axum.last));
            over_middle.push(mine.last / mine.middle);
            tails.push((busy.p99_us, calm.p99_us));
        }
    }
    report.floor(Spread::of(last.iter().map(|p| p.1)));
    let bare = "accept thread with a bare upgrade";
    report.push(Check::ratio("last device answered", "s", bare, &last, Goal::AtMost(1.4)));
    let axum = "accept thread with axum's upgrade";
    report.push(Check::ratio("last device answered", "s", axum, &against_axum, Goal::None));
    report.push(Check::counted("devices refused", "", refused as f64, Goal::AtMost(0.0)));
    report.push(Check::plain("last / middle device answered", "x", Spread::of(over_middle), Goal::None));
    let own = "own p99 in calm";
    report.push(Check::ratio("p99 of other devices' commands meanwhile", "us", own, &tails, Goal::AtMost(5.0)));
    report.push(Check::counted("timeouts of commands meanwhile", "", timeouts, Goal::AtMost(0.0)));
    Ok(report)
}

/// All at once; the sockets are reset when the last one was answered.
async fn storm(to: SocketAddr, requests: &Arc<Vec<Vec<u8>>>) -> Result<Stormed> {
    let refused = Arc::new(AtomicUsize::new(0));
    let mut all = JoinSet::new();
    let begun = Instant::now();
    for n in 0..requests.len() {
        let (requests, refused) = (Arc::clone(requests), Arc::clone(&refused));
        all.spawn(async move {
            match Lean::open(to, lean::source(n), &requests[n], None).await {
                Ok(socket) => Some((begun.elapsed().as_secs_f64(), socket)),
                Err(error) => {
                    if refused.fetch_add(1, Ordering::Relaxed) == 0 {
                        eprintln!("bench: refused: {error:#}");
                    }
                    None
                }
            }
        });
    }
    let mut times = Vec::new();
    let mut sockets = Vec::new();
    while let Some(done) = all.join_next().await {
        if let Some((took, socket)) = done? {
            times.push(took);
            sockets.push(socket);
        }
    }
    for socket in sockets {
        socket.reset_on_close()?;
    }
    times.sort_by(f64::total_cmp);
    let last = times.last().copied().context("nobody was answered")?;
    Ok(Stormed { last, middle: times[times.len() / 2], refused: refused.load(Ordering::Relaxed) })
}

/// The process that switches other devices.
pub(crate) struct Commander {
    process: Running,
    answers: BufReader<ChildStdout>,
}

impl Commander {
    pub(crate) fn start(fixture: &Fixture) -> Result<Self> {
        let (process, mut answers) = Running::talking(&["commander", &fixture.address, &fixture.token])?;
        answers.read_line(&mut String::new())?;
        Ok(Self { process, answers })
    }

    /// What commands cost while something happens.
    pub(crate) async fn during<T>(&mut self, what: impl Future<Output = T>) -> Result<(Slice, T)> {
        self.process.tell("go")?;
        let done = what.await;
        self.process.tell("stop")?;
        let mut line = String::new();
        tokio::task::block_in_place(|| self.answers.read_line(&mut line))?;
        Ok((serde_json::from_str(&line).context("the commander ended")?, done))
    }
}

/// The commander itself: on `go` it sends until `stop`, then prints what it saw.
pub(crate) async fn command(address: &str, token: &str) -> Result<()> {
    let mut requests = Vec::new();
    for n in 0..CALM_DEVICES {
        let path = format!("/ws/device?uid={}", fixture::uid(n));
        tokio::spawn(load::device(load::socket(address, &path, Some(&fixture::device_token(n))).await?));
        requests.push([false, true].map(|on| fixture::switch(n, on, token)));
    }
    let mut target = Target::new(address.to_owned(), requests);
    let over = Arc::new(AtomicBool::new(true));
    let (to, mut from) = tokio::sync::mpsc::channel(4);
    let flag = Arc::clone(&over);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            flag.store(line != "go", Ordering::Release);
            if line == "go" && to.blocking_send(()).is_err() {
                return;
            }
        }
    });
    // Connections are opened before the first measurement.
    target.slice(CALM_DEVICES, Duration::from_millis(100)).await?;
    println!("ready");
    while from.recv().await.is_some() {
        let over = Arc::clone(&over);
        let slice = target.run(CALM_DEVICES, Some(EVERY), Arc::new(move || over.load(Ordering::Acquire))).await?;
        println!("{}", serde_json::to_string(&slice)?);
    }
    Ok(())
}
