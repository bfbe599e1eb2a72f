//! How connections come in: an accept loop of our own.
//!
//! Accepting happens on an OS thread of its own with a backlog of 4096, because under a reconnect storm an accept task
//! queues behind thousands of handshakes while the kernel's queue overflows (docs/adr/0010).
//! hyper's header timeout is armed here; `axum::serve` leaves it inert. When the connection cap is reached, accepting
//! pauses: devices wait in the kernel's queue instead of being refused.

use std::io::IoSlice;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::anonymous::{AnonymousConnection, AnonymousLimit, Entry};
use crate::deadline::Deadline;
use crate::framing::Framing;
use crate::refusal::Refusal;
use crate::request::Ambiguous;
use crate::request::Peer;
use crate::tls::Tls;
use crate::transport::Encrypted;
use crate::{MAX_HEADER_BYTES, MAX_HEADERS};

const BACKLOG: i32 = 4096;
/// Accepted sockets between the thread and the tasks.
const QUEUE: usize = 1024;
/// New connections that are taken up in a row.
const TURN: usize = 16;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines and bytes of a request's head: more is 431.
/// In the body of an answered command, and in no other answer with 200 under load.
const COMMAND_ID: &[u8] = b"\"command_id\"";
/// What the kernel keeps of unsent bytes for one connection, and whoever reads slowly frees often enough to be told from
/// whoever does not read at all.
const SEND_BUFFER: usize = 128 * 1024;
/// How often the accept thread looks whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Debug)]
pub struct Limits {
    /// Altogether; beyond it they wait in the kernel's queue.
    pub connections: usize,
    /// Of one address that has not said who it is.
    pub anonymous: AnonymousLimit,
    /// A peer that takes nothing of what it is sent for so long is given up.
    pub write_stall: Duration,
}

/// A bound address that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Binds; port 0 takes a free one.
    ///
    /// # Errors
    /// As the operating system says; `AddrInUse` when another process listens there.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        // Accepted sockets inherit it.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.listen(BACKLOG)?;
        // `accept` honours the receive timeout, which gives the thread its look at the stop flag.
        socket.set_read_timeout(Some(STOP_POLL))?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket, address })
    }

    /// The address that it is bound to, with the real port also where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and serves until `stop`; then stops accepting, lets requests under way end, and returns when every
    /// HTTP connection is closed. Upgraded sockets are closed by their own tasks.
    pub async fn serve(self, router: Router, limits: Limits, tls: Option<Arc<Tls>>, stop: CancellationToken) {
        let (tx, mut rx) = mpsc::channel(QUEUE);
        let stall = limits.write_stall;
        let open = Arc::new(AtomicUsize::new(0));
        let (thread_open, thread_stop) = (Arc::clone(&open), stop.clone());
        let accepting = std::thread::Builder::new()
            .name("accept".into())
            .spawn(move || accept(&self.socket, &tx, &thread_open, &limits, &thread_stop));
        if let Err(error) = accepting {
            tracing::error!(%error, "no thread to accept connections on");
            return;
        }
        let connections = TaskTracker::new();
        let mut turn = 0;
        while let Some((stream, peer, guest)) = rx.recv().await {
            turn = (turn + 1) % TURN;
            if turn == 0 {
                // Sockets with work get theirs before the next ones come in.
                tokio::task::yield_now().await;
            }
            let slot = Slot(Arc::clone(&open), guest);
            let (router, stop, tls) = (router.clone(), stop.clone(), tls.clone());
            connections.spawn(async move {
                if let Err(error) = connection((stream, stall), peer, router, tls, stop, slot).await {
                    tracing::trace!(%error, "connection ended");
                }
            });
        }
        connections.close();
        connections.wait().await;
    }
}

