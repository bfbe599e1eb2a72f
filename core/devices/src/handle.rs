//! What the process knows of one device while it matters: owner, states, open commands, the current session.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use hexa_machine::{Authority, Machine, RelayCache};
use hexa_model::audit::RelayStates;
use hexa_model::driver::{DeviceIdent, InputEvent};
use hexa_model::event::EventDevice;
use hexa_model::{CommandId, DeviceClass, DeviceKey, DeviceUid, Grant, Source, TimeMs, UserKey, Viewer};
use hexa_store::DeviceRow;
use parking_lot::Mutex;

use crate::command::pending::{DeviceCommands, Waiter};
use crate::contest::Contest;
use crate::session::Session;

const NOBODY: i64 = 0;
const NEVER: i64 = 0;

/// One device: the facts about it, which any process may know, and what is held while it is connected here.
/// Locks here are held for a few instructions and never across an await.
#[derive(Debug)]
pub struct DeviceHandle {
    /// Its identity, its owner, and who has access, as the database has them.
    pub facts: DeviceFacts,
    /// What only the holder of its connection has.
    pub held: HeldDevice,
}

impl Deref for DeviceHandle {
    type Target = DeviceFacts;

    fn deref(&self) -> &DeviceFacts {
        &self.facts
    }
}

/// What the database says of a device: its identity, and who may do what with it.
#[derive(Debug)]
pub struct DeviceFacts {
    /// Its key in the store; never shown outside the server.
    pub key: DeviceKey,
    /// Its public id, unique in the fleet, given at its provisioning.
    pub uid: DeviceUid,
    /// Its class, which picks the driver.
    pub class: DeviceClass,
    /// How many relays it has.
    pub relay_count: u16,
    /// How many inputs it has.
    pub input_count: u16,
    /// What it says it is.
    pub(crate) identity: Mutex<Identity>,
    /// What it is shared by, and who hears of it because of that; none for most devices.
    shares: Mutex<Option<Arc<SharedAccess>>>,
    revocations: AtomicU32,
    /// Raised with each change of who may do what with it; what is older is not applied.
    access_version: AtomicI64,
    owner: AtomicI64,
    active: AtomicBool,
    last_seen_ms: AtomicI64,
}

/// What is held of a device where it is connected: it can be handed over, but for the waiters of its open commands.
#[derive(Debug)]
pub struct HeldDevice {
    /// Last known relay states.
    pub states: Mutex<RelayCache>,
    /// Commands that are queued or wait for their acknowledgement, in their order.
    pub commands: Mutex<DeviceCommands>,
    /// The session that is connected now; none while the device is offline.
    pub(crate) session: Mutex<Option<Arc<Session>>>,
    /// A session whose token was checked at an older access version is not let in.
    sessions_since: AtomicI64,
    /// Connects in the current minute.
    pub(crate) flap: Mutex<Flap>,
    /// Whether another device has its identity.
    pub(crate) contest: Mutex<Contest>,
    /// What its driver wants to find again.
    pub(crate) driver: Mutex<DriverState>,
    /// Its last relay change and input, and when lines about it were last written.
    pub(crate) last: Mutex<LastEvents>,
}

/// With whom a device is shared.
#[derive(Debug)]
pub(crate) struct SharedAccess {
    /// All that have not ended, also those whose time has not come.
    pub grants: Vec<Grant>,
    /// Who sees it now.
    pub viewers: Arc<[Viewer]>,
}

/// What a device says of itself.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    pub model: Option<Box<str>>,
    pub hardware: Option<Box<str>>,
    pub firmware: Option<Box<str>>,
    /// The address of its connection.
    pub ip: Option<IpAddr>,
    /// The address that was stored last.
    pub stored_ip: Option<Box<str>>,
}

/// A driver's state of one device.
#[derive(Debug, Default)]
pub(crate) struct DriverState {
    /// What it wants to find again after a restart.
    pub durable: Option<Box<[u8]>>,
    /// Whether the disk may not have that.
    pub unsaved: bool,
    /// Counts what was given to the disk of it.
    pub saves: u32,
    /// `plugin@version` that made it.
    pub version: Option<Box<str>>,
    /// What a driver version made of the device's configuration.
    pub prepared: Option<(Arc<str>, Arc<[u8]>)>,
}

/// What a device did last, and when something was last said of it.
#[derive(Debug, Default)]
pub(crate) struct LastEvents {
    pub action: Option<LastAction>,
    pub input: Option<(Arc<InputEvent>, TimeMs)>,
    pub foreign_ack_audit: Option<Duration>,
    pub log_line: Option<Duration>,
    /// Lines that were not logged since then.
    pub unlogged: u32,
}

