//! `/ws/client`: live state and relay commands for browsers and apps.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::Response;
use futures_util::SinkExt;
use hexa_devices::authorize::Visibility;
use hexa_devices::handle::DeviceHandle;
use hexa_devices::session::CloseReason;
use hexa_devices::view;
use hexa_model::{Action, Cause, DeviceUid, ErrorCode, RelayAction, Scope, Source};
use hexa_platform::Error;
use hexa_platform::limit::Bucket;
use hexa_platform::principal::Principal;
use http::{HeaderMap, header};
use parking_lot::Mutex;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::error::{ApiResult, ErrorBody};
use crate::extract::{Query, bearer};
use crate::public;
use crate::state::ApiState;
use crate::wire::CommandBody;
use crate::ws::frames::SnapshotDevice;
use crate::ws::hub::{ClientSession, Frames, Hub, MAX_OPEN_COMMANDS};
use crate::ws::{BUFFER_BYTES, STALL, device::close, not_an_upgrade, reason_of, tuned};
use hexa_listen::AnonymousConnection;
use hexa_listen::RequestId;
use hexa_listen::transport::RequestSource;

/// Devices that one `subscribe` may name.
const MAX_NAMED: usize = 1000;
/// So many of the longest names fit, in quotes and with a comma and a blank each; as it is documented, 70 KiB.
const MAX_MESSAGE_BYTES: usize = 70 * 1024;
const _: () = assert!(MAX_NAMED * (DeviceUid::MAX_LEN + 4) + 1024 <= MAX_MESSAGE_BYTES);
/// Frames per second from one client, and the burst above them; pings, pongs and binary frames too.
const FRAMES_PER_S: f64 = 60.0;
const FRAME_BURST: f64 = 120.0;
/// Frames above that rate that are refused one by one; who goes on is closed.
const REFUSED_PER_S: f64 = 1.0;
const REFUSED_BURST: f64 = 60.0;
/// Subscriptions per second, each of which is a snapshot, and the burst above them.
const SUBSCRIPTIONS_PER_S: f64 = 2.0;
const SUBSCRIPTION_BURST: f64 = 30.0;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ClientFrame {
    Subscribe { devices: Option<Vec<String>> },
    SetRelay { id: Option<String>, device_uid: String, relay: u16, state: bool, for_ms: Option<u32> },
    SetAllRelays { id: Option<String>, device_uid: String, state: bool },
    Ping {},
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectQuery {
    #[schema(value_type = Option<String>)]
    ticket: Option<SecretString>,
}

/// The ticket, or the bearer token of a client that can send headers, is checked before the upgrade, and the browser's Origin, so that no foreign page opens a socket
/// in a user's name.
pub(crate) async fn connect(
    State(state): State<ApiState>,
    Query(query): Query<ConnectQuery>,
    (Extension(request), Extension(source)): (Extension<RequestId>, Extension<RequestSource>),
    guest: Option<Extension<Arc<AnonymousConnection>>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    check_origin(&state, source, &headers)?;
    let user = match query.ticket {
        Some(ticket) => state.services.accounts.redeem_ticket(&ticket).await?,
        None => state.services.accounts.authenticate(bearer(&headers).unwrap_or_default(), source.ip).await?,
    };
    user.require(Scope::DevicesRead)?;
    let upgrade = upgrade.map_err(|_| not_an_upgrade())?;
    let place = state.hub.place(user.account.key)?;
    if let Some(Extension(guest)) = guest {
        guest.known();
    }
    Ok(tuned(upgrade, MAX_MESSAGE_BYTES, BUFFER_BYTES).on_upgrade(move |socket| async move {
        let _place = place;
        hexa_model::crash_point!("ws.before_join");
        let session = ClientSession::new(user.clone());
        let _joined = state.hub.join(&session);
        // Who cannot be asked about now is asked about again by the hub's own sweep.
        if let Err(error) = Hub::confirm(&state.services, &session).await {
            tracing::warn!(%error, "whether a socket may be open could not be looked up");
        }
        let client = Client {
            open: Arc::new(Semaphore::new(MAX_OPEN_COMMANDS)),
            rates: Mutex::new(Rates::new(state.services.clock.monotonic())),
            state: state.clone(),
            user,
            session,
            request,
        };
        client.run(socket).await;
    }))
}

fn check_origin(state: &ApiState, source: RequestSource, headers: &HeaderMap) -> Result<(), Error> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if public::own_origin(state, source, headers) || state.config.allowed_origins.iter().any(|o| o == origin) {
        return Ok(());
    }
    let why = public::foreign(state, source, headers);
    let what = format!("this page may not open a socket here: {why}, or CORS_ALLOWED_ORIGINS for pages of others");
    Err(Error::new(ErrorCode::OriginNotAllowed, what))
}

struct Client {
    state: ApiState,
    user: Principal,
    session: Arc<ClientSession>,
    request: RequestId,
    open: Arc<Semaphore>,
    rates: Mutex<Rates>,
}

/// How much a socket may send.
struct Rates {
    frames: Bucket,
    refused: Bucket,
    subscriptions: Bucket,
}

