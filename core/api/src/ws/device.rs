//! `/ws/device`: one task per connection, which is the device's actor (docs/ARCHITECTURE.md#a-device-message).

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::Response;
use futures_util::SinkExt;
use hexa_devices::Devices;
use hexa_devices::actor::DeviceActor;
use hexa_devices::contest;
use hexa_devices::provision::{self, Proven};
use hexa_devices::session::CloseReason;
use hexa_model::driver::Frame;
use hexa_platform::Error;
use http::HeaderMap;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ApiResult;
use crate::extract::{PeerIp, Query, bearer};
use crate::state::ApiState;
use crate::ws::{DEVICE_READ_BYTES, MAX_MESSAGE_BYTES, STALL, not_an_upgrade, reason_of, tuned};
use hexa_listen::AnonymousConnection;

/// `?uid=&token=`; the token is better sent as `Authorization: Bearer`.
#[derive(Deserialize)]
pub(crate) struct ConnectQuery {
    #[serde(default)]
    uid: String,
    token: Option<SecretString>,
}

/// Checks uid and token before the upgrade: a refusal is a plain 401 in the error shape.
pub(crate) async fn connect(
    State(state): State<ApiState>,
    PeerIp(ip): PeerIp,
    guest: Option<Extension<Arc<AnonymousConnection>>>,
    headers: HeaderMap,
    Query(query): Query<ConnectQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    // Thousands may come at once: the others wait here for their turn, refused by nobody, and do not stand between a
    // command and its answer.
    let turn = Arc::clone(&state.connects).acquire_owned().await.map_err(Error::internal)?;
    let token = bearer(&headers).map(SecretString::from).or(query.token).unwrap_or_default();
    let proven = provision::authenticate(&state.services, &query.uid, &token).await?;
    if let Some(Extension(guest)) = guest {
        guest.known();
    }
    if state.services.stopping() {
        let error = Error::new(hexa_model::ErrorCode::ShuttingDown, "the server is stopping; connect again later");
        return Err(error.retry_after(5).into());
    }
    let upgrade = upgrade.map_err(|_| not_an_upgrade())?;
    contest::admit(&state.services, &proven.live)?;
    let services = Arc::clone(&state.services.devices);
    Ok(tuned(upgrade, MAX_MESSAGE_BYTES, DEVICE_READ_BYTES)
        .on_upgrade(move |socket| serve(services, proven, ip, socket, turn)))
}

/// One poll opens a device whose configuration its driver has seen. A driver that has yet to look at it must not hold up
/// the turns of other devices.
async fn open(
    services: Arc<Devices>,
    proven: &Proven,
    ip: Option<IpAddr>,
    out: &mut Vec<Frame>,
    turn: OwnedSemaphorePermit,
) -> Result<DeviceActor, Error> {
    let mut opening = pin!(DeviceActor::open(services, proven.clone(), ip, out));
    let first = std::future::poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx))).await;
    drop(turn);
    match first {
        Poll::Ready(opened) => opened,
        Poll::Pending => opening.await,
    }
}

/// The whole life of a connection. Its size is what an idle device costs: what only a moment needs is boxed, and the
/// socket is captured instead of passed, because an `async fn` keeps a second place for a `mut` argument.
#[expect(clippy::manual_async_fn, reason = "an async fn has room for `mut socket` twice")]
fn serve(
    services: Arc<Devices>,
    proven: Proven,
    ip: Option<IpAddr>,
    mut socket: WebSocket,
    turn: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send {
    async move {
        let mut out = Vec::new();
        let mut actor = match Box::pin(open(Arc::clone(&services), &proven, ip, &mut out, turn)).await {
            Ok(actor) => actor,
            Err(error) => {
                tracing::warn!(device.uid = %proven.live.uid, %error, "device cannot be served");
                if error.code == hexa_model::ErrorCode::DriverUnavailable {
                    services.registry.forgive(&proven.live);
                }
                // 1013: try again later (IANA registry).
                return Box::pin(close(&mut socket, 1013, error.code.name().to_owned())).await;
            }
        };
        let reason = run_session(&mut actor, &mut socket, &mut out).await;
        // Unregister first: what was not written must fail at once, and closing may wait for a dead peer.
        actor.closed();
        tracing::debug!(device.uid = %proven.live.uid, ?reason, "device session over");
        if let Some(reason) = reason {
            Box::pin(close(&mut socket, reason.code(), reason.text())).await;
        }
    }
}

/// Runs until one side ends it; gives the reason when it was this side.
async fn run_session(actor: &mut DeviceActor, socket: &mut WebSocket, out: &mut Vec<Frame>) -> Option<CloseReason> {
    let session = Arc::clone(actor.session());
    loop {
        if let Some(reason) = session.closing() {
            return Some(reason);
        }
        if !out.is_empty() {
            match Box::pin(tokio::time::timeout(STALL, write(socket, out))).await {
                Ok(Ok(())) => hexa_model::crash_point!("cmd.after_ws_write"),
                Ok(Err(_)) => return None,
                Err(_) => return Some(CloseReason::TooFast),
            }
        }
        tokio::select! {
            () = session.wake.notified() => {
                if session.take_ping() {
                    let ping = socket.send(Message::Ping(bytes::Bytes::new()));
                    if !matches!(tokio::time::timeout(STALL, ping).await, Ok(Ok(()))) {
                        return Some(CloseReason::Dead);
                    }
                }
                actor.encode_queued(out);
            }
            message = socket.recv() => {
                let frame = match message? {
                    Ok(Message::Text(text)) => Frame::Text(text.as_str().to_owned()),
                    Ok(Message::Binary(bytes)) => Frame::Binary(bytes),
                    Ok(Message::Ping(_) | Message::Pong(_)) => {
                        if let Err(reason) = actor.control_frame() {
                            return Some(reason);
                        }
                        continue;
                    }
                    Ok(Message::Close(_)) => return None,
                    Err(error) => return reason_of(error),
                };
                if let Err(reason) = actor.message(frame, out).await {
                    return Some(reason);
                }
            }
        }
    }
}

/// Everything that is waiting, with one flush.
async fn write(socket: &mut WebSocket, out: &mut Vec<Frame>) -> Result<(), axum::Error> {
    for frame in out.drain(..) {
        let message = match frame {
            Frame::Text(text) => Message::Text(Utf8Bytes::from(text)),
            Frame::Binary(bytes) => Message::Binary(bytes),
        };
        socket.feed(message).await?;
    }
    socket.flush().await
}

/// Says why and waits a moment for the peer's own close, so that the reason is not lost in a reset.
pub(crate) async fn close(socket: &mut WebSocket, code: u16, reason: String) {
    let frame = CloseFrame { code, reason: reason.into() };
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), goodbye).await;
}
