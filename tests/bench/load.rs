//! The closed-loop generator: raw HTTP over kept connections, devices that answer at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
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
    /// Sends a finished request; the answer must be 200.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end])?;
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let length = length.context("no content-length")?;
            if self.buffer.len() >= end + 4 + length {
                ensure!(head.starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
                return Ok(&self.buffer[end + 4..]);
            }
        }
    }
}

/// One target under load.
pub(crate) struct Target {
    pub(crate) address: String,
    /// Finished requests per device: off, on.
    pub(crate) requests: Vec<[Vec<u8>; 2]>,
    connections: Vec<Http>,
}

/// What a slice gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    pub(crate) per_second: f64,
    pub(crate) commands: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Target {
    pub(crate) fn new(address: String, requests: Vec<[Vec<u8>; 2]>) -> Self {
        Self { address, requests, connections: Vec::new() }
    }

    /// `in_flight` workers, each with its own connection and device, one request after another.
    pub(crate) async fn slice(&mut self, in_flight: usize, time: Duration) -> Result<Slice> {
        while self.connections.len() < in_flight {
            self.connections.push(Http::open(&self.address).await?);
        }
        let started = Instant::now();
        let end = started + time;
        let workers: Vec<_> = self
            .connections
            .drain(..)
            .enumerate()
            .map(|(n, mut http)| {
                let requests = self.requests[n % self.requests.len()].clone();
                let active = n < in_flight;
                tokio::spawn(async move {
                    let mut took = Vec::new();
                    while active && Instant::now() < end {
                        let begun = Instant::now();
                        http.call(&requests[took.len() % 2]).await?;
                        took.push(begun.elapsed().as_micros() as u32);
                    }
                    anyhow::Ok((http, took))
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            let (http, took) = worker.await??;
            self.connections.push(http);
            all.extend(took);
        }
        let seconds = started.elapsed().as_secs_f64();
        all.sort_unstable();
        let at = |q: f64| all.get(((all.len() as f64 - 1.0) * q) as usize).copied().map_or(0.0, f64::from);
        Ok(Slice {
            per_second: all.len() as f64 / seconds,
            commands: all.len() as f64,
            p50_us: at(0.5),
            p99_us: at(0.99),
        })
    }
}
