//! What the device room can be told.

use std::time::Duration;

use secrecy::SecretString;

use hexa_platform::limit::Rate;

/// Every setting of devices.
#[derive(Clone, Debug)]
pub struct Config {
    /// The path of a command.
    pub command: CommandConfig,
    /// Heartbeats and how often devices may connect.
    pub device: DeviceConfig,
    /// Keys, limits and lifetimes of provisioning and claiming.
    pub provision: ProvisionConfig,
}

/// The path of a command.
#[derive(Clone, Debug)]
pub struct CommandConfig {
    /// How long a device may take to acknowledge (`COMMAND_TIMEOUT_MS`).
    pub timeout: Duration,
}

/// Settings of the connections of devices.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Seconds between signs of life; a device is dead after 2.25 of them.
    pub heartbeat: Duration,
    /// Connects per minute and device (`LIMIT_FLAP`).
    pub flap_per_minute: u32,
}

impl DeviceConfig {
    /// A connected device that was silent for so long is stale: it should have said something before.
    pub fn stale_after(&self) -> Duration {
        self.heartbeat * 3 / 2
    }
}

/// Settings of provisioning (devices that register) and claiming (owners that take them).
#[derive(Clone)]
pub struct ProvisionConfig {
    /// One key, or two while rotating (`DEVICE_PROVISION_KEY`, comma separated).
    pub keys: Vec<SecretString>,
    /// Provisioning requests with a right key per second, of all addresses together (`LIMIT_PROVISION_RPS`).
    pub rate: Rate,
    /// Wrong keys per address (`LIMIT_PROVISION_FAILURES`).
    pub failures: Rate,
    /// Wrong claim codes per user (`LIMIT_CLAIM_FAILURES`).
    pub claim_failures: Rate,
    /// Wrong claim codes of all users together (`LIMIT_CLAIM_FAILURES_TOTAL`).
    pub total_claim_failures: Rate,
    /// Unclaimed devices at the most; beyond them provisioning is refused.
    pub max_unclaimed: u32,
    /// Lifetime of a claim code.
    pub claim_lifetime: Duration,
    /// How long a rotated token's predecessor stays valid, unless the new one is used first.
    pub rotation_grace: Duration,
}

impl std::fmt::Debug for ProvisionConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProvisionConfig").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}
