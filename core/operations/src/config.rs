//! What the rooms can be told. The server reads the environment once and fills these in, checked.

use secrecy::SecretString;

pub use hexa_accounts::config::{AccountsConfig, RegistrationMode};
pub use hexa_devices::config::{CommandConfig, DeviceConfig, ProvisionConfig};

/// The settings of every service, checked when the server starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Devices and their commands.
    pub devices: hexa_devices::config::Config,
    /// Accounts, sessions, access tokens and invitations.
    pub accounts: AccountsConfig,
    /// Seals what is kept (`KEY_ENCRYPTION_KEY`).
    pub key_encryption_key: SecretString,
}
