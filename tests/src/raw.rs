//! Bytes that no decent client sends.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::within;

/// The status of a GET, without a runtime; none when there is no answer.
pub fn status_blocking(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Sends bytes and reads what comes back until the server closes.
///
/// # Panics
/// When the server does not listen or does not end.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let talk = async {
        // The server may answer and close before everything is written.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    within("an answer and its end", talk).await
}

/// Text, and what else a frame may be (RFC 6455 section 5.2).
pub mod opcode {
    /// Opcode of a continuation frame.
    pub const CONTINUATION: u8 = 0;
    /// Opcode of a text frame.
    pub const TEXT: u8 = 1;
    /// Opcode of a binary frame.
    pub const BINARY: u8 = 2;
    /// Opcode of a ping.
    pub const PING: u8 = 9;
}

/// A WebSocket below the rules: frames are written as they are told.
#[derive(Debug)]
pub struct RawSocket(TcpStream);

impl RawSocket {
    /// Upgrades.
    ///
    /// # Panics
    /// When the answer is not 101.
    pub async fn open(address: SocketAddr, path: &str, bearer: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut answer = Vec::new();
        let head = async {
            while !answer.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => answer.push(byte),
                    Err(_) => return,
                }
            }
        };
        within("the answer to an upgrade", head).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        Self(stream)
    }
    /// Writes a frame, masked with zeroes or not at all.
    ///
    /// # Panics
    /// When the connection is over.
    pub async fn frame(&mut self, fin: bool, opcode: u8, masked: bool, payload: &[u8]) {
        let mut bytes = Self::head(fin, opcode, masked, payload.len() as u64);
        bytes.extend_from_slice(payload);
        self.0.write_all(&bytes).await.expect("the server reads");
    }
    /// Writes only the head of a frame of this length.
    ///
    /// # Panics
    /// When the connection is over.
    pub async fn declare(&mut self, opcode: u8, length: u64) {
        self.0.write_all(&Self::head(true, opcode, true, length)).await.expect("the server reads");
    }
    fn head(fin: bool, opcode: u8, masked: bool, length: u64) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![if fin { 0x80 } else { 0 } | opcode];
        match length {
            0..=125 => bytes.push(mask_bit | length as u8),
            126..=65_535 => {
                bytes.push(mask_bit | 0x7e);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 0x7f);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        if masked {
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes
    }
    /// The code of the server's close frame; none when the connection ends without one. Other frames are dropped.
    pub async fn close_code(&mut self) -> Option<u16> {
        within("the server's close", async {
            loop {
                let head = self.0.read_u8().await.ok()?;
                let short = self.0.read_u8().await.ok()? & 0x7f;
                let length = match short {
                    126 => u64::from(self.0.read_u16().await.ok()?),
                    127 => self.0.read_u64().await.ok()?,
                    n => u64::from(n),
                };
                let mut payload = vec![0; usize::try_from(length).ok()?];
                self.0.read_exact(&mut payload).await.ok()?;
                if head & 0x0f == 8 {
                    return Some(u16::from_be_bytes([*payload.first()?, *payload.get(1)?]));
                }
            }
        })
        .await
    }
    /// The TCP stream itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.0
    }
}

/// Whether the server has taken everything that was sent on the connection from `own` (`/proc/net/tcp`).
///
/// # Panics
/// When there is no such connection.
pub fn taken_by_server(server: SocketAddr, own: SocketAddr) -> bool {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(_) => panic!("the tests use IPv4"),
    };
    let (local, remote) = (hex(server), hex(own));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows its sockets");
    let line = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let found = line.filter(|f| f.len() > 9).find(|f| f[1] == local && f[2] == remote);
    let fields = found.unwrap_or_else(|| panic!("no connection from {own} to {server}"));
    // tx:rx queue, and the inode that a socket has once it was accepted.
    fields[4].ends_with(":00000000") && fields[9] != "0"
}
