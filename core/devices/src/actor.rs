//! The actor of one connected device: the connection's task owns it, so nothing here is locked against itself.
//!
//! It knows no sockets: frames come in and go out as values. Commands are encoded and messages decoded by plain calls
//! into the driver, with no channel or await between the socket and the plugin.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_machine::{QueuedCommand, Token};
use hexa_model::driver::{
    AckPolicy, CommandEnvelope, Decoded, DeviceEvent, DriverCall, DriverCommand, DriverError, Frame, NewState,
    SessionInfo,
};
use hexa_model::{ErrorCode, TimeMs};
use hexa_store::{DurableState, Effect, HotWrite, StoreError};

use crate::Devices;
use crate::command::pending::{Completion, complete};
use crate::handle::DeviceHandle;
use crate::inbound;
use crate::provision::Proven;
use crate::session::{CloseReason, Session};
use hexa_platform::error::{Error, Result};
use hexa_platform::limit::Bucket;

/// Messages per second from one device, and the burst above them.
const MESSAGES_PER_S: f64 = 60.0;
const MESSAGE_BURST: f64 = 120.0;
/// Frames per minute that the driver may fail to understand before the session is closed.
const MALFORMED_PER_MINUTE: u32 = 20;

/// One connection's side of a device.
pub struct DeviceActor {
    services: Arc<Devices>,
    live: Arc<DeviceHandle>,
    session: Arc<Session>,
    info: SessionInfo,
    /// The driver that this session began with.
    version: Arc<str>,
    prepared: Arc<[u8]>,
    volatile: Vec<u8>,
    durable: Vec<u8>,
    unsaved_durable: bool,
    /// The driver knows of this session.
    opened: bool,
    messages: Bucket,
    malformed: u32,
    malformed_until: Duration,
}

impl DeviceActor {
    /// Registers a session and opens the driver's. `out` receives what the driver wants to send first.
    ///
    /// # Errors
    /// `driver_unavailable` or `driver_fault` when no driver can serve the device; the session is unregistered then.
    pub async fn open(
        services: Arc<Devices>,
        Proven { live, access_version }: Proven,
        ip: Option<IpAddr>,
        out: &mut Vec<Frame>,
    ) -> Result<Self> {
        let (version, prepared) = prepared(&services, &live).await?;
        let session = services.registry.connect(&live, access_version, ip)?;
        // After the session's place is taken: a former one saves nothing from here on.
        let (durable, unsaved_durable) = {
            let driver = live.held.driver.lock();
            (driver.durable.as_deref().map(<[u8]>::to_vec).unwrap_or_default(), driver.unsaved)
        };
        let info = SessionInfo {
            id: session.id.to_string(),
            heartbeat_s: services.config.device.heartbeat.as_secs().max(1) as u32,
            desired_config_version: 0,
        };
        let now = services.clock.monotonic();
        let mut actor = Self {
            services,
            live,
            session,
            info,
            version,
            prepared,
            volatile: Vec::new(),
            durable,
            unsaved_durable,
            opened: false,
            messages: Bucket::new(MESSAGES_PER_S, MESSAGE_BURST, now),
            malformed: 0,
            malformed_until: now,
        };
        let opened = actor.driver(|a| a.services.drivers.open_session(&a.call(a.services.clock.now())));
        match opened {
            Ok(decoded) => {
                actor.opened = true;
                let events = actor.keep_all(decoded, out);
                actor.act(events).await;
            }
            Err(error) => {
                actor.closed();
                return Err(driver_error(error));
            }
        }
        Ok(actor)
    }

    /// The session that this actor serves.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
    /// The connected device that this actor serves.
    pub fn live(&self) -> &Arc<DeviceHandle> {
        &self.live
    }

    /// A call into the driver. One that is beyond its share of the processor waits for its turn, and the runtime goes
    /// on with another thread meanwhile.
    fn driver<T>(&self, call: impl FnOnce(&Self) -> T) -> T {
        if self.services.drivers.slow(self.live.class) {
            tokio::task::block_in_place(|| call(self))
        } else {
            call(self)
        }
    }

