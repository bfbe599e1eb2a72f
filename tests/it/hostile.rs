//! A driver that is wrong or evil, inside a real server: it hurts itself, then its class, never the server.

use std::time::{Duration, Instant};

use hexa_tests::client::Client;
use hexa_tests::device::{AutoDevice, FakeDevice, Identity};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, TestServer, User, eventually, process};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const ID: &str = "test.hostile";
/// Its devices have so many relays; from 60 on, switching one makes their driver misbehave.
const RELAYS: u16 = 64;
/// What the hostile guest may add to the server's memory, over all that it does.
const MEMORY: u64 = 32 << 20;

/// Its kind, and the limit that it names.
type Fault = (&'static str, Option<&'static str>);

/// What a device can make its driver do wrong: how, the kind of the fault, the limit that is named.
const CASES: [(&str, Option<Fault>); 17] = [
    ("loop", Some(("cpu", Some("cpu_ms")))),
    ("bulk", Some(("cpu", Some("cpu_ms")))),
    ("allocate", Some(("memory", Some("memory_bytes")))),
    ("recurse", Some(("trap", None))),
    ("panic", Some(("trap", None))),
    ("exit", Some(("trap", None))),
    ("output", Some(("io", Some("io_bytes")))),
    ("frames", Some(("output", Some("frames")))),
    ("frame", Some(("output", Some("frame_bytes")))),
    ("events", Some(("io", Some("io_bytes")))),
    ("relay", Some(("output", None))),
    ("reading", Some(("output", None))),
    ("state", Some(("output", Some("durable_bytes")))),
    // Bad manners that cost nobody anything.
    ("foreign-ack", None),
    ("print", None),
    ("log", None),
    ("nonsense", None),
];

struct Fixture {
    server: TestServer,
    user: User,
    admin: Client,
    neighbour: AutoDevice,
    _plugins: ScratchDir,
}

/// A server with the relay controller's driver and the hostile one, and a relay board that must not notice.
async fn fixture() -> Fixture {
    let plugins = ScratchDir::new();
    let tests_own = process::plugins().with_file_name("plugins-test");
    for (from, id) in [(process::plugins(), "hexa.relay-controller"), (tests_own, ID)] {
        let to = plugins.path().join(id);
        std::fs::create_dir_all(&to).unwrap();
        for file in ["plugin.toml", "plugin.wasm"] {
            let from = from.join(id).join(file);
            std::fs::copy(&from, to.join(file))
                .unwrap_or_else(|e| panic!("{}: {e}; `cargo xtask plugins`", from.display()));
        }
    }
    let server = TestServer::start(Options::new().env("HEXA_PLUGINS_DIR", plugins.path().to_str().unwrap()));
    let (user, admin) = (server.user().await, server.admin().await);
    let neighbour = server.device(&user, 2).await.automatic(2);
    user.set_relay(neighbour.uid(), 0, true).await.expect(200);
    Fixture { server, user, admin, neighbour, _plugins: plugins }
}

impl Fixture {
    async fn identity(&self) -> Identity {
        let body = json!({ "device_class": "hybrid", "relay_count": RELAYS, "input_count": 2 });
        let identity = self.server.provision_with(&body).await;
        self.user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
        identity
    }
    async fn hybrid(&self) -> FakeDevice {
        let identity = self.identity().await;
        let mut device = self.server.connect(&identity).await;
        device.settled().await;
        device
    }
    async fn plugin(&self) -> Value {
        self.admin.get(&format!("/api/v1/admin/plugins/{ID}")).await.expect(200)
    }
    async fn faults(&self) -> Vec<Value> {
        let page = self.admin.get(&format!("/api/v1/admin/plugins/{ID}/faults?limit=256")).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }
    async fn reset(&self) {
        self.admin.post_empty(&format!("/api/v1/admin/plugins/{ID}/reset")).await.expect(200);
    }
    /// How long a command to another class's device takes now.
    async fn neighbour_took(&self, on: bool) -> Duration {
        let begun = Instant::now();
        self.user.set_relay(self.neighbour.uid(), 1, on).await.expect(200);
        begun.elapsed()
    }
}

