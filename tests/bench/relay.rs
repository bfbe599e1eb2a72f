//! The relay path against F2 and SQ, in interleaved slices of one run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::load::{self, Http, Slice, Target};
use crate::process::{Running, Usage, must_exist, usage};
use crate::report::{self, Row, Spread};
use crate::sqlite;

/// Devices of each target.
const DEVICES: usize = 256;
/// First goals at 64 in flight.
const RATIO_GOAL: f64 = 0.40;
const CPU_GOAL_US: f64 = 75.0;

/// Exit codes: 0 the goals hold, 1 one falls short, 3 the machine was too noisy to tell.
pub(crate) async fn run(hexa: &Path, plugins: &Path, quick: bool, as_json: bool) -> Result<i32> {
    must_exist(hexa)?;
    must_exist(plugins)?;
    let dir = tempfile::tempdir()?;
    let _awake = Running::awake()?;
    let (floor_process, floor_address) = Running::own(&["floor"])?;
    let mut floor = floor_target(&floor_address).await?;
    let server = start_server(hexa, plugins, dir.path())?;
    let seen = Arc::new(AtomicU64::new(0));
    let mut ours = our_target(dir.path(), &seen).await?;
    let mut bare = sqlite::Loop::new(&dir.path().join("sq"), DEVICES as i64).await?;
    eprintln!(
        "bench: {DEVICES} devices, one dashboard; LIMIT_USER_RPS and LIMIT_USER_BURST raised to 1,000,000 for the one \
         user that the load comes from"
    );
    let (rounds, time) = if quick { (3, Duration::from_millis(450)) } else { (7, Duration::from_millis(1500)) };
    let mut rows = Vec::new();
    for in_flight in [1, 64, 256] {
        let mut cells = Vec::new();
        // The first round warms up and is not counted.
        for round in 0..=rounds {
            let before = usage(floor_process.pid());
            let raw = floor.slice(in_flight, time).await?;
            let raw_used = usage(floor_process.pid()) - before;
            let (sq_rate, sq_batch) = tokio::task::block_in_place(|| bare.slice(in_flight as i64, time / 2))?;
            let (counted, before) = (counters(&ours.address).await?, usage(server.pid()));
            let mine = ours.slice(in_flight, time).await?;
            let used = usage(server.pid()) - before;
            let counted = counters(&ours.address).await?.since(&counted);
            if round > 0 {
                cells.push(Cell { raw, raw_used, sq_rate, sq_batch, mine, used, counted });
            }
        }
        rows.push(row(in_flight, &cells));
        eprintln!("bench: {in_flight} in flight done");
    }
    if as_json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        report::print(&rows);
    }
    Ok(verdict(&rows, seen.load(Ordering::Relaxed)))
}

fn verdict(rows: &[Row], seen: u64) -> i32 {
    let Some(r) = rows.iter().find(|r| r.in_flight == 64) else { return 1 };
    let (ratio, cpu) = (r.ratio.median, r.hexa_cpu_us.median);
    println!(
        "\nrelay ratio={ratio:.2} (goal >= {RATIO_GOAL:.2}) cpu_us={cpu:.1} (goal <= {CPU_GOAL_US:.0}) at 64 in flight; the dashboard got {seen} frames"
    );
    if r.floor_per_second.noisy() {
        println!("the floor moved by more than 60 % between slices: too noisy to judge");
        return 3;
    }
    i32::from(ratio < RATIO_GOAL || cpu > CPU_GOAL_US)
}

struct Cell {
    raw: Slice,
    raw_used: Usage,
    sq_rate: f64,
    sq_batch: f64,
    mine: Slice,
    used: Usage,
    counted: Counters,
}

fn row(in_flight: usize, cells: &[Cell]) -> Row {
    let of = |f: &dyn Fn(&Cell) -> f64| Spread::of(cells.iter().map(f));
    let sum = |f: &dyn Fn(&Cell) -> f64| cells.iter().map(f).sum::<f64>();
    let commands = sum(&|c| c.mine.commands).max(1.0);
    Row {
        in_flight,
        floor_per_second: of(&|c| c.raw.per_second),
        sqlite_per_second: of(&|c| c.sq_rate),
        sqlite_batch_us: of(&|c| c.sq_batch),
        hexa_per_second: of(&|c| c.mine.per_second),
        ratio: of(&|c| c.mine.per_second / c.raw.per_second),
        floor_p50_us: of(&|c| c.raw.p50_us),
        floor_p99_us: of(&|c| c.raw.p99_us),
        hexa_p50_us: of(&|c| c.mine.p50_us),
        hexa_p99_us: of(&|c| c.mine.p99_us),
        floor_cpu_us: of(&|c| c.raw_used.cpu_us / c.raw.commands),
        hexa_cpu_us: of(&|c| c.used.cpu_us / c.mine.commands),
        hexa_switches: of(&|c| c.used.switches / c.mine.commands),
        transactions_per_command: sum(&|c| c.counted.transactions) / commands,
        rows_per_batch: sum(&|c| c.counted.rows) / sum(&|c| c.counted.batches).max(1.0),
        encodes_per_command: sum(&|c| c.counted.encodes) / commands,
    }
}

