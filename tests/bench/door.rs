//! Sign-ins and connections under pressure: two hundred sign-ins at once, two thousand senders that never finish their headers,
//! and what an idempotency key costs a command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, HeaderName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::fixture::{self, Fixture, Options};
use crate::lean;
use crate::load::Http;
use crate::process::{raise_open_files, resident, usage};
use crate::report::{Check, Goal, Report, Spread};

const SIGN_INS: usize = 200;
const SLOW: usize = 2_000;
const DEVICES: usize = 16;
/// Commands of a device in one slice: an account has 10,000 keys a day.
const COMMANDS: usize = 60;
/// Between two questions of the honest one.
const EVERY: Duration = Duration::from_millis(5);
const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("door", options.quick);
    let limit = raise_open_files()?;
    ensure!(limit > SLOW as u64 + 500, "RLIMIT_NOFILE is {limit}: too few for {SLOW} sockets");
    let dir = tempfile::tempdir()?;
    report.note(fixture::RAISED);
    report.note(format!(
        "{SIGN_INS} sign-ins of one account from {SIGN_INS} connections, and {SLOW} connections that send a header \
         line now and then, from 127.0.0.2-6: loopback is exempt from the limit of connections per address"
    ));
    let fixture = Fixture::new(options, dir.path(), DEVICES).await?;
    let calm = honest(&fixture, tokio::time::sleep(Duration::from_secs(2))).await?.0;
    report.floor(calm.p50);
    sign_ins(&fixture, &mut report, &calm).await?;
    slow_headers(&fixture, &mut report, &calm).await?;
    keys(&fixture, &mut report, options.quick).await?;
    Ok(report)
}

/// What somebody who asks for the server's health all the time sees.
struct Seen {
    p50: Spread,
    p99_ms: f64,
    /// The most that the server held meanwhile, bytes.
    memory: f64,
}

async fn honest<T>(fixture: &Fixture, meanwhile: impl Future<Output = T>) -> Result<(Seen, T)> {
    let over = Arc::new(AtomicBool::new(false));
    let (address, flag, pid) = (fixture.address.clone(), Arc::clone(&over), fixture.server.pid());
    let asking = tokio::spawn(async move {
        let mut http = Http::open(&address).await?;
        let (mut took, mut memory) = (Vec::new(), 0.0f64);
        while !flag.load(Ordering::Acquire) {
            let begun = Instant::now();
            let (status, _) = http.call(HEALTH).await?;
            ensure!(status == 200, "/health answered {status}");
            took.push(begun.elapsed().as_secs_f64() * 1e3);
            memory = memory.max(resident(pid));
            tokio::time::sleep(EVERY).await;
        }
        took.sort_by(f64::total_cmp);
        let p99_ms = took.get(took.len() * 99 / 100).copied().context("nothing was asked")?;
        Ok(Seen { p50: Spread::one(took[took.len() / 2]), p99_ms, memory })
    });
    let done = meanwhile.await;
    over.store(true, Ordering::Release);
    Ok((asking.await??, done))
}

/// Argon2 takes memory and a core: both are bounded by turns, and whoever does not get one is told to come back.
async fn sign_ins(fixture: &Fixture, report: &mut Report, calm: &Seen) -> Result<()> {
    let body = "{\"email\":\"bench@example.com\",\"password\":\"a long enough password\"}";
    let request = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (address, request) = (fixture.address.clone(), Arc::new(request.into_bytes()));
    let before = resident(fixture.server.pid());
    let begun = Instant::now();
    let storm = async move {
        let mut all = JoinSet::new();
        for _ in 0..SIGN_INS {
            let (address, request) = (address.clone(), Arc::clone(&request));
            all.spawn(async move {
                let mut http = Http::open(&address).await?;
                anyhow::Ok(http.call(&request).await?.0)
            });
        }
        let mut statuses = Vec::new();
        while let Some(done) = all.join_next().await {
            statuses.push(done??);
        }
        anyhow::Ok(statuses)
    };
    let (seen, statuses) = honest(fixture, storm).await?;
    let (statuses, took) = (statuses?, begun.elapsed().as_secs_f64());
    let count = |wanted: &[u16]| statuses.iter().filter(|s| wanted.contains(s)).count() as f64;
    let grown = (seen.memory - before) / f64::from(1 << 20);
    report.push(Check::counted("memory over 200 sign-ins at once", "MB", grown, Goal::AtMost(100.0)));
    let p99 = Check::plain("/health p99 meanwhile", "ms", Spread::one(seen.p99_ms), Goal::AtMost(200.0));
    report.push(p99.beside("in calm", Spread::one(calm.p99_ms)));
    report.push(Check::plain("sign-ins answered 200, per second", "/s", Spread::one(count(&[200]) / took), Goal::None));
    report.push(Check::counted("sign-ins told to come back (429, 503)", "", count(&[429, 503]), Goal::None));
    let other = SIGN_INS as f64 - count(&[200, 429, 503]);
    report.push(Check::counted("sign-ins answered anything else", "", other, Goal::AtMost(0.0)));
    Ok(())
}

