//! Load with a memory: several devices, callers over REST and over the client socket, a watcher, a session that is
//! renewed and devices that are claimed, all at once; and a journal of what the server has answered.
//!
//! The journal is the caller's side of the promise: what stands in it must be in the database whatever happens next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::device::{AutoDevice, Body, Frame, Identity};
use crate::evidence::{Answer, Evidence};
use crate::server::{PASSWORD, TestServer, User};
use crate::wait::within;
use crate::ws_client::WsClient;

/// Relays of a device: the callers switch all of them, the last one is also pressed by hand.
const RELAYS: u16 = 3;
/// Commands between two presses.
const TOUCHED_EVERY: usize = 7;
/// A client socket may send 60 frames in a second.
const WS_PACE: Duration = Duration::from_millis(20);
/// Sessions and claims are rarer than commands.
const SLOW_PACE: Duration = Duration::from_millis(40);
/// An access token lives 15 minutes.
const RENEW_AFTER: Duration = Duration::from_secs(300);

/// Numbers that replay: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From `HEXA_SEED`, else from the clock; printed, so that a failure can be run again.
    ///
    /// # Panics
    /// When `HEXA_SEED` is no number.
    pub fn seeded(what: &str) -> Self {
        let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |d| d.as_nanos() as u64);
        let given = std::env::var("HEXA_SEED").ok();
        let seed = given.map_or_else(clock, |s| s.parse().expect("HEXA_SEED is a number"));
        eprintln!("{what}: HEXA_SEED={seed}");
        Self(seed)
    }
    /// Any number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// What the callers know.
#[derive(Debug, Default)]
struct Known {
    answers: Vec<Answer>,
    /// Answers with an error, by code.
    refused: BTreeMap<String, u64>,
    /// What must never happen, in words.
    wrong: Vec<String>,
    /// The newest refresh token that was answered.
    session: String,
    renewals: u64,
    /// Devices whose claim was answered.
    claimed: Vec<String>,
    /// A claim under way.
    claiming: Option<Identity>,
}

/// A user with devices, and what is known of them across all ends of the server.
#[derive(Debug)]
pub struct Fleet {
    user: User,
    signed_in: Instant,
    devices: Vec<(Identity, Body)>,
    /// One that is never connected.
    absent: Identity,
    known: Arc<Mutex<Known>>,
    checked_claims: usize,
}

/// A fleet at work.
#[derive(Debug)]
pub struct Load {
    devices: Vec<AutoDevice>,
    workers: Vec<JoinHandle<()>>,
    watcher: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    known: Arc<Mutex<Known>>,
}

/// What a check has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Commands that were answered with success and found.
    pub answered: usize,
    /// Frames of commands that the devices saw, each once.
    pub frames: usize,
    /// Renewals of the session that were answered.
    pub renewals: u64,
    /// Claims that were answered.
    pub claims: usize,
}

impl Fleet {
    /// A new user with so many devices, which are not connected yet.
    ///
    /// # Panics
    /// When the server refuses any of it.
    pub async fn new(server: &TestServer, devices: usize) -> Self {
        let user = server.user().await;
        let mut own = Vec::new();
        for _ in 0..=devices {
            let identity = server.provision(RELAYS).await;
            let claim = json!({ "code": identity.claim_code });
            user.client.post("/api/v1/devices/claim", &claim).await.expect(200);
            own.push((identity, Body::new(RELAYS).touched_every(TOUCHED_EVERY)));
        }
        let (absent, _) = own.pop().expect("one more than asked for");
        let session = server.user().await.refresh_token;
        let known = Arc::new(Mutex::new(Known { session, ..Known::default() }));
        Self { user, signed_in: Instant::now(), devices: own, absent, known, checked_claims: 0 }
    }

    /// The user, at the server's present address.
    pub fn user(&self, server: &TestServer) -> User {
        User { client: server.client().with_token(&self.user.access_token), ..self.user.clone() }
    }

    /// Public ids of the devices.
    pub fn uids(&self) -> Vec<String> {
        self.devices.iter().map(|(identity, _)| identity.uid.clone()).collect()
    }

    /// Connects the devices; each reports its relays, and nothing is sent to it that nobody has asked for.
    ///
    /// # Panics
    /// When something else is sent first: a command of an earlier life.
    pub async fn connect(&self, server: &TestServer) -> Vec<AutoDevice> {
        let mut connected = Vec::new();
        for (identity, body) in &self.devices {
            let mut device = server.connect(identity).await;
            device.send(&body.report()).await;
            device.settled().await;
            connected.push(device.automatic_as(body));
        }
        connected
    }

