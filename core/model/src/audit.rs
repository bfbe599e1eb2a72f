//! One row of the audit: who did what to which device, through which door, and how it ended.

use serde_json::{Value, json};
use smallvec::SmallVec;

use crate::{Action, Actor, CommandId, DeviceKey, Outcome, Source, TimeMs};

/// What is to be written; the store adds sequence, chain and the versions it gave.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// When it ended, by this server's wall clock.
    pub at: TimeMs,
    /// In whose name it was done; the row keeps the kind, and the account's key.
    pub actor: Actor,
    /// Where it came from, such as the REST API or the device itself.
    pub source: Source,
    /// A dotted or plain name: `set_relay`, `state_report`, `device.claimed`, `security.wrong_provision_key`.
    pub action: &'static str,
    /// The device, if one is concerned.
    pub device: Option<DeviceKey>,
    /// The command, if it is one. (`command_id`, `follow_up`) is unique: one primary row, one follow-up.
    pub command: Option<CommandId>,
    /// false: the primary row of its command; true: the one follow-up (`late_ack`, `healed`).
    pub follow_up: bool,
    /// How it ended; [`Outcome::Done`] for what is not a command, unless it was refused.
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
    /// A row about an action: its name, and what it asks of relays. A driver's own command is named in the details.
    pub fn of_action(at: TimeMs, actor: Actor, source: Source, action: &Action) -> Self {
        let entry = Self::event(at, actor, source, action.name());
        match action {
            Action::Relay(relays) => Self { relay: relays.index(), state: Some(relays.on()), ..entry },
            Action::Identify => entry,
            Action::Custom(custom) => entry.details(&json!({ "command": custom.name })),
        }
    }
    /// Says which device the row is about.
    #[must_use]
    pub fn device(mut self, device: DeviceKey) -> Self {
        self.device = Some(device);
        self
    }
    /// Says how it ended, in place of [`Outcome::Done`].
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }
    /// With these facts (a JSON object) beside those that it has. The one place that bounds them: above [`MAX_DETAILS`] bytes, every member of
    /// more than [`MAX_MEMBER`] bytes is replaced by its size, and if that does not help, all of them are.
    #[must_use]
    pub fn details(mut self, details: &Value) -> Self {
        let had = self.details.take().and_then(|had| serde_json::from_str::<serde_json::Map<_, _>>(&had).ok());
        self.details = Some(match (had, details) {
            (Some(mut had), Value::Object(more)) => {
                had.extend(more.clone());
                bounded(&Value::Object(had))
            }
            _ => bounded(details),
        });
        self
    }
}

/// Bytes of the details of one row.
pub const MAX_DETAILS: usize = 4096;
/// Bytes of one of its members, where the whole is too large.
pub const MAX_MEMBER: usize = 512;

fn bounded(details: &Value) -> String {
    let text = details.to_string();
    if text.len() <= MAX_DETAILS {
        return text;
    }
    let omitted = |bytes: usize| json!({ "omitted_bytes": bytes });
    let cut = |(name, value): (&String, &Value)| {
        let size = value.to_string().len();
        (name.clone(), if size > MAX_MEMBER { omitted(size) } else { value.clone() })
    };
    let members = details.as_object().map(|members| members.iter().map(cut).collect::<serde_json::Map<_, _>>());
    let shorter = members.map(|members| Value::Object(members).to_string());
    shorter.filter(|shorter| shorter.len() <= MAX_DETAILS).unwrap_or_else(|| omitted(text.len()).to_string())
}

/// A relay and the state it shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelaySet {
    /// Zero based, below the device's relay count.
    pub index: u16,
    /// The state that is to be stored: true is on.
    pub on: bool,
}

/// Few enough to stay on the stack for usual devices.
pub type RelaySets = SmallVec<[RelaySet; 4]>;
/// Relay states with their versions, likewise.
pub type RelayStates = SmallVec<[crate::RelayState; 4]>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_kept_as_they_are_or_cut_where_they_are_large() {
        let details = |value: &Value| {
            let entry = AuditEntry::event(TimeMs(0), Actor::System, Source::Api, "device.renamed").details(value);
            entry.details.unwrap()
        };
        let whole = json!({ "name": "x".repeat(2000), "relays": [[0, "a"]] });
        assert_eq!(details(&whole), whole.to_string());
        let relays: Vec<_> = (0..5000).map(|n| json!([n, "a name"])).collect();
        let large = json!({ "name": "pump", "relays": relays });
        let size = large["relays"].to_string().len();
        assert_eq!(details(&large), json!({ "name": "pump", "relays": { "omitted_bytes": size } }).to_string());
        let many: serde_json::Map<_, _> = (0..1000).map(|n| (format!("member{n}"), json!(n))).collect();
        let many = Value::Object(many);
        assert_eq!(details(&many), json!({ "omitted_bytes": many.to_string().len() }).to_string());
        assert_eq!(details(&json!("y".repeat(5000))), json!({ "omitted_bytes": 5002 }).to_string());
    }
}
