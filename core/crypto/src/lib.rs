//! Locks and keys: passwords (argon2id), opaque tokens (SHA-256), access tokens (JWT HS256).
//!
//! Called by `service` and `host`; calls `model` only.
//! Invariants: pure functions apart from drawing randomness, secrets compare in constant time, no secret has a `Debug`.
//! argon2 appears for user passwords only: device and refresh tokens are 256 random bits, for which a plain hash is
//! right (ASVS 6.5.2) and argon2 would let a reconnect storm burn minutes of CPU.

pub mod jwt;
pub mod password;
pub mod random;
pub mod seal;
pub mod token;

pub use random::random_bytes;

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}
