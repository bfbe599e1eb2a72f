//! The keys of access tokens in the data directory: one file, mode 0600, replaced as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hexa_accounts::keys::{KeyRing, KeyRingStorage, KeyState, RingKey};
use hexa_model::TimeMs;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::secrets;

const NAME: &str = "jwt_keys";
/// The single secret of servers before there was a ring.
const FORMER: &str = "jwt_secret";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    state: String,
    secret: String,
    since_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    keys: Vec<StoredKey>,
}

struct RingFile(PathBuf);

impl KeyRingStorage for RingFile {
    fn keep(&self, ring: &KeyRing) -> std::io::Result<()> {
        let stored = |key: &RingKey| StoredKey {
            state: key.state.as_str().to_owned(),
            secret: key.secret.expose_secret().to_owned(),
            since_ms: key.since.0,
            until_ms: key.until.map(|t| t.0),
        };
        let text = serde_json::to_string(&Stored { keys: ring.0.iter().map(stored).collect() })?;
        secrets::write(&self.0, &text.into()).map_err(std::io::Error::other)
    }
}

/// The ring of this directory, begun when there is none. A damaged one is an error: keys that change by themselves would
/// sign everybody out, and hide that somebody touched them.
pub(crate) fn load(dir: &Path, now: TimeMs) -> Result<(KeyRing, Arc<dyn KeyRingStorage>)> {
    let path = dir.join(NAME);
    let file = RingFile(path.clone());
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let what = || {
                format!(
                    "{} is damaged; restore it, or delete it, after which everybody must sign in again",
                    path.display()
                )
            };
            let ring = read(&text).with_context(what)?;
            // A crash may have come between the two.
            remove(&dir.join(FORMER))?;
            return Ok((ring, Arc::new(file)));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
    let former = dir.join(FORMER);
    let secret = if former.exists() { Some(secrets::load_or_generate(dir, FORMER)?) } else { None };
    let ring = KeyRing::begin(secret, now);
    file.keep(&ring)?;
    remove(&former)?;
    Ok((ring, Arc::new(file)))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn read(text: &str) -> Result<KeyRing> {
    let stored: Stored =
        serde_json::from_str(text).map_err(|e| anyhow::anyhow!("line {} is not as expected", e.line()))?;
    let mut keys = Vec::new();
    for key in stored.keys {
        let state = KeyState::parse(&key.state).context("a key has an unknown state")?;
        ensure!(key.secret.len() >= 32, "a key has less than 32 bytes");
        let secret: SecretString = key.secret.into();
        keys.push(RingKey { secret, state, since: TimeMs(key.since_ms), until: key.until_ms.map(TimeMs) });
    }
    let ring = KeyRing(keys);
    ensure!(ring.is_whole(), "there must be one active key and one next");
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_kept_whole_and_a_former_secret_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FORMER), "a former secret of 32 bytes.....\n").unwrap();
        let (ring, keep) = load(dir.path(), TimeMs(5)).unwrap();
        assert_eq!(ring.0[0].secret.expose_secret(), "a former secret of 32 bytes.....");
        assert!(!dir.path().join(FORMER).exists());
        let again = load(dir.path(), TimeMs(9)).unwrap().0;
        let secrets = |r: &KeyRing| r.0.iter().map(|k| k.secret.expose_secret().to_owned()).collect::<Vec<_>>();
        assert_eq!((secrets(&again), again.0[1].since), (secrets(&ring), TimeMs(5)));
        keep.keep(&KeyRing::begin(None, TimeMs(7))).unwrap();
        assert_ne!(secrets(&load(dir.path(), TimeMs(9)).unwrap().0), secrets(&ring));
    }

    #[test]
    fn a_damaged_ring_is_an_error_without_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let good = "{\"state\":\"active\",\"secret\":\"canary-canary-canary-canary-canary\",\"since_ms\":1}";
        for bad in
            ["", "{}", "[1]", "{\"keys\":[]}", &format!("{{\"keys\":[{good},{good}]}}"), &format!("{{\"keys\":[{good}")]
        {
            std::fs::write(dir.path().join(NAME), bad).unwrap();
            let error = format!("{:#}", load(dir.path(), TimeMs(1)).err().expect(bad));
            assert!(error.contains("damaged") && !error.contains("canary"), "{error}");
        }
    }
}
