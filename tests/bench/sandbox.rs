//! What misbehaviour costs: how soon it is contained, how soon the driver serves again, and what the others notice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::SinkExt;
use hexa_devices::ports::{Drivers, NoopObserver};
use hexa_host::{Compiler, HostConfig, PerCall, PluginHost};
use hexa_model::driver::{DeviceIdent, DriverCall, DriverError, Frame};
use hexa_model::{Clock, DeviceClass, DeviceUid, SystemClock, TimeMs};
use rusqlite::Connection;
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::{self, Fixture, Options};
use crate::load;
use crate::process::resident;
use crate::report::{Check, Goal, Report, Spread};
use crate::storm::{CALM_DEVICES, Commander};

const ID: &str = "test.hostile";
/// Devices whose driver spins.
const SPINNING: usize = 32;
/// Each asks for it so often.
const EVERY: Duration = Duration::from_millis(50);
/// Misbehaviour that ends in a fault, on the hot path.
const HOT: [&str; 12] =
    ["loop", "bulk", "allocate", "recurse", "panic", "exit", "output", "frames", "frame", "events", "reading", "state"];

/// Where the hostile driver is, which no server loads by itself.
fn test_plugins(options: &Options) -> Result<PathBuf> {
    let dir = options.plugins.with_file_name("plugins-test");
    ensure!(dir.join(ID).is_dir(), "{} is missing: run `cargo xtask plugins`", dir.join(ID).display());
    Ok(dir)
}

/// Runs fast, so that a bench that does nothing but call never uses up a driver's share of the processor.
#[derive(Debug)]
pub(crate) struct Fast(pub(crate) SystemClock);

impl Clock for Fast {
    fn now(&self) -> TimeMs {
        self.0.now()
    }
    fn monotonic(&self) -> Duration {
        self.0.monotonic() * 100
    }
}

fn load(plugins: &Path, dir: &Path, per_call: PerCall) -> Result<PluginHost> {
    let config = HostConfig {
        plugins_dir: plugins.to_owned(),
        cache_dir: dir.to_owned(),
        cache_key: [7; 32],
        compiler: Arc::new(Compiler::InProcess),
        clock: Arc::new(Fast(SystemClock::new())),
        watch: Arc::new(NoopObserver),
        per_call,
    };
    PluginHost::load(&config).map_err(|e| anyhow!("{e}"))
}

fn call(uid: &DeviceUid) -> DriverCall<'_> {
    DriverCall {
        uid,
        class: DeviceClass::Hybrid,
        relay_count: 4,
        input_count: 2,
        now: TimeMs(1_760_000_000_000),
        session: None,
        prepared: &[],
        volatile: &[],
        durable: &[],
    }
}

fn misbehave(how: &str) -> Frame {
    Frame::Text(format!("{{\"type\":\"misbehave\",\"how\":\"{how}\"}}"))
}

/// Time of one call that must end in a fault.
fn fault(host: &PluginHost, uid: &DeviceUid, how: &str) -> Result<Duration> {
    host.reset_plugin(ID);
    let (call, frame) = (call(uid), misbehave(how));
    let begun = Instant::now();
    let ended = host.decode_message(&call, "ws", &frame);
    let took = begun.elapsed();
    ensure!(matches!(ended, Err(DriverError::Fault(_))), "{how} ended as {ended:?}");
    Ok(took)
}

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("sandbox", options.quick);
    let plugins = test_plugins(options)?;
    let dir = tempfile::tempdir()?;
    contained(&mut report, options, &plugins, dir.path())?;
    neighbours(&mut report, options, &plugins, dir.path()).await?;
    Ok(report)
}

