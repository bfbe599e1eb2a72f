//! The trait that a driver implements and the context of one call.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bindings::hexa::core::types::Reading;
use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::json;
use crate::prepared::{self, Accepted};
use crate::types::{
    AckPolicy, CommandEnvelope, DeviceCtx, DeviceEvent, DeviceIdent, Encoded, Frame, NewState, SessionInfo,
};

/// A device driver: a pure codec between a device's frames and the platform's commands and events.
///
/// Any pooled instance serves any device, so a driver holds nothing in statics; what must live longer than a call goes
/// through [`Context::set_state`] (until the connection ends) or [`Context::set_durable`] (saved with the device).
pub trait Driver: Sized + 'static {
    /// The device's configuration. Unknown keys should be refused (`#[serde(deny_unknown_fields)]`).
    type Config: Serialize + DeserializeOwned;
    /// What lives with the connection; `()` for most.
    type State: Serialize + DeserializeOwned + Default;

    /// What this driver serves and what its devices can do.
    fn descriptor() -> Descriptor;

    /// Understands one message: events and replies go into `cx`.
    ///
    /// # Errors
    /// `malformed` for what the device must not send, `unsupported` for what this driver does not know.
    fn decode(cx: &mut Context<'_, Self>, channel: Channel<'_>, message: Message<'_>) -> Result<()>;

    /// Turns a command into frames.
    ///
    /// # Errors
    /// `unsupported` for a command that the device does not have.
    fn encode(cx: &mut Context<'_, Self>, command: &CommandEnvelope) -> Result<Encoded>;

    /// On every (re)connect, before anything else; greets the device if its protocol wants that.
    ///
    /// # Errors
    /// As [`Driver::decode`]; the connection is closed then.
    fn open(cx: &mut Context<'_, Self>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Checks a configuration and fills in defaults. Errors carry a JSON pointer and a sentence for the user.
    ///
    /// # Errors
    /// A JSON pointer and a sentence for each member that is wrong.
    fn validate_config(ident: &DeviceIdent, config: &str) -> std::result::Result<Accepted, Vec<(String, String)>> {
        let config: Self::Config = serde_json::from_str(config).map_err(|e| vec![(String::new(), e.to_string())])?;
        Accepted::new(ident, &config)
    }
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel<'a> {
    /// The device's WebSocket; the only channel that can be replied on.
    Ws,
    /// An ingest route such as `http:sensor-report`.
    Ingest(&'a str),
}

impl<'a> Channel<'a> {
    /// Reads the contract's text.
    pub fn of(name: &'a str) -> Self {
        if name == "ws" { Self::Ws } else { Self::Ingest(name) }
    }
}

/// One message as it came over the wire.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// A WebSocket text message, or the body of an ingest request.
    Text(&'a str),
    /// A binary WebSocket message, as it came.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The message as text.
    ///
    /// # Errors
    /// `malformed` for a binary message.
    pub fn text(self) -> Result<&'a str> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(_) => Err(Error::malformed("binary messages are not understood; send JSON text")),
        }
    }

    /// The message as JSON, read into a type that derives `Deserialize`; texts may borrow from the message.
    ///
    /// # Errors
    /// `malformed` for a binary message, and for what [`json::parse`] refuses.
    pub fn json<T: Deserialize<'a>>(self) -> Result<T> {
        json::parse(self.text()?)
    }
}

