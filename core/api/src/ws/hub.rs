//! Client sockets as subscribers of the bus: an event is encoded once and put into the queues of its owner's sockets.
//!
//! A slow client never holds anything up: its queue is bounded, and state events that no longer fit are folded into
//! one fresh state per device when it reads again (performance.md 6.8).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use hexa_model::event::Event;
use hexa_model::{DeviceKey, DeviceUid, UserKey};
use hexa_service::bus::Subscriber;
use hexa_service::device::live::Live;
use hexa_service::ops::metrics::Metrics;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::Notify;

use crate::wire::{RelayBody, relays, rfc3339};

/// Frames that wait for one client before state events are folded.
const MAX_FRAMES: usize = 64;
/// Answers to a client's own commands come on top; it may have this many open.
pub(crate) const MAX_OPEN_COMMANDS: usize = 32;

/// Who listens, by account.
#[derive(Debug)]
pub struct Hub {
    by_owner: RwLock<HashMap<UserKey, Vec<Arc<ClientSession>>>>,
    metrics: Arc<Metrics>,
}

/// What a client wants to hear of.
#[derive(Debug, Default)]
enum Filter {
    /// It has not subscribed.
    #[default]
    Nothing,
    /// Everything that is its account's.
    All,
    /// These devices.
    Some(HashSet<DeviceKey>),
}

/// One client socket, as the hub sees it.
#[derive(Debug)]
pub(crate) struct ClientSession {
    pub(crate) user: UserKey,
    pub(crate) wake: Notify,
    state: Mutex<ClientState>,
}

#[derive(Debug, Default)]
struct ClientState {
    filter: Filter,
    frames: VecDeque<(Option<DeviceKey>, Utf8Bytes)>,
    stale: HashMap<DeviceKey, DeviceUid>,
    closing: bool,
}

/// A session's place in the hub.
pub(crate) struct Joined {
    hub: Arc<Hub>,
    session: Arc<ClientSession>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.hub.leave(&self.session);
    }
}

/// What a client's task takes at once.
pub(crate) struct Taken {
    pub(crate) frames: VecDeque<(Option<DeviceKey>, Utf8Bytes)>,
    pub(crate) stale: HashMap<DeviceKey, DeviceUid>,
    pub(crate) closing: bool,
}

impl ClientSession {
    pub(crate) fn new(user: UserKey) -> Arc<Self> {
        Arc::new(Self { user, wake: Notify::new(), state: Mutex::default() })
    }

    /// From now on it hears of these devices, or of all of its account.
    pub(crate) fn subscribe(&self, devices: Option<&[Arc<Live>]>) {
        let mut state = self.state.lock();
        state.filter = match devices {
            None => Filter::All,
            Some(devices) => Filter::Some(devices.iter().map(|l| l.key).collect()),
        };
    }

    /// The device's current states for a frame that is sent now: what waits in the queue for this device is older
    /// and dropped, under the lock that orders publishing, so that versions never go down at the client (I10).
    pub(crate) fn snapshot(&self, live: &Live) -> Vec<RelayBody> {
        let cache = live.cache.lock();
        let mut state = self.state.lock();
        state.frames.retain(|(device, _)| *device != Some(live.key));
        state.stale.remove(&live.key);
        relays(&cache.all())
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state.lock();
        Taken {
            frames: std::mem::take(&mut state.frames),
            stale: std::mem::take(&mut state.stale),
            closing: state.closing,
        }
    }

    /// An answer to this client alone.
    pub(crate) fn answer(&self, frame: Utf8Bytes) {
        let mut state = self.state.lock();
        if state.frames.len() < MAX_FRAMES + MAX_OPEN_COMMANDS {
            state.frames.push_back((None, frame));
        }
        drop(state);
        self.wake.notify_one();
    }

    /// A snapshot, in front of whatever happened while it was made.
    pub(crate) fn answer_first(&self, frame: Utf8Bytes) {
        self.state.lock().frames.push_front((None, frame));
        self.wake.notify_one();
    }

    fn hears(&self, device: DeviceKey) -> bool {
        match &self.state.lock().filter {
            Filter::Nothing => false,
            Filter::All => true,
            Filter::Some(devices) => devices.contains(&device),
        }
    }

    /// Queues a frame. False when it had to be folded or dropped.
    fn push(&self, event: &Event, frame: &Utf8Bytes) -> bool {
        let device = event.device();
        let mut state = self.state.lock();
        let is_state = matches!(event, Event::RelayChanged { .. });
        let fits = state.frames.len() < MAX_FRAMES;
        // A device that is stale stays so until its fresh state was taken: a frame behind it would be out of order.
        if fits && !(is_state && state.stale.contains_key(&device.key)) {
            let key = is_state.then_some(device.key);
            state.frames.push_back((key, frame.clone()));
        } else if !matches!(event, Event::InputReceived { .. }) {
            state.stale.insert(device.key, device.uid.clone());
        }
        drop(state);
        self.wake.notify_one();
        fits
    }
}

impl Hub {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { by_owner: RwLock::default(), metrics }
    }

    /// The session hears events until the guard is dropped, also when its task panics.
    pub(crate) fn join(self: &Arc<Self>, session: &Arc<ClientSession>) -> Joined {
        self.by_owner.write().entry(session.user).or_default().push(Arc::clone(session));
        self.metrics.client_sessions.inc();
        Joined { hub: Arc::clone(self), session: Arc::clone(session) }
    }

    fn leave(&self, session: &Arc<ClientSession>) {
        let mut by_owner = self.by_owner.write();
        if let Some(sessions) = by_owner.get_mut(&session.user) {
            sessions.retain(|s| !Arc::ptr_eq(s, session));
            if sessions.is_empty() {
                by_owner.remove(&session.user);
            }
            self.metrics.client_sessions.dec();
        }
    }

    pub(crate) fn close_all(&self) {
        for session in self.by_owner.read().values().flatten() {
            session.state.lock().closing = true;
            session.wake.notify_one();
        }
    }
}