async fn slow_headers(fixture: &Fixture, report: &mut Report, calm: &Seen) -> Result<()> {
    let to = fixture.socket_address()?;
    let attack = async move {
        let mut all = JoinSet::new();
        for n in 0..SLOW {
            all.spawn(slow(to, n));
        }
        let mut longest = 0.0f64;
        while let Some(done) = all.join_next().await {
            longest = longest.max(done??);
        }
        anyhow::Ok(longest)
    };
    let (seen, longest) = honest(fixture, attack).await?;
    let what = format!("/health p99 beside {SLOW} slow senders");
    let p99 = Check::plain(&what, "ms", Spread::one(seen.p99_ms), Goal::AtMost(500.0));
    report.push(p99.beside("in calm", Spread::one(calm.p99_ms)));
    report.push(Check::plain("the last slow sender was closed after", "s", Spread::one(longest?), Goal::AtMost(12.0)));
    Ok(())
}

/// Sends a line of its head every second; gives how long that was let be, seconds.
async fn slow(to: SocketAddr, n: usize) -> Result<f64> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(lean::source(n))?;
    let mut stream: TcpStream = socket.connect(to).await.context("connect")?;
    let begun = Instant::now();
    let mut line = "GET /health HTTP/1.1\r\nhost: x\r\n".to_owned();
    let mut byte = [0; 512];
    loop {
        if stream.write_all(line.as_bytes()).await.is_err() {
            return Ok(begun.elapsed().as_secs_f64());
        }
        match tokio::time::timeout(Duration::from_secs(1), stream.read(&mut byte)).await {
            Ok(Ok(0) | Err(_)) => return Ok(begun.elapsed().as_secs_f64()),
            Ok(Ok(_)) => {}
            Err(_) => ensure!(begun.elapsed() < Duration::from_secs(60), "a slow sender was let be for a minute"),
        }
        "x-slow: 1\r\n".clone_into(&mut line);
    }
}

/// A command with a key against one without, and what looking for a key costs those that have none.
async fn keys(fixture: &Fixture, report: &mut Report, quick: bool) -> Result<()> {
    let _target = fixture.target(0..DEVICES).await?;
    let rounds = if quick { 5 } else { 9 };
    let (mut cpu, mut middle) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let keyed = slice(fixture, Some(round)).await?;
        let plain = slice(fixture, None).await?;
        // The first round warms up.
        if round > 0 {
            cpu.push((keyed.0, plain.0));
            middle.push((keyed.1, plain.1));
        }
    }
    let without = "without a key";
    report.push(Check::ratio("a keyed command's p50, 16 in flight", "us", without, &middle, Goal::None));
    report.push(Check::ratio("a keyed command's server CPU", "us", without, &cpu, Goal::None));
    let look = Check::plain("looking for a key, per command without one", "us", look(), Goal::AtMost(2.0));
    report.push(look);
    Ok(())
}

/// Server CPU per command and the p50 of an answer, microseconds.
async fn slice(fixture: &Fixture, keyed: Option<usize>) -> Result<(f64, f64)> {
    let before = usage(fixture.server.pid());
    let mut all = JoinSet::new();
    for device in 0..DEVICES {
        let (address, token) = (fixture.address.clone(), fixture.token.clone());
        all.spawn(async move {
            let mut http = Http::open(&address).await?;
            let mut took = Vec::new();
            while took.len() < COMMANDS {
                let mut request = fixture::switch(device, took.len() % 2 == 1, &token);
                if let Some(round) = keyed {
                    let key = format!("idempotency-key: bench-{round}-{device}-{}\r\ncontent-type", took.len());
                    request = String::from_utf8(request)?.replacen("content-type", &key, 1).into_bytes();
                }
                let begun = Instant::now();
                let (status, _) = http.call(&request).await?;
                ensure!(status == 200, "a command was answered {status}");
                took.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = all.join_next().await {
        took.extend(done??);
    }
    took.sort_by(f64::total_cmp);
    let cpu = (usage(fixture.server.pid()) - before).cpu_us;
    let middle = took.get(took.len() / 2).copied().context("nothing was answered")?;
    Ok((cpu / took.len() as f64, middle))
}

/// What the middleware does for a command without a key: one look at a request's headers.
fn look() -> Spread {
    const TIMES: u32 = 1_000_000;
    let key = HeaderName::from_static("idempotency-key");
    let mut headers = HeaderMap::new();
    for name in ["host", "authorization", "content-type", "content-length", "user-agent"] {
        headers.insert(HeaderName::from_static(name), http::HeaderValue::from_static("something"));
    }
    Spread::of((0..5).map(|_| {
        let begun = Instant::now();
        for _ in 0..TIMES {
            std::hint::black_box(std::hint::black_box(&headers).contains_key(&key));
        }
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
    }))
}
