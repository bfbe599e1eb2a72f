//! Compiled plugins on disk. A cache entry is native code, so one is run only if this installation wrote it.
//!
//! Entry: HMAC-SHA-256 over the entry's name and the code, then the code. The name holds the hash of the component and
//! of everything that the compiler's output depends on. Whatever is wrong with an entry, the component is compiled anew
//! and the entry overwritten.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const MAC_BYTES: usize = 32;
/// Nothing larger is read back; a 4 MiB component compiles to less.
const MAX_ENTRY_BYTES: u64 = 64 << 20;

/// Where a component came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Compiled,
    Cached,
}

pub(crate) struct Cache {
    /// None: the folder cannot be used, and every start compiles.
    dir: Option<PathBuf>,
    key: [u8; 32],
    used: Mutex<HashSet<OsString>>,
}

impl Cache {
    /// `key` is a secret of this installation; entries of another are not run.
    pub(crate) fn new(dir: &Path, key: [u8; 32]) -> Self {
        let usable = prepare(dir).map(|()| dir.to_owned());
        let dir = usable.inspect_err(|error| {
            tracing::warn!(%error, "plugins are compiled at every start: {} cannot be used as a cache", dir.display());
        });
        Self { dir: dir.ok(), key, used: Mutex::default() }
    }

    /// The component, from the cache if its entry is whole and ours.
    pub(crate) fn component(&self, engine: &Engine, wasm: &[u8]) -> wasmtime::Result<(Component, Origin)> {
        let Some(dir) = &self.dir else { return Ok((Component::new(engine, wasm)?, Origin::Compiled)) };
        let name = entry_name(engine, wasm);
        let path = dir.join(&name);
        self.used.lock().insert(OsString::from(&name));
        match self.read(&path, &name) {
            Ok(code) => match deserialize(engine, &code) {
                Ok(component) => return Ok((component, Origin::Cached)),
                Err(error) => tracing::warn!(%error, "cached plugin {name} does not load, compiling it"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "cached plugin {name} is not used, compiling it"),
        }
        let component = Component::new(engine, wasm)?;
        if let Err(error) =
            component.serialize().map_err(io::Error::other).and_then(|code| self.write(&path, &name, &code))
        {
            tracing::warn!(%error, "compiled plugin {name} could not be cached");
        }
        Ok((component, Origin::Compiled))
    }

    /// Removes entries that no plugin of this start used, and what a crash left half written.
    pub(crate) fn prune(&self) {
        let Some(entries) = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok()) else { return };
        let used = self.used.lock();
        for entry in entries.flatten() {
            let ours = entry.path().extension().is_some_and(|e| e == "cwasm" || e == "tmp");
            if ours && !used.contains(&entry.file_name()) {
                // A leftover that stays is only a file too many.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn mac(&self, name: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(b"hexa-cwasm-v1\n");
        mac.update(name.as_bytes());
        mac.update(b"\n");
        mac
    }

    fn read(&self, path: &Path, name: &str) -> io::Result<Vec<u8>> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_ENTRY_BYTES).read_to_end(&mut bytes)?;
        let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let (mac, code) = bytes.split_at_checked(MAC_BYTES).ok_or_else(|| bad("the entry is too short"))?;
        let mut expected = self.mac(name);
        expected.update(code);
        expected.verify_slice(mac).map_err(|_| bad("the entry is damaged or was not written by this installation"))?;
        Ok(code.to_vec())
    }

    /// Whole or not at all: a reader never sees half an entry, a crash leaves the old one.
    fn write(&self, path: &Path, name: &str, code: &[u8]) -> io::Result<()> {
        let mut mac = self.mac(name);
        mac.update(code);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        // Left behind by a crash of a process with the same id.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&mac.finalize().into_bytes())?;
        file.write_all(code)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}

/// The folder exists and only its owner can look into it.
fn prepare(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

fn entry_name(engine: &Engine, wasm: &[u8]) -> String {
    let mut compiler = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut compiler);
    let mut name = String::with_capacity(90);
    for byte in Sha256::digest(wasm) {
        name.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        name.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    format!("{name}-{:016x}.cwasm", compiler.finish())
}

#[expect(unsafe_code, reason = "wasmtime trusts precompiled code; only authenticated bytes of our own come here")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` was written by `Cache::write` of an installation with the same secret, after `Component::serialize`,
    // and is unchanged since: its HMAC was checked by `Cache::read`. Version and settings are checked by wasmtime.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests;
