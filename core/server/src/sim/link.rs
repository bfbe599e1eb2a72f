//! One device's task: credentials, connection, reconnection. What it says is the model's business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use secrecy::ExposeSecret;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::args::local_address;
use super::credential_store::Credentials;
use super::enroll::{Refused, retry_after, server_words};
use super::fleet::Fleet;
use super::model::DeviceModel;
use super::rng::{Rng, Stream};

type Socket = WebSocketStream<TcpStream>;

/// tungstenite's default of 128 KiB would cost a gigabyte at 10,000 devices.
const BUFFER_BYTES: usize = 4 * 1024;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);
/// The reconnect jitter grows from the first to the second.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A connection of this age was a good one: the next failure starts with a short wait again.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);

/// How a connection ended.
enum End {
    /// The run is over.
    Stopped,
    /// `--reconnect-every` told the device to hang up.
    Planned,
    /// The server closed, and perhaps said when to come back.
    Closed(Option<Duration>),
    /// The connection broke, for this reason.
    Lost(String),
}

/// Why there was no connection.
enum Failed {
    /// An HTTP answer instead of the upgrade.
    Answered { status: u16, after: Option<Duration>, words: String },
    /// Nothing came of it.
    Unreachable(String),
}

/// A device and its line.
pub(super) struct Device {
    fleet: Arc<Fleet>,
    index: usize,
    model: DeviceModel,
    chance: Rng,
    press_times: Rng,
    failures: u32,
    connects: u64,
}

impl Device {
    /// Device `index` of the fleet.
    pub(super) fn new(fleet: Arc<Fleet>, index: usize) -> Self {
        let plan = &fleet.plan;
        let relays = fleet.enrolment.book.get(index).map_or(plan.relays(index), |known| known.relays);
        Self {
            model: DeviceModel::new(plan.seed, index, relays, plan.faults),
            chance: Rng::new(plan.seed, index, Stream::Link),
            press_times: Rng::new(plan.seed, index, Stream::InputTimes),
            fleet,
            index,
            failures: 0,
            connects: 0,
        }
    }