    fn call(&self, now: TimeMs) -> DriverCall<'_> {
        DriverCall {
            uid: &self.live.uid,
            class: self.live.class,
            relay_count: self.live.relay_count,
            input_count: self.live.input_count,
            now,
            session: Some(&self.info),
            prepared: &self.prepared,
            volatile: &self.volatile,
            durable: &self.durable,
        }
    }

    /// Encodes what was accepted since the last call, in order, into `out` (step 2 of the relay path).
    ///
    /// A command counts as written here, before the bytes are on the wire: from now on it may move the relay, so it
    /// must not be reported as never sent.
    ///
    /// A session that is to close takes none: closing wakes it too, and what it took then would never reach the wire
    /// while the session that took its place waits for work.
    pub fn encode_queued(&mut self, out: &mut Vec<Frame>) {
        if self.session.closing().is_some() {
            return;
        }
        let queued: smallvec::SmallVec<[QueuedCommand; 4]> = self.live.held.commands.lock().queued().collect();
        for command in queued {
            self.encode(&command, out);
        }
    }

    fn encode(&mut self, queued: &QueuedCommand, out: &mut Vec<Frame>) {
        let now = self.services.clock.now();
        if !self.live.authority_holds(queued.authority) {
            return self.refuse(queued, Error::no_device());
        }
        let envelope = CommandEnvelope {
            id: queued.id.to_string(),
            command: DriverCommand::from(&queued.action),
            expires_at: queued.expires_at,
        };
        let encoded = match self.driver(|a| a.services.drivers.encode_command(&a.call(now), &envelope)) {
            Ok(encoded) => encoded,
            Err(error) => return self.refuse(queued, driver_error(error)),
        };
        let token = match encoded.ack {
            AckPolicy::CommandId => Token::CommandId,
            AckPolicy::Token(text) => Token::Text(text),
            AckPolicy::StateReport => Token::StateReport,
            AckPolicy::None => {
                let error = Error::new(ErrorCode::DriverFault, "the driver would not wait for an acknowledgement");
                return self.refuse(queued, error);
            }
        };
        // False when the deadline came first: a command that has been answered 504 must not be sent any more.
        if self.live.held.commands.lock().written(queued.id, token) {
            out.extend(encoded.frames);
            self.keep(encoded.state);
        }
    }

    fn refuse(&self, queued: &QueuedCommand, error: Error) {
        let withdrawn = self.live.held.commands.lock().withdraw(queued.id);
        if let Some(pending) = withdrawn {
            complete(pending, Completion::Failed(error.not_sent()));
        }
    }

    /// Takes one message. `out` receives replies. `Err` asks the connection to close.
    ///
    /// # Errors
    /// Why the connection is to be closed.
    pub async fn message(&mut self, frame: Frame, out: &mut Vec<Frame>) -> std::result::Result<(), CloseReason> {
        let events = self.decode(frame, out)?;
        // What was still in the buffer of a connection that a newer one replaced is older than what that one has said.
        if let Some(reason) = self.session.closing() {
            return Err(reason);
        }
        self.act(events).await;
        Ok(())
    }

    fn decode(
        &mut self,
        frame: Frame,
        out: &mut Vec<Frame>,
    ) -> std::result::Result<std::vec::IntoIter<DeviceEvent>, CloseReason> {
        self.alive();
        let now = self.services.clock.now();
        if !self.messages.take(self.services.clock.monotonic()) {
            return Err(CloseReason::TooFast);
        }
        match self.driver(|a| a.services.drivers.decode_message(&a.call(now), "ws", &frame)) {
            Ok(decoded) => return Ok(self.keep_all(decoded, out)),
            Err(DriverError::Malformed { message, reply }) => {
                tracing::debug!(device.uid = %self.live.uid, reason = %message, "malformed frame");
                out.extend(reply);
            }
            // Not this device's doing, or dealt with by the driver's own failure policy.
            Err(error @ (DriverError::Fault(_) | DriverError::Unavailable { .. } | DriverError::Busy)) => {
                self.services.metrics.frames_dropped.inc();
                let error = driver_error(error);
                tracing::debug!(device.uid = %self.live.uid, %error, "frame dropped");
                return Ok(Vec::new().into_iter());
            }
            Err(error) => {
                let error = driver_error(error);
                tracing::warn!(device.uid = %self.live.uid, %error, "frame not taken");
            }
        }
        self.not_understood()?;
        Ok(Vec::new().into_iter())
    }

    /// A ping or a pong: a sign of life that counts like any message, so that a flood of them ends the session too.
    ///
    /// # Errors
    /// Asks the connection to close.
    pub fn control_frame(&mut self) -> std::result::Result<(), CloseReason> {
        self.alive();
        if self.messages.take(self.services.clock.monotonic()) { Ok(()) } else { Err(CloseReason::TooFast) }
    }

    /// A sign of life.
    fn alive(&mut self) {
        self.session.received(self.services.clock.monotonic());
        let now = self.services.clock.now();
        self.live.seen(now);
        if self.session.note_due(now) {
            self.services.registry.note(&self.live, None);
        }
    }

    /// The connection is over.
    pub fn closed(&mut self) {
        self.services.registry.disconnect(&self.live, &self.session);
    }

    /// Keeps the driver's state, answers, and gives the events to be acted on.
    fn keep_all(&mut self, decoded: Decoded, out: &mut Vec<Frame>) -> std::vec::IntoIter<DeviceEvent> {
        self.keep(decoded.state);
        out.extend(decoded.replies);
        decoded.events.into_iter()
    }

    /// Acts on what the driver understood, in order.
    async fn act(&mut self, events: std::vec::IntoIter<DeviceEvent>) {
        for event in events {
            let (counted, rest) = inbound::handle(&self.services, &self.live, event);
            if counted == inbound::Counted::Free {
                self.messages.give_back();
            }
            if let Some(rest) = rest {
                rest.await;
            }
        }
        if self.unsaved_durable {
            Box::pin(self.save_durable()).await;
        }
    }

    fn keep(&mut self, state: NewState) {
        if let Some(volatile) = state.volatile {
            self.volatile = volatile;
        }
        if let Some(durable) = state.durable
            && durable != self.durable
        {
            self.durable = durable;
            self.unsaved_durable = true;
        }
    }

    /// Saves the driver's state, unless it is not this session's to save: a newer one has begun with what this one had
    /// saved, and of a driver that was changed meanwhile nobody knows which version made it.
    async fn save_durable(&mut self) {
        if self.services.drivers.version_for(self.live.class).as_deref() != Some(&*self.version) {
            self.unsaved_durable = false;
            return;
        }
        let (save, end) = {
            let current = self.live.held.session.lock();
            if !current.as_ref().is_some_and(|c| Arc::ptr_eq(c, &self.session)) {
                self.unsaved_durable = false;
                return;
            }
            let mut driver = self.live.held.driver.lock();
            driver.durable = Some(self.durable.clone().into());
            driver.version = Some((&*self.version).into());
            // Until it is known to be on the disk: whoever comes after this session saves it again.
            driver.unsaved = true;
            driver.saves = driver.saves.wrapping_add(1);
            let state = DurableState { blob: self.durable.clone(), version: self.version.to_string() };
            let write = HotWrite::of(self.live.key).with(Effect::DriverState(state));
            // Given out while the place is held, so that the disk sees sessions in their order.
            (driver.saves, self.services.store.writer().send(write))
        };
        match end.await.unwrap_or_else(|_| Err(StoreError::closed())) {
            Ok(_) => {
                self.unsaved_durable = false;
                let mut driver = self.live.held.driver.lock();
                if driver.saves == save {
                    driver.unsaved = false;
                }
            }
            Err(error) => tracing::error!(device.uid = %self.live.uid, %error, "driver state not saved, will retry"),
        }
    }

    fn not_understood(&mut self) -> std::result::Result<(), CloseReason> {
        self.services.metrics.malformed_frames.inc();
        let now = self.services.clock.monotonic();
        if self.malformed_until <= now {
            self.malformed_until = now + Duration::from_secs(60);
            self.malformed = 0;
        }
        self.malformed += 1;
        if self.malformed >= MALFORMED_PER_MINUTE { Err(CloseReason::Malformed) } else { Ok(()) }
    }
}

