//! A device that does what the test says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::wait::within;

/// What a device got when it was provisioned.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The device's public id.
    pub uid: String,
    /// Its secret, for the socket.
    pub token: String,
    /// The code that an owner claims it with.
    pub claim_code: String,
}

impl Identity {
    /// From the answer to `provision/register`.
    ///
    /// # Panics
    /// When something is missing.
    pub fn from_json(answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("no {name}: {answer}")).to_owned();
        Self { uid: text("device_uid"), token: text("device_token"), claim_code: text("claim_code") }
    }
    /// `Authorization` for the HTTP routes of devices.
    pub fn authorization(&self) -> String {
        format!("Device {}:{}", self.uid, self.token)
    }
}

/// An HTTP answer instead of the upgrade.
#[derive(Debug)]
pub struct Refused {
    /// Status code of the answer.
    pub status: u16,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// Body, null if it is no JSON.
    pub body: Value,
}

/// What came over the socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A JSON text frame.
    Text(Value),
    /// A close frame with code and reason.
    Close(u16, String),
    /// The end of the connection without a close frame.
    Gone,
}

/// A command of the server.
#[derive(Clone, Debug)]
pub struct Command {
    /// `set_relay` or `set_all_relays`, and the others.
    pub kind: String,
    /// Id of the command, as the frame has it.
    pub id: String,
    /// The frame as it came.
    pub frame: Value,
}

impl Command {
    /// The relay of a `set_relay`.
    pub fn relay(&self) -> u64 {
        self.frame["relay"].as_u64().unwrap_or(u64::MAX)
    }
    /// The wanted state.
    ///
    /// # Panics
    /// When it has none.
    pub fn state(&self) -> bool {
        self.frame["state"].as_bool().unwrap_or_else(|| panic!("a relay command has a state: {}", self.frame))
    }
}

/// An open socket of either kind; [`FakeDevice`] and [`crate::WsClient`] speak through it.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// Frames that came while waiting for a pong.
    early: VecDeque<Frame>,
    /// What the document calls what it hears.
    hears: &'static str,
}

impl Socket {
    /// Upgrades `path` with these credentials.
    ///
    /// # Errors
    /// The server's HTTP answer.
    ///
    /// # Panics
    /// When there is no HTTP answer at all.
    pub async fn open(address: SocketAddr, path: &str, authorization: Option<&str>) -> Result<Self, Refused> {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a valid address");
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", HeaderValue::from_str(value).expect("a header value"));
        }
        let opening = async {
            let stream = TcpStream::connect(address).await.expect("the server listens");
            stream.set_nodelay(true).expect("a connected socket");
            client_async(request, stream).await
        };
        match within("the answer to an upgrade", opening).await {
            Ok((stream, _)) => {
                let hears = if path.starts_with("/ws/device") { "deviceIsTold" } else { "clientHears" };
                Ok(Self { stream, early: VecDeque::new(), hears })
            }
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Err(Refused {
                    status: answer.status().as_u16(),
                    headers: answer.headers().clone(),
                    body: serde_json::from_slice(body).unwrap_or_default(),
                })
            }
            Err(other) => panic!("no answer to the upgrade of {path}: {other}"),
        }
    }
    /// Sends a message.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        within("sending a frame", self.stream.send(message)).await
    }
    /// The next frame, pings and pongs aside.
    ///
    /// # Panics
    /// When nothing comes, or something that is no JSON text.
    pub async fn next(&mut self) -> Frame {
        if let Some(early) = self.early.pop_front() {
            return early;
        }
        let frame = async {
            loop {
                let message = self.stream.next().await;
                if let Some(frame) = self.frame(message) {
                    return frame;
                }
            }
        };
        within("a frame", frame).await
    }
    /// Waits until the server's task for this socket runs: the upgrade is answered before that. Frames that come
    /// meanwhile are kept for [`next`](Self::next).
    pub async fn served(&mut self) {
        if self.stream.send(Message::Ping(Vec::new().into())).await.is_err() {
            return;
        }
        let pong = async {
            loop {
                let message = self.stream.next().await;
                if let Some(Ok(Message::Pong(_))) = message {
                    return;
                }
                if let Some(frame) = self.frame(message) {
                    let over = !matches!(frame, Frame::Text(_));
                    self.early.push_back(frame);
                    if over {
                        return;
                    }
                }
            }
        };
        within("the answer to a ping", pong).await;
    }
    fn frame(&self, message: Option<Result<Message, Error>>) -> Option<Frame> {
        match message {
            Some(Ok(Message::Text(text))) => {
                let value = serde_json::from_str(text.as_str());
                let value = value.unwrap_or_else(|e| panic!("no JSON ({e}): {text}"));
                if let Err(wrong) = crate::contract::hold_frame(self.hears, &value) {
                    panic!("not what docs/asyncapi.yaml says: {wrong}");
                }
                Some(Frame::Text(value))
            }
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                Some(Frame::Close(code, reason))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
            Some(Ok(other)) => panic!("a frame of an unexpected kind: {other:?}"),
            Some(Err(_)) | None => Some(Frame::Gone),
        }
    }
    /// Waits for the server's close; what comes before it is dropped.
    ///
    /// # Panics
    /// When the connection ends without one.
    pub async fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Frame::Close(code, reason) => return (code, reason),
                Frame::Text(_) => {}
                Frame::Gone => panic!("the connection ended without a close frame"),
            }
        }
    }
    /// Closes in good order.
    pub async fn close(mut self) {
        if self.stream.close(None).await.is_ok() {
            within("the answer to a close", async { while let Some(Ok(_)) = self.stream.next().await {} }).await;
        }
    }
    /// The TCP stream below, for tests that stop reading.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