    /// Lives until the run stops or the server will not have it.
    pub(super) async fn live(mut self) {
        let stop = self.fleet.stop.clone();
        loop {
            let wait = tokio::select! {
                () = stop.cancelled() => return,
                wait = self.once() => wait,
            };
            let Some(wait) = wait else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// One connection from credentials to its end; gives the wait before the next, none when there is no next.
    async fn once(&mut self) -> Option<Duration> {
        let fleet = Arc::clone(&self.fleet);
        let complain = |what: &str| fleet.complain(what);
        let credentials = match fleet.enrolment.credentials(self.index, fleet.plan.relays(self.index), complain).await {
            Ok(credentials) => credentials,
            Err(Refused::ForNow(why, after)) => return Some(self.failed(&why, after)),
            Err(Refused::ForGood(why)) => {
                fleet.complain(&why);
                return None;
            }
        };
        let mut socket = match self.connect(&credentials).await {
            Ok(socket) => socket,
            Err(Failed::Answered { status: 401, words, .. }) if fleet.enrolment.forget(self.index) => {
                fleet.note(&format!("device {} provisions again: {words}", credentials.uid));
                return Some(self.chance.up_to(FIRST_WAIT));
            }
            Err(Failed::Answered { after, words, .. }) => return Some(self.failed(&words, after)),
            Err(Failed::Unreachable(why)) => return Some(self.failed(&why, None)),
        };
        fleet.stats.connected(self.connects > 0);
        self.connects += 1;
        let since = Instant::now();
        // Counts down however this future ends.
        let _connected = Connected(&fleet);
        let end = self.converse(&mut socket).await;
        fleet.stats.add(&self.model.take_tally());
        if since.elapsed() >= GOOD_CONNECTION {
            self.failures = 0;
        }
        match end {
            End::Stopped => None,
            End::Planned => Some(self.chance.up_to(FIRST_WAIT)),
            End::Closed(Some(wait)) => Some(wait),
            End::Closed(None) => Some(self.backoff()),
            End::Lost(why) => Some(self.failed(&why, None)),
        }
    }

    fn failed(&mut self, why: &str, after: Option<Duration>) -> Duration {
        self.fleet.complain(why);
        after.unwrap_or_default() + self.backoff()
    }

    /// Full jitter: anywhere from now to a limit that doubles.
    fn backoff(&mut self) -> Duration {
        let limit = FIRST_WAIT.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WAIT);
        self.failures += 1;
        self.chance.up_to(limit)
    }

    async fn connect(&self, credentials: &Credentials) -> Result<Socket, Failed> {
        // Never closed; the handshakes of a whole fleet at once would only queue in the server.
        let _turn = self.fleet.handshakes.acquire().await;
        let unreachable = |e: &anyhow::Error| Failed::Unreachable(format!("connecting: {e:#}"));
        let stream = timeout(HANDSHAKE_PATIENCE, dial(self.fleet.address, self.index))
            .await
            .map_err(|_| Failed::Unreachable("connecting: no answer".into()))?
            .map_err(|e| unreachable(&e))?;
        let request = self.request(credentials).map_err(|e| unreachable(&e))?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
        match timeout(HANDSHAKE_PATIENCE, client_async_with_config(request, stream, Some(config))).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(WsError::Http(answer))) => {
                let status = answer.status().as_u16();
                let after = retry_after(answer.headers());
                let words = server_words(status, answer.body().as_deref().unwrap_or_default());
                Err(Failed::Answered { status, after, words: format!("connecting: {words}") })
            }
            Ok(Err(error)) => Err(Failed::Unreachable(format!("connecting: {error}"))),
            Err(_) => Err(Failed::Unreachable("connecting: no answer to the upgrade".into())),
        }
    }

    fn request(
        &self,
        credentials: &Credentials,
    ) -> anyhow::Result<tokio_tungstenite::tungstenite::handshake::client::Request> {
        let mut url = self.fleet.plan.server.clone();
        url.set_path("/ws/device");
        url.query_pairs_mut().append_pair("uid", &credentials.uid);
        // The scheme of a `Url` cannot be changed from http to ws (WHATWG URL, special schemes).
        let mut request = url.as_str().replacen("http://", "ws://", 1).into_client_request()?;
        let mut token = HeaderValue::from_str(&format!("Bearer {}", credentials.token.expose_secret()))
            .context("the state file holds something that is not a token")?;
        token.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, token);
        Ok(request)
    }

    async fn converse(&mut self, socket: &mut Socket) -> End {
        let fleet = Arc::clone(&self.fleet);
        let [hello, report] = self.model.greeting(fleet.now_ms());
        if let Err(end) = write(socket, vec![Message::text(hello), Message::text(report)]).await {
            return end;
        }
        let mut heard = Instant::now();
        let mut beat = Instant::now() + self.heartbeat();
        let mut leave = fleet.plan.reconnect_every.map(|mean| Instant::now() + self.chance.around(mean));
        let mut press = fleet.plan.input_every.map(|mean| Instant::now() + self.press_times.around(mean));
        loop {
            let mut out: Vec<Message> = self.model.due(fleet.now_ms()).into_iter().map(Message::text).collect();
            let now = Instant::now();
            if now >= beat {
                if heard.elapsed() > self.heartbeat().mul_f64(2.25) {
                    return End::Lost("the server is silent".into());
                }
                // The ping makes a silent server answer, so that a half-open connection is found from this side too.
                out.extend([Message::text(DeviceModel::heartbeat()), Message::Ping(Vec::new().into())]);
                beat = now + self.heartbeat();
            }
            if !out.is_empty()
                && let Err(end) = write(socket, out).await
            {
                return end;
            }
            fleet.stats.add(&self.model.take_tally());
            let wake = self.next_wake(&[Some(beat), leave, press]);
            tokio::select! {
                () = fleet.stop.cancelled() => return goodbye(socket, End::Stopped).await,
                () = tokio::time::sleep_until(wake) => {}
                message = socket.next() => {
                    heard = Instant::now();
                    if let Some(end) = self.heard(message) {
                        return end;
                    }
                    beat = beat.min(heard + self.heartbeat());
                }
            }
            let now = Instant::now();
            if press.is_some_and(|at| now >= at) {
                self.model.touched(fleet.now_ms());
                fleet.stats.input();
                press = fleet.plan.input_every.map(|mean| now + self.press_times.around(mean));
            }
            if leave.take_if(|at| now >= *at).is_some() {
                return self.hang_up(socket).await;
            }
        }
    }

    /// Takes a message; gives the end if it was the last.
    fn heard(&mut self, message: Option<Result<Message, WsError>>) -> Option<End> {
        match message {
            Some(Ok(Message::Text(text))) => {
                if let Err(why) = self.model.receive(text.as_str(), self.fleet.now_ms()) {
                    self.fleet.complain(&why);
                }
                None
            }
            Some(Ok(Message::Close(frame))) => {
                let code = frame.as_ref().map_or(1005, |f| f.code.into());
                self.fleet.stats.closed(code);
                let after = frame.as_ref().filter(|_| code == 1012).and_then(|f| reconnect_after(f.reason.as_str()));
                Some(End::Closed(after))
            }
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(End::Lost(format!("the connection broke: {error}"))),
            None => Some(End::Lost("the connection ended without a close frame".into())),
        }
    }

    fn next_wake(&self, times: &[Option<Instant>]) -> Instant {
        let model = self.model.next_due().map(|due_ms| {
            let in_ms = due_ms.saturating_sub(self.fleet.now_ms());
            Instant::now() + Duration::from_millis(in_ms)
        });
        let next = times.iter().copied().flatten().chain(model).min();
        next.unwrap_or_else(|| Instant::now() + LONGEST_WAIT)
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.model.heartbeat_s())
    }

    /// Half of the time with a close frame, half of the time like a pulled plug.
    async fn hang_up(&mut self, socket: &mut Socket) -> End {
        if self.chance.percent(50) {
            return goodbye(socket, End::Planned).await;
        }
        End::Planned
    }
}

