//! One row of the audit: who did what to which device, through which door, and how it ended.

use smallvec::SmallVec;

use crate::{Actor, CommandId, DeviceKey, Outcome, Source, TimeMs};

/// What is to be written; the store adds sequence, chain and the versions it gave.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// When it ended.
    pub at: TimeMs,
    /// In whose name.
    pub actor: Actor,
    /// Through which door.
    pub source: Source,
    /// A dotted or plain name: `set_relay`, `state_report`, `device.claimed`, `security.wrong_provision_key`.
    pub action: &'static str,
    /// The device, if one is concerned.
    pub device: Option<DeviceKey>,
    /// The command, if it is one. (`command_id`, `follow_up`) is unique (I2).
    pub command: Option<CommandId>,
    /// false: the primary row of its command; true: the one follow-up (`late_ack`, `healed`).
    pub follow_up: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The relay asked for; none = all, or no relay concerned.
    pub relay: Option<u16>,
    /// The state asked for.
    pub state: Option<bool>,
    /// Time from acceptance to the end, for commands.
    pub latency_ms: Option<u32>,
    /// Further facts as a JSON object, without secrets. Shown as they are.
    pub details: Option<String>,
}

impl AuditEntry {
    /// A row that is not about a command.
    pub fn event(at: TimeMs, actor: Actor, source: Source, action: &'static str) -> Self {
        Self {
            at,
            actor,
            source,
            action,
            device: None,
            command: None,
            follow_up: false,
            outcome: Outcome::Done,
            relay: None,
            state: None,
            latency_ms: None,
            details: None,
        }
    }
    /// About this device.
    #[must_use]
    pub fn device(mut self, device: DeviceKey) -> Self {
        self.device = Some(device);
        self
    }
    /// With this outcome.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }
    /// With these facts (a JSON object).
    #[must_use]
    pub fn details(mut self, details: &serde_json::Value) -> Self {
        self.details = Some(details.to_string());
        self
    }
}

/// A relay and the state it shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelaySet {
    /// Zero based.
    pub index: u16,
    /// On or off.
    pub on: bool,
}

/// Few enough to stay on the stack for usual devices.
pub type RelaySets = SmallVec<[RelaySet; 4]>;
/// Relay states with their versions, likewise.
pub type RelayStates = SmallVec<[crate::RelayState; 4]>;
