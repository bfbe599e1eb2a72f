//! Secrets that nobody gave: generated once into the data directory, mode 0600.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

/// What this process makes from now on is for its own user alone, whatever the umask was that it was started with.
#[expect(unsafe_code, reason = "std does not set the umask")]
pub(crate) fn keep_private() {
    // SAFETY: takes a number and cannot fail; done before other threads make files.
    unsafe { libc::umask(0o077) };
}

#[expect(unsafe_code, reason = "std does not tell the user id")]
pub(crate) fn own_uid() -> u32 {
    // SAFETY: has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// The data directory. It is made if need be; one that is there keeps its mode, because it may be a volume that belongs
/// to somebody else, or a directory that others use as well.
pub(crate) fn data_dir(path: &Path) -> Result<()> {
    let shown = path.display();
    make(path).with_context(|| format!("HEXA_DATA_DIR: cannot make {shown}"))?;
    let about = fs::metadata(path).with_context(|| format!("HEXA_DATA_DIR: cannot use {shown}"))?;
    let mode = about.mode() & 0o7777;
    if mode & 0o002 != 0 {
        anyhow::bail!(
            "HEXA_DATA_DIR: everybody may write in {shown} (mode {mode:o}), and could put secrets there in the server's place; \
             name a directory inside it, which the server creates for itself, or run `chmod o-w {shown}`"
        );
    }
    Ok(())
}

/// A directory in it that only this user may enter. A volume that an orchestrator gave to a group (setgid) may let that
/// group in as well: it is the server's own there.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    let shown = path.display();
    make(path).with_context(|| format!("HEXA_DATA_DIR: cannot make {shown}"))?;
    let mode = fs::metadata(path).with_context(|| format!("HEXA_DATA_DIR: cannot use {shown}"))?.mode() & 0o7777;
    let others = if mode & 0o2000 == 0 { 0o077 } else { 0o007 };
    if mode & others != 0 {
        anyhow::bail!(
            "HEXA_DATA_DIR: others can read {shown} (mode {mode:o}), which holds secrets: run `chmod 700 {shown}`"
        );
    }
    Ok(())
}

/// With its parents, for this user alone.
fn make(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
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

/// Writes a secret so that a crash leaves the whole of it or nothing. What is in its way is replaced, never written
/// through: in a folder that others use it could be theirs.
pub(crate) fn write(path: &Path, secret: &SecretString) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut name = path.file_name().with_context(context)?.to_owned();
    name.push(format!(".{}.new", hexa_crypto::hex(&hexa_crypto::random_bytes::<8>())));
    let temporary = path.with_file_name(name);
    let written = fill(&temporary, secret).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(context)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|d| d.sync_all()).with_context(context)
}

fn fill(path: &Path, secret: &SecretString) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.write_all(secret.expose_secret().as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_secret_is_never_written_through_what_somebody_left_in_its_way() {
        let dir = std::env::temp_dir().join(format!("hexa-secrets-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (path, theirs) = (dir.join("token"), dir.join("theirs"));
        fs::write(&theirs, "").unwrap();
        for way in [dir.join("token.new"), path.clone()] {
            symlink(&theirs, &way).unwrap();
        }
        write(&path, &"canary".into()).unwrap();
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "");
        let about = fs::symlink_metadata(&path).unwrap();
        assert!(about.is_file() && about.permissions().mode() & 0o777 == 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "canary");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3, "nothing is left behind");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_directory_that_was_there_keeps_its_mode() {
        let dir = std::env::temp_dir().join(format!("hexa-dirs-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let with = |mode: u32| {
            let path = dir.join(format!("{mode:o}"));
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        for (is, data, private) in [
            (0o755, true, false),
            (0o2770, true, true),
            (0o2775, true, false),
            (0o770, true, false),
            (0o700, true, true),
            (0o1777, false, false),
            (0o2777, false, false),
        ] {
            let path = with(is);
            assert_eq!((data_dir(&path).is_ok(), private_dir(&path).is_ok()), (data, private), "{is:o}");
            assert_eq!(mode(&path), is, "left alone");
            let link = dir.join(format!("link-{is:o}"));
            symlink(&path, &link).unwrap();
            assert_eq!(data_dir(&link).is_ok(), data, "{is:o}");
            assert_eq!(mode(&path), is, "left alone through a link");
        }
        let made = dir.join("new/deep");
        data_dir(&made).unwrap();
        assert_eq!((mode(&made), mode(&dir.join("new"))), (0o700, 0o700));
        let refused = data_dir(&with(0o1777)).unwrap_err().to_string();
        assert!(refused.contains("HEXA_DATA_DIR") && refused.contains("1777"), "{refused}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
