//! What stands between a store and PostgreSQL, and can be told to cut a connection at its COMMIT, or all of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of a COMMIT.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The server never gets it.
    Before,
    /// The server has answered it.
    After,
    /// The server got it, and may have answered it or not.
    Racing(Duration),
    /// The client is cut off at once, the server gets it so much later.
    Late(Duration),
}

/// A proxy in front of one server.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: String,
    /// For the next COMMIT, and whether everything is cut off with it.
    next: Mutex<Option<(Cut, bool)>>,
    cuts: AtomicU32,
    open: watch::Sender<bool>,
}

impl State {
    fn next(&self) -> MutexGuard<'_, Option<(Cut, bool)>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// In front of the server of this address; gives the address through the proxy with it.
    ///
    /// # Panics
    /// When the address is not one of [`crate::database`], or there is no free port.
    pub async fn before(url: &str) -> (Self, String) {
        let (head, rest) = url.split_once('@').expect("a user");
        let (server, database) = rest.split_once('/').expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            server: server.to_owned(),
            next: Mutex::new(None),
            cuts: AtomicU32::new(0),
            open: watch::channel(true).0,
        });
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                tokio::spawn(async move { serve(&state, client).await });
            }
        });
        (Self { address, state }, format!("{head}@{address}/{database}"))
    }

    /// The next COMMIT is cut.
    pub fn cut(&self, cut: Cut) {
        *self.state.next() = Some((cut, false));
    }

    /// The next COMMIT is cut, and everything with it until [`Proxy::open`].
    pub fn cut_and_close(&self, cut: Cut) {
        *self.state.next() = Some((cut, true));
    }

    /// Every connection ends, and none is taken.
    pub fn close(&self) {
        self.state.open.send_replace(false);
    }

    /// Connections are taken again.
    pub fn open(&self) {
        self.state.open.send_replace(true);
    }

    /// How many COMMITs were cut.
    pub fn cuts(&self) -> u32 {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(state: &State, mut client: TcpStream) {
    let mut open = state.open.subscribe();
    if !*open.borrow_and_update() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(&state.server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut asked, mut said) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            _ = open.changed() => if !*open.borrow() { return },
            n = client.read(&mut asked) => {
                let Ok(n @ 1..) = n else { return };
                let bytes = &asked[..n];
                let commits = bytes[0] == b'Q' && bytes.windows(7).any(|w| w == b"commit\0");
                let cut = if commits { state.next().take() } else { None };
                if let Some((cut, close)) = cut {
                    state.cuts.fetch_add(1, Ordering::SeqCst);
                    perform(cut, client, server, bytes, || if close { state.open.send_replace(false); }).await;
                    return;
                }
                if server.write_all(bytes).await.is_err() { return }
            }
            n = server.read(&mut said) => {
                let Ok(n @ 1..) = n else { return };
                if client.write_all(&said[..n]).await.is_err() { return }
            }
        }
    }
}

async fn perform(cut: Cut, client: TcpStream, mut server: TcpStream, commit: &[u8], close: impl FnOnce()) {
    match cut {
        Cut::Before => close(),
        Cut::After => {
            let _ = server.write_all(commit).await;
            let _ = server.read(&mut [0; 1024]).await;
            close();
        }
        Cut::Racing(pause) => {
            let _ = server.write_all(commit).await;
            tokio::time::sleep(pause).await;
            close();
        }
        Cut::Late(pause) => {
            drop(client);
            close();
            tokio::time::sleep(pause).await;
            let _ = server.write_all(commit).await;
            // The server ends it: whatever it had to say has nobody to say it to.
            while matches!(server.read(&mut [0; 1024]).await, Ok(1..)) {}
        }
    }
}
