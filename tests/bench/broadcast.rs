//! One change to a thousand client sockets, and one client among them that does not read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::{self, Fixture, Options, uid};
use crate::lean::{self, Lean};
use crate::load::{self, Target};
use crate::process::{Running, raise_open_files, resident};
use crate::report::{Check, Goal, Report, Spread};

const CLIENTS: usize = 1000;
/// Devices whose relays are switched to fill the stalled client's socket; the other clients do not hear of them.
const NOISY_DEVICES: usize = 64;
/// Devices whose inputs are the changes: enough that none comes near its message rate of 60 per second.
const TRIGGERS: usize = 16;
const CHANGE: &str = "{\"type\":\"input_event\",\"input\":0,\"event\":\"press\"}";

/// A thousand reading sockets, and when each of them had the current change.
struct Audience {
    began: Mutex<Instant>,
    left: AtomicUsize,
    all: Notify,
    times: Vec<AtomicU32>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Audience {
    /// Opens the sockets; with `subscribe` each says it and waits for its snapshot.
    async fn open(to: SocketAddr, request: &[u8], subscribe: Option<&str>) -> Result<Arc<Self>> {
        let audience = Arc::new(Self {
            began: Mutex::new(Instant::now()),
            left: AtomicUsize::new(0),
            all: Notify::new(),
            times: (0..CLIENTS).map(|_| AtomicU32::new(0)).collect(),
            tasks: Mutex::default(),
        });
        for n in 0..CLIENTS {
            let mut socket = Lean::open(to, lean::source(n), request, None).await?;
            if let Some(subscribe) = subscribe {
                socket.text(subscribe).await?;
                while socket.read().await?.frames == 0 {}
            }
            let mine = Arc::clone(&audience);
            let task = tokio::spawn(async move {
                while let Ok(got) = socket.read().await {
                    if got.closed || (got.pings > 0 && socket.pong().await.is_err()) {
                        return;
                    }
                    for _ in 0..got.frames {
                        mine.got(n);
                    }
                }
            });
            audience.tasks.lock().unwrap().push(task.abort_handle());
        }
        Ok(audience)
    }

    fn got(&self, n: usize) {
        let took = self.began.lock().unwrap().elapsed();
        self.times[n].store(took.as_micros() as u32, Ordering::Relaxed);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all.notify_one();
        }
    }

    /// One change; gives the time of each client in microseconds, the last one at the end.
    async fn change(&self, trigger: impl Future<Output = Result<()>>) -> Result<Vec<u32>> {
        self.left.store(CLIENTS, Ordering::Release);
        *self.began.lock().unwrap() = Instant::now();
        trigger.await?;
        let all = tokio::time::timeout(Duration::from_secs(10), self.all.notified());
        all.await.with_context(|| format!("{} clients heard nothing", self.left.load(Ordering::Relaxed)))?;
        let mut times: Vec<u32> = self.times.iter().map(|t| t.load(Ordering::Relaxed)).collect();
        times.sort_unstable();
        Ok(times)
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap().iter() {
            task.abort();
        }
    }
}

/// What a slice of changes gave, microseconds.
struct Changes {
    /// Until the last client had it, median over the changes.
    last: f64,
    /// 99th percentile over all clients and changes.
    p99: f64,
}

impl Changes {
    fn of(slice: Vec<Vec<u32>>) -> Self {
        let last = Spread::of(slice.iter().filter_map(|t| t.last()).map(|t| f64::from(*t))).median;
        let mut all: Vec<u32> = slice.into_iter().flatten().collect();
        all.sort_unstable();
        Self { last, p99: all.get(all.len() * 99 / 100).copied().map_or(f64::NAN, f64::from) }
    }
}

struct Triggers {
    sockets: Vec<Lean>,
    next: usize,
}

impl Triggers {
    async fn open(fixture: &Fixture) -> Result<Self> {
        let mut sockets = Vec::new();
        for n in 0..TRIGGERS {
            let request = fixture.upgrade(NOISY_DEVICES + n);
            sockets.push(Lean::open(fixture.socket_address()?, lean::source(n), &request, None).await?);
        }
        Ok(Self { sockets, next: 0 })
    }
    /// The next device's input is pressed.
    async fn press(&mut self) -> Result<()> {
        self.next += 1;
        self.sockets[self.next % TRIGGERS].text(CHANGE).await
    }
}