async fn misbehave(device: &mut FakeDevice, how: &str) {
    device.send(&json!({ "type": "misbehave", "how": how })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_driver_does_is_contained_and_named() {
    let fixture = fixture().await;
    let mut device = fixture.hybrid().await;
    let before = fixture.server.resident_bytes();
    eprintln!("{:<12} {:>12} {:<28} {:<24} {:>10}", "case", "contained in", "caller saw", "neighbour saw", "memory");
    for (n, (how, expected)) in CASES.into_iter().enumerate() {
        fixture.reset().await;
        let calls = fixture.plugin().await["calls"].as_u64().unwrap();
        let begun = Instant::now();
        misbehave(&mut device, how).await;
        let neighbour = fixture.neighbour_took(n % 2 == 0).await;
        let seen = eventually("the call has ended", || async {
            let now = fixture.plugin().await;
            (now["calls"].as_u64().unwrap() > calls).then_some(now)
        });
        let seen = seen.await;
        let contained = begun.elapsed();
        let caller = match expected {
            Some((kind, limit)) => {
                let fault = eventually("the fault is written", || async {
                    fixture
                        .faults()
                        .await
                        .into_iter()
                        .find(|f| f["sample"].as_str().unwrap().contains(&format!("\"{how}\"")))
                });
                let fault = fault.await;
                assert_eq!(
                    (fault["kind"].as_str().unwrap(), fault["limit"]["limit"].as_str()),
                    (kind, limit),
                    "{how}: {fault}"
                );
                assert_eq!(fault["device_uid"], device.uid());
                format!("{kind} {}", limit.unwrap_or_default())
            }
            None => "nothing".to_owned(),
        };
        let grown = fixture.server.resident_bytes().saturating_sub(before);
        eprintln!(
            "{how:<12} {contained:>12.1?} {caller:<28} {:<24} {:>7} KB",
            format!("200 in {neighbour:.1?}"),
            grown >> 10
        );
        assert!(contained < Duration::from_secs(5), "{how}: {contained:?}");
        assert!(grown < MEMORY, "{how}: {grown} bytes");
        assert_eq!(seen["state"], "active", "{how}: one fault is no reason to stop a driver");
        // The same device, the same driver, the next message.
        device.settled().await;
    }
    fixture.server.evidence().assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_its_driver_fails_over_says_so_and_nothing_was_sent() {
    let fixture = fixture().await;
    let mut device = fixture.hybrid().await;
    for (relay, kind, limit) in [(60, "trap", None), (61, "cpu", Some("cpu_ms")), (62, "memory", Some("memory_bytes"))]
    {
        fixture.reset().await;
        let error = fixture.user.set_relay(device.uid(), relay, true).await.expect_error(502, "driver_fault");
        assert_eq!(
            (error["details"]["kind"].as_str(), error["details"]["plugin"].as_str()),
            (Some(kind), Some(ID)),
            "{error}"
        );
        assert_eq!(error["details"]["limit"]["limit"].as_str(), limit, "{error}");
    }
    device.assert_nothing_sent().await;
    // Three in a row: this device is quarantined, and says until when.
    fixture.reset().await;
    for _ in 0..3 {
        fixture.user.set_relay(device.uid(), 60, true).await.expect_error(502, "driver_fault");
    }
    let refused = fixture.user.set_relay(device.uid(), 0, true).await;
    let error = refused.expect_error(503, "driver_unavailable");
    assert!(error["message"].as_str().unwrap().contains("quarantined"), "{error}");
    assert!(refused.header("retry-after").is_some_and(|s| s.parse::<u64>().is_ok_and(|s| (1..=30).contains(&s))));
    let mut other = fixture.hybrid().await;
    let uid = other.uid().to_owned();
    let switched = fixture.user.set_relay(&uid, 3, true);
    let answered = async {
        let command = other.expect_command().await;
        other.ack(&command).await;
    };
    let (reply, ()) = tokio::join!(switched, answered);
    reply.expect(200);
    fixture.neighbour_took(true).await;
    let info = fixture.plugin().await;
    assert_eq!((info["state"].as_str(), info["poisoned_devices"].as_u64()), (Some("degraded"), Some(1)), "{info}");
    eventually("the audit tells", || async {
        (!fixture.server.db().actions("plugin.device_poisoned").is_empty()).then_some(())
    })
    .await;
    fixture.server.evidence().assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_fails_for_many_is_stopped_tried_again_and_given_up_until_an_admin_acts() {
    let fixture = fixture().await;
    let mut devices = Vec::new();
    for _ in 0..6 {
        devices.push(fixture.hybrid().await);
    }
    let well = devices.pop().unwrap();
    let uid = well.uid().to_owned();
    let well = well.automatic(RELAYS);
    for round in 1..=3 {
        for device in &mut devices {
            misbehave(device, "panic").await;
        }
        let state = if round < 3 { "quarantined" } else { "faulted" };
        eventually("it is stopped", || async { (fixture.plugin().await["state"] == state).then_some(()) }).await;
        let refused = fixture.user.set_relay(&uid, 0, true).await;
        refused.expect_error(503, "driver_unavailable");
        // Longer each time, because it was not well for a minute in between.
        assert_eq!(refused.header("retry-after"), Some(["1", "2", "60"][round - 1]));
        fixture.neighbour_took(round % 2 == 0).await;
        if round < 3 {
            // It is tried again after a second, or after a few when the probe came too early.
            eventually("it serves again", || async {
                (fixture.user.set_relay(&uid, 0, true).await.status == 200).then_some(())
            })
            .await;
        }
    }
    let metrics = fixture.server.metrics().await;
    assert_eq!(metrics.count("hexa_plugin_state", &[("plugin", ID), ("state", "faulted")]), 1);
    assert_eq!(metrics.count("hexa_plugin_state", &[("plugin", ID), ("state", "active")]), 0);
    assert!(metrics.count("hexa_plugin_faults_total", &[("plugin", ID), ("kind", "trap")]) >= 15);
    let stopped = fixture.user.set_relay(&uid, 0, false).await.expect_error(503, "driver_unavailable");
    assert!(stopped["message"].as_str().unwrap().contains("admin"), "{stopped}");
    fixture.reset().await;
    fixture.user.set_relay(&uid, 0, false).await.expect(200);
    assert_eq!(fixture.plugin().await["state"], "active");
    for action in ["plugin.quarantined", "plugin.recovered", "plugin.faulted", "plugin.reset"] {
        eventually(action, || async { (!fixture.server.db().actions(action).is_empty()).then_some(()) }).await;
    }
    // Its devices were never thrown out: they had no part in it.
    assert_eq!(fixture.plugin().await["sessions"], 6);
    drop(well);
    fixture.server.evidence().assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_are_the_admins_to_see() {
    let fixture = fixture().await;
    let list = fixture.admin.get("/api/v1/admin/plugins").await.expect(200);
    let ids: Vec<_> = list["items"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["hexa.relay-controller", ID]);
    let mut device = fixture.hybrid().await;
    for n in 0..7 {
        fixture.reset().await;
        misbehave(&mut device, "panic").await;
        device.settled().await;
        eventually("the fault is written", || async { (fixture.faults().await.len() > n).then_some(()) }).await;
    }
    let path = format!("/api/v1/admin/plugins/{ID}/faults");
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = fixture.admin.get(&format!("{path}?limit=3{cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|f| f["at"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    assert!(seen.is_sorted_by(|a, b| a >= b), "newest first: {seen:?}");
    for (path, status, code) in [
        (format!("{path}?limit=0"), 400, "validation_error"),
        (format!("{path}?cursor=x"), 400, "validation_error"),
        ("/api/v1/admin/plugins/no.such".to_owned(), 404, "not_found"),
        ("/api/v1/admin/plugins/no.such/faults".to_owned(), 404, "not_found"),
    ] {
        fixture.admin.get(&path).await.expect_error(status, code);
        fixture
            .user
            .client
            .get(&path)
            .await
            .expect_error(if status == 400 { 400 } else { 403 }, if status == 400 { code } else { "forbidden" });
    }
    fixture.admin.post_empty("/api/v1/admin/plugins/no.such/reset").await.expect_error(404, "not_found");
    fixture.user.client.get("/api/v1/admin/plugins").await.expect_error(403, "forbidden");
    fixture.user.client.post_empty(&format!("/api/v1/admin/plugins/{ID}/reset")).await.expect_error(403, "forbidden");
    fixture.server.client().get("/api/v1/admin/plugins").await.expect_error(401, "invalid_token");
    // Faults outlive the server.
    let mut fixture = fixture;
    fixture.server.stop().await;
    fixture.server.restart();
    fixture.admin = fixture.server.admin().await;
    assert_eq!(fixture.faults().await.len(), 7);
    let _ = device.socket.send(Message::Ping(Vec::new().into())).await;
}

/// The same bytes with one text in place of another of the same length.
fn instead(wasm: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut wasm = wasm.to_vec();
    let mut found = 0;
    for at in 0..wasm.len() - from.len() {
        if wasm[at..].starts_with(from.as_bytes()) {
            wasm[at..at + from.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{from} is in the component");
    wasm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_lies_in_the_plugins_folder_the_server_starts_and_says_what_is_wrong() {
    let good = process::plugins().join("hexa.relay-controller");
    let hostile = process::plugins().with_file_name("plugins-test").join(ID);
    let wasm = std::fs::read(hostile.join("plugin.wasm")).unwrap();
    let manifest = std::fs::read_to_string(hostile.join("plugin.toml")).unwrap();
    let random: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cases: [(&str, Vec<u8>, String, &str); 10] = [
        ("truncated", wasm[..wasm.len() / 2].to_vec(), manifest.clone(), "not a valid component"),
        ("random-bytes", random, manifest.clone(), "not WebAssembly"),
        ("empty", Vec::new(), manifest.clone(), "not WebAssembly"),
        ("core-module", b"\0asm\x01\0\0\0".to_vec(), manifest.clone(), "core module"),
        ("foreign-contract", instead(&wasm, "@0.1.0", "@0.9.0"), manifest.clone(), "0.9"),
        ("foreign-import", instead(&wasm, "hexa:core/log@", "hexa:core/lug@"), manifest.clone(), "hexa:core/lug"),
        ("too-large", vec![0; (4 << 20) + 1], manifest.clone(), "4194304"),
        ("typo", wasm.clone(), manifest.replace("classes ", "clases "), "clases"),
        ("newer-manifest", wasm.clone(), manifest.replace("\"0.1\"", "\"0.9\""), "0.9"),
        ("no-text", wasm.clone(), "\u{0}".into(), "plugin.toml"),
    ];
    let plugins = ScratchDir::new();
    for (name, wasm, manifest, _) in &cases {
        let dir = plugins.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("plugin.wasm"), wasm).unwrap();
        std::fs::write(dir.join("plugin.toml"), manifest.replace(ID, &format!("test.{name}"))).unwrap();
    }
    std::fs::create_dir_all(plugins.path().join("z-good")).unwrap();
    for file in ["plugin.toml", "plugin.wasm"] {
        std::fs::copy(good.join(file), plugins.path().join("z-good").join(file)).unwrap();
    }
    let begun = Instant::now();
    let server = TestServer::start(Options::new().env("HEXA_PLUGINS_DIR", plugins.path().to_str().unwrap()));
    let started = begun.elapsed();
    let (user, admin) = (server.user().await, server.admin().await);
    let settled = eventually("every plugin has its verdict", || async {
        let list = admin.get("/api/v1/admin/plugins").await.expect(200);
        let all = list["items"].as_array().unwrap().clone();
        all.iter().all(|p| p["state"] != "compiling").then_some(all)
    });
    let settled = settled.await;
    eprintln!("the server was ready after {started:.1?}");
    for (name, _, _, expected) in &cases {
        let of = |id: &str| settled.iter().find(|p| p["id"] == id);
        // A manifest that cannot be read leaves the folder's name.
        let plugin = of(&format!("test.{name}")).or_else(|| of(name)).unwrap_or_else(|| panic!("{name}: {settled:?}"));
        let reason = plugin["reason"].as_str().unwrap_or_default();
        let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(130).collect();
        eprintln!("{name:<18} {line}");
        assert_eq!(plugin["state"], "failed", "{name}: {plugin}");
        assert!(reason.contains(expected), "{name}: {reason}");
    }
    let device = server.device(&user, 2).await.automatic(2);
    user.set_relay(device.uid(), 0, true).await.expect(200);
}