/// What is to become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    TooMany,
    /// It was told often enough.
    Close,
}

impl Rates {
    fn new(now: Duration) -> Self {
        Self {
            frames: Bucket::new(FRAMES_PER_S, FRAME_BURST, now),
            refused: Bucket::new(REFUSED_PER_S, REFUSED_BURST, now),
            subscriptions: Bucket::new(SUBSCRIPTIONS_PER_S, SUBSCRIPTION_BURST, now),
        }
    }

    fn frame(&mut self, now: Duration) -> Verdict {
        if self.frames.take(now) {
            Verdict::Fits
        } else if self.refused.take(now) {
            Verdict::TooMany
        } else {
            Verdict::Close
        }
    }
}

impl Client {
    async fn run(self, mut socket: WebSocket) {
        if let Some(reason) = self.run_session(&mut socket).await {
            close(&mut socket, reason.code(), reason.text()).await;
        }
    }

    async fn run_session(&self, socket: &mut WebSocket) -> Option<CloseReason> {
        let mut waiting = Frames::new();
        loop {
            tokio::select! {
                () = self.session.wake.notified() => {
                    match tokio::time::timeout(STALL, self.deliver(socket, &mut waiting)).await {
                        Ok(Ok(None)) => {}
                        Ok(Ok(reason)) => return reason,
                        Ok(Err(_)) => return None,
                        Err(_) => return Some(CloseReason::TooFast),
                    }
                }
                message = socket.recv() => {
                    self.session.received();
                    let message = match message? {
                        Ok(Message::Close(_)) => return None,
                        Ok(message) => message,
                        Err(error) => return reason_of(error),
                    };
                    let verdict = self.rates.lock().frame(self.state.services.clock.monotonic());
                    let text = match (message, verdict) {
                        (_, Verdict::Close) => return Some(CloseReason::TooFast),
                        (Message::Text(text), Verdict::Fits) => text,
                        (Message::Text(_), Verdict::TooMany) => {
                            self.refuse(None, &Error::rate_limited("more than 60 frames per second", 1));
                            continue;
                        }
                        (Message::Binary(_), _) => {
                            let what = "frames of this socket are JSON text";
                            self.refuse(None, &Error::new(ErrorCode::ValidationError, what));
                            continue;
                        }
                        _ => continue,
                    };
                    // What opened the socket may have ended since: every frame is authorized, not only the handshake.
                    if let Some(reason) = self.session.closing() {
                        return Some(reason);
                    }
                    if self.state.services.accounts.still(&self.user).await.is_err() {
                        return Some(CloseReason::SignedOut);
                    }
                    self.handle(&text).await;
                }
            }
        }
    }

    /// Sends what waits, with one flush. Gives the reason when this socket is to close.
    async fn deliver(&self, socket: &mut WebSocket, waiting: &mut Frames) -> Result<Option<CloseReason>, axum::Error> {
        let taken = self.session.take(waiting);
        for (_, frame) in waiting.drain(..) {
            socket.feed(Message::Text(frame)).await?;
        }
        for uid in taken.stale.into_values() {
            let Some(live) = self.state.services.registry.peek(&uid) else { continue };
            // What was shared may have ended since.
            let Ok(sight) = self.state.services.sight(self.user.actor(), &live) else { continue };
            let frame = json!({
                "type": "device_state",
                "device_uid": uid.as_str(),
                "online": live.online(),
                "relays": self.session.snapshot(&live, sight),
                "source": "system",
                "command_id": null,
                "at": crate::wire::rfc3339(self.state.services.clock.now()),
            });
            socket.feed(Message::Text(frame.to_string().into())).await?;
        }
        if taken.ping {
            socket.feed(Message::Ping(bytes::Bytes::new())).await?;
        }
        socket.flush().await?;
        Ok(taken.closing)
    }

    async fn handle(&self, text: &str) {
        let frame = match serde_json::from_str::<ClientFrame>(text) {
            Ok(frame) => frame,
            Err(e) => {
                let id = serde_json::from_str::<IdOnly>(text).ok().and_then(|f| f.id);
                let error = Error::new(ErrorCode::ValidationError, format!("the frame is not as expected: {e}"));
                return self.refuse(id, &error);
            }
        };
        match frame {
            ClientFrame::Ping {} => self.session.answer(Utf8Bytes::from_static("{\"type\":\"pong\"}")),
            ClientFrame::Subscribe { devices } => {
                if let Err(error) = self.subscribe(devices).await {
                    self.refuse(None, &error);
                }
            }
            ClientFrame::SetRelay { id, device_uid, relay, state, for_ms } => {
                match (RelayAction::Set { index: relay, on: state, for_ms }).checked() {
                    Ok(action) => self.command(id, &device_uid, action.into()).await,
                    Err(wrong) => self.refuse(id, &wrong.into()),
                }
            }
            ClientFrame::SetAllRelays { id, device_uid, state } => {
                self.command(id, &device_uid, RelayAction::SetAll { on: state }.into()).await;
            }
        }
    }