/// Counts a connection down when its last owner, the HTTP task or the upgraded socket, drops it.
#[derive(Debug)]
pub(crate) struct Slot(pub(crate) Arc<AtomicUsize>, pub(crate) Option<Arc<AnonymousConnection>>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn accept(
    socket: &Socket,
    to: &mpsc::Sender<(TcpStream, SocketAddr, Option<Arc<AnonymousConnection>>)>,
    open: &AtomicUsize,
    limits: &Limits,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        if open.load(Ordering::Acquire) >= limits.connections {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        match socket.accept() {
            Ok((stream, peer)) => {
                let Some(peer) = peer.as_socket() else { continue };
                let guest = match limits.anonymous.enter(peer.ip()) {
                    Entry::Exempt => None,
                    Entry::Counted(guest) => Some(guest),
                    // One address that opens more than this without saying who it is: closed at once.
                    Entry::Full => continue,
                };
                let ready = stream.set_tcp_nodelay(true).and_then(|()| stream.set_nonblocking(true));
                if ready.is_err() {
                    continue;
                }
                open.fetch_add(1, Ordering::AcqRel);
                if to.blocking_send((stream.into(), peer, guest)).is_err() {
                    return;
                }
            }
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => {
                // Out of descriptors, or a connection that was reset while it waited: neither may spin a core.
                tracing::warn!(%error, "accept failed");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

async fn connection(
    (stream, stall): (TcpStream, Duration),
    peer: SocketAddr,
    router: Router,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
    slot: Slot,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = Deadline::new(tokio::net::TcpStream::from_std(stream)?, stall);
    let Some(tls) = tls else { return serve_connection(stream, (peer, false), router, stop, slot).await };
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await??;
    serve_connection(stream, (peer, true), router, stop, slot).await
}

pub(crate) async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    (peer, encrypted): (SocketAddr, bool),
    router: Router,
    stop: CancellationToken,
    slot: Slot,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let talk = Arc::new(Talk::default());
    let guest = slot.1.clone();
    let io = TokioIo::new(Counted {
        stream,
        framing: Framing::new(),
        talk: Arc::clone(&talk),
        encrypted,
        filling: false,
        quiet: true,
        refusal: None,
        _slot: slot,
    });
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        if encrypted {
            request.extensions_mut().insert(Encrypted);
        }
        if let Some(guest) = &guest {
            request.extensions_mut().insert(Arc::clone(guest));
        }
        // Read before its head was parsed, so that no ambiguous request gets past this.
        if talk.ambiguous.load(Ordering::Relaxed) {
            request.extensions_mut().insert(Ambiguous);
        }
        talk.begin();
        let (talk, answering) = (Arc::clone(&talk), router.clone().oneshot(request.map(Body::new)));
        async move {
            let answer = answering.await;
            talk.end(answer.as_ref().is_ok_and(|a| a.status() == http::StatusCode::SWITCHING_PROTOCOLS));
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        // Ours is checked first, and answers. More than 100 would cost hyper a heap allocation for each request.
        .max_headers(MAX_HEADERS)
        .max_buf_size(2 * MAX_HEADER_BYTES)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return Ok(done?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// What the bytes of a connection and the service behind it tell each other; both run in the connection's own task.
#[derive(Debug, Default)]
struct Talk {
    /// It has sent a request that can be read in two ways.
    ambiguous: AtomicBool,
    /// 101 is being answered: what is read from now on is another protocol.
    switched: AtomicBool,
    /// Requests that the service has not answered yet.
    in_flight: AtomicU32,
    /// Something of the service's is still to be written.
    owed: AtomicBool,
}

impl Talk {
    fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.owed.store(true, Ordering::Relaxed);
    }

    fn end(&self, switched: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if switched {
            self.switched.store(true, Ordering::Relaxed);
        }
    }

    /// Everything was written that was given to hyper so far.
    fn flushed(&self) {
        if self.in_flight.load(Ordering::Relaxed) == 0 {
            self.owed.store(false, Ordering::Relaxed);
        }
    }
}

/// A socket that holds its slot for as long as anybody holds the socket, also after an upgrade.
struct Counted<S> {
    stream: S,
    framing: Framing,
    talk: Arc<Talk>,
    encrypted: bool,
    /// A head was too large: hyper reads filling until it refuses it, when it is its turn.
    filling: bool,
    /// Nothing was written since the last flush.
    quiet: bool,
    /// Written in the place of hyper's own refusal, and then nothing more.
    refusal: Option<Refusal>,
    _slot: Slot,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Counted<S> {
    /// Puts an answer of ours in the place of what hyper refuses by itself, which is all that it ever writes while the
    /// service owes nothing. None: these bytes are not that.
    fn refuse(
        &mut self,
        cx: &mut std::task::Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Option<std::task::Poll<std::io::Result<usize>>> {
        if self.refusal.is_none() {
            let first = data.iter().find(|part| !part.is_empty())?;
            if self.talk.owed.load(Ordering::Relaxed) || !self.quiet || !crate::refusal::is_bare(first) {
                return None;
            }
            self.refusal = Some(Refusal::of(first, self.filling, self.encrypted));
        }
        let length = data.iter().map(|part| part.len()).sum();
        let done = self.refusal.as_mut()?.poll(&mut self.stream, cx);
        Some(done.map(|done| done.map(|()| length)))
    }
}

/// Whether what was just written is the answer to a relay command; only asked where crash points are compiled in.
fn answers_command(written: &std::task::Poll<std::io::Result<usize>>, data: &[IoSlice<'_>]) -> bool {
    let has = |part: &IoSlice<'_>| part.windows(COMMAND_ID.len()).any(|w| w == COMMAND_ID);
    matches!(written, std::task::Poll::Ready(Ok(_)))
        && data.first().is_some_and(|head| head.starts_with(b"HTTP/1.1 200"))
        && data.iter().any(has)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let this = &mut *self;
        if this.filling {
            fill(buf);
            return std::task::Poll::Ready(Ok(()));
        }
        if this.talk.switched.load(Ordering::Relaxed) {
            this.framing.switched();
        }
        let before = buf.filled().len();
        let read = std::pin::Pin::new(&mut this.stream).poll_read(cx, buf);
        let kept = this.framing.read(&buf.filled()[before..]);
        if this.framing.ambiguous() {
            this.talk.ambiguous.store(true, Ordering::Relaxed);
        }
        if this.framing.too_large() {
            this.filling = true;
            buf.set_filled(before + kept);
            fill(buf);
        }
        read
    }
}

/// More of a line than hyper takes of a whole head.
fn fill(buf: &mut tokio::io::ReadBuf<'_>) {
    let room = buf.remaining();
    buf.initialize_unfilled().fill(b'x');
    buf.advance(room);
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if let Some(refused) = self.refuse(cx, &[IoSlice::new(data)]) {
            return refused;
        }
        let written = std::pin::Pin::new(&mut self.stream).poll_write(cx, data);
        self.quiet = false;
        hexa_model::crash_point!("cmd.after_http_reply", if answers_command(&written, &[IoSlice::new(data)]));
        written
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.refusal.is_some() {
            return std::task::Poll::Ready(Ok(()));
        }
        let flushed = std::pin::Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, std::task::Poll::Ready(Ok(()))) {
            self.quiet = true;
            self.talk.flushed();
        }
        flushed
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.refusal.is_some() {
            return std::task::Poll::Ready(Ok(()));
        }
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[IoSlice<'_>],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if let Some(refused) = self.refuse(cx, data) {
            return refused;
        }
        let written = std::pin::Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.quiet = false;
        hexa_model::crash_point!("cmd.after_http_reply", if answers_command(&written, data));
        written
    }
}
