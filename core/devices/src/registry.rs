//! Every device that this process has touched, and which of them are connected.

use crate::Devices;
use hexa_platform::worker::{self, RunsOn, WorkerSpec};
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hexa_crypto::random_bytes;
use hexa_model::audit::RelayStates;
use hexa_model::event::Event;
use hexa_model::{Clock, DeviceUid, SessionId};
use hexa_store::{DevicePresence, DeviceRow, Store};
use parking_lot::RwLock;

use crate::batch_loader::{DeviceLoader, Stored};
use crate::command::answer;
use crate::command::pending::{Completion, complete};
use crate::grant::Grants;
use crate::handle::DeviceHandle;
use crate::session::{CloseReason, Session};
use hexa_model::ErrorCode;
use hexa_platform::bus::Bus;
use hexa_platform::error::{Error, Result};
use hexa_platform::metrics::Metrics;

/// Shards of the map; lookups are reads, so a few are plenty on a small machine.
const SHARDS: usize = 16;
/// Devices that are read with one statement.
const MAX_BATCH: usize = 500;
/// Offline entries per shard that are kept before the sweep drops idle ones.
const KEEP_OFFLINE: usize = 1024;

/// A part of the devices.
#[derive(Default)]
struct Shard {
    devices: RwLock<HashMap<DeviceUid, Arc<DeviceHandle>>>,
    /// Raised with every change of one of its devices: what was read before one is not remembered after it.
    changes: AtomicU64,
}

impl Shard {
    fn read(&self) -> parking_lot::RwLockReadGuard<'_, HashMap<DeviceUid, Arc<DeviceHandle>>> {
        self.devices.read()
    }
    fn write(&self) -> parking_lot::RwLockWriteGuard<'_, HashMap<DeviceUid, Arc<DeviceHandle>>> {
        self.devices.write()
    }
}

/// How often a device is read again because it changed while it was being read.
pub(super) const READ_AGAIN: u32 = 50;

/// The devices of this process.
pub struct Registry {
    shards: Vec<Shard>,
    /// Changes of all devices.
    changes: AtomicU64,
    store: Store,
    loader: DeviceLoader,
    grants: Arc<Grants>,
    clock: Arc<dyn Clock>,
    bus: Arc<Bus>,
    metrics: Arc<Metrics>,
    heartbeat: Duration,
    flap_per_minute: u32,
}

const LIVENESS: WorkerSpec = WorkerSpec {
    name: "device_liveness",
    purpose: "pings silent devices and closes connections without a sign of life",
    runs_on: RunsOn::EveryNode,
};

/// Starts the worker that watches over signs of life.
pub(crate) fn start(services: &Arc<Devices>) {
    let registry = Arc::clone(&services.registry);
    services.workers.periodic(LIVENESS, registry.heartbeat / 8, move |_| {
        let registry = Arc::clone(&registry);
        worker::run(async move {
            registry.sweep();
            Ok::<_, String>(())
        })
    });
}

