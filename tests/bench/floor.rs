//! F2: what a relay over HTTP and WebSocket costs when nothing else is done: no auth, no model, no database.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures_util::SinkExt;
use tokio::sync::{Notify, oneshot};

#[derive(Default)]
struct Session {
    out: Mutex<Vec<Utf8Bytes>>,
    wake: Notify,
    pending: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
}

#[derive(Default)]
struct Floor {
    devices: RwLock<HashMap<String, Arc<Session>>>,
}

/// Serves on a free port until killed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let router = Router::new()
        .route("/device/{name}", get(device))
        .route("/cmd/{name}/{state}", post(command))
        .with_state(Arc::<Floor>::default());
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(4096)?;
    println!("{}", listener.local_addr()?);
    let listener = listener.tap_io(|s| drop(s.set_nodelay(true)));
    axum::serve(listener, router).await?;
    Ok(())
}

async fn command(
    State(floor): State<Arc<Floor>>,
    Path((name, state)): Path<(String, u8)>,
) -> Result<&'static str, StatusCode> {
    let session = floor.devices.read().unwrap().get(&name).cloned().ok_or(StatusCode::NOT_FOUND)?;
    let id = session.next.fetch_add(1, Ordering::Relaxed);
    let (tx, rx) = oneshot::channel();
    session.pending.lock().unwrap().insert(id, tx);
    session.out.lock().unwrap().push(format!("{id} {state}").into());
    session.wake.notify_one();
    rx.await.map_err(|_| StatusCode::GONE)?;
    Ok("ok")
}

async fn device(State(floor): State<Arc<Floor>>, Path(name): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    let tuned = upgrade.read_buffer_size(4096).write_buffer_size(4096).max_write_buffer_size(1 << 20);
    tuned.on_upgrade(async move |socket| {
        let session = Arc::<Session>::default();
        floor.devices.write().unwrap().insert(name, Arc::clone(&session));
        converse(&session, socket).await;
    })
}

async fn converse(session: &Session, mut socket: WebSocket) {
    loop {
        tokio::select! {
            () = session.wake.notified() => {
                let out = std::mem::take(&mut *session.out.lock().unwrap());
                for frame in out {
                    if socket.feed(Message::Text(frame)).await.is_err() { return }
                }
                if socket.flush().await.is_err() { return }
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    let waiter = text.parse().ok().and_then(|id| session.pending.lock().unwrap().remove(&id));
                    if let Some(waiter) = waiter {
                        let _ = waiter.send(());
                    }
                }
                Some(Ok(_)) => {}
                _ => return,
            }
        }
    }
}
