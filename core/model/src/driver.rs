//! What passes between the house and a device driver: `hexa:driver` in plain values (sdk/wit/driver.wit).
//!
//! Everything a driver returns was written by a guest: `host` has checked sizes, counts, relay indexes and reading
//! keys before a value of these types exists, and the house still trusts it for the device of the call only.

use bytes::Bytes;

use crate::{Action, DeviceClass, DeviceUid, RejectReason, RelayAction, TimeMs};

/// What goes over the wire, unchanged in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A WebSocket text frame.
    Text(String),
    /// A WebSocket binary frame.
    Binary(Bytes),
}

impl Frame {
    /// Payload bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Text(t) => t.len(),
            Self::Binary(b) => b.len(),
        }
    }
}

/// Who the device is, handed to `validate_config`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceIdent {
    /// Public id.
    pub uid: DeviceUid,
    /// Its class.
    pub class: DeviceClass,
    /// As it said at provisioning.
    pub model: Option<String>,
    /// As it said at provisioning.
    pub hardware: Option<String>,
    /// Latest known firmware version.
    pub firmware: Option<String>,
    /// How many relays it has.
    pub relay_count: u16,
    /// How many inputs it has.
    pub input_count: u16,
}

/// What a driver version made of a device's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The configuration with defaults filled in, JSON.
    pub config: String,
    /// Opaque; handed back with every call.
    pub prepared: Vec<u8>,
    /// First durable state of a device that has none.
    pub durable: Vec<u8>,
}

/// One thing wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer into the configuration.
    pub path: String,
    /// For the person who wrote it.
    pub message: String,
}

/// The live connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Session id.
    pub id: String,
    /// Seconds between heartbeats that the server expects.
    pub heartbeat_s: u32,
    /// The configuration version that the device should have.
    pub desired_config_version: u64,
}

/// The context of one driver call. The blobs are opaque to the host; the device's session task owns them.
#[derive(Clone, Debug)]
pub struct DriverCall<'a> {
    /// The device of this call: the driver can speak for no other.
    pub uid: &'a DeviceUid,
    /// Picks the driver.
    pub class: DeviceClass,
    /// Output indexes are checked against it.
    pub relay_count: u16,
    /// Output indexes are checked against it.
    pub input_count: u16,
    /// Wall clock handed in, so that calls replay exactly.
    pub now: TimeMs,
    /// None outside a connection.
    pub session: Option<&'a SessionInfo>,
    /// From `validate_config` of this driver version.
    pub prepared: &'a [u8],
    /// Lives with the connection.
    pub volatile: &'a [u8],
    /// Saved with the next group commit when it changes.
    pub durable: &'a [u8],
}

/// New blobs; none = unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewState {
    /// Replaces the volatile blob.
    pub volatile: Option<Vec<u8>>,
    /// Replaces the durable blob.
    pub durable: Option<Vec<u8>>,
}

/// A command for a device, to be encoded by its driver.
#[derive(Clone, Debug, PartialEq)]
pub enum DriverCommand {
    /// Relays.
    Relay(RelayAction),
    /// Ask for a state report.
    RequestState,
    /// Blink.
    Identify,
    /// A declared command of the driver; `args` is a JSON object.
    Custom {
        /// Its declared name.
        name: String,
        /// Checked against the descriptor's schema.
        args: String,
    },
}

impl From<&Action> for DriverCommand {
    fn from(action: &Action) -> Self {
        match action {
            Action::Relay(relays) => Self::Relay(*relays),
            Action::Identify => Self::Identify,
            Action::Custom(custom) => Self::Custom { name: custom.name.clone(), args: custom.args.clone() },
        }
    }
}

/// A command with what goes around it.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandEnvelope {
    /// The platform's `command_id`, as text.
    pub id: String,
    /// What to do.
    pub command: DriverCommand,
    /// After this the device must refuse it.
    pub expires_at: TimeMs,
}

/// How the acknowledgement will be recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckPolicy {
    /// Ends as sent, never as executed; refused for relay commands.
    None,
    /// An `ack` whose token equals the envelope's id.
    CommandId,
    /// An `ack` with this token.
    Token(String),
    /// A state report received after the write that shows the target.
    StateReport,
}

/// An encoded command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// To be sent in order, all or none.
    pub frames: Vec<Frame>,
    /// How it will be acknowledged.
    pub ack: AckPolicy,
    /// New blobs; they count only if the frames were handed to the socket.
    pub state: NewState,
}

/// How a device answered a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// Done.
    Executed,
    /// Was so already.
    Noop,
    /// Refused.
    Rejected {
        /// Why.
        reason: RejectReason,
        /// In the device's words.
        detail: Option<String>,
    },
}

/// A device's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which command.
    pub token: String,
    /// How it went.
    pub outcome: AckOutcome,
    /// Resulting states, if the device says them.
    pub relays: Vec<ReportedRelay>,
}