impl Subscriber for Hub {
    fn on_event(&self, event: &Event) {
        let device = event.device();
        let Some(owner) = device.owner else { return };
        let by_owner = self.by_owner.read();
        let Some(sessions) = by_owner.get(&owner) else { return };
        let mut encoded: Option<Utf8Bytes> = None;
        for session in sessions.iter().filter(|s| s.hears(device.key)) {
            let frame = encoded.get_or_insert_with(|| {
                self.metrics.broadcast_encodes.inc();
                encode(event)
            });
            if session.push(event, frame) {
                self.metrics.broadcast_frames.inc();
            } else {
                self.metrics.conflated.inc();
            }
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EventFrame<'a> {
    DeviceState {
        device_uid: &'a str,
        relays: Vec<RelayBody>,
        source: &'static str,
        command_id: Option<String>,
        at: String,
    },
    DeviceOnline {
        device_uid: &'a str,
        at: String,
    },
    DeviceOffline {
        device_uid: &'a str,
        at: String,
    },
    InputEvent {
        device_uid: &'a str,
        input: u16,
        event: &'a str,
        duration_ms: Option<u32>,
        at: String,
    },
    DeviceUpdated {
        device_uid: &'a str,
    },
    DeviceAdded {
        device_uid: &'a str,
    },
    DeviceRemoved {
        device_uid: &'a str,
    },
}

fn encode(event: &Event) -> Utf8Bytes {
    let device_uid = event.device().uid.as_str();
    let frame = match event {
        Event::RelayChanged { relays: states, source, command, at, .. } => EventFrame::DeviceState {
            device_uid,
            relays: relays(states),
            source: source.as_str(),
            command_id: command.map(|c| c.to_string()),
            at: rfc3339(*at),
        },
        Event::DeviceOnline { at, .. } => EventFrame::DeviceOnline { device_uid, at: rfc3339(*at) },
        Event::DeviceOffline { at, .. } => EventFrame::DeviceOffline { device_uid, at: rfc3339(*at) },
        Event::InputReceived { input, at, .. } => EventFrame::InputEvent {
            device_uid,
            input: input.input,
            event: &input.kind,
            duration_ms: input.duration_ms,
            at: rfc3339(*at),
        },
        Event::DeviceUpdated { .. } => EventFrame::DeviceUpdated { device_uid },
        Event::DeviceClaimed { .. } => EventFrame::DeviceAdded { device_uid },
        Event::DeviceReleased { .. } => EventFrame::DeviceRemoved { device_uid },
    };
    serde_json::to_string(&frame).unwrap_or_default().into()
}

/// One device in a snapshot.
#[derive(Serialize)]
pub(crate) struct SnapshotDevice<'a> {
    pub(crate) device_uid: &'a str,
    pub(crate) online: bool,
    pub(crate) relays: Vec<RelayBody>,
}

#[cfg(test)]
mod tests {
    use hexa_model::event::EventDevice;
    use hexa_model::{RelayState, Source, TimeMs};
    use smallvec::smallvec;

    use super::*;

    fn changed(owner: i64, version: u64) -> Event {
        let device =
            EventDevice { key: DeviceKey(7), uid: DeviceUid::parse("hx1").unwrap(), owner: Some(UserKey(owner)) };
        let state = RelayState { index: 0, on: true, version, updated_at: TimeMs(0) };
        Event::RelayChanged { device, relays: smallvec![state], source: Source::Api, command: None, at: TimeMs(0) }
    }

    fn hub() -> (Arc<Hub>, Arc<ClientSession>, Joined) {
        let hub = Arc::new(Hub::new(Arc::new(Metrics::new())));
        let session = ClientSession::new(UserKey(1));
        let joined = hub.join(&session);
        session.subscribe(None);
        (hub, session, joined)
    }

    #[test]
    fn an_event_is_encoded_once_for_all_of_its_owners_clients_and_nobody_else() {
        let (hub, first, _joined) = hub();
        let (second, foreign) = (ClientSession::new(UserKey(1)), ClientSession::new(UserKey(2)));
        let _others = [&second, &foreign].map(|s| {
            s.subscribe(None);
            hub.join(s)
        });
        hub.on_event(&changed(1, 1));
        assert_eq!(hub.metrics.broadcast_encodes.get(), 1);
        assert_eq!((first.take().frames.len(), second.take().frames.len()), (1, 1));
        assert!(foreign.take().frames.is_empty());
    }

    #[test]
    fn a_client_that_does_not_read_costs_a_bounded_queue_and_one_fresh_state() {
        let (hub, session, _joined) = hub();
        for version in 1..=1000 {
            hub.on_event(&changed(1, version));
        }
        let taken = session.take();
        assert_eq!((taken.frames.len(), taken.stale.len()), (MAX_FRAMES, 1));
        assert_eq!(hub.metrics.conflated.get(), 1000 - MAX_FRAMES as u64);
    }

    #[test]
    fn nothing_is_encoded_for_nobody() {
        let (hub, _session, joined) = hub();
        drop(joined);
        hub.on_event(&changed(1, 1));
        assert_eq!(hub.metrics.broadcast_encodes.get(), 0);
        assert!(hub.by_owner.read().is_empty());
    }
}
