//! Devices: classes, relays, capabilities.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// How many relays one device may have, whatever it claims.
pub const MAX_RELAYS: u16 = 64;
/// How many inputs one device may have.
pub const MAX_INPUTS: u16 = 64;

/// The hardware line of a device (docs/PLATFORM.md#device-class).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceClass {
    /// Switches relays; has the capability `relay` by default.
    RelayController,
    /// Learns and sends infrared codes.
    IrHub,
    /// Reads sensors; has the capability `sensor` by default.
    SensorHub,
    /// More than one of them.
    Hybrid,
}

impl DeviceClass {
    /// Every class, in the order in which documents list them.
    pub const ALL: [Self; 4] = [Self::RelayController, Self::IrHub, Self::SensorHub, Self::Hybrid];

    /// The stored and shown name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RelayController => "relay_controller",
            Self::IrHub => "ir_hub",
            Self::SensorHub => "sensor_hub",
            Self::Hybrid => "hybrid",
        }
    }
    /// Reads the stored name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == text)
    }
    /// The capabilities that a device of this class has unless it says otherwise.
    pub fn default_capabilities(self) -> &'static [&'static str] {
        match self {
            Self::RelayController => &["relay"],
            Self::IrHub => &["ir"],
            Self::SensorHub => &["sensor"],
            Self::Hybrid => &["relay", "ir", "sensor"],
        }
    }
}

/// The last known state of one relay. `version` counts its stored changes, without gaps, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayState {
    /// Zero based, exactly as stored in `relay_states`.
    pub index: u16,
    /// Whether the relay is on; `state` in JSON.
    #[serde(rename = "state")]
    pub on: bool,
    /// Raised by one with every stored change.
    pub version: u64,
    /// When it was last stored.
    #[serde(skip)]
    pub updated_at: TimeMs,
}