/// A simulated device that is connected.
#[derive(Debug)]
pub struct FakeDevice {
    /// Its uid and secrets.
    pub identity: Identity,
    /// The socket, for frames that no method sends.
    pub socket: Socket,
}

impl FakeDevice {
    /// Connects with the preferred form of the credentials, and waits until the server counts it as online.
    ///
    /// # Errors
    /// The server's HTTP answer.
    pub async fn connect(address: SocketAddr, identity: &Identity) -> Result<Self, Refused> {
        let path = format!("/ws/device?uid={}", identity.uid);
        let authorization = format!("Bearer {}", identity.token);
        let mut socket = Socket::open(address, &path, Some(&authorization)).await?;
        socket.served().await;
        Ok(Self { identity: identity.clone(), socket })
    }
    /// The device's public id.
    pub fn uid(&self) -> &str {
        &self.identity.uid
    }
    /// Sends a JSON frame.
    ///
    /// # Panics
    /// When the connection is over.
    pub async fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("the connection is open");
    }
    /// The next frame of the server, which must be a JSON text.
    ///
    /// # Panics
    /// On a close.
    pub async fn expect_text(&mut self) -> Value {
        match self.socket.next().await {
            Frame::Text(value) => value,
            other => panic!("expected a text frame, got {other:?}"),
        }
    }
    /// The next frame, which must be a command.
    ///
    /// # Panics
    /// On anything else.
    pub async fn expect_command(&mut self) -> Command {
        let frame = self.expect_text().await;
        let text = |name: &str| frame[name].as_str().unwrap_or_else(|| panic!("no command: {frame}")).to_owned();
        Command { kind: text("type"), id: text("command_id"), frame: frame.clone() }
    }
    /// Acknowledges as a simple device does: executed, without relays.
    pub async fn ack(&mut self, command: &Command) {
        self.send(&json!({ "type": "ack", "command_id": command.id })).await;
    }
    /// Acknowledges with these further members.
    ///
    /// # Panics
    /// When `members` is no object.
    pub async fn ack_with(&mut self, command: &Command, members: &Value) {
        let mut frame = json!({ "type": "ack", "command_id": command.id });
        for (name, value) in members.as_object().expect("members are an object") {
            frame[name] = value.clone();
        }
        self.send(&frame).await;
    }
    /// Reports these relays, index and state.
    pub async fn report(&mut self, relays: &[(u16, bool)]) {
        let relays: Vec<_> = relays.iter().map(|(i, s)| json!({ "index": i, "state": s })).collect();
        self.send(&json!({ "type": "state_report", "relays": relays })).await;
    }
    /// Proves that nothing waits for this device: the answer to a `hello` is the next thing that comes.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn assert_nothing_sent(&mut self) {
        self.send(&json!({ "type": "hello", "firmware_version": "1.0.0" })).await;
        let frame = self.expect_text().await;
        assert_eq!(frame["type"], "hello_ack", "something was sent to the device: {frame}");
    }
    /// Waits until everything sent so far has been processed, by the order of frames.
    pub async fn settled(&mut self) {
        self.assert_nothing_sent().await;
    }
    /// From now on it executes and acknowledges everything by itself.
    pub fn automatic(self, relays: u16) -> AutoDevice {
        self.automatic_as(&Body::new(relays))
    }
    /// The same with a body that outlives the connection.
    pub fn automatic_as(self, body: &Body) -> AutoDevice {
        AutoDevice::start(self, body.clone())
    }
}

