//! The devices' credentials, in memory and in the `--state` file.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::secrets;

/// What the server gave a device.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) uid: String,
    pub(super) token: SecretString,
    /// How many relays it was registered with.
    pub(super) relays: u16,
    /// It has an owner, as far as is known.
    pub(super) claimed: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    uid: String,
    token: String,
    relays: u16,
    #[serde(default)]
    claimed: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    /// By device index; null where there is none yet.
    devices: Vec<Option<Line>>,
}

#[derive(Debug, Default)]
struct Contents {
    devices: Vec<Option<Credentials>>,
    changed: bool,
}

/// Every device's credentials by index.
#[derive(Debug)]
pub(super) struct CredentialStore {
    file: Option<PathBuf>,
    pages: Mutex<Contents>,
}

impl CredentialStore {
    /// Reads the file if there is one. Devices beyond `count` in it are kept for a larger run.
    pub(super) fn open(file: Option<PathBuf>, count: usize) -> Result<Self> {
        let mut devices = Vec::new();
        if let Some(path) = file.as_ref().filter(|path| path.exists()) {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("--state: cannot read {}", path.display()))?;
            let read: File = serde_json::from_str(&text).with_context(|| {
                format!("--state: {} was not written by hexa sim; name another file, or delete it", path.display())
            })?;
            devices = read.devices.into_iter().map(|line| line.map(Credentials::from)).collect();
        }
        if devices.len() < count {
            devices.resize(count, None);
        }
        Ok(Self { file, pages: Mutex::new(Contents { devices, changed: false }) })
    }
    /// Credentials of device `index`, if it was provisioned.
    pub(super) fn get(&self, index: usize) -> Option<Credentials> {
        self.pages().devices.get(index).cloned().flatten()
    }
    /// New, changed, or (none) refused by the server.
    pub(super) fn put(&self, index: usize, credentials: Option<Credentials>) {
        let mut pages = self.pages();
        if let Some(place) = pages.devices.get_mut(index) {
            *place = credentials;
            pages.changed = true;
        }
    }
    /// Writes the file if something changed; all of it or nothing, mode 0600.
    pub(super) fn save(&self) -> Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let text = {
            let mut pages = self.pages();
            if !std::mem::take(&mut pages.changed) {
                return Ok(());
            }
            let devices = pages.devices.iter().map(|c| c.as_ref().map(Line::from)).collect();
            serde_json::to_string_pretty(&File { devices })?
        };
        let written = secrets::write(path, &text.into());
        if written.is_err() {
            self.pages().changed = true;
        }
        written
    }
    fn pages(&self) -> MutexGuard<'_, Contents> {
        // Entries are replaced whole, so that a panic elsewhere leaves nothing half done.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Line> for Credentials {
    fn from(line: Line) -> Self {
        Self { uid: line.uid, token: line.token.into(), relays: line.relays, claimed: line.claimed }
    }
}

impl From<&Credentials> for Line {
    fn from(known: &Credentials) -> Self {
        let token = known.token.expose_secret().to_owned();
        Self { uid: known.uid.clone(), token, relays: known.relays, claimed: known.claimed }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::{CredentialStore, Credentials};

    #[test]
    fn credentials_are_kept_private_and_come_back() {
        let dir = std::env::temp_dir().join(format!("hexa-sim-book-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("state.json");
        let book = CredentialStore::open(Some(file.clone()), 3).unwrap();
        book.save().unwrap();
        assert!(!file.exists(), "nothing to keep, nothing written");
        let given = Credentials { uid: "u1".into(), token: "secret".into(), relays: 4, claimed: true };
        book.put(1, Some(given));
        book.save().unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let again = CredentialStore::open(Some(file.clone()), 1).unwrap();
        assert!(again.get(0).is_none() && again.get(9).is_none());
        let known = again.get(1).expect("kept although this run is smaller");
        assert_eq!((known.uid.as_str(), known.token.expose_secret(), known.claimed), ("u1", "secret", true));
        std::fs::write(&file, "not json").unwrap();
        assert!(CredentialStore::open(Some(file), 1).unwrap_err().to_string().contains("--state"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