/// What the driver made of the device's configuration; asked once per device and driver version, off the async
/// threads, because it may take up to half a second.
async fn prepared(services: &Arc<Devices>, live: &Arc<DeviceHandle>) -> Result<(Arc<str>, Arc<[u8]>)> {
    let Some(version) = services.drivers.version_for(live.class) else {
        let why = format!("no driver for {}", live.class.as_str());
        return Err(driver_error(DriverError::Unavailable { why, retry_after_s: None }));
    };
    if let Some((known, prepared)) = &live.held.driver.lock().prepared
        && **known == *version
    {
        return Ok((Arc::clone(known), Arc::clone(prepared)));
    }
    let _turn = match services.cold_calls.get(&live.class) {
        Some(turns) => Some(turns.acquire().await.map_err(Error::internal)?),
        None => None,
    };
    let (drivers, ident) = (Arc::clone(&services.drivers), live.ident());
    let accepted = tokio::task::spawn_blocking(move || drivers.validate_config(&ident, "{}"))
        .await
        .map_err(Error::internal)?
        .map_err(driver_error)?
        .map_err(|fields| {
            let what = fields.first().map_or_else(String::new, |f| format!(": {} {}", f.path, f.message));
            Error::new(ErrorCode::DeviceNotReady, format!("the driver refuses the device's configuration{what}"))
        })?;
    let (version, prepared): (Arc<str>, Arc<[u8]>) = (version.into(), accepted.prepared.into());
    let mut driver = live.held.driver.lock();
    // Durable state of another driver version is not this one's to read: there is no migration, so it is dropped.
    if driver.version.as_deref() != Some(&*version) {
        driver.durable = (!accepted.durable.is_empty()).then(|| accepted.durable.into());
        driver.version = Some((&*version).into());
        driver.unsaved = false;
    }
    driver.prepared = Some((Arc::clone(&version), Arc::clone(&prepared)));
    Ok((version, prepared))
}