/// Counts that cannot lie, from /metrics.
#[derive(Default)]
struct Counters {
    transactions: f64,
    batches: f64,
    rows: f64,
    encodes: f64,
}

impl Counters {
    fn since(&self, before: &Self) -> Self {
        Self {
            transactions: self.transactions - before.transactions,
            batches: self.batches - before.batches,
            rows: self.rows - before.rows,
            encodes: self.encodes - before.encodes,
        }
    }
}

async fn counters(address: &str) -> Result<Counters> {
    let mut http = Http::open(address).await?;
    let body = http.call(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let text = std::str::from_utf8(body)?;
    let get = |name: &str| {
        let lines = text.lines().filter(|l| l.starts_with(name));
        lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };
    Ok(Counters {
        transactions: get("hexa_writer_transactions_total{"),
        batches: get("hexa_writer_batches_total "),
        rows: get("hexa_writer_rows_total "),
        encodes: get("hexa_broadcast_encodes_total "),
    })
}

async fn floor_target(address: &str) -> Result<Target> {
    let mut requests = Vec::new();
    for n in 0..DEVICES {
        tokio::spawn(load::raw_device(load::socket(address, &format!("/device/d{n}"), None).await?));
        let request =
            |on: u8| format!("POST /cmd/d{n}/{on} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").into_bytes();
        requests.push([request(0), request(1)]);
    }
    Ok(Target::new(address.to_owned(), requests))
}

fn start_server(hexa: &Path, plugins: &Path, dir: &Path) -> Result<Running> {
    Running::start(
        Command::new(hexa)
            .arg("serve")
            .env("HEXA_LISTEN", "127.0.0.1:0")
            .env("HEXA_DATA_DIR", dir.join("data"))
            .env("HEXA_PLUGINS_DIR", plugins)
            .env("HEXA_LOG", "warn")
            .env("LIMIT_USER_RPS", "1000000")
            .env("LIMIT_USER_BURST", "1000000")
            .env("LIMIT_PROVISION_RPS", "10000")
            .stderr(Stdio::null()),
    )
}

async fn our_target(dir: &Path, seen: &Arc<AtomicU64>) -> Result<Target> {
    let data = dir.join("data");
    let address = wait_for(&data.join("listen.addr")).await?;
    let key = std::fs::read_to_string(data.join("secrets/device_provision_key"))?;
    let client = reqwest::Client::new();
    let base = format!("http://{address}");
    let post = async |path: &str, header: (&str, &str), body: Value| -> Result<Value> {
        let answer = client.post(format!("{base}{path}")).header(header.0, header.1).json(&body).send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        if !status.is_success() {
            bail!("{path}: {status} {body}");
        }
        Ok(body)
    };
    let login = json!({ "email": "bench@example.com", "password": "a long enough password" });
    let session = post("/api/v1/auth/register", ("x-none", "1"), login).await?;
    let token = session["access_token"].as_str().context("no token")?.to_owned();
    let bearer = format!("Bearer {token}");
    let mut requests = Vec::new();
    for _ in 0..DEVICES {
        let new = json!({ "device_class": "relay_controller", "relay_count": 4 });
        let made = post("/api/v1/provision/register", ("x-provision-key", &key), new).await?;
        let text = |name: &str| made[name].as_str().map(str::to_owned).context("provisioning answer");
        let (uid, device_token) = (text("device_uid")?, text("device_token")?);
        let code = json!({ "code": text("claim_code")? });
        post("/api/v1/devices/claim", ("authorization", &bearer), code).await?;
        let path = format!("/ws/device?uid={uid}");
        tokio::spawn(load::device(load::socket(&address, &path, Some(&device_token)).await?));
        let request = |on: bool| {
            let body = format!("{{\"state\":{on}}}");
            format!(
                "POST /api/v1/devices/{uid}/relays/0 HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        requests.push([request(false), request(true)]);
    }
    let mut dashboard = load::socket(&address, "/ws/client", Some(&token)).await?;
    dashboard.send(Message::text("{\"type\":\"subscribe\"}")).await?;
    tokio::spawn(load::watcher(dashboard, Arc::clone(seen)));
    Ok(Target::new(address, requests))
}

async fn wait_for(file: &Path) -> Result<String> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        let address = std::fs::read_to_string(file).unwrap_or_default();
        if !address.is_empty() && Http::open(&address).await.is_ok() {
            return Ok(address);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the server did not start within 30 s")
}
