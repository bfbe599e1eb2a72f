//! The same command through a Node-RED flow: http in, to the device's WebSocket, its answer back, http response;
//! without auth and without a database.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::load::{self, Target};
use crate::process::Running;
use crate::report::{Check, Goal};

const IN_FLIGHT: usize = 64;

/// A running Node-RED with the flow.
pub(crate) struct Flow {
    _process: Running,
    target: Target,
}

impl Flow {
    /// `node_red` is the folder where npm has put it.
    pub(crate) async fn start(node_red: &Path, dir: &Path) -> Result<Self> {
        let program = node_red.join("node_modules/node-red/red.js");
        ensure!(program.exists(), "{} is not there", program.display());
        let home = dir.join("node-red");
        std::fs::create_dir_all(&home)?;
        std::fs::write(home.join("flows.json"), flow().to_string())?;
        std::fs::write(home.join("settings.js"), SETTINGS)?;
        // A free port: bound and let go. Nobody else on the machine asks for one that was just used.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(home.join("log"))?;
        let process = Running::start(
            Command::new("node")
                .arg(&program)
                .arg("--userDir")
                .arg(&home)
                .args(["--settings", &home.join("settings.js").to_string_lossy(), "--port", &port.to_string()])
                .arg("flows.json")
                .env("NODE_ENV", "production")
                .stdout(log.try_clone()?)
                .stderr(log)
                .stdin(Stdio::null()),
        )?;
        let address = format!("127.0.0.1:{port}");
        let mut requests = Vec::new();
        for n in 0..IN_FLIGHT {
            let mut socket = first_socket(&address)
                .await
                .with_context(|| std::fs::read_to_string(home.join("log")).unwrap_or_default())?;
            socket.send(Message::text(format!("hello d{n}"))).await?;
            tokio::spawn(load::raw_device(socket));
            requests.push([0, 1].map(|on| {
                format!("POST /cmd/d{n}/{on} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").into_bytes()
            }));
        }
        let mut target = Target::new(address, requests);
        // The flow knows its devices when it has answered for each of them.
        let begun = Instant::now();
        while target.slice(IN_FLIGHT, Duration::from_millis(50)).await?.refused > 0.0 {
            ensure!(begun.elapsed() < Duration::from_secs(10), "the flow does not answer");
        }
        Ok(Self { _process: process, target })
    }

    /// Ours against it, 64 in flight.
    pub(crate) async fn measure(mut self, ours: &mut Target, rounds: usize, time: Duration) -> Result<Check> {
        let mut pairs = Vec::new();
        for round in 0..=rounds {
            let theirs = self.target.slice(IN_FLIGHT, time).await?;
            let mine = ours.slice(IN_FLIGHT, time).await?;
            ensure!(theirs.refused <= 0.0, "the flow refused {} commands", theirs.refused);
            if round > 0 {
                pairs.push((mine.per_second, theirs.per_second));
            }
        }
        Ok(Check::ratio("commands/s, 64 in flight", "/s", "Node-RED flow", &pairs, Goal::AtLeast(5.0)))
    }
}

/// Node-RED takes seconds to start.
async fn first_socket(address: &str) -> Result<load::Socket> {
    let begun = Instant::now();
    loop {
        match load::socket(address, "/device", None).await {
            Ok(socket) => return Ok(socket),
            Err(error) if begun.elapsed() > Duration::from_secs(30) => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

const SETTINGS: &str = "module.exports = { flowFile: 'flows.json', uiHost: '127.0.0.1', disableEditor: true,
  httpAdminRoot: false, credentialSecret: false, telemetry: { enabled: false },
  logging: { console: { level: 'warn', metrics: false, audit: false } } };";

/// Remembers the request under an id and sends `id state` to the device's session.
const SEND: &str = "const session = flow.get('sessions')?.[msg.req.params.name];
if (!session) { msg.statusCode = 404; msg.payload = 'none'; return [null, msg]; }
const open = flow.get('open') ?? new Map(); flow.set('open', open);
const id = (flow.get('next') ?? 0) + 1; flow.set('next', id);
open.set(String(id), { req: msg.req, res: msg.res, _msgid: msg._msgid });
return [{ payload: id + ' ' + msg.req.params.state, _session: session }, null];";

/// Registers a session by its `hello NAME`, and ends the request that an id belongs to.
const RECEIVE: &str = "const text = String(msg.payload);
if (text.startsWith('hello ')) {
  const sessions = flow.get('sessions') ?? {}; sessions[text.slice(6)] = msg._session; flow.set('sessions', sessions);
  return null;
}
const open = flow.get('open'); const waiting = open?.get(text); if (!waiting) return null;
open.delete(text); waiting.payload = 'ok'; return waiting;";

fn flow() -> serde_json::Value {
    json!([
        { "id": "tab", "type": "tab", "label": "relay" },
        { "id": "sockets", "type": "websocket-listener", "path": "/device", "wholemsg": "false" },
        { "id": "in", "type": "http in", "z": "tab", "url": "/cmd/:name/:state", "method": "post",
          "wires": [["send"]] },
        { "id": "send", "type": "function", "z": "tab", "func": SEND, "outputs": 2,
          "wires": [["out"], ["answer"]] },
        { "id": "out", "type": "websocket out", "z": "tab", "server": "sockets", "client": "", "wires": [] },
        { "id": "back", "type": "websocket in", "z": "tab", "server": "sockets", "client": "",
          "wires": [["receive"]] },
        { "id": "receive", "type": "function", "z": "tab", "func": RECEIVE, "outputs": 1, "wires": [["answer"]] },
        { "id": "answer", "type": "http response", "z": "tab", "statusCode": "", "wires": [] }
    ])
}
