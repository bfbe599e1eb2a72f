//! Secrets that nobody gave: generated once into the data directory, mode 0600.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

/// Makes a directory that only this user may enter.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot use {}", path.display()))
}

/// The secret in `dir/name`, generated when there is none. An empty or unreadable file is an error: a secret that
/// changes by itself would lock every device out.
pub(crate) fn load_or_generate(dir: &Path, name: &str) -> Result<SecretString> {
    let path = dir.join(name);
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().into()),
        Ok(_) => anyhow::bail!("{} is empty; restore it, or delete it to generate a new secret", path.display()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
    let secret: SecretString = URL_SAFE_NO_PAD.encode(hexa_crypto::random_bytes::<32>()).into();
    write(&path, &secret)?;
    Ok(secret)
}

/// Writes a secret so that a crash leaves the whole of it or nothing.
pub(crate) fn write(path: &Path, secret: &SecretString) -> Result<()> {
    let temporary = path.with_extension("new");
    let context = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(context)?;
    file.write_all(secret.expose_secret().as_bytes()).with_context(context)?;
    file.sync_all().with_context(context)?;
    fs::rename(&temporary, path).with_context(context)?;
    if let Some(parent) = path.parent() {
        fs::File::open(parent).and_then(|d| d.sync_all()).with_context(context)?;
    }
    Ok(())
}
