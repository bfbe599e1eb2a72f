//! Plugins as they were once built (`tests/compat`), on the host of today.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hexa_devices::ports::Drivers;
use hexa_host::{ChildCompiler, CompileLimits, Compiler, HostConfig, PluginHost};
use hexa_model::driver::{
    Ack, AckOutcome, AckPolicy, CommandEnvelope, Decoded, DeviceEvent, DeviceIdent, DriverCall, DriverCommand,
    DriverError, EventMeta, Frame, ReportedRelay, SessionInfo, Value as Reading,
};
use hexa_model::{DeviceClass, DeviceUid, RelayAction, SystemClock, TimeMs};
use hexa_tests::server::ScratchDir;
use hexa_tests::{PATIENCE, process};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What one of them may weigh.
const MAX_BYTES: usize = 400 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat()
}

fn folders() -> Vec<PathBuf> {
    let mut dirs: Vec<_> = fs::read_dir(corpus()).unwrap().flatten().map(|e| e.path()).collect();
    dirs.retain(|path| path.join("plugin.toml").is_file());
    dirs.sort();
    assert!(!dirs.is_empty(), "there is no old plugin in {}", corpus().display());
    dirs
}

#[test]
fn old_plugins_are_what_they_were() {
    let sums = fs::read_to_string(corpus().join("SHA256SUMS")).unwrap();
    for dir in folders() {
        let wasm = fs::read(dir.join("plugin.wasm")).unwrap();
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let sum = hex(&Sha256::digest(&wasm));
        let line = format!("{sum}  {name}/plugin.wasm");
        assert!(sums.lines().any(|l| l == line), "{name} was rebuilt or is new; see tests/compat/README.md: {line}");
        assert!(wasm.len() <= MAX_BYTES, "{name} has {} bytes", wasm.len());
    }
    assert_eq!(sums.lines().count(), folders().len(), "a folder is gone that SHA256SUMS names");
}

#[test]
fn old_plugins_answer_as_they_did() {
    let mut steps = 0;
    for dir in folders() {
        let scratch = ScratchDir::new();
        let host = host(&dir, scratch.path());
        let mut goldens: Vec<_> = fs::read_dir(dir.join("golden")).unwrap().flatten().map(|e| e.path()).collect();
        goldens.sort();
        assert!(!goldens.is_empty(), "{} has no golden file", dir.display());
        for path in goldens {
            let golden: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let said = answers(&host, &golden);
            let listed = golden["steps"].as_array().unwrap();
            for (i, (said, step)) in said.iter().zip(listed).enumerate() {
                assert_eq!(*said, step["expect"], "{} step {}: {step}", path.display(), i + 1);
            }
            steps += said.len();
        }
    }
    eprintln!("{} old plugin(s), {steps} steps as ever", folders().len());
    assert!(steps > 0);
}

#[test]
fn a_golden_file_notices_a_difference() {
    let dir = folders().remove(0);
    let scratch = ScratchDir::new();
    let host = host(&dir, scratch.path());
    let mut golden: Value = serde_json::from_slice(&fs::read(dir.join("golden/commands.json")).unwrap()).unwrap();
    golden["steps"][1]["command"]["set-relay"]["on"] = json!(false);
    let said = answers(&host, &golden);
    assert_ne!(said[1], golden["steps"][1]["expect"]);
    assert_eq!(said[2], golden["steps"][2]["expect"]);
}

fn host(plugin: &Path, scratch: &Path) -> PluginHost {
    let plugins = scratch.join("plugins/old");
    fs::create_dir_all(&plugins).unwrap();
    for file in ["plugin.toml", "plugin.wasm"] {
        fs::copy(plugin.join(file), plugins.join(file)).unwrap();
    }
    let child = ChildCompiler::new(process::hexa(), vec!["compile-plugin".into()], CompileLimits::default());
    let host = PluginHost::load(&HostConfig {
        plugins_dir: scratch.join("plugins"),
        cache_dir: scratch.join("cache"),
        cache_key: [7; 32],
        compiler: Arc::new(Compiler::Child(child)),
        clock: Arc::new(SystemClock::new()),
        watch: std::sync::Arc::new(hexa_devices::ports::NoopObserver),
        per_call: hexa_host::PerCall::None,
    })
    .unwrap();
    assert!(host.wait_compiled(PATIENCE));
    assert_eq!(host.status()[0].state, "active", "{host:?}");
    host
}

