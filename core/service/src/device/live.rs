//! What the process knows of one device while it matters: owner, states, open commands, the current session.

use std::net::IpAddr;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use hexa_model::audit::RelayStates;
use hexa_model::driver::{DeviceIdent, InputEvent};
use hexa_model::event::EventDevice;
use hexa_model::{CommandId, DeviceClass, DeviceKey, DeviceUid, Grant, Source, TimeMs, UserKey, Viewer};
use hexa_store::DeviceRow;
use parking_lot::Mutex;

use crate::device::contest::Contest;
use crate::device::session::Session;
use crate::relay::cache::RelayCache;
use crate::relay::machine::{Authority, Commands, Machine};
use crate::relay::pending::{Pending, Waiter};

const NOBODY: i64 = 0;
const NEVER: i64 = 0;

/// One device. Locks here are held for a few instructions and never across an await.
#[derive(Debug)]
pub struct DeviceHandle {
    /// Store key.
    pub key: DeviceKey,
    /// Public id.
    pub uid: DeviceUid,
    /// Its class, which picks the driver.
    pub class: DeviceClass,
    /// How many relays it has.
    pub relay_count: u16,
    /// How many inputs it has.
    pub input_count: u16,
    /// Last known states.
    pub cache: Mutex<RelayCache>,
    /// Open commands.
    pub pending: Mutex<Pending>,
    /// The current session.
    pub(crate) session: Mutex<Option<Arc<Session>>>,
    /// Connects in the current minute (WS-3).
    pub(crate) flap: Mutex<Flap>,
    /// Whether another device has its identity.
    pub(crate) contest: Mutex<Contest>,
    /// What is rarely needed.
    pub(crate) more: Mutex<DeviceDetails>,
    /// What it is shared by, and who hears of it because of that; none for most devices.
    shares: Mutex<Option<Arc<SharedAccess>>>,
    revocations: AtomicU32,
    /// Raised with each change of who may do what with it; what is older is not applied.
    access_version: AtomicI64,
    /// A session whose token was checked at an older access version is not let in.
    sessions_since: AtomicI64,
    owner: AtomicI64,
    active: AtomicBool,
    last_seen_ms: AtomicI64,
}

/// With whom a device is shared.
#[derive(Debug)]
pub(crate) struct SharedAccess {
    /// All that have not ended, also those whose time has not come.
    pub grants: Vec<Grant>,
    /// Who sees it now.
    pub viewers: Arc<[Viewer]>,
}

/// Facts that only views and reconnects read.
#[derive(Debug, Default)]
pub(crate) struct DeviceDetails {
    pub model: Option<Box<str>>,
    pub hardware: Option<Box<str>>,
    pub firmware: Option<Box<str>>,
    pub ip: Option<IpAddr>,
    pub stored_ip: Option<Box<str>>,
    /// The driver's state, and whether the disk may not have it.
    pub durable: Option<Box<[u8]>>,
    pub unsaved: bool,
    /// Counts what was given to the disk of it.
    pub saves: u32,
    pub driver_version: Option<Box<str>>,
    pub prepared: Option<(Arc<str>, Arc<[u8]>)>,
    pub last_action: Option<LastAction>,
    pub last_input: Option<(Arc<InputEvent>, TimeMs)>,
    pub last_foreign_ack_audit: Option<Duration>,
    pub last_log_line: Option<Duration>,
    /// Lines that were not logged since then.
    pub unlogged: u32,
}

/// The last change of a relay, for the device's page.
#[derive(Clone, Debug)]
pub struct LastAction {
    /// Through which door.
    pub source: Source,
    /// The command, if it was one.
    pub command: Option<CommandId>,
    /// The relays.
    pub relays: RelayStates,
    /// When it was committed.
    pub at: TimeMs,
}

/// Counts connects in fixed minutes; too many ban for a while.
#[derive(Debug, Default)]
pub(crate) struct Flap {
    window_ends: Duration,
    connects: u32,
    banned_until: Duration,
}