/// What a device is beside its connection: its relays, and every command that ever reached it.
#[derive(Clone, Debug)]
pub struct Body {
    states: Arc<Mutex<Vec<bool>>>,
    seen: Arc<Mutex<Vec<String>>>,
    touched_every: Option<usize>,
    touched_at: Arc<Mutex<Option<Instant>>>,
}

/// A device may send 60 messages in a second (docs/PLATFORM.md#device-messages); nobody presses faster than this.
const BETWEEN_TOUCHES: Duration = Duration::from_millis(40);

impl Body {
    /// With so many relays, all off.
    pub fn new(relays: u16) -> Self {
        let states = Arc::new(Mutex::new(vec![false; usize::from(relays)]));
        Self { states, seen: Arc::default(), touched_every: None, touched_at: Arc::default() }
    }
    /// Somebody presses the button of its last relay after every so many commands, though no faster
    /// than a device may report; the device reports all relays then.
    #[must_use]
    pub fn touched_every(self, commands: usize) -> Self {
        Self { touched_every: Some(commands), ..self }
    }
    /// What its relays really are.
    ///
    /// # Panics
    /// When its task panicked.
    pub fn states(&self) -> Vec<bool> {
        self.states.lock().unwrap().clone()
    }
    /// The ids of the commands that reached it, in order.
    ///
    /// # Panics
    /// When its task panicked.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
    /// A `state_report` of all relays.
    pub fn report(&self) -> Value {
        let states = self.states();
        let relays: Vec<_> = states.iter().enumerate().map(|(i, s)| json!({ "index": i, "state": s })).collect();
        json!({ "type": "state_report", "relays": relays })
    }
    /// Executes a command; gives the acknowledgement, or none for a frame that is no command.
    fn execute(&self, frame: &Value) -> Option<Value> {
        let (id, on) = (frame["command_id"].as_str()?, frame["state"].as_bool()?);
        self.seen.lock().unwrap().push(id.to_owned());
        let mut states = self.states.lock().unwrap();
        match frame["relay"].as_u64() {
            Some(index) => states[index as usize] = on,
            None => states.fill(on),
        }
        let all = states.iter().enumerate().map(|(i, s)| json!({ "index": i, "state": s }));
        let relays: Vec<_> = all.filter(|r| frame["relay"].is_null() || r["index"] == frame["relay"]).collect();
        Some(json!({ "type": "ack", "command_id": id, "status": "executed", "relays": relays }))
    }
    /// The button, when its turn has come: the report that follows.
    fn touched(&self) -> Option<Value> {
        if !self.seen.lock().unwrap().len().is_multiple_of(self.touched_every?) {
            return None;
        }
        let (now, mut at) = (Instant::now(), self.touched_at.lock().unwrap());
        if at.is_some_and(|at| now - at < BETWEEN_TOUCHES) {
            return None;
        }
        *at = Some(now);
        if let Some(last) = self.states.lock().unwrap().last_mut() {
            *last = !*last;
        }
        Some(self.report())
    }
}

/// A device that executes and acknowledges every command.
#[derive(Debug)]
pub struct AutoDevice {
    /// Its uid and secrets.
    pub identity: Identity,
    body: Body,
    task: tokio::task::JoinHandle<()>,
}

impl AutoDevice {
    fn start(mut device: FakeDevice, body: Body) -> Self {
        let (identity, own) = (device.identity.clone(), body.clone());
        let task = tokio::spawn(async move {
            // No patience here: it lives as long as its connection.
            while let Some(Ok(message)) = device.socket.stream.next().await {
                let Message::Text(text) = message else { continue };
                let Ok(frame) = serde_json::from_str::<Value>(text.as_str()) else { continue };
                let Some(ack) = own.execute(&frame) else { continue };
                for answer in std::iter::once(ack).chain(own.touched()) {
                    if device.socket.stream.send(Message::text(answer.to_string())).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { identity, body, task }
    }
    /// The device's public id.
    pub fn uid(&self) -> &str {
        &self.identity.uid
    }
    /// What its relays really are.
    ///
    /// # Panics
    /// When its task panicked.
    pub fn states(&self) -> Vec<bool> {
        self.body.states()
    }
    /// The ids of the commands that reached it, in order.
    ///
    /// # Panics
    /// When its task panicked.
    pub fn seen(&self) -> Vec<String> {
        self.body.seen()
    }
    /// Waits until its connection is over.
    ///
    /// # Panics
    /// When the server keeps it open.
    pub async fn cut_off(&mut self) {
        let _ = crate::wait::within("the end of a device's connection", &mut self.task).await;
    }
}

impl Drop for AutoDevice {
    fn drop(&mut self) {
        self.task.abort();
    }
}