/// What the driver answers to each step.
fn answers(host: &PluginHost, golden: &Value) -> Vec<Value> {
    let device = &golden["device"];
    let number = |v: &Value| u16::try_from(v.as_u64().unwrap_or(0)).unwrap();
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let ident = DeviceIdent {
        uid: DeviceUid::parse("hx1").unwrap(),
        class: DeviceClass::parse(device["class"].as_str().unwrap()).unwrap(),
        model: text(&device["model"]),
        hardware: text(&device["hardware"]),
        firmware: text(&device["firmware"]),
        relay_count: number(&device["relays"]),
        input_count: number(&device["inputs"]),
    };
    let accepted = host.validate_config(&ident, &golden["config"].to_string()).unwrap().expect("a valid configuration");
    let session = golden.get("session").map(|s| SessionInfo {
        id: text(&s["id"]).unwrap(),
        heartbeat_s: u32::from(number(&s["heartbeat_s"])),
        desired_config_version: s["desired_config_version"].as_u64().unwrap(),
    });
    let (mut volatile, mut durable) = (Vec::new(), accepted.durable);
    let mut said = Vec::new();
    for step in golden["steps"].as_array().unwrap() {
        let call = DriverCall {
            uid: &ident.uid,
            class: ident.class,
            relay_count: ident.relay_count,
            input_count: ident.input_count,
            now: TimeMs(golden["now_ms"].as_i64().unwrap()),
            session: session.as_ref(),
            prepared: &accepted.prepared,
            volatile: &volatile,
            durable: &durable,
        };
        let (answer, state) = match run(host, &call, step) {
            Ok(done) => done,
            Err(error) => (failure(error), hexa_model::driver::NewState::default()),
        };
        volatile = state.volatile.unwrap_or(volatile);
        durable = state.durable.unwrap_or(durable);
        said.push(answer);
    }
    said
}

type Done = (Value, hexa_model::driver::NewState);

fn run(host: &PluginHost, call: &DriverCall<'_>, step: &Value) -> Result<Done, DriverError> {
    if let Some(command) = step.get("command") {
        let encoded = host.encode_command(call, &envelope(command, call.now))?;
        let ack = match encoded.ack {
            AckPolicy::None => json!("none"),
            AckPolicy::CommandId => json!("command-id"),
            AckPolicy::StateReport => json!("state-report"),
            AckPolicy::Token(token) => json!({ "token": token }),
        };
        return Ok((json!({ "frames": frames(&encoded.frames), "ack": ack }), encoded.state));
    }
    let decoded = match step.get("recv") {
        Some(recv) => host.decode_message(call, recv["channel"].as_str().unwrap(), &message(recv))?,
        None => host.open_session(call)?,
    };
    let Decoded { events, replies, state } = decoded;
    let mut answer = Map::new();
    if !events.is_empty() {
        answer.insert("events".into(), events.iter().map(event).collect());
    }
    if !replies.is_empty() {
        answer.insert("replies".into(), frames(&replies));
    }
    Ok((answer.into(), state))
}

fn envelope(command: &Value, now: TimeMs) -> CommandEnvelope {
    let has = |name: &str| command.get(name).is_some();
    let set = &command["set-relay"];
    let action = if has("set-relay") {
        let for_ms = set["for-ms"].as_u64().map(|ms| u32::try_from(ms).unwrap());
        let index = u16::try_from(set["index"].as_u64().unwrap()).unwrap();
        DriverCommand::Relay(RelayAction::Set { index, on: set["on"].as_bool().unwrap(), for_ms })
    } else if has("set-all-relays") {
        DriverCommand::Relay(RelayAction::SetAll { on: command["set-all-relays"].as_bool().unwrap() })
    } else if has("request-state") {
        DriverCommand::RequestState
    } else if has("identify") {
        DriverCommand::Identify
    } else {
        let custom = &command["custom"];
        DriverCommand::Custom { name: custom["name"].as_str().unwrap().into(), args: custom["args"].to_string() }
    };
    let id = command["id"].as_str().unwrap().into();
    CommandEnvelope { id, command: action, expires_at: TimeMs(now.0 + 5_000) }
}