    /// Subscribes and answers with the snapshot, before any live event of these devices. Who names many and one of
    /// them is gone hears of the others all the same, and which one it is.
    async fn subscribe(&self, devices: Option<Vec<String>>) -> Result<(), Error> {
        let services = &self.state.services;
        if !self.rates.lock().subscriptions.take(services.clock.monotonic()) {
            return Err(Error::rate_limited("too many subscriptions; each of them is a whole snapshot", 1));
        }
        let (wanted, gone): (Vec<(Arc<DeviceHandle>, Visibility)>, Vec<&str>) = match &devices {
            None => (view::all_of(services, &self.user).await?, Vec::new()),
            Some(uids) if uids.len() > MAX_NAMED => {
                let what = format!("subscribe to at most {MAX_NAMED} devices by name, or to all");
                return Err(Error::validation("devices", what));
            }
            Some(uids) => view::find_many(services, &self.user, uids).await?,
        };
        if !gone.is_empty() && wanted.is_empty() {
            return Err(Error::no_device().detail("device_uids", gone));
        }
        self.session.subscribe(devices.is_some().then_some(wanted.as_slice()));
        let shown: Vec<_> = wanted
            .iter()
            .map(|(live, sight)| SnapshotDevice {
                device_uid: live.uid.as_str(),
                online: live.online(),
                access: sight.standing.as_str(),
                relays: self.session.snapshot(live, *sight),
            })
            .collect();
        let frame = json!({ "type": "snapshot", "devices": shown }).to_string();
        self.session.answer_first(frame.into());
        if gone.is_empty() { Ok(()) } else { Err(Error::no_device().detail("device_uids", gone)) }
    }

    /// Starts a command and waits only until it has its place behind this socket's earlier ones; the answer comes as
    /// `command_result` or `error`.
    async fn command(&self, id: Option<String>, uid: &str, action: Action) {
        if let Err(error) = self.user.require(action.scope()) {
            return self.refuse(id, &error);
        }
        let Some(device) = DeviceUid::parse(uid) else { return self.refuse(id, &Error::no_device()) };
        let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() else {
            let what = "this socket has 32 open commands; wait for one to end";
            return self.refuse(id, &Error::new(ErrorCode::Busy, what).retry_after(1));
        };
        let commands = self.state.services.commands();
        let cause = Cause::request(self.request.as_str());
        let (in_order, running) =
            commands.begin(commands.request((Source::Ws, self.user.actor()), cause, device, action));
        let (session, request) = (Arc::clone(&self.session), self.request.clone());
        self.state.services.tasks.spawn(async move {
            let frame = match running.await.unwrap_or_else(|e| Err(Error::internal(e))) {
                Ok(result) => serde_json::to_string(&ResultFrame {
                    r#type: "command_result",
                    id: id.as_deref(),
                    result: CommandBody::new(&result),
                })
                .unwrap_or_default(),
                Err(error) => error_frame(id.as_deref(), &error, &request),
            };
            session.answer(frame.into());
            drop(permit);
        });
        // Closed without a value when the command was refused: either way its turn is over.
        let _ = in_order.await;
    }

    fn refuse(&self, id: Option<String>, error: &Error) {
        self.state.services.metrics.api_errors.with_label_values(&[error.code.name()]).inc();
        self.session.answer(error_frame(id.as_deref(), error, &self.request).into());
    }
}

#[derive(Deserialize)]
struct IdOnly {
    id: Option<String>,
}

#[derive(Serialize)]
struct ResultFrame<'a> {
    r#type: &'static str,
    id: Option<&'a str>,
    #[serde(flatten)]
    result: CommandBody,
}

#[derive(Serialize)]
struct ErrorFrame<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(flatten)]
    error: ErrorBody<'a>,
}

fn error_frame(id: Option<&str>, error: &Error, request: &RequestId) -> String {
    let frame = ErrorFrame { r#type: "error", id, error: ErrorBody::new(error, request.as_str()) };
    serde_json::to_string(&frame).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_above_the_rate_is_told_so_often_and_then_closed() {
        let at = Duration::from_secs;
        let mut rates = Rates::new(at(1));
        let count = |rates: &mut Rates, verdict| (0..400).take_while(|_| rates.frame(at(1)) == verdict).count();
        assert_eq!(count(&mut rates, Verdict::Fits), 120);
        // The first of the refused was taken by the count before.
        assert_eq!(count(&mut rates, Verdict::TooMany), 59);
        assert_eq!(rates.frame(at(1)), Verdict::Close);
        assert_eq!(rates.frame(at(4)), Verdict::Fits, "who waits is served again");
    }

    #[test]
    fn the_documented_number_of_names_fits_into_a_message() {
        let longest = "x".repeat(DeviceUid::MAX_LEN);
        assert!(DeviceUid::parse(&longest).is_some() && DeviceUid::parse(&format!("{longest}x")).is_none());
        let frame = json!({ "type": "subscribe", "devices": vec![longest; MAX_NAMED] });
        assert!(frame.to_string().len() < MAX_MESSAGE_BYTES);
    }
}
