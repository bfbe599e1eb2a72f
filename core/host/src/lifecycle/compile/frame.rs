//! The child's result on its way through a pipe: magic, length, SHA-256 of the code, the code, and then the end. A
//! result that was cut, or is none, is recognised without running it.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// Bytes of a component.
pub(crate) const WASM_BYTES: u64 = 4 << 20;
/// Bytes of compiled code that are taken; a 4 MiB component compiles to less.
pub(crate) const CODE_BYTES: u64 = 64 << 20;
/// The child's exit code when the component is at fault.
pub(super) const INVALID: u8 = 3;

const MAGIC: &[u8; 12] = b"hexa-code/1\n";
const HEAD: usize = MAGIC.len() + 8 + 32;

/// The error for a child that writes more than is read; it has to be ended.
pub(super) const TOO_LONG: &str = "it is longer than is allowed";

/// Writes a result, in the child.
pub(super) fn write(mut to: impl Write, code: &[u8]) -> io::Result<()> {
    to.write_all(MAGIC)?;
    to.write_all(&(code.len() as u64).to_le_bytes())?;
    to.write_all(&Sha256::digest(code))?;
    to.write_all(code)?;
    to.flush()
}

/// Reads a result, in the server; the error says what is wrong with it.
pub(super) fn read(from: impl Read) -> Result<Vec<u8>, &'static str> {
    let limit = HEAD as u64 + CODE_BYTES;
    let mut all = Vec::new();
    from.take(limit + 1).read_to_end(&mut all).map_err(|_| "it cannot be read")?;
    if all.len() as u64 > limit {
        return Err(TOO_LONG);
    }
    let (head, code) = all.split_at_checked(HEAD).ok_or("it is too short")?;
    let (magic, rest) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("it is something else");
    }
    let (length, digest) = rest.split_at(8);
    if length != (code.len() as u64).to_le_bytes() {
        return Err("its length is not what it says");
    }
    if Sha256::digest(code)[..] != *digest {
        return Err("its checksum is wrong");
    }
    all.drain(..HEAD);
    Ok(all)
}
