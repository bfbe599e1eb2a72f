//! Where a command comes from, in whose name, and the ways it can end.

use serde::{Deserialize, Serialize};

use crate::{UserId, UserKey};

/// Through which door a command or change came; a metric label, so the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The REST API, also for changes of accounts and settings.
    Api,
    /// The WebSocket of a client, such as the dashboard.
    Ws,
    /// A schedule; reserved, as this version has none.
    Schedule,
    /// An automation; reserved, as this version has none.
    Automation,
    /// A bridge to HomeKit; reserved, as this version has none.
    Homekit,
    /// A bridge to Alexa; reserved, as this version has none.
    Alexa,
    /// A bridge to Home Assistant; reserved, as this version has none.
    HomeAssistant,
    /// The device itself (button, timer, power restore).
    Device,
    /// The platform itself, without a request: its workers, its clock, its plugins.
    System,
}

impl Source {
    /// Every source, for metrics, filters and the schema of the API.
    pub const ALL: [Self; 9] = [
        Self::Api,
        Self::Ws,
        Self::Schedule,
        Self::Automation,
        Self::Homekit,
        Self::Alexa,
        Self::HomeAssistant,
        Self::Device,
        Self::System,
    ];
    /// The stored and shown name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Ws => "ws",
            Self::Schedule => "schedule",
            Self::Automation => "automation",
            Self::Homekit => "homekit",
            Self::Alexa => "alexa",
            Self::HomeAssistant => "home_assistant",
            Self::Device => "device",
            Self::System => "system",
        }
    }
    /// Reads the stored name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// In whose name something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// An account, by a session or a personal access token.
    User {
        /// Key of the account's row in the store.
        key: UserKey,
        /// Id of the account in the API.
        id: UserId,
        /// Admins may act on devices they do not own.
        role: crate::Role,
    },
    /// A device, by itself.
    Device,
    /// The platform, or a caller who proved no account, as at a failed sign-in.
    System,
}

impl Actor {
    /// The account's key, if it is one.
    pub fn user_key(self) -> Option<UserKey> {
        match self {
            Self::User { key, .. } => Some(key),
            Self::Device | Self::System => None,
        }
    }
    /// `user`, `device` or `system`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::User { .. } => "user",
            Self::Device => "device",
            Self::System => "system",
        }
    }
}

/// Why a device, or the server in its place, refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Another relay of the group is on.
    Interlock,
    /// A lock in the device's configuration forbids it.
    Locked,
    /// Over-current or over-temperature protection.
    Overload,
    /// It arrived after `expires_at_ms`.
    Expired,
    /// The device does something else.
    Busy,
    /// The device cannot do it.
    Unsupported,
    /// The device has no such relay.
    BadIndex,
    /// Anything else; the text says it.
    Other,
}

impl RejectReason {
    /// The name in the device protocol and in the details of the audit row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interlock => "interlock",
            Self::Locked => "locked",
            Self::Overload => "overload",
            Self::Expired => "expired",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::BadIndex => "bad_index",
            Self::Other => "other",
        }
    }
}

/// How a command ended, or what a follow-up row says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The device did it.
    Executed,
    /// It was so already.
    Noop,
    /// The device or the platform refused.
    Rejected,
    /// No acknowledgement in time: unknown, healed by the next report, never re-sent.
    Timeout,
    /// No session: dropped, not queued.
    Offline,
    /// The device acknowledged another state than asked for; the reported one is stored.
    Mismatch,
    /// Anything else: driver fault, storage, cancelled.
    Error,
    /// Follow-up: the acknowledgement came after the timeout.
    LateAck,
    /// Follow-up: a report showed the target after the timeout.
    Healed,
    /// Not a command: a change or an event that simply happened.
    Done,
}

impl Outcome {
    /// Every outcome, in the order of the variants.
    pub const ALL: [Self; 10] = [
        Self::Executed,
        Self::Noop,
        Self::Rejected,
        Self::Timeout,
        Self::Offline,
        Self::Mismatch,
        Self::Error,
        Self::LateAck,
        Self::Healed,
        Self::Done,
    ];
    /// The stored and shown name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Noop => "noop",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Offline => "offline",
            Self::Mismatch => "mismatch",
            Self::Error => "error",
            Self::LateAck => "late_ack",
            Self::Healed => "healed",
            Self::Done => "done",
        }
    }
    /// Reads the stored name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.as_str() == text)
    }
    /// The label in metrics: `success`, `timeout` or `error`.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Executed | Self::Noop | Self::Done => "success",
            Self::Timeout => "timeout",
            _ => "error",
        }
    }
}
