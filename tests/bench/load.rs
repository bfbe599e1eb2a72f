//! The closed-loop generator: raw HTTP over kept connections, devices that answer at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Opens a WebSocket with small buffers and without Nagle.
pub(crate) async fn socket(address: &str, path: &str, token: Option<&str>) -> Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
    Ok(client_async_with_config(request, stream, Some(config)).await.with_context(|| path.to_owned())?.0)
}

/// F2's device: `id state` comes, `id` goes back.
pub(crate) async fn raw_device(mut socket: Socket) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let id = text.split(' ').next().unwrap_or_default().to_owned();
        if socket.send(Message::text(id)).await.is_err() {
            return;
        }
    }
}

/// Hexa's device: acknowledges every command, understands nothing else.
pub(crate) async fn device(mut socket: Socket) {
    const KEY: &str = "\"command_id\":\"";
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let Some(at) = text.find(KEY).map(|p| p + KEY.len()) else { continue };
        let id: String = text[at..].chars().take_while(|c| *c != '"').collect();
        let ack = format!("{{\"type\":\"ack\",\"command_id\":\"{id}\",\"status\":\"executed\"}}");
        if socket.send(Message::text(ack)).await.is_err() {
            return;
        }
    }
}

/// A dashboard that counts the frames it gets.
pub(crate) async fn watcher(mut socket: Socket, seen: Arc<AtomicU64>) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A kept HTTP connection.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }
    /// Sends a finished request; gives status and body.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end])?;
            // Names are lower case in hyper's answers and capital in others'.
            let length = head.lines().find_map(|l| {
                let (name, value) = l.split_once(": ")?;
                if name.eq_ignore_ascii_case("content-length") { value.parse::<usize>().ok() } else { None }
            });
            let length = length.context("no content-length")?;
            if self.buffer.len() >= end + 4 + length {
                let status = head.get(9..12).and_then(|s| s.parse().ok()).context("no status")?;
                return Ok((status, &self.buffer[end + 4..]));
            }
        }
    }
}

/// How late the generator's timers may be.
const TIMER: Duration = Duration::from_millis(3);

/// One target under load.
pub(crate) struct Target {
    pub(crate) address: String,
    /// Finished requests per device: off, on.
    pub(crate) requests: Vec<[Vec<u8>; 2]>,
    connections: Vec<Http>,
    used: Instant,
}

/// A server may close a connection that was idle for longer (hexa after 10 s, Node-RED after 5).
const KEPT: Duration = Duration::from_secs(3);

/// What a slice gave.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Slice {
    pub(crate) per_second: f64,
    pub(crate) commands: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Answers other than 200; timeouts are among them.
    pub(crate) refused: f64,
}

impl Target {
    pub(crate) fn new(address: String, requests: Vec<[Vec<u8>; 2]>) -> Self {
        Self { address, requests, connections: Vec::new(), used: Instant::now() }
    }

    /// Opens the connections that a slice needs, so that it measures commands alone.
    pub(crate) async fn connect(&mut self, in_flight: usize) -> Result<()> {
        if self.used.elapsed() > KEPT {
            self.connections.clear();
        }
        while self.connections.len() < in_flight {
            self.connections.push(Http::open(&self.address).await?);
        }
        self.used = Instant::now();
        Ok(())
    }

    /// `in_flight` workers, each with its own connection and device, one request after another.
    pub(crate) async fn slice(&mut self, in_flight: usize, time: Duration) -> Result<Slice> {
        self.connect(in_flight).await?;
        let end = Instant::now() + time;
        self.run(in_flight, None, Arc::new(move || Instant::now() >= end)).await
    }

    /// The same until told to end. With `every`, each worker sends at intended times that far apart (open loop), and
    /// a request that had to wait for the one before counts from when it should have been sent.
    pub(crate) async fn run(
        &mut self,
        in_flight: usize,
        every: Option<Duration>,
        over: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Slice> {
        self.connect(in_flight).await?;
        let started = Instant::now();
        let workers: Vec<_> = self
            .connections
            .drain(..)
            .enumerate()
            .map(|(n, mut http)| {
                let requests = self.requests[n % self.requests.len()].clone();
                let active = n < in_flight;
                let over = Arc::clone(&over);
                // Spread over the period, so that they do not send together.
                let mut intended = started + every.map_or(Duration::ZERO, |e| e * n as u32 / in_flight as u32);
                tokio::spawn(async move {
                    let (mut took, mut refused) = (Vec::new(), 0);
                    while active && !over() {
                        if every.is_some() {
                            tokio::time::sleep_until(intended.into()).await;
                        }
                        let now = Instant::now();
                        // The generator's own timer is late by a millisecond or so: that is not the server's.
                        let waited = every.is_some() && now - intended > TIMER;
                        let begun = if waited { intended } else { now };
                        intended += every.unwrap_or_default();
                        let (status, _) = http.call(&requests[took.len() % 2]).await?;
                        refused += usize::from(status != 200);
                        took.push(begun.elapsed().as_micros() as u32);
                    }
                    anyhow::Ok((http, took, refused))
                })
            })
            .collect();
        let (mut all, mut refused) = (Vec::new(), 0);
        for worker in workers {
            let (http, took, not_done) = worker.await??;
            self.connections.push(http);
            all.extend(took);
            refused += not_done;
        }
        self.used = Instant::now();
        let seconds = started.elapsed().as_secs_f64();
        all.sort_unstable();
        let at = |q: f64| all.get(((all.len() as f64 - 1.0) * q) as usize).copied().map_or(0.0, f64::from);
        Ok(Slice {
            per_second: all.len() as f64 / seconds,
            commands: all.len() as f64,
            p50_us: at(0.5),
            p99_us: at(0.99),
            refused: refused as f64,
        })
    }
}
