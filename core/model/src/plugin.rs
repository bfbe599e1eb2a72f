//! What the house and its people are told about plugins.

use crate::driver::LimitBroken;
use crate::{DeviceClass, DeviceUid, TimeMs};

/// One plugin, serving or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// From its manifest; its folder's name if that cannot be read.
    pub id: String,
    /// From its manifest; empty if that cannot be read.
    pub version: String,
    /// `active`, `degraded`, `quarantined`, `half_open`, `faulted`, `compiling` or `failed`
    /// (docs/PLUGINS.md#when-a-plugin-fails).
    pub state: &'static str,
    /// Why it is not `active`, for people.
    pub reason: Option<String>,
    /// Device classes that it serves, or would.
    pub classes: Vec<DeviceClass>,
    /// Calls since the start.
    pub calls: u64,
    /// Of these, calls that cost their instance: trap, broken limit, invalid output.
    pub faults: u64,
    /// Devices with a session that it serves.
    pub sessions: usize,
    /// Devices that are quarantined because their messages made it fail.
    pub poisoned_devices: usize,
    /// Instances that exist, in a call or waiting.
    pub instances: usize,
}

/// One call that cost its instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFault {
    /// Id of the plugin that was called.
    pub plugin: String,
    /// Version of the plugin that was called.
    pub version: String,
    /// Which function of the contract.
    pub function: &'static str,
    /// `trap`, `cpu`, `wall`, `memory`, `output`, `io`.
    pub kind: &'static str,
    /// The limit that was broken, if one was.
    pub limit: Option<LimitBroken>,
    /// What happened, for people.
    pub message: String,
    /// Whose call it was.
    pub device: Option<DeviceUid>,
    /// The beginning of the input with everything masked that could be a secret; at most [`SAMPLE_BYTES`].
    pub sample: String,
    /// When the call had ended, by this server's wall clock.
    pub at: TimeMs,
}

/// Length of a fault's sample.
pub const SAMPLE_BYTES: usize = 256;

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginEvent {
    /// A call cost its instance.
    Fault(Box<PluginFault>),
    /// A device is quarantined: its messages are dropped and its commands refused.
    DevicePoisoned {
        /// By which plugin's faults.
        plugin: String,
        /// The device whose calls made the plugin fail.
        device: DeviceUid,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// The plugin's state is another one.
    State {
        /// Id of the plugin whose state changed.
        plugin: String,
        /// Version of the plugin whose state changed.
        version: String,
        /// `quarantined`, `active` or `faulted`.
        state: &'static str,
        /// How long a quarantine lasts, in seconds.
        seconds: Option<u64>,
    },
}