    /// Puts everything to work.
    ///
    /// # Panics
    /// When the devices or sockets are refused.
    pub async fn load(&self, server: &TestServer) -> Load {
        let (user, stop) = (self.user(server), Arc::new(AtomicBool::new(false)));
        // Everything is connected before the first command: from then on the server may go at any moment.
        let (watching, _) = WsClient::subscribed(server, &user).await;
        let (mut devices, mut sockets) = (Vec::new(), Vec::new());
        for (identity, body) in &self.devices {
            devices.push(server.connect(identity).await.automatic_as(body));
            sockets.push(WsClient::open(server, &user.access_token).await.expect("the socket opens"));
        }
        let watcher = tokio::spawn(watch(watching, Arc::clone(&self.known)));
        let mut workers = Vec::new();
        for ((identity, _), socket) in self.devices.iter().zip(sockets) {
            let caller = |uid: &str| Caller {
                user: user.clone(),
                uid: uid.to_owned(),
                known: Arc::clone(&self.known),
                stop: Arc::clone(&stop),
            };
            workers.push(tokio::spawn(caller(&identity.uid).rest()));
            workers.push(tokio::spawn(caller(&identity.uid).socket(socket)));
        }
        let (known, client) = (Arc::clone(&self.known), server.client());
        workers.push(tokio::spawn(renew(client.clone(), known, Arc::clone(&stop))));
        let (known, key) = (Arc::clone(&self.known), server.provision_key());
        workers.push(tokio::spawn(claim(user.client.clone(), key, known, Arc::clone(&stop))));
        Load { devices, workers, watcher, stop, known: Arc::clone(&self.known) }
    }

    /// After a restart: what was promised is there, nothing was sent twice, what was cut off is not half
    /// there, and the server goes on.
    ///
    /// # Panics
    /// Naming what does not hold.
    pub async fn check(&mut self, server: &TestServer) -> Tally {
        let evidence = server.evidence();
        let tally = self.judge(&evidence);
        let started_at = evidence.last_seq();
        self.session(server).await;
        self.claims(server).await;
        let _connected = self.connect(server).await;
        self.agree(server).await;
        self.calm(server, started_at).await;
        tally
    }

    /// The part of [`check`](Self::check) that only reads.
    ///
    /// # Panics
    /// Naming what does not hold.
    pub fn judge(&self, evidence: &Evidence) -> Tally {
        let known = self.known.lock().unwrap();
        assert_eq!(known.wrong, Vec::<String>::new());
        evidence.assert_whole();
        let answered = evidence.assert_answered(&known.answers);
        let mut frames = HashSet::new();
        for (identity, body) in &self.devices {
            for id in body.seen() {
                assert!(frames.insert(id.clone()), "command {id} was sent to {} a second time", identity.uid);
            }
        }
        for answer in &known.answers {
            assert!(frames.contains(&answer.command_id), "no device saw {answer:?}");
        }
        Tally { answered, frames: frames.len(), renewals: known.renewals, claims: known.claimed.len() }
    }