fn subscription(devices: impl Iterator<Item = usize>) -> String {
    serde_json::json!({ "type": "subscribe", "devices": devices.map(uid).collect::<Vec<_>>() }).to_string()
}

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("broadcast", options.quick);
    raise_open_files()?;
    report.note(fixture::RAISED);
    report.note(format!(
        "a change is an input event of a device: decoded by its driver and published, nothing of it is stored; \
         {CLIENTS} client sockets of one user"
    ));
    let dir = tempfile::tempdir()?;
    let fixture = Fixture::new(options, dir.path(), NOISY_DEVICES + TRIGGERS).await?;
    let mut noise = fixture.target(0..NOISY_DEVICES).await?;
    let mut triggers = Triggers::open(&fixture).await?;
    fixture.connected(NOISY_DEVICES + TRIGGERS).await?;
    let triggering = NOISY_DEVICES..NOISY_DEVICES + TRIGGERS;
    let size = frame_size(&fixture, &mut triggers, &subscription(triggering.clone())).await?;
    let subscribe = subscription(triggering.clone());
    let ours = Audience::open(fixture.socket_address()?, &fixture.client_upgrade(), Some(&subscribe)).await?;
    let (_floor, address) = Running::own(&["fan-out", &size.to_string()])?;
    let to: SocketAddr = address.parse()?;
    let raw = Audience::open(to, &lean::upgrade(&address, "/", ""), None).await?;
    let mut control = TcpStream::connect(to).await?;
    control.set_nodelay(true)?;
    control.write_all(b"GET /control HTTP/1.1\r\n\r\n").await?;
    let (rounds, changes) = if options.quick { (5, 40) } else { (7, 150) };
    report.note(format!("a frame has {size} bytes of JSON; {rounds} pairs of slices of {changes} changes"));
    let mut last = Vec::new();
    let mut encodes = 0.0;
    for round in 0..=rounds {
        let mut floor = Vec::new();
        for _ in 0..changes {
            floor.push(raw.change(async { Ok(control.write_all(&[1]).await?) }).await?);
        }
        let before = fixture.metrics().await?.sum("hexa_broadcast_encodes_total ");
        let mut mine = Vec::new();
        for _ in 0..changes {
            mine.push(ours.change(triggers.press()).await?);
        }
        if round > 0 {
            encodes += fixture.metrics().await?.sum("hexa_broadcast_encodes_total ") - before;
            last.push((Changes::of(mine).last, Changes::of(floor).last));
        }
    }
    report.floor(Spread::of(last.iter().map(|p| p.1)));
    let floor = "a loop writing one finished frame to each";
    report.push(Check::ratio("last of 1,000 clients has read", "us", floor, &last, Goal::AtMost(1.3)));
    let encodes = encodes / f64::from(rounds * changes);
    report.push(Check::counted("encodes per change", "", encodes, Goal::AtMost(1.0)));
    drop((raw, control));
    let slices = if options.quick { 3 } else { 5 };
    stalled(&fixture, &ours, &mut triggers, &mut noise, (slices, changes), &mut report).await?;
    Ok(report)
}

/// How large a change is on the wire.
async fn frame_size(fixture: &Fixture, triggers: &mut Triggers, subscribe: &str) -> Result<usize> {
    let mut socket = load::socket(&fixture.address, "/ws/client", Some(&fixture.token)).await?;
    socket.send(Message::text(subscribe)).await?;
    socket.next().await.context("no snapshot")??;
    triggers.press().await?;
    let frame = socket.next().await.context("no event")??.into_text()?;
    ensure!(frame.contains("\"press\""), "an input event was expected, not {frame}");
    Ok(frame.len())
}

/// One client more, that subscribes to the noisy devices too and never reads.
async fn stalled(
    fixture: &Fixture,
    audience: &Audience,
    triggers: &mut Triggers,
    noise: &mut Target,
    (slices, changes): (usize, u32),
    report: &mut Report,
) -> Result<()> {
    let (mut pairs, mut grown, mut fills) = (Vec::new(), Vec::new(), Vec::new());
    // What the commands themselves need is there before memory is looked at.
    let mut fill = Duration::from_millis(500);
    noise.slice(NOISY_DEVICES, fill).await?;
    for round in 0..=slices {
        let mut calm = Vec::new();
        for _ in 0..changes {
            calm.push(audience.change(triggers.press()).await?);
        }
        let before = resident(fixture.server.pid());
        let request = fixture.client_upgrade();
        let mut idle = Lean::open(fixture.socket_address()?, lean::source(0), &request, Some(4096)).await?;
        idle.text(&subscription(0..NOISY_DEVICES + TRIGGERS)).await?;
        // The kernel takes some megabytes before the server notices that nobody reads.
        let (begun, conflated) = (Instant::now(), fixture.metrics().await?.sum("hexa_client_conflated_total "));
        while fixture.metrics().await?.sum("hexa_client_conflated_total ") - conflated < 1.0 {
            noise.slice(NOISY_DEVICES, fill / 5).await?;
            ensure!(begun.elapsed() < Duration::from_secs(60), "the client that does not read was never noticed");
        }
        fill = begun.elapsed();
        let mut hindered = Vec::new();
        for _ in 0..changes {
            hindered.push(audience.change(triggers.press()).await?);
        }
        grown.push((resident(fixture.server.pid()) - before) / 1e6);
        idle.reset_on_close()?;
        drop(idle);
        fills.push(fill.as_secs_f64());
        fill = Duration::from_millis(500);
        if round > 0 {
            pairs.push((Changes::of(hindered).p99, Changes::of(calm).p99));
        }
    }
    let own = "none stalled";
    report.push(Check::ratio("others' p99 with one client that does not read", "us", own, &pairs, Goal::AtMost(1.2)));
    // 64 frames, 256 KiB of socket buffer in the server, and what the commands that fill it leave behind.
    let memory = Check::plain("memory for a client that does not read", "MB", Spread::of(grown), Goal::AtMost(4.0));
    report.push(Check { timed: false, ..memory });
    report.note(format!("the socket of a client that does not read was full after {} s", Spread::of(fills)));
    Ok(())
}
