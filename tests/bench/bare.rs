//! Floors of the socket benches: upgrades and nothing behind them, and a loop that writes one frame to all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::Result;
use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

/// The answer to the one key that the generator uses (RFC 6455 section 1.3).
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// The backlog of the server's own listener.
const BACKLOG: u32 = 4096;
const QUEUE: usize = 1024;
const BUFFER: usize = 4096;

fn listen() -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    listener.set_nonblocking(false)?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

/// Accepts on a thread of its own.
fn accepted(listener: TcpListener) -> mpsc::Receiver<(TcpStream, SocketAddr)> {
    let (to, from) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        while let Ok((stream, peer)) = listener.accept() {
            let ready = stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true));
            if ready.is_ok() && to.blocking_send((stream, peer)).is_err() {
                return;
            }
        }
    });
    from
}

/// The storm's floor: an accept thread, and per socket a task that reads the request and writes a finished 101.
pub(crate) async fn accept() -> Result<()> {
    let mut sockets = accepted(listen()?);
    while let Some((stream, _)) = sockets.recv().await {
        tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::from_std(stream)?;
            let mut head = Vec::with_capacity(1024);
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await? == 0 {
                    return Ok(());
                }
            }
            drop(head);
            stream.write_all(SWITCHED).await?;
            let mut rest = [0; 64];
            while stream.read(&mut rest).await? > 0 {}
            std::io::Result::Ok(())
        });
    }
    Ok(())
}

struct Accepting(mpsc::Receiver<(TcpStream, SocketAddr)>, SocketAddr);

impl axum::serve::Listener for Accepting {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.recv().await {
                Some((stream, peer)) => {
                    if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                        return (stream, peer);
                    }
                }
                None => std::future::pending().await,
            }
        }
    }
    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.1)
    }
}

/// F1: the same accept thread, and axum's own upgrade with the server's buffers.
pub(crate) async fn axum_accept() -> Result<()> {
    let listener = listen()?;
    let address = listener.local_addr()?;
    let upgrade = |upgrade: WebSocketUpgrade| async move {
        let tuned = upgrade.read_buffer_size(BUFFER).write_buffer_size(BUFFER);
        tuned.on_upgrade(|mut socket| async move { while let Some(Ok(_)) = socket.recv().await {} })
    };
    let router = Router::new().route("/ws/device", get(upgrade));
    Ok(axum::serve(Accepting(accepted(listener), address), router).await?)
}

/// The broadcast's floor: sockets are upgraded and kept; then a plain connection with the path `/control` comes, and
/// each byte on it writes one finished frame of `payload` bytes to all of them, one after the other.
pub(crate) fn fan_out(payload: usize) -> Result<()> {
    let listener = listen()?;
    let mut frame = crate::lean::masked(&"x".repeat(payload));
    // A server's frame is not masked: the bit and the mask go.
    let header = if payload < 126 { 2 } else { 4 };
    frame[1] &= 0x7f;
    frame.drain(header..header + 4);
    let mut sockets = Vec::new();
    let mut control = loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut head = Vec::new();
        let mut part = [0; 1024];
        while !head.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut part)?;
            anyhow::ensure!(read > 0, "closed before its request");
            head.extend_from_slice(&part[..read]);
        }
        if head.starts_with(b"GET /control") {
            break stream;
        }
        stream.write_all(SWITCHED)?;
        sockets.push(stream);
    };
    control.write_all(SWITCHED)?;
    let mut byte = [0];
    // An error is the generator's end, as a 0 is.
    while matches!(control.read(&mut byte), Ok(1)) {
        for socket in &mut sockets {
            socket.write_all(&frame)?;
        }
    }
    Ok(())
}