    /// What callers were answered with, by code, where it was no success.
    ///
    /// # Panics
    /// When a task of the load panicked.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        self.known.lock().unwrap().refused.clone()
    }

    /// How many commands, renewals of the session and claims were answered with success so far.
    ///
    /// # Panics
    /// When a task of the load panicked.
    pub fn progress(&self) -> [usize; 3] {
        let known = self.known.lock().unwrap();
        [known.answers.len(), known.renewals as usize, known.claimed.len()]
    }

    /// The answers so far.
    ///
    /// # Panics
    /// When a task of the load panicked.
    pub fn answers(&self) -> Vec<Answer> {
        self.known.lock().unwrap().answers.clone()
    }

    /// How many commands were answered with success.
    ///
    /// # Panics
    /// When a task of the load panicked.
    pub fn answered(&self) -> usize {
        self.known.lock().unwrap().answers.len()
    }

    /// The token that was answered last still renews the session: a renewal that was cut off took nothing away.
    async fn session(&mut self, server: &TestServer) {
        let token = self.known.lock().unwrap().session.clone();
        let renewed =
            server.client().post("/api/v1/auth/refresh", &json!({ "refresh_token": token })).await.expect(200);
        self.known.lock().unwrap().session = text(&renewed["refresh_token"]);
        if self.signed_in.elapsed() > RENEW_AFTER {
            let body = json!({ "email": self.user.email, "password": PASSWORD });
            let answer = server.client().post("/api/v1/auth/login", &body).await.expect(200);
            self.user = User::new(server.client(), &self.user.email.clone(), &answer);
            self.signed_in = Instant::now();
        }
    }

    /// Claims that were answered are there; the one that was cut off is there as a whole or can be made again.
    async fn claims(&mut self, server: &TestServer) {
        let (claimed, claiming) = {
            let mut known = self.known.lock().unwrap();
            (known.claimed[self.checked_claims..].to_vec(), known.claiming.take())
        };
        let client = self.user(server).client;
        self.checked_claims += claimed.len();
        for uid in &claimed {
            client.get(&format!("/api/v1/devices/{uid}")).await.expect(200);
        }
        if let Some(cut_off) = claiming {
            let again = client.post("/api/v1/devices/claim", &json!({ "code": cut_off.claim_code })).await;
            if again.status != 200 {
                again.expect_error(404, "not_found");
            }
            client.get(&format!("/api/v1/devices/{}", cut_off.uid)).await.expect(200);
        }
    }

    /// Device, database and REST (which answers from the cache) say the same of every relay.
    async fn agree(&self, server: &TestServer) {
        let (evidence, user) = (server.evidence(), self.user(server));
        for (identity, body) in &self.devices {
            for (relay, state) in (0u16..).zip(body.states()) {
                let stored = evidence.relay(&identity.uid, relay);
                assert_eq!(stored.map(|(s, _)| s), Some(state), "{} relay {relay}", identity.uid);
                let shown = user.relay(&identity.uid, relay).await;
                assert_eq!(shown.map(|(s, v)| (s, v as i64)), stored, "{} relay {relay}", identity.uid);
            }
        }
    }

    /// A few commands over REST and over the socket; the counters, fresh since the start, and the audit tell the same.
    async fn calm(&self, server: &TestServer, since: i64) {
        let user = self.user(server);
        let mut socket = WsClient::open(server, &user.access_token).await.expect("the socket opens");
        for (identity, _) in &self.devices {
            for state in [true, false] {
                let answer = user.set_relay(&identity.uid, 0, state).await.expect(200);
                self.known.lock().unwrap().answers.push(Answer::from_json(&identity.uid, &answer));
            }
            let frame = json!({ "type": "set_all_relays", "id": "calm", "device_uid": identity.uid, "state": true });
            socket.send(&frame).await;
            let answer = socket.expect("command_result").await;
            self.known.lock().unwrap().answers.push(Answer::from_json(&identity.uid, &answer));
        }
        user.set_relay(&self.absent.uid, 0, true).await.expect_error(409, "device_offline");
        let (metrics, evidence) = (server.metrics().await, server.evidence());
        self.judge(&evidence);
        let recorded = evidence.ended_since(since);
        for source in ["api", "ws"] {
            for outcome in ["success", "timeout", "error"] {
                let counted = metrics.count("hexa_commands_total", &[("source", source), ("outcome", outcome)]);
                let rows = recorded.get(&(source.to_owned(), outcome)).copied().unwrap_or_default();
                assert_eq!(counted, rows, "commands by {source} that ended with {outcome}: counted, and in the audit");
            }
        }
    }
}

impl Load {
    /// How many commands were answered so far, by all loads of the fleet.
    ///
    /// # Panics
    /// When a task of the load panicked.
    pub fn answered(&self) -> usize {
        self.known.lock().unwrap().answers.len()
    }
    /// Waits until everything has noticed that the server is gone.
    ///
    /// # Panics
    /// When something waits on, or a task panicked.
    pub async fn cut_off(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.work_ended().await;
        for device in &mut self.devices {
            device.cut_off().await;
        }
        within("the watcher's end", self.watcher).await.expect("the watcher does not panic");
    }
    /// Ends it while the server goes on; every caller waits for its last answer.
    ///
    /// # Panics
    /// When an answer does not come, or a task panicked.
    pub async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.work_ended().await;
        self.watcher.abort();
    }
    async fn work_ended(&mut self) {
        for worker in self.workers.drain(..) {
            within("a caller's end", worker).await.expect("a caller does not panic");
        }
    }
}

/// One who switches relays.
struct Caller {
    user: User,
    uid: String,
    known: Arc<Mutex<Known>>,
    stop: Arc<AtomicBool>,
}

