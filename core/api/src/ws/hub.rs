//! Client sockets as subscribers of the bus: an event is encoded once and put into the queues of its owner's sockets,
//! and of the sockets of those with whom the device is shared, as far as it is.
//!
//! A slow client never holds anything up: its queue is bounded, and state events that no longer fit are folded into
//! one fresh state per device when it reads again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use hexa_devices::authorize::Visibility;
use hexa_devices::handle::DeviceHandle;
use hexa_devices::session::CloseReason;
use hexa_model::event::{AccessEnded, Event, ShareChange};
use hexa_model::{DeviceKey, DeviceUid, RelayMask, UserKey};
use hexa_operations::Operations;
use hexa_platform::Error;
use hexa_platform::bus::Subscriber;
use hexa_platform::metrics::Metrics;
use hexa_platform::principal::{Credential, Principal};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::wire::RelayBody;
use crate::ws::frames::{Part, encode, part, seen};

/// A client is pinged in this time.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(20);
/// So many times in a row without a sign of life end it.
const UNANSWERED_PINGS: u32 = 2;
/// Frames that wait for one client before state events are folded.
const MAX_FRAMES: usize = 64;
/// How often the hub looks whose access is over.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest time for which a socket's access is taken for granted: then the database is asked whether what opened it
/// still holds, whatever was told or forgotten meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// Sockets about which the database is asked with one statement.
const ASK_TOGETHER: usize = 500;
/// Answers to a client's own commands come on top; it may have this many open.
pub(crate) const MAX_OPEN_COMMANDS: usize = 32;

/// Who listens, by account.
#[derive(Debug)]
pub struct Hub {
    by_owner: RwLock<HashMap<UserKey, Vec<Arc<ClientSession>>>>,
    /// Sockets of admins, who may name devices of others.
    admins: RwLock<Vec<Arc<ClientSession>>>,
    /// Sockets of each account, with those that are being opened.
    places: Mutex<HashMap<UserKey, u32>>,
    most_of_one: u32,
    metrics: Arc<Metrics>,
}

/// A socket's place among those of its account, from before its handshake until its end.
#[derive(Debug)]
pub(crate) struct Place {
    hub: Arc<Hub>,
    user: UserKey,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.hub.places.lock();
        if let Some(count) = places.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.user);
            }
        }
    }
}

/// What a client wants to hear of.
#[derive(Debug, Default)]
enum Filter {
    /// It has not subscribed.
    #[default]
    Nothing,
    /// Everything that is its account's.
    All,
    /// Only devices of this set.
    Some(HashSet<DeviceKey>),
}

/// One client socket, as the hub sees it.
#[derive(Debug)]
pub(crate) struct ClientSession {
    pub(crate) user: UserKey,
    /// The account and the credential that opened the socket; checked again while it is open.
    by: Principal,
    admin: bool,
    pub(crate) wake: Notify,
    heard: AtomicBool,
    /// When to ask whether its access is over, in milliseconds of the monotonic clock.
    ask_at_ms: AtomicU64,
    state: Mutex<ClientState>,
}

/// Frames with the device whose state they show.
pub(crate) type Frames = VecDeque<(Option<DeviceKey>, Utf8Bytes)>;