impl<'a> From<&'a Frame> for Message<'a> {
    fn from(frame: &'a Frame) -> Self {
        match frame {
            Frame::Text(text) => Self::Text(text),
            Frame::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

/// The context of one call: what is known of the device, and where events, replies and new state go.
#[derive(Debug)]
pub struct Context<'a, D> {
    ctx: &'a DeviceCtx,
    events: Vec<DeviceEvent>,
    replies: Vec<Frame>,
    state: NewState,
    driver: PhantomData<D>,
}

impl<'a, D: Driver> Context<'a, D> {
    pub(crate) fn new(ctx: &'a DeviceCtx) -> Self {
        let state = NewState { volatile: None, durable: None };
        Self { ctx, events: Vec::new(), replies: Vec::new(), state, driver: PhantomData }
    }

    pub(crate) fn into_parts(self) -> (Vec<DeviceEvent>, Vec<Frame>, NewState) {
        (self.events, self.replies, self.state)
    }

    /// Epoch milliseconds, handed in by the host so that calls replay exactly.
    pub fn now_ms(&self) -> u64 {
        self.ctx.now_ms
    }

    /// The live connection; none outside one.
    pub fn session(&self) -> Option<&'a SessionInfo> {
        self.ctx.session.as_ref()
    }

    /// How many relays the device has; 64, the platform's limit, while its configuration was never prepared.
    pub fn relay_count(&self) -> u32 {
        prepared::counts(self.ctx).0.into()
    }

    /// How many inputs the device has; 64 while its configuration was never prepared.
    pub fn input_count(&self) -> u32 {
        prepared::counts(self.ctx).1.into()
    }

    /// The device's configuration, as [`Driver::validate_config`] prepared it.
    ///
    /// # Errors
    /// `bad_prepared` when it is not what [`Driver::validate_config`] gave.
    pub fn config(&self) -> Result<D::Config> {
        serde_json::from_slice(prepared::config(self.ctx)).map_err(|e| Error::other("bad_prepared", e.to_string()))
    }

    /// What the last [`Context::set_state`] of this connection stored, or the default.
    ///
    /// # Errors
    /// `bad_state` when another version of the driver stored something else.
    pub fn state(&self) -> Result<D::State> {
        if self.ctx.volatile.is_empty() {
            return Ok(D::State::default());
        }
        serde_json::from_slice(&self.ctx.volatile).map_err(|e| Error::other("bad_state", e.to_string()))
    }

    /// Stores `state` until the connection ends; at most 4 KiB as JSON.
    ///
    /// # Errors
    /// `bad_state` when it cannot be written as JSON.
    pub fn set_state(&mut self, state: &D::State) -> Result<()> {
        let bytes = serde_json::to_vec(state).map_err(|e| Error::other("bad_state", e.to_string()))?;
        self.state.volatile = Some(bytes);
        Ok(())
    }

    /// What was saved with the device; empty at first.
    pub fn durable(&self) -> &'a [u8] {
        &self.ctx.durable
    }

    /// Saves `bytes` with the device, at most 4 KiB.
    pub fn set_durable(&mut self, bytes: Vec<u8>) {
        self.state.durable = Some(bytes);
    }

    /// Adds an event; the platform takes them in the order in which they were added, 64 a call at most.
    pub fn event(&mut self, event: DeviceEvent) {
        self.events.push(event);
    }

    /// Adds sensor values; their keys must be declared in the descriptor.
    pub fn readings(&mut self, readings: Vec<Reading>) {
        self.events.push(DeviceEvent::Readings(readings));
    }

    /// The message was understood and has nothing to say; it is counted, and no error.
    pub fn ignored(&mut self, why: impl Into<String>) {
        self.events.push(DeviceEvent::Ignored(why.into()));
    }

    /// Sends a frame straight back. Only possible on [`Channel::Ws`].
    pub fn reply(&mut self, frame: Frame) {
        self.replies.push(frame);
    }
}

impl Encoded {
    /// One frame, and how the device will acknowledge it.
    pub fn frame(frame: Frame, ack: AckPolicy) -> Self {
        Self { frames: vec![frame], ack, state: NewState { volatile: None, durable: None } }
    }
}

impl Frame {
    /// A text frame that holds `value` as JSON.
    ///
    /// # Errors
    /// `bad_frame` for what JSON cannot hold, such as a map whose keys are no texts.
    pub fn json(value: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_string(value).map_err(|e| Error::other("bad_frame", e.to_string()))?;
        Ok(Self::Text(text))
    }
}