struct Connected<'a>(&'a Fleet);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.stats.disconnected();
    }
}

async fn dial(address: SocketAddr, index: usize) -> anyhow::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv4() && address.ip().is_loopback() {
        let local = local_address(index);
        socket.bind((local, 0).into()).with_context(|| format!("no free port on {local}"))?;
    }
    let stream = socket.connect(address).await.with_context(|| format!("no connection to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn write(socket: &mut Socket, messages: Vec<Message>) -> Result<(), End> {
    let writing = async {
        for message in messages {
            socket.feed(message).await?;
        }
        socket.flush().await
    };
    match timeout(WRITE_PATIENCE, writing).await {
        Ok(Ok(())) => Ok(()),
        // The server's close frame, if there is one, is read by the caller's next turn only when writing still works;
        // a server that closes while this side writes is an ordinary end.
        Ok(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => Err(End::Closed(None)),
        Ok(Err(error)) => Err(End::Lost(format!("the connection broke: {error}"))),
        Err(_) => Err(End::Lost("the server no longer reads what is sent".into())),
    }
}

async fn goodbye(socket: &mut Socket, end: End) -> End {
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let both_ways = async {
        if socket.close(Some(close)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A server that does not answer the close is left alone.
    let _ = timeout(GOODBYE_PATIENCE, both_ways).await;
    end
}

/// The wait that a restarting server asks for in its close reason.
fn reconnect_after(reason: &str) -> Option<Duration> {
    let parsed: serde_json::Value = serde_json::from_str(reason).ok()?;
    parsed["reconnect_after_ms"].as_u64().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::reconnect_after;

    #[test]
    fn a_restarting_server_says_when_to_come_back() {
        assert_eq!(reconnect_after(r#"{"reconnect_after_ms":1500}"#), Some(Duration::from_millis(1500)));
        assert_eq!(reconnect_after("restarting"), None);
        assert_eq!(reconnect_after(r#"{"reconnect_after_ms":-1}"#), None);
    }
}
