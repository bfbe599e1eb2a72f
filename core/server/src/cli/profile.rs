//! Where `hexa login` keeps the server's address and its token: one file that only its owner may read.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::secrets;

/// What `hexa login` keeps between commands.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) url: Url,
    pub(super) token: SecretString,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    url: String,
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

/// `HEXA_PROFILE`, or the usual place of the system.
pub(super) fn path(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given.or_else(|| std::env::var_os("HEXA_PROFILE").map(PathBuf::from)) {
        return Ok(path);
    }
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let config = of("XDG_CONFIG_HOME").or_else(|| of("HOME").map(|home| home.join(".config")));
    let config = config.context("neither HOME nor XDG_CONFIG_HOME is set; name the file with --profile")?;
    Ok(config.join("hexa/profile.toml"))
}

/// The profile, if there is one.
///
/// # Errors
/// When others may read it, or it is damaged.
pub(super) fn read(path: &Path) -> Result<Option<Profile>> {
    let named = || format!("{} is not a profile; remove it and sign in again with `hexa login`", path.display());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let shown = path.display();
        bail!(
            "{shown} holds a token and can be read by others (mode {mode:o}): `chmod 600 {shown}`, and sign in again"
        );
    }
    // The error of a parser would show the line with the token.
    let stored: Stored = toml::from_str(&text).map_err(|_| anyhow::anyhow!(named()))?;
    let url = stored.url.parse().with_context(named)?;
    Ok(Some(Profile { url, token: stored.token.into(), ca_file: stored.ca_file }))
}

/// Keeps it, whole or not at all, in a folder that only its owner may enter.
pub(super) fn write(path: &Path, profile: &Profile) -> Result<()> {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let stored = Stored {
        url: profile.url.to_string(),
        token: profile.token.expose_secret().to_owned(),
        ca_file: profile.ca_file.clone(),
    };
    secrets::write(path, &toml::to_string(&stored)?.into())
}