#[derive(Debug, Default)]
struct ClientState {
    filter: Filter,
    frames: Frames,
    stale: HashMap<DeviceKey, DeviceUid>,
    ping: bool,
    unanswered: u32,
    closing: Option<CloseReason>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    Unwanted,
    Queued,
    Folded,
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

/// What a client's task takes at once, beside the frames.
pub(crate) struct Taken {
    pub(crate) stale: HashMap<DeviceKey, DeviceUid>,
    pub(crate) ping: bool,
    pub(crate) closing: Option<CloseReason>,
}

impl ClientSession {
    pub(crate) fn new(by: Principal) -> Arc<Self> {
        Arc::new(Self {
            user: by.account.key,
            admin: by.is_admin(),
            by,
            wake: Notify::new(),
            heard: AtomicBool::new(true),
            ask_at_ms: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Whether, and why, it is to close.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.state.lock().closing
    }

    /// Takes what the database says of its access: it is over, or goes on for so long.
    fn learned(&self, remaining: Option<Duration>, now: Duration) {
        match remaining {
            None => self.close(CloseReason::SignedOut),
            Some(left) => {
                // Not before it is over, or the answer would be the same.
                let at = now + left.min(ASK_AGAIN) + Duration::from_millis(1);
                self.ask_at_ms.store(at.as_millis() as u64, Ordering::Relaxed);
            }
        }
    }

    fn close(&self, reason: CloseReason) {
        self.state.lock().closing.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Whether it named this device, rather than asking for all of its account.
    fn named(&self, device: DeviceKey) -> bool {
        matches!(&self.state.lock().filter, Filter::Some(devices) if devices.contains(&device))
    }

    /// From now on it hears of these devices, or of all of its account.
    pub(crate) fn subscribe(&self, devices: Option<&[(Arc<DeviceHandle>, Visibility)]>) {
        let mut state = self.state.lock();
        state.filter = match devices {
            None => Filter::All,
            Some(devices) => Filter::Some(devices.iter().map(|(live, _)| live.key).collect()),
        };
    }

    /// The device's current states for a frame that is sent now: what waits in the queue for this device is older
    /// and dropped, under the lock that orders publishing, so that versions never go down at the client.
    pub(crate) fn snapshot(&self, live: &DeviceHandle, sight: Visibility) -> Vec<RelayBody> {
        let cache = live.held.states.lock();
        let mut state = self.state.lock();
        state.frames.retain(|(device, _)| *device != Some(live.key));
        state.stale.remove(&live.key);
        seen(&cache.all(), sight.relays)
    }

    /// Everything that waits. The frames change places with the empty `frames`, whose room is used again.
    pub(crate) fn take(&self, frames: &mut Frames) -> Taken {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.frames, frames);
        Taken { stale: std::mem::take(&mut state.stale), ping: std::mem::take(&mut state.ping), closing: state.closing }
    }

    /// Something came from the client: it lives.
    pub(crate) fn received(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Asks for a ping, or for the end when the last ones had no answer.
    fn check_liveness(&self) {
        let mut state = self.state.lock();
        state.unanswered = if self.heard.swap(false, Ordering::Relaxed) { 0 } else { state.unanswered + 1 };
        if state.unanswered >= UNANSWERED_PINGS {
            state.closing.get_or_insert(CloseReason::Dead);
        } else {
            state.ping = true;
        }
        drop(state);
        self.wake.notify_one();
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

    /// Queues a frame for a client that wants to hear of the device. Says whether it was wanted, and whether it had to
    /// be folded or dropped.
    fn push(&self, event: &Event, frame: impl FnOnce() -> Utf8Bytes) -> Pushed {
        let device = event.device();
        let mut state = self.state.lock();
        let wanted = match &state.filter {
            Filter::Nothing => false,
            Filter::All => true,
            // Nobody can name what they do not have yet: what comes and goes is told to whose it is.
            Filter::Some(devices) => devices.contains(&device.key) || comes_or_goes(event),
        };
        if !wanted {
            return Pushed::Unwanted;
        }
        let is_state = matches!(event, Event::RelayChanged { .. });
        let fits = state.frames.len() < MAX_FRAMES;
        // A device that is stale stays so until its fresh state was taken: a frame behind it would be out of order.
        if fits && !(is_state && state.stale.contains_key(&device.key)) {
            let key = is_state.then_some(device.key);
            state.frames.push_back((key, frame()));
        } else if !matches!(event, Event::InputReceived { .. }) {
            state.stale.insert(device.key, device.uid.clone());
        }
        drop(state);
        self.wake.notify_one();
        if fits { Pushed::Queued } else { Pushed::Folded }
    }
}

impl Hub {
    /// An account may have `most_of_one` sockets.
    pub(crate) fn new(metrics: Arc<Metrics>, most_of_one: u32) -> Self {
        let (by_owner, admins, places) = (RwLock::default(), RwLock::default(), Mutex::default());
        Self { by_owner, admins, places, most_of_one, metrics }
    }

    /// A place for one more socket of this account, taken before its handshake.
    ///
    /// # Errors
    /// `rate_limited` when it has as many as it may have.
    pub(crate) fn place(self: &Arc<Self>, user: UserKey) -> Result<Place, Error> {
        let mut places = self.places.lock();
        let count = places.entry(user).or_default();
        if *count >= self.most_of_one {
            let most = self.most_of_one;
            return Err(Error::rate_limited(format!("an account has at most {most} sockets; close one first"), 5));
        }
        *count += 1;
        Ok(Place { hub: Arc::clone(self), user })
    }

    /// Asks whether the access of a socket that has just joined still holds: what ended while it was being opened was
    /// told to nobody.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub(crate) async fn confirm(services: &Operations, session: &ClientSession) -> Result<(), Error> {
        let remaining = services.accounts.remaining(std::slice::from_ref(&session.by)).await?;
        session.learned(remaining.first().copied().flatten(), services.clock.monotonic());
        Ok(())
    }

    /// The session hears events until the guard is dropped, also when its task panics.
    pub(crate) fn join(self: &Arc<Self>, session: &Arc<ClientSession>) -> Joined {
        self.by_owner.write().entry(session.user).or_default().push(Arc::clone(session));
        if session.admin {
            self.admins.write().push(Arc::clone(session));
        }
        self.metrics.client_sessions.inc();
        Joined { hub: Arc::clone(self), session: Arc::clone(session) }
    }

    fn leave(&self, session: &Arc<ClientSession>) {
        if session.admin {
            self.admins.write().retain(|s| !Arc::ptr_eq(s, session));
        }
        let mut by_owner = self.by_owner.write();
        if let Some(sessions) = by_owner.get_mut(&session.user) {
            sessions.retain(|s| !Arc::ptr_eq(s, session));
            if sessions.is_empty() {
                by_owner.remove(&session.user);
            }
            self.metrics.client_sessions.dec();
        }
    }

    /// Asks every client to close and to come back at its own moment within `spread`.
    pub(crate) fn close_all(&self, spread: Duration) {
        for session in self.by_owner.read().values().flatten() {
            session.close(CloseReason::restarting_within(spread));
        }
    }

    /// Pings the clients that were silent, and closes those that did not answer.
    pub(crate) fn check_liveness(&self) {
        for session in self.by_owner.read().values().flatten() {
            session.check_liveness();
        }
    }

    /// Closes the sockets whose access is over. While the database does not answer they stay, and are asked about again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn ask(&self, services: &Operations) -> Result<(), Error> {
        let now = services.clock.monotonic();
        let due = |s: &&Arc<ClientSession>| s.ask_at_ms.load(Ordering::Relaxed) <= now.as_millis() as u64;
        let due: Vec<_> = self.by_owner.read().values().flatten().filter(due).cloned().collect();
        for together in due.chunks(ASK_TOGETHER) {
            let of: Vec<_> = together.iter().map(|s| s.by.clone()).collect();
            let all = services.accounts.remaining(&of).await?;
            together.iter().zip(all).for_each(|(s, remaining)| s.learned(remaining, now));
        }
        Ok(())
    }
}

impl Hub {
    fn encode(&self, event: &Event, mask: RelayMask) -> Utf8Bytes {
        self.metrics.broadcast_encodes.inc();
        encode(event, mask)
    }
}

impl Subscriber for Hub {
    fn on_access_ended(&self, ended: AccessEnded) {
        let by_owner = self.by_owner.read();
        let (one, all) = match ended.user() {
            Some(user) => (by_owner.get(&user), None),
            None => (None, Some(by_owner.values())),
        };
        for session in one.into_iter().chain(all.into_iter().flatten()).flatten() {
            let concerned = match (ended, session.by.via) {
                (AccessEnded::Account(_), _) => true,
                (AccessEnded::Session(_, ended), Credential::Session(own)) => ended == own,
                (AccessEnded::Token(_, ended), Credential::Token { id, .. }) => ended == id,
                (AccessEnded::Keys, Credential::Session(_)) => true,
                _ => false,
            };
            if concerned {
                session.close(CloseReason::SignedOut);
            }
        }
    }

    fn on_event(&self, event: &Event) {
        let device = event.device();
        let by_owner = self.by_owner.read();
        let mut told = DeliveryCount::default();
        if let Event::ShareChanged { user, .. } = event {
            told.tell(&by_owner, *user, event, || self.encode(event, RelayMask::ALL));
        } else {
            let mut encoded: Option<Utf8Bytes> = None;
            let mut whole = || encoded.get_or_insert_with(|| self.encode(event, RelayMask::ALL)).clone();
            if let Some(owner) = device.owner {
                told.tell(&by_owner, owner, event, &mut whole);
            }
            for session in self.admins.read().iter() {
                // Admins hear as such of what they named, and of their own as everybody does.
                if device.owner != Some(session.user) && session.named(device.key) {
                    told.count(session.push(event, &mut whole));
                }
            }
            for viewer in device.viewers.iter().flat_map(|v| v.iter()).filter(|_| device.owner.is_some()) {
                match part(event, viewer.relays) {
                    Part::Whole => told.tell(&by_owner, viewer.user, event, &mut whole),
                    Part::Some => {
                        let mut own: Option<Utf8Bytes> = None;
                        let mut some = || own.get_or_insert_with(|| self.encode(event, viewer.relays)).clone();
                        told.tell(&by_owner, viewer.user, event, &mut some);
                    }
                    Part::Nothing => {}
                }
            }
        }
        self.metrics.broadcast_frames.inc_by(told.queued);
        self.metrics.conflated.inc_by(told.folded);
    }
}

/// Whether an account has a device more or less by it.
fn comes_or_goes(event: &Event) -> bool {
    match event {
        Event::DeviceClaimed { .. } | Event::DeviceReleased { .. } => true,
        Event::ShareChanged { change, .. } => !matches!(change, ShareChange::Changed),
        _ => false,
    }
}

/// Counts what became of an event.
#[derive(Default)]
struct DeliveryCount {
    queued: u64,
    folded: u64,
}

impl DeliveryCount {
    fn tell(
        &mut self,
        by_owner: &HashMap<UserKey, Vec<Arc<ClientSession>>>,
        user: UserKey,
        event: &Event,
        mut frame: impl FnMut() -> Utf8Bytes,
    ) {
        for session in by_owner.get(&user).into_iter().flatten() {
            self.count(session.push(event, &mut frame));
        }
    }

    fn count(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Queued => self.queued += 1,
            Pushed::Folded => self.folded += 1,
            Pushed::Unwanted => {}
        }
    }
}

#[cfg(test)]
mod tests;