impl Registry {
    /// Empty; devices are loaded when they are first asked for.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        bus: Arc<Bus>,
        metrics: Arc<Metrics>,
        grants: Arc<Grants>,
        config: &crate::config::DeviceConfig,
    ) -> Self {
        Self {
            loader: DeviceLoader::new(store.clone(), Arc::clone(&metrics)),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            changes: AtomicU64::new(0),
            store,
            grants,
            clock,
            bus,
            metrics,
            heartbeat: config.heartbeat,
            flap_per_minute: config.flap_per_minute,
        }
    }

    fn shard(&self, uid: &DeviceUid) -> &Shard {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        &self.shards[hasher.finish() as usize % SHARDS]
    }

    /// A device that is already known here.
    pub fn peek(&self, uid: &DeviceUid) -> Option<Arc<DeviceHandle>> {
        self.shard(uid).read().get(uid).cloned()
    }

    /// A device, loaded if need be; `None` when there is none of this uid.
    ///
    /// # Errors
    /// When the database does not answer; `busy` when the device changes faster than it can be read.
    pub async fn find(&self, uid: &DeviceUid) -> Result<Option<Arc<DeviceHandle>>> {
        for _ in 0..READ_AGAIN {
            if let Some(live) = self.peek(uid) {
                return Ok(Some(live));
            }
            let seen = self.seen(uid);
            let Some(stored) = self.stored(uid).await? else { return Ok(None) };
            if let Some(live) = self.enter(stored, seen).await? {
                return Ok(Some(live));
            }
        }
        Err(Error::new(ErrorCode::Busy, "this device changes all the time; try again").retry_after(1))
    }

    /// What is to be handed to [`Registry::enter`] with what is read after it.
    pub(crate) fn seen(&self, uid: &DeviceUid) -> u64 {
        self.shard(uid).changes.load(Ordering::Acquire)
    }

    /// A device's access changed: what is being read of it now is not entered.
    pub(crate) fn changed(&self, uid: &DeviceUid) {
        let shard = self.shard(uid);
        let _entries = shard.write();
        shard.changes.fetch_add(1, Ordering::AcqRel);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Those of these devices that there are, loaded with one statement where need be.
    pub(crate) async fn find_many(&self, uids: &[&DeviceUid]) -> Result<HashMap<DeviceUid, Arc<DeviceHandle>>> {
        let mut found: HashMap<_, _> = uids.iter().filter_map(|uid| Some(((*uid).clone(), self.peek(uid)?))).collect();
        let missing: Vec<_> = uids.iter().copied().filter(|uid| !found.contains_key(*uid)).collect();
        for together in missing.chunks(MAX_BATCH) {
            let moment = self.moment();
            let rows = self.store.devices_by_uid(together).await?;
            // One whose row cannot be read is not there for this caller; reading it by itself says why.
            let rows = rows.into_iter().filter_map(|row| row.ok().flatten()).collect();
            found.extend(self.enter_many(rows, moment).await?.into_iter().map(|live| (live.uid.clone(), live)));
        }
        Ok(found)
    }

    /// What is to be handed to [`Registry::enter_many`] with what is read after it.
    pub(crate) fn moment(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The entries of devices that were read after `moment`; the states of those that are not here yet come with one
    /// statement, and one that changed meanwhile is read again by itself.
    pub(crate) async fn enter_many(&self, rows: Vec<DeviceRow>, moment: u64) -> Result<Vec<Arc<DeviceHandle>>> {
        let missing: Vec<_> = rows.iter().filter(|row| self.peek(&row.uid).is_none()).map(|row| row.key).collect();
        let mut states = if missing.is_empty() { HashMap::new() } else { self.store.relay_states_of(&missing).await? };
        let missing: HashSet<_> = missing.into_iter().collect();
        let mut entered = Vec::with_capacity(rows.len());
        for row in rows {
            let uid = row.uid.clone();
            let known = match self.peek(&uid) {
                Some(live) => Some(live),
                None if missing.contains(&row.key) => {
                    let states = states.remove(&row.key).unwrap_or_default();
                    self.put(row, &states, || self.moment() == moment)
                }
                None => None,
            };
            match known {
                Some(live) => entered.push(live),
                None => entered.extend(self.find(&uid).await?),
            }
        }
        Ok(entered)
    }

    /// A device as it is stored now, for what only the database knows for sure.
    pub(crate) async fn stored(&self, uid: &DeviceUid) -> Result<Option<Stored>> {
        self.loader.read(uid, self.peek(uid).is_none()).await
    }

    /// The entry of a device that was just read; none when it changed since `seen`, so that it must be read again.
    pub(crate) async fn enter(&self, stored: Stored, seen: u64) -> Result<Option<Arc<DeviceHandle>>> {
        let Stored { row, states } = stored;
        if let Some(live) = self.peek(&row.uid) {
            return Ok(Some(live));
        }
        let states = match states {
            Some(states) => states,
            None => self.store.relay_states(row.key).await?,
        };
        let shard = self.shard(&row.uid);
        let fresh = || shard.changes.load(Ordering::Acquire) == seen;
        Ok(self.put(row, &states, fresh))
    }

    /// Puts a device in, unless it changed since it was read. Two reads may race: the first one in the map is the one that
    /// everybody gets.
    fn put(&self, row: DeviceRow, states: &RelayStates, fresh: impl FnOnce() -> bool) -> Option<Arc<DeviceHandle>> {
        let uid = row.uid.clone();
        let mut entries = self.shard(&uid).write();
        if let Some(live) = entries.get(&uid) {
            return Some(Arc::clone(live));
        }
        // Under the lock that a change takes before it is counted.
        if !fresh() {
            return None;
        }
        let live = DeviceHandle::new(row, states);
        live.set_shares(self.grants.shares_of(live.key));
        Some(Arc::clone(entries.entry(uid).or_insert(Arc::new(live))))
    }

    /// Forgets a deleted device.
    pub(crate) fn forget(&self, uid: &DeviceUid) {
        self.shard(uid).write().remove(uid);
    }

    /// Counts a connect against the flap guard: call it after the token was checked, so that a stranger
    /// cannot lock a device out.
    ///
    /// # Errors
    /// `rate_limited` for a device that connects too often.
    pub fn admit(&self, live: &DeviceHandle) -> Result<()> {
        live.held.flap.lock().connect(self.clock.monotonic(), self.flap_per_minute).map_err(|seconds| {
            Error::rate_limited(
                format!("more than {} connects in a minute; try again in {seconds} s", self.flap_per_minute),
                seconds,
            )
        })
    }

    /// Takes a connect back that could not be served because the device's driver is stopped: a device that comes back
    /// as it should is not banned for what its driver did.
    pub fn forgive(&self, live: &DeviceHandle) {
        live.held.flap.lock().forgive();
    }

    /// A new session. The newest wins: an older one is closed with 4001, without an offline event.
    ///
    /// # Errors
    /// `invalid_token` when the device was deleted, disabled or given another token since its token was checked.
    pub fn connect(&self, live: &Arc<DeviceHandle>, access_version: i64, ip: Option<IpAddr>) -> Result<Arc<Session>> {
        let now = self.clock.now();
        let id = SessionId::at(now, random_bytes());
        let session = Arc::new(Session::new(id, access_version, self.clock.monotonic(), ip));
        // Held until the event is out: an offline event of an older session must not overtake this online event.
        let mut current = live.held.session.lock();
        if !live.lets_in(access_version) {
            return Err(Error::new(ErrorCode::InvalidToken, "the device's uid or token is wrong"));
        }
        let former = current.replace(Arc::clone(&session));
        live.seen(now);
        live.identity.lock().ip = ip;
        if let Some(former) = former {
            self.metrics.takeovers.inc();
            former.close(CloseReason::Replaced);
            live.held.contest.lock().replaced(former.party(), self.clock.monotonic());
            // What woke the former one and was not encoded by it is the new one's to send.
            session.wake.notify_one();
        } else {
            self.metrics.device_sessions.inc();
            self.bus.publish(&Event::DeviceOnline { device: live.event_device(), at: now });
        }
        self.note(live, Some(true));
        Ok(session)
    }

    /// The end of a session. Nothing happens when a newer one has taken its place.
    pub fn disconnect(&self, live: &DeviceHandle, session: &Arc<Session>) {
        let mut current = live.held.session.lock();
        if !current.as_ref().is_some_and(|c| Arc::ptr_eq(c, session)) {
            return;
        }
        *current = None;
        let unsent = live.held.commands.lock().cancel(false);
        for pending in unsent {
            complete(pending, Completion::Failed(answer::disconnected()));
        }
        self.metrics.device_sessions.dec();
        self.note(live, Some(false));
        self.bus.publish(&Event::DeviceOffline { device: live.event_device(), at: self.clock.now() });
    }

    /// Puts what the session knows (last seen, address, firmware) onto the store's coalescing list.
    pub(crate) fn note(&self, live: &DeviceHandle, online: Option<bool>) {
        let identity = live.identity.lock();
        self.store.writer().note(DevicePresence {
            device: live.key,
            last_seen_at: live.last_seen().unwrap_or_else(|| self.clock.now()),
            ip: identity.ip.map(|ip| ip.to_string()),
            firmware: identity.firmware.as_deref().map(str::to_owned),
            online,
        });
    }

    /// Devices that are connected, or have open commands.
    pub fn connected(&self) -> Vec<Arc<DeviceHandle>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.read().values().filter(|l| l.online() || !l.held.commands.lock().is_empty()).cloned());
        }
        all
    }

    /// How many devices are connected, and how many of them were silent for longer than `stale_after`.
    pub fn presence(&self, stale_after: Duration) -> (u64, u64) {
        let now = self.clock.monotonic();
        let (mut online, mut stale) = (0, 0);
        for shard in &self.shards {
            for session in shard.read().values().filter_map(|live| live.session()) {
                online += 1;
                stale += u64::from(session.silence(now) > stale_after);
            }
        }
        (online, stale)
    }

    /// Asks every session to close: with `Restarting`, each gets its own place in the next `spread`.
    pub fn close_all(&self, spread: Duration) {
        for live in self.connected() {
            if let Some(session) = live.session() {
                session.close(CloseReason::restarting_within(spread));
            }
        }
    }

    /// Looks at every session once: one sweep for all of them instead of a timer each. A silent one is pinged every
    /// heartbeat and closed after 2.25 of them, half-open TCP included.
    fn sweep(&self) {
        let now = self.clock.monotonic();
        for shard in &self.shards {
            let mut offline = 0;
            for live in shard.read().values() {
                let Some(session) = live.session() else {
                    offline += 1;
                    continue;
                };
                let silence = session.silence(now);
                if silence > self.heartbeat * 9 / 4 {
                    session.close(CloseReason::Dead);
                } else if silence > self.heartbeat * 7 / 8 {
                    session.ask_ping();
                }
            }
            if offline > KEEP_OFFLINE {
                // Only entries that nobody holds: whoever has an `Arc` may be about to use it.
                shard.write().retain(|_, live| Arc::strong_count(live) > 1 || live.online());
            }
        }
    }

    /// For tests and the server's own use: how many entries are held.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().len()).sum()
    }
    /// Whether no device was touched yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("devices", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