fn message(recv: &Value) -> Frame {
    if let Some(text) = recv["text"].as_str() {
        return Frame::Text(text.into());
    }
    match recv["hex"].as_str() {
        Some(hex) => {
            let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            Frame::Binary((0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>().into())
        }
        None => Frame::Text(recv["json"].to_string()),
    }
}

fn frames(frames: &[Frame]) -> Value {
    let frame = |frame: &Frame| match frame {
        Frame::Text(text) => match serde_json::from_str::<Value>(text) {
            Ok(json) => json!({ "json": json }),
            Err(_) => json!({ "text": text }),
        },
        Frame::Binary(bytes) => json!({ "hex": hex(bytes) }),
    };
    frames.iter().map(frame).collect()
}

/// Without what is null or empty.
fn dense(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    let empty = |v: &Value| v.is_null() || v == &json!({}) || v == &json!([]);
    members.into_iter().map(|(k, v)| (k, dense(v))).filter(|(_, v)| !empty(v)).collect::<Map<_, _>>().into()
}

fn meta(m: &EventMeta) -> Value {
    json!({ "seq": m.seq, "boot-id": m.boot_id, "ip": m.ip, "rssi": m.rssi, "uptime-s": m.uptime_s })
}

fn relays(relays: &[ReportedRelay]) -> Value {
    let relay = |r: &ReportedRelay| {
        dense(json!({ "index": r.index, "on": r.on, "source": r.source, "timer-ends-in-ms": r.timer_ends_in_ms }))
    };
    relays.iter().map(relay).collect()
}

fn event(event: &DeviceEvent) -> Value {
    let (kind, value) = match event {
        DeviceEvent::Hello(h) => {
            let (firmware, boot) = (&h.firmware, &h.boot_reason);
            let about = json!({ "firmware": firmware, "hardware": h.hardware, "boot-reason": boot, "meta": meta(&h.meta),
                                "security-version": h.security_version, "config-version": h.config_version });
            ("hello", about)
        }
        DeviceEvent::Ack(Ack { token, outcome, relays: states }) => {
            let outcome = match outcome {
                AckOutcome::Executed => json!("executed"),
                AckOutcome::Noop => json!("noop"),
                AckOutcome::Rejected { reason, detail } => json!({ "rejected": reason.as_str(), "detail": detail }),
            };
            ("ack", json!({ "token": token, "outcome": outcome, "relays": relays(states) }))
        }
        DeviceEvent::StateReport(r) => {
            let states = relays(&r.relays);
            let about =
                json!({ "relays": states, "complete": r.complete, "firmware": r.firmware, "meta": meta(&r.meta) });
            ("state-report", about)
        }
        DeviceEvent::Input(i) => {
            let about =
                json!({ "input": i.input, "kind": i.kind, "duration-ms": i.duration_ms, "meta": meta(&i.meta) });
            ("input", about)
        }
        DeviceEvent::Readings(readings) => {
            let reading = |r: &hexa_model::driver::Reading| {
                let value = match &r.value {
                    Reading::Boolean(b) => json!(b),
                    Reading::Integer(n) => json!(n),
                    Reading::Number(n) => json!(n),
                    Reading::Text(text) => json!(text),
                };
                dense(json!({ "key": r.key, "value": value, "at-ms": r.at.map(|t| t.0) }))
            };
            ("readings", readings.iter().map(reading).collect())
        }
        DeviceEvent::Heartbeat(m) => ("heartbeat", meta(m)),
        DeviceEvent::Bye(until) => ("bye", json!({ "until-ms": until.map(|t| t.0) })),
        DeviceEvent::Error { code, message, token } => {
            ("error", json!({ "code": code, "message": message, "token": token }))
        }
        DeviceEvent::Ignored(why) => ("ignored", json!(why)),
        DeviceEvent::Other(what) => ("other", json!(what)),
    };
    json!({ kind: dense(value) })
}

fn failure(error: DriverError) -> Value {
    match error {
        DriverError::Malformed { reply: Some(reply), .. } => {
            json!({ "error": "malformed", "replies": frames(&[reply]) })
        }
        DriverError::Malformed { reply: None, .. } => json!({ "error": "malformed" }),
        DriverError::Unsupported(_) => json!({ "error": "unsupported" }),
        DriverError::InvalidArgument(_) => json!({ "error": "invalid-argument" }),
        DriverError::NotReady(_) => json!({ "error": "not-ready" }),
        DriverError::Other { code, .. } => json!({ "error": code }),
        DriverError::Fault(fault) => json!({ "error": "fault", "kind": fault.kind }),
        DriverError::Unavailable { why, .. } => json!({ "error": "unavailable", "why": why }),
        DriverError::Busy => json!({ "error": "busy" }),
    }
}