/// One relay as a device reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedRelay {
    /// Zero based, below the device's relay count.
    pub index: u16,
    /// On or off.
    pub on: bool,
    /// `button`, `server`, `timer`, `schedule`, `restore`, `protection`.
    pub source: Option<String>,
    /// A running timer's rest.
    pub timer_ends_in_ms: Option<u32>,
}

/// What a device may say of itself beside any event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventMeta {
    /// The device's own sequence number.
    pub seq: Option<u64>,
    /// Changes with every boot.
    pub boot_id: Option<String>,
    /// The device's own address.
    pub ip: Option<String>,
    /// Signal strength, dBm.
    pub rssi: Option<i32>,
    /// Seconds since boot.
    pub uptime_s: Option<u64>,
}

/// A greeting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Firmware version.
    pub firmware: Option<String>,
    /// Hardware revision.
    pub hardware: Option<String>,
    /// Anti-rollback counter of the running firmware.
    pub security_version: Option<u32>,
    /// Why it booted.
    pub boot_reason: Option<String>,
    /// Configuration version it runs.
    pub config_version: Option<u64>,
    /// The rest.
    pub meta: EventMeta,
}

/// The state of a device's relays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateReport {
    /// Reported relays.
    pub relays: Vec<ReportedRelay>,
    /// true: every relay is listed; false: a partial report.
    pub complete: bool,
    /// Firmware version.
    pub firmware: Option<String>,
    /// The rest.
    pub meta: EventMeta,
}

/// A press, click, hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputEvent {
    /// Zero based, below the device's input count.
    pub input: u16,
    /// `press`, `release`, `click`, `double_click`, `hold`, `on`, `off`, …
    pub kind: String,
    /// How long, for `hold`.
    pub duration_ms: Option<u32>,
    /// The rest.
    pub meta: EventMeta,
}

/// A scalar reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// true, false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// A text.
    Text(String),
}

/// One sensor value with a declared key.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Declared in the descriptor.
    pub key: String,
    /// The value.
    pub value: Value,
    /// None = time of receipt.
    pub at: Option<TimeMs>,
}

/// What a driver understood. Kinds of later parts of the product arrive as [`DeviceEvent::Other`] until their room is
/// built, so that a driver that already speaks them works today.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceEvent {
    /// Greeting.
    Hello(Hello),
    /// Answer to a command.
    Ack(Ack),
    /// Relay states.
    StateReport(StateReport),
    /// Input.
    Input(InputEvent),
    /// Sensor values.
    Readings(Vec<Reading>),
    /// Sign of life.
    Heartbeat(EventMeta),
    /// Clean good-bye, with a time: asleep until then.
    Bye(Option<TimeMs>),
    /// The device reports an error.
    Error {
        /// Short code.
        code: String,
        /// Text.
        message: String,
        /// Token of the command it belongs to.
        token: Option<String>,
    },
    /// Understood as noise.
    Ignored(String),
    /// An event whose room does not exist yet (`ir_learned`, `ota_status`, `config_result`, `custom`, …).
    Other(&'static str),
}

/// What came of one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// In order.
    pub events: Vec<DeviceEvent>,
    /// To be sent straight back.
    pub replies: Vec<Frame>,
    /// New blobs.
    pub state: NewState,
}

/// Why a driver call gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverError {
    /// The device cannot do this (422 `unsupported_command`).
    Unsupported(String),
    /// The command's arguments are wrong (400).
    InvalidArgument(String),
    /// The frame is not understood: counted, answered with `reply` if the protocol has a way.
    Malformed {
        /// What is wrong.
        message: String,
        /// What to tell the device.
        reply: Option<Frame>,
    },
    /// Not now (409 `device_not_ready`).
    NotReady(String),
    /// The driver says something else is wrong (502 `driver_fault`, but the instance is healthy).
    Other {
        /// Driver's code.
        code: String,
        /// Driver's text.
        message: String,
    },
    /// Trap, panic, limit or invalid output: the instance was discarded (502 `driver_fault`).
    Fault(Fault),
    /// No driver for this class, or it is quarantined, or this device is quarantined (503 `driver_unavailable`).
    Unavailable {
        /// Why, for people.
        why: String,
        /// Seconds after which it may be otherwise; none when somebody has to act.
        retry_after_s: Option<u64>,
    },
    /// All instances are in use (503 `busy`).
    Busy,
}

/// What went wrong inside a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Plugin id.
    pub plugin: String,
    /// Plugin version.
    pub version: String,
    /// `trap`, `cpu`, `wall`, `memory`, `output`, `io`, `host`.
    pub kind: &'static str,
    /// The limit that was broken, if one was: name, allowed, actual.
    pub limit: Option<LimitBroken>,
    /// For the log; no backtrace, no device data.
    pub message: String,
}

/// A limit of a call (docs/PLUGINS.md#limits) that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitBroken {
    /// Name, for example `cpu_ms`.
    pub limit: &'static str,
    /// What is allowed.
    pub allowed: u64,
    /// What was seen, as far as it is known.
    pub actual: u64,
}
