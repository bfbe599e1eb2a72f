//! Sockets for the thousands: one upgrade request, then frames by their headers, without a WebSocket library, so that
//! the generator costs the same little for every server under measurement.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Room for one server frame; larger ones are read in pieces and their content is skipped.
const BUFFER: usize = 2048;

/// An upgraded client socket.
pub(crate) struct Lean {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of a frame that did not fit is still to come.
    skip: usize,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Got {
    /// Text and binary frames that are complete.
    pub(crate) frames: usize,
    pub(crate) pings: usize,
    pub(crate) closed: bool,
}

/// A finished upgrade request.
pub(crate) fn upgrade(address: &str, path: &str, token: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         authorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

/// One of 127.0.0.2 to 127.0.0.6, so that the ports of one address are not the limit.
pub(crate) fn source(n: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2 + (n % 5) as u8).into(), 0)
}

impl Lean {
    /// Connects from `source` and upgrades; the answer must be 101. `receive_buffer` in bytes makes a slow reader.
    pub(crate) async fn open(
        to: SocketAddr,
        source: SocketAddr,
        request: &[u8],
        receive_buffer: Option<u32>,
    ) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        socket.set_nodelay(true)?;
        socket.bind(source).with_context(|| format!("bind {source}"))?;
        let stream = socket.connect(to).await.context("connect")?;
        let mut lean = Self { stream, buffer: Vec::new(), skip: 0 };
        lean.stream.write_all(request).await?;
        let mut head = Vec::with_capacity(256);
        let end = loop {
            if lean.stream.read_buf(&mut head).await? == 0 {
                bail!("closed before the upgrade: {}", String::from_utf8_lossy(&head));
            }
            if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
        };
        if !head.starts_with(b"HTTP/1.1 101") {
            bail!("no upgrade: {}", String::from_utf8_lossy(&head));
        }
        lean.buffer.extend_from_slice(&head[end + 4..]);
        Ok(lean)
    }

    /// Whatever came; waits for at least one byte unless some are there.
    pub(crate) async fn read(&mut self) -> Result<Got> {
        let mut got = self.parse();
        if got.frames + got.pings == 0 && !got.closed {
            self.buffer.reserve(BUFFER.saturating_sub(self.buffer.len()));
            got.closed = self.stream.read_buf(&mut self.buffer).await? == 0;
            let more = self.parse();
            got = Got { closed: got.closed || more.closed, ..more };
        }
        if self.buffer.is_empty() {
            // An idle socket holds no buffer.
            self.buffer = Vec::new();
        }
        Ok(got)
    }

    /// Takes the whole frames out of the buffer (RFC 6455 section 5.2; servers do not mask).
    fn parse(&mut self) -> Got {
        let mut got = Got::default();
        let mut at = 0;
        loop {
            let rest = &self.buffer[at..];
            if self.skip > 0 {
                let skipped = self.skip.min(rest.len());
                (self.skip, at) = (self.skip - skipped, at + skipped);
                if self.skip > 0 {
                    break;
                }
                got.frames += 1;
                continue;
            }
            let Some((header, length)) = header(rest) else { break };
            if rest.len() < header + length {
                if header + length > BUFFER {
                    (self.skip, at) = (header + length, at);
                    continue;
                }
                break;
            }
            match rest[0] & 0x0f {
                8 => got.closed = true,
                9 => got.pings += 1,
                1 | 2 => got.frames += 1,
                _ => {}
            }
            at += header + length;
        }
        self.buffer.drain(..at);
        got
    }

    /// Sends one pong without a payload.
    pub(crate) async fn pong(&mut self) -> Result<()> {
        Ok(self.stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await?)
    }

    /// Sends a text frame of up to 65535 bytes.
    pub(crate) async fn text(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.write_all(&masked(text)).await?)
    }

    /// Answers pings until the other side closes.
    pub(crate) async fn stay(mut self) {
        while let Ok(got) = self.read().await {
            if got.closed || (got.pings > 0 && self.pong().await.is_err()) {
                return;
            }
        }
    }

    /// Closing resets the connection, which leaves no port waiting.
    pub(crate) fn reset_on_close(&self) -> Result<()> {
        Ok(self.stream.set_zero_linger()?)
    }
}

/// Header and payload length, once the header is there.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let short = usize::from(*bytes.get(1)? & 0x7f);
    match short {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize)),
        _ => Some((2, short)),
    }
}

/// A client's text frame, masked with zeros: the mask must be there, its value is the client's own affair.
pub(crate) fn masked(text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 8);
    frame.push(0x81);
    if text.len() < 126 {
        frame.push(0x80 | text.len() as u8);
    } else {
        frame.push(0x80 | 0x7e);
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}
