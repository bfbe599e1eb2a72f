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
    /// Length of the payload in bytes.
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
    /// The device's public id, as the API names it.
    pub uid: DeviceUid,
    /// The hardware line, which decides which driver serves the device.
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

/// The live connection of a device, for drivers that greet their devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Id of the session: a UUID as text, new for each connection.
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
    /// The hardware line, which decides which driver is called.
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
    /// Switch one relay or all of them.
    Relay(RelayAction),
    /// Ask for a state report.
    RequestState,
    /// Show which device it is: blink, beep.
    Identify,
    /// A declared command of the driver; `args` is a JSON object.
    Custom {
        /// The name that the driver's descriptor declares.
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
    /// What the device shall do.
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

/// A command as the frames that its driver made of it.
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
    /// The device did what was asked.
    Executed,
    /// The state was so already.
    Noop,
    /// The device refused the command.
    Rejected {
        /// Why it refused, as the driver understood it.
        reason: RejectReason,
        /// In the device's words.
        detail: Option<String>,
    },
}

/// A device's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which command it answers: its id, or the text of [`AckPolicy::Token`].
    pub token: String,
    /// Whether the device did it, found it done, or refused.
    pub outcome: AckOutcome,
    /// Resulting states, if the device says them.
    pub relays: Vec<ReportedRelay>,
}

/// One relay as a device reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedRelay {
    /// Zero based, below the device's relay count.
    pub index: u16,
    /// The state that the device says: true is on.
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
    /// Strength of the received radio signal, in dBm.
    pub rssi: Option<i32>,
    /// Time since the device booted, in seconds.
    pub uptime_s: Option<u64>,
}

/// What a device says of itself when it has connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Version of the running firmware, stored and shown with the device.
    pub firmware: Option<String>,
    /// Revision of the hardware, as the device names it.
    pub hardware: Option<String>,
    /// Anti-rollback counter of the running firmware.
    pub security_version: Option<u32>,
    /// Why the device booted, such as `power`.
    pub boot_reason: Option<String>,
    /// Configuration version it runs.
    pub config_version: Option<u64>,
    /// What the device says of itself beside the greeting.
    pub meta: EventMeta,
}

/// The state of a device's relays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateReport {
    /// The relays that it speaks of, each of them once.
    pub relays: Vec<ReportedRelay>,
    /// true: every relay is listed; false: a partial report.
    pub complete: bool,
    /// Version of the running firmware, stored and shown with the device.
    pub firmware: Option<String>,
    /// What the device says of itself beside the report.
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
    /// What the device says of itself beside the input.
    pub meta: EventMeta,
}

/// What a sensor measured: one scalar value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Either true or false, such as of a contact.
    Boolean(bool),
    /// A whole number with a sign.
    Integer(i64),
    /// A finite number: never NaN or infinite.
    Number(f64),
    /// A text of at most 1,024 bytes.
    Text(String),
}

/// One sensor value with a declared key.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Declared in the descriptor.
    pub key: String,
    /// What was measured, in the unit that the descriptor declares.
    pub value: Value,
    /// None = time of receipt.
    pub at: Option<TimeMs>,
}

/// What a driver understood. Kinds of later parts of the product arrive as [`DeviceEvent::Other`] until their room is
/// built, so that a driver that already speaks them works today.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceEvent {
    /// A greeting: what the device is and runs.
    Hello(Hello),
    /// Answer to a command.
    Ack(Ack),
    /// The states of all relays, or of some.
    StateReport(StateReport),
    /// An input fired: a press, a click, a switch.
    Input(InputEvent),
    /// Values of sensors, at most 64 in one event.
    Readings(Vec<Reading>),
    /// A sign of life, with what the device says of itself.
    Heartbeat(EventMeta),
    /// Clean good-bye, with a time: asleep until then.
    Bye(Option<TimeMs>),
    /// The device reports an error.
    Error {
        /// A short code of the device's own, for the log.
        code: String,
        /// What the device says of it, for the log.
        message: String,
        /// Token of the command it belongs to.
        token: Option<String>,
    },
    /// Understood, but of no interest; the text goes to the log.
    Ignored(String),
    /// An event whose room does not exist yet (`ir_learned`, `ota_status`, `config_result`, `custom`, …).
    Other(&'static str),
}

/// What came of one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// What the message said, in its order.
    pub events: Vec<DeviceEvent>,
    /// To be sent straight back.
    pub replies: Vec<Frame>,
    /// New blobs of this device; none = unchanged.
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
        /// What is wrong with the frame.
        message: String,
        /// What to tell the device.
        reply: Option<Frame>,
    },
    /// Not now (409 `device_not_ready`).
    NotReady(String),
    /// The driver says something else is wrong (502 `driver_fault`, but the instance is healthy).
    Other {
        /// The driver's own code: `kind` in the details of the error.
        code: String,
        /// The driver's own text: the message of the error.
        message: String,
    },
    /// Trap, panic, limit or invalid output: the instance was discarded (502 `driver_fault`).
    Fault(Fault),
    /// No driver for this class, or it is quarantined, or this device is quarantined (503 `driver_unavailable`).
    Unavailable {
        /// Why, for people: the message of the error.
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
    /// Id of the plugin, from its manifest.
    pub plugin: String,
    /// Version of the plugin, from its manifest.
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
    /// The most that is allowed, in the limit's unit: milliseconds, bytes or a count.
    pub allowed: u64,
    /// What was seen, as far as it is known.
    pub actual: u64,
}
