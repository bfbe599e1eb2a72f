//! Configuration of relays and inputs, shared by every driver whose devices have them.

use serde::{Deserialize, Serialize};

use crate::types::DeviceIdent;

/// Relays and inputs, in index order; fewer entries than the device has are allowed, more are not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Settings of each relay, by its index.
    pub relays: Vec<RelaySettings>,
    /// Settings of each input, by its index.
    pub inputs: Vec<InputSettings>,
}

/// What an owner sets for one relay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelaySettings {
    /// As the owner calls it; at most 64 bytes, empty for one without a name.
    pub name: String,
    /// What is connected to it; decides how the console and bridges show it.
    pub kind: RelayKind,
    /// What the relay does when power comes back.
    pub power_restore: PowerRestore,
    /// The device switches the relay off again after this many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulse_ms: Option<u32>,
    /// Of the relays of one group, one is on at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interlock_group: Option<u32>,
    /// Pause between two relays of a group, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_time_ms: Option<u32>,
    /// While set, the device refuses every command for this relay.
    pub locked: bool,
    /// Longest time on, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_on_s: Option<u32>,
}

/// What is connected to a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants say what they are")]
pub enum RelayKind {
    Outlet,
    #[default]
    Switch,
    Light,
    Fan,
    Valve,
}

/// What a relay does after power comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerRestore {
    /// Stays off, whatever it was before.
    #[default]
    Off,
    /// Switches on, whatever it was before.
    On,
    /// Takes the state that it had when power was lost.
    Last,
}

/// What an owner sets for one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputSettings {
    /// As the owner calls it; empty for one without a name.
    pub name: String,
    /// How the contact at the input behaves.
    pub mode: InputMode,
    /// The relay that it switches on the device itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<u32>,
    /// Contact bounce, in milliseconds.
    pub debounce_ms: u32,
    /// From here on a press is a hold, in milliseconds.
    pub hold_ms: u32,
    /// What the device does by itself while it has no server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_when_offline: Option<Fallback>,
}

impl Default for InputSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            mode: InputMode::Momentary,
            relay: None,
            debounce_ms: 50,
            hold_ms: 800,
            fallback_when_offline: None,
        }
    }
}

/// How an input's contact behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputMode {
    /// A push button, closed while it is pressed.
    Momentary,
    /// A switch whose position is the state.
    Toggle,
    /// A switch whose every change counts.
    Edge,
    /// Events are reported and switch nothing on the device.
    Detached,
}

/// What an input does without a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Toggles the relay of [`InputSettings::relay`].
    ToggleRelay,
}

impl RelayConfig {
    /// What does not fit the device: JSON pointer and sentence; empty when all of it fits.
    pub fn errors(&self, ident: &DeviceIdent) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let (relays, inputs) = (ident.relay_count, ident.input_count);
        if self.relays.len() as u64 > u64::from(relays) {
            wrong.push(("/relays".to_owned(), format!("the device has {relays} relays, not {}", self.relays.len())));
        }
        if self.inputs.len() as u64 > u64::from(inputs) {
            wrong.push(("/inputs".to_owned(), format!("the device has {inputs} inputs, not {}", self.inputs.len())));
        }
        for (i, relay) in self.relays.iter().enumerate() {
            if relay.name.len() > 64 {
                wrong.push((format!("/relays/{i}/name"), "a name may be 64 bytes long at most".to_owned()));
            }
            if relay.dead_time_ms.is_some() && relay.interlock_group.is_none() {
                let message = "a dead time needs an interlock_group";
                wrong.push((format!("/relays/{i}/dead_time_ms"), message.to_owned()));
            }
        }
        for (i, input) in self.inputs.iter().enumerate() {
            if input.relay.is_some_and(|r| r >= relays) {
                wrong.push((format!("/inputs/{i}/relay"), format!("the device has {relays} relays, counted from 0")));
            }
            if input.debounce_ms >= input.hold_ms {
                wrong.push((format!("/inputs/{i}/hold_ms"), "must be longer than debounce_ms".to_owned()));
            }
        }
        wrong
    }

    /// The JSON schema for the descriptor.
    pub fn schema() -> serde_json::Value {
        let whole = || serde_json::json!({"type": "integer", "minimum": 0});
        serde_json::json!({
            "type": "object", "additionalProperties": false,
            "properties": {
                "relays": {"type": "array", "items": {"type": "object", "additionalProperties": false, "properties": {
                    "name": {"type": "string"},
                    "kind": {"enum": ["outlet", "switch", "light", "fan", "valve"], "default": "switch"},
                    "power_restore": {"enum": ["off", "on", "last"], "default": "off"},
                    "pulse_ms": whole(), "interlock_group": whole(), "dead_time_ms": whole(),
                    "locked": {"type": "boolean", "default": false}, "max_on_s": whole()}}},
                "inputs": {"type": "array", "items": {"type": "object", "additionalProperties": false, "properties": {
                    "name": {"type": "string"},
                    "mode": {"enum": ["momentary", "toggle", "edge", "detached"], "default": "momentary"},
                    "relay": whole(), "debounce_ms": whole(), "hold_ms": whole(),
                    "fallback_when_offline": {"enum": ["toggle_relay"]}}}}}
        })
    }
}