impl Caller {
    /// One command after the other over REST: single relays, and all of them every eighth time.
    async fn rest(self) {
        for n in 0u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let (path, state) = match n % 8 {
                7 => (format!("/api/v1/devices/{}/relays", self.uid), n % 16 < 8),
                _ => (format!("/api/v1/devices/{}/relays/{}", self.uid, n % 2), n % 4 < 2),
            };
            let client = &self.user.client;
            let request = client.request(reqwest::Method::POST, &path).json(&json!({ "state": state }));
            // Cut off: nothing is known, nothing is claimed.
            let Ok(reply) = client.try_send(request).await else { return };
            self.answered(reply.status == 200, &reply.json());
        }
    }

    /// The same over the client socket.
    async fn socket(self, mut socket: WsClient) {
        let mut pace = paced(WS_PACE);
        for n in 0u64.. {
            pace.tick().await;
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let frame = json!({
                "type": "set_relay", "id": n.to_string(), "device_uid": self.uid, "relay": n % 2, "state": n % 4 < 2,
            });
            let sent = socket.socket.send(tokio_tungstenite::tungstenite::Message::text(frame.to_string())).await;
            if sent.is_err() {
                return;
            }
            let Frame::Text(answer) = socket.socket.next().await else { return };
            self.answered(answer["type"] == "command_result", &answer);
        }
    }

    fn answered(&self, success: bool, body: &Value) {
        let mut known = self.known.lock().unwrap();
        if success {
            known.answers.push(Answer::from_json(&self.uid, body));
        } else {
            *known.refused.entry(text(&body["code"])).or_default() += 1;
        }
    }
}

/// Ticks that are never made up for: after a stall a caller goes on as before.
fn paced(every: Duration) -> tokio::time::Interval {
    let mut pace = tokio::time::interval(every);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    pace
}

/// Hears of every change and must never hear a version go down.
async fn watch(mut client: WsClient, known: Arc<Mutex<Known>>) {
    let mut newest: HashMap<(String, u64), u64> = HashMap::new();
    while let Frame::Text(frame) = client.socket.next().await {
        if frame["type"] != "device_state" {
            continue;
        }
        for relay in frame["relays"].as_array().into_iter().flatten() {
            let key = (text(&frame["device_uid"]), relay["index"].as_u64().unwrap_or(u64::MAX));
            let version = relay["version"].as_u64().unwrap_or_default();
            let before = newest.insert(key, version).unwrap_or_default();
            if version < before {
                known.lock().unwrap().wrong.push(format!("a watcher heard {version} after {before}: {frame}"));
            }
        }
    }
}

/// Renews a session again and again.
async fn renew(client: crate::Client, known: Arc<Mutex<Known>>, stop: Arc<AtomicBool>) {
    let mut pace = paced(SLOW_PACE);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let token = known.lock().unwrap().session.clone();
        let request = client.request(reqwest::Method::POST, "/api/v1/auth/refresh");
        let Ok(reply) = client.try_send(request.json(&json!({ "refresh_token": token }))).await else { return };
        let mut known = known.lock().unwrap();
        if reply.status == 200 {
            known.session = text(&reply.json()["refresh_token"]);
            known.renewals += 1;
        } else {
            *known.refused.entry(text(&reply.json()["code"])).or_default() += 1;
        }
    }
}

/// Provisions and claims one device after the other.
async fn claim(client: crate::Client, key: String, known: Arc<Mutex<Known>>, stop: Arc<AtomicBool>) {
    let mut pace = paced(SLOW_PACE);
    let body = json!({ "device_class": "relay_controller", "relay_count": 1, "input_count": 0 });
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let request = client.request(reqwest::Method::POST, "/api/v1/provision/register");
        let request = request.header("x-provision-key", &key).json(&body);
        let Ok(reply) = client.try_send(request).await else { return };
        if reply.status != 201 {
            *known.lock().unwrap().refused.entry(text(&reply.json()["code"])).or_default() += 1;
            continue;
        }
        let identity = Identity::from_json(&reply.json());
        known.lock().unwrap().claiming = Some(identity.clone());
        let request = client.request(reqwest::Method::POST, "/api/v1/devices/claim");
        let request = request.json(&json!({ "code": identity.claim_code }));
        let Ok(reply) = client.try_send(request).await else { return };
        let mut known = known.lock().unwrap();
        if reply.status == 200 {
            known.claiming = None;
            known.claimed.push(identity.uid);
        } else {
            *known.refused.entry(text(&reply.json()["code"])).or_default() += 1;
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
