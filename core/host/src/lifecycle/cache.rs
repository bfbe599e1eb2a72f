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
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::lifecycle::compile::{CODE_BYTES, CompileError, Compiler};

const MAC_BYTES: usize = 32;
/// Longest entry, in bytes; a longer one is neither written nor read.
const MAX_ENTRY_BYTES: u64 = MAC_BYTES as u64 + CODE_BYTES;
/// Bytes of all entries together; what does not fit is compiled at every start.
const MAX_BYTES: u64 = 1 << 30;

pub(crate) struct Cache {
    /// None: the folder cannot be used, and every start compiles.
    dir: Option<PathBuf>,
    key: [u8; 32],
    max_bytes: u64,
    used: Mutex<HashSet<OsString>>,
}

impl Cache {
    /// `key` is a secret of this installation; entries of another are not run.
    pub(crate) fn new(dir: &Path, key: [u8; 32]) -> Self {
        let usable = prepare(dir).map(|()| dir.to_owned());
        let dir = usable.inspect_err(|error| {
            tracing::warn!(%error, "plugins are compiled at every start: {} cannot be used as a cache", dir.display());
        });
        Self { dir: dir.ok(), key, max_bytes: MAX_BYTES, used: Mutex::default() }
    }

    /// The component, if its entry is whole and was written by this installation.
    pub(crate) fn get(&self, engine: &Engine, wasm: &[u8]) -> Option<Component> {
        let dir = self.dir.as_ref()?;
        let name = entry_name(engine, wasm);
        self.used.lock().insert(OsString::from(&name));
        let code = match self.read(&dir.join(&name), &name) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "cached plugin {name} is not used, compiling it");
                return None;
            }
        };
        let loaded = deserialize(engine, &code);
        loaded.inspect_err(|error| tracing::warn!(%error, "cached plugin {name} does not load, compiling it")).ok()
    }

    /// Compiles the component and stores the code; takes as long as `compiler` does.
    pub(crate) fn compile(&self, engine: &Engine, wasm: &[u8], compiler: &Compiler) -> Result<Component, CompileError> {
        let code = compiler.compile(engine, wasm)?;
        let component = deserialize(engine, &code).map_err(|error| {
            tracing::warn!(%error, "compiled code does not load");
            CompileError::Unfit(error.root_cause().to_string())
        })?;
        if let Some(dir) = &self.dir {
            let name = entry_name(engine, wasm);
            self.used.lock().insert(OsString::from(&name));
            if let Err(error) = self.write(&dir.join(&name), &name, &code) {
                tracing::warn!(%error, "compiled plugin {name} could not be cached");
            }
        }
        Ok(component)
    }

    /// Removes entries that no plugin of this start used, and what a crash left half written.
    pub(crate) fn prune(&self) {
        let Some(entries) = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok()) else { return };
        let used = self.used.lock();
        for entry in entries.flatten() {
            let ours = entry.path().extension().is_some_and(|e| e == "cwasm" || e == "tmp");
            if ours && !used.contains(&entry.file_name()) {
                // A leftover that stays costs only its space.
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

    /// The code of an entry. It is read once; what is checked here is what is run, whatever becomes of the file.
    fn read(&self, path: &Path, name: &str) -> io::Result<Vec<u8>> {
        // Not blocking: a pipe in the place of an entry would keep the start waiting.
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(bad("the entry is not a file"));
        }
        if about.uid() != own_uid() || about.mode() & 0o022 != 0 {
            return Err(bad("others than the server could have written the entry"));
        }
        if about.len() > MAX_ENTRY_BYTES {
            return Err(bad("the entry is too long"));
        }
        let mut bytes = Vec::with_capacity(about.len() as usize);
        file.take(MAX_ENTRY_BYTES).read_to_end(&mut bytes)?;
        let (mac, code) = bytes.split_at_checked(MAC_BYTES).ok_or_else(|| bad("the entry is too short"))?;
        let mut expected = self.mac(name);
        expected.update(code);
        expected.verify_slice(mac).map_err(|_| bad("the entry is damaged or was not written by this installation"))?;
        bytes.drain(..MAC_BYTES);
        Ok(bytes)
    }

    /// Whole or not at all: a reader never sees half an entry, a crash leaves the old one.
    fn write(&self, path: &Path, name: &str, code: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut mac = self.mac(name);
        mac.update(code);
        let dir = path.parent().ok_or_else(|| bad("the entry has no folder"))?;
        let others = fs::read_dir(dir)?.flatten().filter(|e| e.file_name() != name);
        let taken: u64 = others.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum();
        if taken + MAC_BYTES as u64 + code.len() as u64 > self.max_bytes {
            return Err(io::Error::other(format!("the cache is full: it may hold {} bytes", self.max_bytes)));
        }
        let temporary =
            path.with_extension(format!("{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        // Left behind by a crash of a process with the same id.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(&mac.finalize().into_bytes())
            .and_then(|()| file.write_all(code))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // On a full disk a leftover would make the next write fail too.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        File::open(dir)?.sync_all()
    }
}

/// The folder exists, is ours and no link, and only we can look into it.
fn prepare(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let about = fs::symlink_metadata(dir)?;
    if !about.is_dir() || about.uid() != own_uid() {
        return Err(bad("it is not a folder of the server's own; remove it"));
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[expect(unsafe_code, reason = "std has no way to the user id")]
fn own_uid() -> u32 {
    // SAFETY: has no arguments and cannot fail.
    unsafe { libc::geteuid() }
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
    // SAFETY: `code` is what our own compiler made this moment (`Compiler::compile`), or what `Cache::write` of an
    // installation with the same secret wrote after that, unchanged: its HMAC was checked by `Cache::read` on these
    // very bytes. Version and settings are checked by wasmtime.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests;
