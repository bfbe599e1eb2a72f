//! The maintenance listener (ADR 0030): a socket file that only this server's own user may open, or an address of this
//! machine. Whoever comes in here runs the server, and is asked for nothing but the account that a route needs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::{Extension, Router};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listener::{Slot, serve_connection};
use crate::transport;

/// Requests of this machine at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
const BACKLOG: i32 = 64;
/// Between two tries when nothing can be accepted, for example without a free descriptor.
const PAUSE: Duration = Duration::from_millis(50);
/// A socket's address has room for so many bytes of a path (unix(7)).
const MAX_PATH_BYTES: usize = 107;

/// Where maintenance comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// A socket file, for this server's own user and root.
    File(PathBuf),
    /// A loopback address, for everybody on this machine.
    Address(SocketAddr),
}

/// A bound place that does not accept yet. Its file goes with it.
#[derive(Debug)]
pub struct MaintenanceListener {
    socket: Bound,
    place: Maintenance,
}

#[derive(Debug)]
enum Bound {
    File(UnixListener),
    Address(TcpListener),
}

impl MaintenanceListener {
    /// Binds. A socket file that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// As the operating system says; `AddrInUse` when another server listens there.
    pub fn bind(place: &Maintenance) -> io::Result<Self> {
        let (socket, place) = match place {
            Maintenance::File(path) => (Bound::File(file(path)?), place.clone()),
            Maintenance::Address(address) => {
                let socket = std::net::TcpListener::bind(address)?;
                socket.set_nonblocking(true)?;
                let real = Maintenance::Address(socket.local_addr()?);
                (Bound::Address(TcpListener::from_std(socket)?), real)
            }
        };
        Ok(Self { socket, place })
    }

    /// Where it is, for people; of port 0, the port that was taken.
    pub fn shown(&self) -> String {
        match &self.place {
            Maintenance::File(path) => path.display().to_string(),
            Maintenance::Address(address) => address.to_string(),
        }
    }

    /// Accepts and serves until `stop`; returns when every connection is closed.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let router = router.layer(Extension(transport::Maintenance { file: matches!(self.socket, Bound::File(_)) }));
        let (places, connections) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
        loop {
            let accepting = async {
                let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((self.accept().await?, place))
            };
            let accepted = tokio::select! {
                accepted = accepting => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the maintenance listener accepts nothing");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (router, stop) = (router.clone(), stop.clone());
            connections.spawn(async move {
                // Counted here, and apart from the places of everybody else.
                let slot = Slot(Arc::new(AtomicUsize::new(1)), None);
                let done = match stream {
                    Stream::File(stream) => serve_connection(stream, (here(), false), router, stop, slot).await,
                    Stream::Address(stream, peer) => serve_connection(stream, (peer, false), router, stop, slot).await,
                };
                if let Err(error) = done {
                    tracing::trace!(%error, "maintenance connection ended");
                }
                drop(place);
            });
        }
        connections.close();
        connections.wait().await;
    }

    async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Bound::File(socket) => Ok(Stream::File(socket.accept().await?.0)),
            Bound::Address(socket) => {
                let (stream, peer) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Address(stream, peer))
            }
        }
    }
}

impl Drop for MaintenanceListener {
    fn drop(&mut self) {
        if let Maintenance::File(path) = &self.place {
            // What stays is replaced by the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

enum Stream {
    File(tokio::net::UnixStream),
    Address(tokio::net::TcpStream, SocketAddr),
}

/// A peer without an address is on this machine.
fn here() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

/// Made beside its place, closed to others, and then moved there: nobody else can connect at any moment.
fn file(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension("new");
    if new.as_os_str().len() > MAX_PATH_BYTES {
        return Err(io::Error::other(format!("a socket's path has at most {} bytes", MAX_PATH_BYTES - 4)));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else in its place"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there"));
        }
        Ok(_) | Err(_) => {}
    }
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(&new)?)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    std::fs::rename(&new, path)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("hexa-maintenance-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[tokio::test]
    async fn a_socket_file_is_private_replaces_a_dead_one_and_goes_with_its_listener() {
        let dir = folder("file");
        let place = Maintenance::File(dir.join("m.sock"));
        let path = dir.join("m.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead one is there");
        let listener = MaintenanceListener::bind(&place).unwrap();
        let about = std::fs::metadata(&path).unwrap();
        assert!(about.file_type().is_socket());
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        let second = MaintenanceListener::bind(&place).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists(), "the refused one leaves it alone");
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(MaintenanceListener::bind(&place).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let long = Maintenance::File(dir.join("x".repeat(120)));
        assert!(MaintenanceListener::bind(&long).unwrap_err().to_string().contains("at most"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