fn contained(report: &mut Report, options: &Options, plugins: &Path, dir: &Path) -> Result<()> {
    let rounds = if options.quick { 5 } else { 20 };
    let host = load(plugins, &dir.join("cache"), PerCall::None)?;
    let uid = DeviceUid::parse("hx1").context("uid")?;
    let heartbeat = Frame::Text("{\"type\":\"heartbeat\"}".into());
    let healthy = |host: &PluginHost| -> Result<Duration> {
        let begun = Instant::now();
        host.decode_message(&call(&uid), "ws", &heartbeat).map_err(|e| anyhow!("{e:?}"))?;
        Ok(begun.elapsed())
    };
    healthy(&host)?;
    let before = resident(std::process::id());
    let mut worst = (Duration::ZERO, "");
    let mut again = Vec::new();
    for _ in 0..rounds {
        for how in HOT {
            let took = fault(&host, &uid, how)?;
            worst = worst.max((took, how));
            again.push(healthy(&host)?.as_secs_f64() * 1e6);
        }
    }
    let grown = (resident(std::process::id()) - before).max(0.0) / 1e6;
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let what = format!("hot misbehaviour contained, worst of {} kinds ({})", HOT.len(), worst.1);
    report.push(Check::plain(&what, "ms", Spread::one(ms(worst.0)), Goal::AtMost(100.0)));
    let mut cold = Vec::new();
    for _ in 0..rounds {
        host.reset_plugin(ID);
        let ident = DeviceIdent {
            uid: uid.clone(),
            class: DeviceClass::Hybrid,
            model: None,
            hardware: None,
            firmware: None,
            relay_count: 4,
            input_count: 2,
        };
        let begun = Instant::now();
        let ended = host.validate_config(&ident, "{\"misbehave\":\"loop\"}");
        cold.push(ms(begun.elapsed()));
        ensure!(matches!(ended, Err(DriverError::Fault(_))), "a cold loop ended as {ended:?}");
    }
    report.push(Check::plain("cold misbehaviour contained (loop)", "ms", Spread::of(cold), Goal::AtMost(700.0)));
    report.push(Check::plain("first call after a fault", "us", Spread::of(again), Goal::AtMost(1000.0)));
    report.push(Check::counted("memory over all of it", "MB", grown, Goal::AtMost(32.0)));
    let each = |host: &PluginHost| -> Result<f64> {
        let calls = if options.quick { 5_000 } else { 50_000 };
        let begun = Instant::now();
        for _ in 0..calls {
            healthy(host)?;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
    };
    let fresh = load(plugins, &dir.join("cache"), PerCall::All)?;
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        host.reset_plugin(ID);
        pairs.push((each(&fresh)?, each(&host)?));
    }
    report.push(Check::ratio("decode with an instance per call", "us", "pooled", &pairs, Goal::None));
    Ok(())
}

/// A server with 64 relay boards that are switched 1,000 times a second, and devices whose driver spins.
async fn neighbours(report: &mut Report, options: &Options, plugins: &Path, dir: &Path) -> Result<()> {
    let both = dir.join("plugins");
    for (from, id) in [(options.plugins.as_path(), "hexa.relay-controller"), (plugins, ID)] {
        std::fs::create_dir_all(both.join(id))?;
        for file in ["plugin.toml", "plugin.wasm"] {
            std::fs::copy(from.join(id).join(file), both.join(id).join(file))?;
        }
    }
    let options = Options { plugins: both, ..options.clone() };
    let fixture = Fixture::new(&options, &dir.join("fixture"), CALM_DEVICES + SPINNING).await?;
    let fixture = fixture
        .again(|db| {
            let sql = "update devices set device_class = 'hybrid' where id > ?1";
            Connection::open(db)?.execute(sql, [CALM_DEVICES as i64])?;
            Ok(())
        })
        .await?;
    let mut commander = Commander::start(&fixture)?;
    fixture.connected(CALM_DEVICES).await?;
    let rounds = if options.quick { 2 } else { 3 };
    let long = Duration::from_secs(if options.quick { 2 } else { 20 });
    let (mut rise, mut after) = (Vec::new(), Vec::new());
    let mut refused = 0.0;
    for _ in 0..rounds {
        let calm = commander.during(tokio::time::sleep(long)).await?.0;
        let spinning = spin(&fixture).await?;
        let first = commander.during(tokio::time::sleep(Duration::from_secs(1))).await?.0;
        let later = commander.during(tokio::time::sleep(long)).await?.0;
        rise.push((first.p99_us - calm.p99_us) / 1e3);
        after.push((later.p99_us, calm.p99_us));
        refused += first.refused + later.refused;
        drop(spinning);
        fixture.connected(CALM_DEVICES).await?;
    }
    let stopped = fixture.metrics().await?.sum(&format!("hexa_plugin_faults_total{{kind=\"cpu\",plugin=\"{ID}\"}}"));
    ensure!(stopped >= 5.0, "the driver did not spin: {stopped} faults");
    let what = "others' p99 rises by, in the second in which a driver begins to spin";
    report.push(Check::plain(what, "ms", Spread::of(rise), Goal::AtMost(12.0)));
    let what = "others' p99 after its quarantine began";
    report.push(Check::ratio(what, "us", "own p99 in calm", &after, Goal::AtMost(1.2)));
    report.push(Check::counted("others' commands that failed meanwhile", "", refused, Goal::AtMost(0.0)));
    report.note(format!(
        "{SPINNING} devices whose driver loops at each of their messages, 20 a second each; {CALM_DEVICES} boards of \
         another class switched 1,000 times a second from a process of its own; {stopped} calls were ended by their CPU limit"
    ));
    Ok(())
}

/// Connections that make their driver spin until this is dropped.
async fn spin(fixture: &Fixture) -> Result<tokio::task::JoinSet<()>> {
    let mut all = tokio::task::JoinSet::new();
    for n in CALM_DEVICES..CALM_DEVICES + SPINNING {
        let path = format!("/ws/device?uid={}", fixture::uid(n));
        let mut socket = load::socket(&fixture.address, &path, Some(&fixture::device_token(n))).await?;
        all.spawn(async move {
            let mut tick = tokio::time::interval(EVERY);
            loop {
                tick.tick().await;
                if socket.send(Message::text("{\"type\":\"misbehave\",\"how\":\"loop\"}")).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(all)
}