/// The last change of a relay, for the device's page.
#[derive(Clone, Debug)]
pub struct LastAction {
    /// The entry point of the change, or the device itself.
    pub source: Source,
    /// The command, if it was one.
    pub command: Option<CommandId>,
    /// The states that the change stored, with their versions.
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
        let identity = Identity {
            model: row.model.map(Into::into),
            hardware: row.hardware.map(Into::into),
            firmware: row.firmware.map(Into::into),
            ip: None,
            stored_ip: row.last_ip.map(Into::into),
        };
        let driver = DriverState {
            durable: row.driver_durable.map(Into::into),
            version: row.driver_version.map(Into::into),
            ..DriverState::default()
        };
        Self {
            facts: DeviceFacts {
                key: row.key,
                uid: row.uid,
                class: row.class,
                relay_count: row.relay_count,
                input_count: row.input_count,
                identity: Mutex::new(identity),
                shares: Mutex::default(),
                revocations: AtomicU32::new(0),
                access_version: AtomicI64::new(row.access_version),
                owner: AtomicI64::new(row.owner.map_or(NOBODY, |k| k.0)),
                active: AtomicBool::new(row.active),
                last_seen_ms: AtomicI64::new(row.last_seen_at.map_or(NEVER, |t| t.0)),
            },
            held: HeldDevice {
                states: Mutex::new(RelayCache::new(row.relay_count, states)),
                commands: Mutex::default(),
                session: Mutex::default(),
                sessions_since: AtomicI64::new(0),
                flap: Mutex::default(),
                contest: Mutex::default(),
                driver: Mutex::new(driver),
                last: Mutex::default(),
            },
        }
    }

    /// The device must prove its token again.
    pub(crate) fn end_sessions_before(&self, version: i64) {
        // Under the session's lock: one that connects now is either let in before, and closed, or refused.
        let _session = self.held.session.lock();
        self.held.sessions_since.store(version, Ordering::Release);
    }
    pub(crate) fn lets_in(&self, access_version: i64) -> bool {
        self.active() && access_version >= self.held.sessions_since.load(Ordering::Acquire)
    }
    /// Whether a session is connected.
    pub fn online(&self) -> bool {
        self.held.session.lock().is_some()
    }
    /// The session that is connected now; none while the device is offline.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.held.session.lock().clone()
    }
    /// The last relay change since the process started.
    pub fn last_action(&self) -> Option<LastAction> {
        self.held.last.lock().action.clone()
    }
    /// The last input event since the process started.
    pub fn last_input(&self) -> Option<(Arc<InputEvent>, TimeMs)> {
        self.held.last.lock().input.clone()
    }
    /// All committed relay states; unknown relays are missing.
    pub fn relays(&self) -> RelayStates {
        self.held.states.lock().all()
    }
}

impl DeviceFacts {
    /// The account that owns the device; none while it is unclaimed.
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
    pub(crate) fn shares(&self) -> Option<Arc<SharedAccess>> {
        self.shares.lock().clone()
    }
    pub(crate) fn set_shares(&self, shares: Option<Arc<SharedAccess>>) {
        *self.shares.lock() = shares;
    }
    /// Queued commands of grantees are not sent any more.
    pub(crate) fn count_revocation(&self) {
        self.revocations.fetch_add(1, Ordering::AcqRel);
    }
    /// By what a command is authorized that is accepted now. Read it before the check.
    pub(crate) fn authority(&self) -> Authority {
        Authority { owner: self.owner(), revocations: Some(self.revocations.load(Ordering::Acquire)) }
    }
    /// Whether a command that was authorized by this may still be sent.
    pub(crate) fn authority_holds(&self, authority: Authority) -> bool {
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
    /// Its address: of the connection, or the last stored one.
    pub fn ip(&self) -> Option<String> {
        let identity = self.identity.lock();
        identity.ip.map(|ip| ip.to_string()).or_else(|| identity.stored_ip.as_deref().map(str::to_owned))
    }
    /// The firmware version that the device reported last; none where it never gave one.
    pub fn firmware(&self) -> Option<String> {
        self.identity.lock().firmware.as_deref().map(str::to_owned)
    }
    /// What an event carries of the device: its ids, its owner, and who else sees it now.
    pub fn event_device(&self) -> EventDevice {
        let viewers = self.shares.lock().as_ref().map(|s| Arc::clone(&s.viewers));
        EventDevice { key: self.key, uid: self.uid.clone(), owner: self.owner(), viewers }
    }
    /// For the driver's cold calls.
    pub(crate) fn ident(&self) -> DeviceIdent {
        let identity = self.identity.lock();
        let text = |t: &Option<Box<str>>| t.as_deref().map(str::to_owned);
        DeviceIdent {
            uid: self.uid.clone(),
            class: self.class,
            model: text(&identity.model),
            hardware: text(&identity.hardware),
            firmware: text(&identity.firmware),
            relay_count: self.relay_count,
            input_count: self.input_count,
        }
    }
}

impl Machine<Waiter> for DeviceHandle {
    fn relay_count(&self) -> u16 {
        self.facts.relay_count
    }
    fn commands(&self) -> impl DerefMut<Target = DeviceCommands> {
        self.held.commands.lock()
    }
    fn states(&self) -> impl DerefMut<Target = RelayCache> {
        self.held.states.lock()
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