impl Flap {
    /// The last connect is not held against the device: it could not be served, and did not leave by itself.
    pub(crate) fn forgive(&mut self) {
        self.connects = self.connects.saturating_sub(1);
    }
}

/// How long a flapping device is refused.
const FLAP_BAN: Duration = Duration::from_secs(300);

impl Flap {
    /// Counts one connect; gives the seconds to wait when it is one too many.
    pub(crate) fn connect(&mut self, now: Duration, per_minute: u32) -> Result<(), u64> {
        if self.banned_until > now {
            return Err((self.banned_until - now).as_millis().div_ceil(1000) as u64);
        }
        if self.window_ends <= now {
            *self = Self { window_ends: now + Duration::from_secs(60), ..Self::default() };
        }
        self.connects = self.connects.saturating_add(1);
        if self.connects > per_minute {
            self.banned_until = now + FLAP_BAN;
            return Err(FLAP_BAN.as_secs());
        }
        Ok(())
    }
}

impl DeviceHandle {
    /// From its stored rows.
    pub fn new(row: DeviceRow, states: &RelayStates) -> Self {
        Self {
            key: row.key,
            uid: row.uid,
            class: row.class,
            relay_count: row.relay_count,
            input_count: row.input_count,
            cache: Mutex::new(RelayCache::new(row.relay_count, states)),
            pending: Mutex::default(),
            session: Mutex::default(),
            flap: Mutex::default(),
            contest: Mutex::default(),
            more: Mutex::new(DeviceDetails {
                model: row.model.map(Into::into),
                hardware: row.hardware.map(Into::into),
                firmware: row.firmware.map(Into::into),
                stored_ip: row.last_ip.map(Into::into),
                durable: row.driver_durable.map(Into::into),
                driver_version: row.driver_version.map(Into::into),
                ..DeviceDetails::default()
            }),
            shares: Mutex::default(),
            revocations: AtomicU32::new(0),
            access_version: AtomicI64::new(row.access_version),
            sessions_since: AtomicI64::new(0),
            owner: AtomicI64::new(row.owner.map_or(NOBODY, |k| k.0)),
            active: AtomicBool::new(row.active),
            last_seen_ms: AtomicI64::new(row.last_seen_at.map_or(NEVER, |t| t.0)),
        }
    }

