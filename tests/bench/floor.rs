//! F2: what a relay over HTTP and WebSocket costs when nothing else is done: no auth, no model, no database.
//! F2C, on its second route: the same, and before the answer one group-committed durable write of state and audit row.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
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

use crate::sqlite::Loop;

/// Writes that may wait, and writes per transaction: as many as ever are in flight here.
const QUEUE: usize = 1024;

#[derive(Default)]
struct Session {
    out: Mutex<Vec<Utf8Bytes>>,
    wake: Notify,
    pending: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
}

struct Floor {
    devices: RwLock<HashMap<String, Arc<Session>>>,
    writer: SyncSender<Write>,
}

struct Write {
    device: i64,
    on: bool,
    done: oneshot::Sender<()>,
}

/// Serves on a free port until killed. `dir` takes F2C's database with rows for so many devices.
pub(crate) async fn serve(dir: &std::path::Path, devices: i64) -> anyhow::Result<()> {
    let database = Loop::new(dir, devices).await?;
    let (writer, jobs) = sync_channel(QUEUE);
    std::thread::Builder::new().name("f2c-writer".into()).spawn(move || write(database, &jobs))?;
    let router = Router::new()
        .route("/device/{name}", get(device))
        .route("/cmd/{name}/{state}", post(command))
        .route("/durable/{name}/{state}", post(durable))
        .with_state(Arc::new(Floor { devices: RwLock::default(), writer }));
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(4096)?;
    println!("{}", listener.local_addr()?);
    let listener = listener.tap_io(|s| drop(s.set_nodelay(true)));
    axum::serve(listener, router).await?;
    Ok(())
}

/// Whatever is queued goes into one transaction; nothing waits for more.
fn write(mut database: Loop, jobs: &Receiver<Write>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(QUEUE));
        if let Err(error) = database.batch(batch.iter().map(|w| (w.device, w.on))) {
            eprintln!("bench: the floor's commit failed: {error}");
            return;
        }
        for write in batch {
            let _ = write.done.send(());
        }
    }
}

async fn durable(
    State(floor): State<Arc<Floor>>,
    Path((name, state)): Path<(String, u8)>,
) -> Result<&'static str, StatusCode> {
    let device = name.trim_start_matches('d').parse::<i64>().map_err(|_| StatusCode::NOT_FOUND)? + 1;
    command(State(Arc::clone(&floor)), Path((name, state))).await?;
    let (done, committed) = oneshot::channel();
    let full = floor.writer.try_send(Write { device, on: state == 1, done });
    full.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    committed.await.map_err(|_| StatusCode::GONE)?;
    Ok("ok")
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
