//! The files that a configuration is read from: whoever may write them decides what this server does, and whoever may read
//! secrets has them.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::secrets::own_uid;

/// What is wrong with it, for the end of a sentence that begins with its name.
type Wrong = String;

/// A configuration file; `given` by name, or found in the working directory.
pub(super) fn read_config(path: &Path, given: bool) -> Result<String, Wrong> {
    let about = fs::metadata(path).map_err(|e| e.to_string())?;
    written_by_others(&about)?;
    if !given && !is_ours(&about) {
        let uid = about.uid();
        return Err(format!("it belongs to another user ({uid}); if you mean this file, name it with --config"));
    }
    fs::read_to_string(path).map_err(|e| e.to_string())
}

/// A file with a secret; a pipe will do.
pub(super) fn read_secret(path: &Path, warnings: &mut Vec<String>) -> Result<String, Wrong> {
    let about = fs::metadata(path).map_err(|e| e.to_string())?;
    written_by_others(&about)?;
    warnings.extend(readable_by_others(path));
    fs::read_to_string(path).map_err(|e| e.to_string())
}

/// Said only of what this user can change: secrets that an orchestrator mounts are as it made them.
pub(super) fn readable_by_others(path: &Path) -> Option<String> {
    let about = fs::metadata(path).ok()?;
    let open = about.is_file() && about.uid() == own_uid() && about.mode() & 0o004 != 0;
    let shown = path.display();
    open.then(|| {
        format!("{shown} holds a secret and can be read by everybody on this machine: run `chmod 600 {shown}`")
    })
}

fn written_by_others(about: &Metadata) -> Result<(), Wrong> {
    if about.is_file() && about.mode() & 0o002 != 0 {
        return Err(format!(
            "everybody on this machine may write to it (mode {:o}): run `chmod o-w` on it",
            about.mode() & 0o7777
        ));
    }
    Ok(())
}

fn is_ours(about: &Metadata) -> bool {
    about.uid() == own_uid() || about.uid() == 0
}

/// Whether this user made the file.
pub(super) fn is_own(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.uid() == own_uid())
}
