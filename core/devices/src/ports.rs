//! What the services of devices need from outside their crate. `host` implements [`Drivers`]; tests bring their own.

use hexa_model::DeviceUid;
use hexa_model::driver::{
    Accepted, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverError, Encoded, FieldError, Frame,
};
use hexa_model::plugin::{PluginEvent, PluginInfo};

/// Hears what happens to plugins. Called on the path of a command: it must not wait.
pub trait PluginObserver: Send + Sync + 'static {
    /// Called once for each fault, poisoned device and change of a state.
    fn tell(&self, event: PluginEvent);
}

/// Discards every event: for hosts outside a server, in tests and benches.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl PluginObserver for NoopObserver {
    fn tell(&self, _: PluginEvent) {}
}

/// Device drivers, picked by the class of the device. All calls are synchronous and bounded: a call
/// returns within its CPU limit, so it may be made from a session task without `spawn_blocking`.
pub trait Drivers: Send + Sync + 'static {
    /// Once per (re)connect, before anything else.
    ///
    /// # Errors
    /// What the driver refuses, or why it could not be asked.
    fn open_session(&self, call: &DriverCall<'_>) -> Result<Decoded, DriverError>;

    /// Turns a command into frames.
    ///
    /// # Errors
    /// What the driver refuses, or why it could not be asked.
    fn encode_command(&self, call: &DriverCall<'_>, command: &CommandEnvelope) -> Result<Encoded, DriverError>;

    /// Understands one message. `channel` is `ws`, or the name of an ingest route; replies are only allowed on `ws`.
    ///
    /// # Errors
    /// What the driver refuses, or why it could not be asked.
    fn decode_message(&self, call: &DriverCall<'_>, channel: &str, message: &Frame) -> Result<Decoded, DriverError>;

    /// Cold: fills in defaults and prepares the device's configuration. Blocks up to its limit; call it off the async
    /// threads.
    ///
    /// # Errors
    /// Why the driver could not be asked; what it finds wrong in the configuration is an answer.
    fn validate_config(
        &self,
        ident: &DeviceIdent,
        config: &str,
    ) -> Result<Result<Accepted, Vec<FieldError>>, DriverError>;

    /// A session of this class ended that [`Drivers::open_session`] had opened.
    fn session_closed(&self, class: hexa_model::DeviceClass) {
        let _ = class;
    }

    /// Whether this class's driver has used up its share of the processor. Its calls wait for each other then, so they
    /// belong off the async threads.
    fn slow(&self, class: hexa_model::DeviceClass) -> bool {
        let _ = class;
        false
    }

    /// Every plugin, serving or not.
    fn plugins(&self) -> Vec<PluginInfo> {
        Vec::new()
    }

    /// Puts a quarantined or faulted plugin back to work. False when there is none of this id.
    fn reset_plugin(&self, id: &str) -> bool {
        let _ = id;
        false
    }

    /// `plugin@version` that serves this class, for the device's stored driver version; none when there is none.
    fn version_for(&self, class: hexa_model::DeviceClass) -> Option<String>;
}

/// Where devices are held: the node that has a device's connection runs its commands.
pub trait Cluster: Send + Sync + 'static {
    /// Where this device is held now.
    fn place(&self, device: &DeviceUid) -> Place;
}

/// Where a device is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By this process, which runs the device's commands.
    Here,
}

/// There is no other node.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneNode;

impl Cluster for OneNode {
    fn place(&self, _: &DeviceUid) -> Place {
        Place::Here
    }
}