/// The error that callers see of what a driver did.
pub(crate) fn driver_error(error: DriverError) -> Error {
    match error {
        DriverError::Unsupported(what) => {
            Error::new(ErrorCode::UnsupportedCommand, format!("the device cannot do this: {what}"))
        }
        DriverError::InvalidArgument(what) => Error::new(ErrorCode::ValidationError, what),
        DriverError::Malformed { message, .. } => Error::new(ErrorCode::ValidationError, message),
        DriverError::NotReady(what) => Error::new(ErrorCode::DeviceNotReady, what),
        DriverError::Other { code, message } => {
            Error::new(ErrorCode::DriverFault, message).details(serde_json::json!({ "kind": code }))
        }
        DriverError::Fault(fault) => {
            tracing::error!(plugin.id = %fault.plugin, plugin.version = %fault.version, kind = fault.kind, reason = %fault.message, "driver fault");
            let limit =
                fault.limit.map(|l| serde_json::json!({"limit": l.limit, "allowed": l.allowed, "actual": l.actual}));
            Error::new(ErrorCode::DriverFault, "the device's driver failed; nothing was sent").details(
                serde_json::json!({"plugin": fault.plugin, "version": fault.version, "kind": fault.kind, "limit": limit}),
            )
        }
        DriverError::Unavailable { why, retry_after_s } => {
            let error = Error::new(ErrorCode::DriverUnavailable, why);
            // A driver that is not there may be put there; a client that asks again in a while is not wrong.
            error.retry_after(retry_after_s.unwrap_or(60))
        }
        DriverError::Busy => Error::new(ErrorCode::Busy, "all instances of the driver are in use").retry_after(1),
    }
}

/// Also when its task panics: a session without a task must not stay registered.
impl Drop for DeviceActor {
    fn drop(&mut self) {
        self.services.registry.disconnect(&self.live, &self.session);
        if self.opened {
            self.services.drivers.session_closed(self.live.class);
        }
    }
}

impl std::fmt::Debug for DeviceActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceActor").field("uid", &self.live.uid).finish_non_exhaustive()
    }
}
