//! The settings of the store.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Settings of the store, read once when it opens.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Holds `hexa.db` and the lock file.
    pub data_dir: PathBuf,
    /// `DATABASE_URL`, which may hold a password; none = SQLite in the data directory.
    pub database_url: Option<SecretString>,
    /// What a commit survives: a crash of the process, or of the machine too.
    pub durability: Durability,
    /// The name of this node's audit chain.
    pub node: String,
    /// How long a busy writer waits for more (0 = not at all).
    pub linger: Duration,
    /// How often `last_seen_at` and the like go out.
    pub note_flush: Duration,
    /// Without a write for so long, [`Store::ready`](crate::Store::ready) makes one to find out whether there could be
    /// one.
    pub probe_after: Duration,
}

impl StoreConfig {
    /// The defaults over this directory.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            database_url: None,
            durability: Durability::Full,
            node: "main".into(),
            linger: Duration::from_micros(300),
            note_flush: Duration::from_secs(10),
            probe_after: Duration::from_secs(60),
        }
    }
}

/// What an answered commit survives (`HEXA_DURABILITY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Each group commit is on the disk before it is answered.
    Full,
    /// Survives `kill -9`, not the loss of power.
    Normal,
}