    /// The owner.
    pub fn owner(&self) -> Option<UserKey> {
        match self.owner.load(Ordering::Acquire) {
            NOBODY => None,
            key => Some(UserKey(key)),
        }
    }
    /// The version of what is known of who may do what with it.
    pub fn access_version(&self) -> i64 {
        self.access_version.load(Ordering::Acquire)
    }
    /// As the database says; called by one place only, in the order of the commits.
    pub(crate) fn set_access(&self, version: i64, owner: Option<UserKey>, active: bool) {
        self.active.store(active, Ordering::Release);
        self.owner.store(owner.map_or(NOBODY, |k| k.0), Ordering::Release);
        self.access_version.store(version, Ordering::Release);
    }
    /// The device must prove its token again.
    pub(crate) fn end_sessions_before(&self, version: i64) {
        // Under the session's lock: one that connects now is either let in before, and closed, or refused.
        let _session = self.session.lock();
        self.sessions_since.store(version, Ordering::Release);
    }
    pub(crate) fn lets_in(&self, access_version: i64) -> bool {
        self.active() && access_version >= self.sessions_since.load(Ordering::Acquire)
    }
    pub(crate) fn shares(&self) -> Option<Arc<SharedAccess>> {
        self.shares.lock().clone()
    }
    pub(crate) fn set_shares(&self, shares: Option<Arc<SharedAccess>>) {
        *self.shares.lock() = shares;
    }
    /// Queued commands of guests are not sent any more.
    pub(crate) fn count_revocation(&self) {
        self.revocations.fetch_add(1, Ordering::AcqRel);
    }
    /// By what a command is authorized that is accepted now. Read it before the check.
    pub(crate) fn authority(&self) -> Authority {
        Authority { owner: self.owner(), revocations: Some(self.revocations.load(Ordering::Acquire)) }
    }
    /// Whether a command that was authorized by this may still be sent.
    pub(crate) fn still(&self, authority: Authority) -> bool {
        let same = |seen| seen == self.revocations.load(Ordering::Acquire);
        self.active() && authority.owner == self.owner() && authority.revocations.is_none_or(same)
    }
    /// False once it is deleted or disabled.
    pub fn active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }
    /// Last frame or pong from it.
    pub fn last_seen(&self) -> Option<TimeMs> {
        match self.last_seen_ms.load(Ordering::Relaxed) {
            NEVER => None,
            ms => Some(TimeMs(ms)),
        }
    }
    pub(crate) fn seen(&self, now: TimeMs) {
        self.last_seen_ms.store(now.0, Ordering::Relaxed);
    }
    /// Whether a session is connected.
    pub fn online(&self) -> bool {
        self.session.lock().is_some()
    }
    /// The current session.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().clone()
    }
    /// Its address: of the connection, or the last stored one.
    pub fn ip(&self) -> Option<String> {
        let more = self.more.lock();
        more.ip.map(|ip| ip.to_string()).or_else(|| more.stored_ip.as_deref().map(str::to_owned))
    }
    /// Latest firmware version.
    pub fn firmware(&self) -> Option<String> {
        self.more.lock().firmware.as_deref().map(str::to_owned)
    }
    /// The last relay change since the process started.
    pub fn last_action(&self) -> Option<LastAction> {
        self.more.lock().last_action.clone()
    }
    /// The last input event since the process started.
    pub fn last_input(&self) -> Option<(Arc<InputEvent>, TimeMs)> {
        self.more.lock().last_input.clone()
    }
    /// For events.
    pub fn event_device(&self) -> EventDevice {
        let viewers = self.shares.lock().as_ref().map(|s| Arc::clone(&s.viewers));
        EventDevice { key: self.key, uid: self.uid.clone(), owner: self.owner(), viewers }
    }
    /// For the driver's cold calls.
    pub(crate) fn ident(&self) -> DeviceIdent {
        let more = self.more.lock();
        let text = |t: &Option<Box<str>>| t.as_deref().map(str::to_owned);
        DeviceIdent {
            uid: self.uid.clone(),
            class: self.class,
            model: text(&more.model),
            hardware: text(&more.hardware),
            firmware: text(&more.firmware),
            relay_count: self.relay_count,
            input_count: self.input_count,
        }
    }
}

impl Machine<Waiter> for DeviceHandle {
    fn relay_count(&self) -> u16 {
        self.relay_count
    }
    fn commands(&self) -> impl DerefMut<Target = Commands<Waiter>> {
        self.pending.lock()
    }
    fn states(&self) -> impl DerefMut<Target = RelayCache> {
        self.cache.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixteenth_connect_in_a_minute_is_refused_for_five() {
        let mut flap = Flap::default();
        let at = Duration::from_secs;
        for second in 0..15 {
            assert!(flap.connect(at(second), 15).is_ok());
        }
        assert_eq!(flap.connect(at(15), 15), Err(300));
        assert_eq!(flap.connect(at(115), 15), Err(200));
        assert!(flap.connect(at(315), 15).is_ok());
    }

    #[test]
    fn connects_that_the_house_could_not_serve_do_not_count() {
        let mut flap = Flap::default();
        for _ in 0..150 {
            assert!(flap.connect(Duration::ZERO, 15).is_ok());
            flap.forgive();
        }
        assert!((0..15).all(|_| flap.connect(Duration::ZERO, 15).is_ok()));
        assert!(flap.connect(Duration::ZERO, 15).is_err());
    }

    #[test]
    fn connects_of_another_minute_do_not_count() {
        let mut flap = Flap::default();
        for n in 0..150 {
            assert!(flap.connect(Duration::from_secs(n * 5), 15).is_ok(), "{n}");
        }
    }
}
