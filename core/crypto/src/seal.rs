//! What must come back as it was and be read by nobody else: AES-256-GCM under keys that are derived from the
//! installation's own secret, one for each purpose (ASVS 11.3, 13.3.1).

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::random_bytes;

const NONCE_BYTES: usize = 12;

/// A key for one purpose.
pub struct SealKey {
    cipher: Aes256Gcm,
    mac_key: [u8; 32],
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        // With its length, so that no two lists of parts are the same bytes.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl SealKey {
    /// The key of this purpose, which names its user and a version: `idempotency/v1`. One secret gives different keys
    /// for different purposes, and none of them tells anything of another.
    pub fn derive(secret: &SecretString, purpose: &str) -> Self {
        let key = |part: &str| mac(secret.expose_secret().as_bytes(), &[b"hexa", purpose.as_bytes(), part.as_bytes()]);
        let cipher = Aes256Gcm::new_from_slice(&key("seal")).expect("32 bytes are an AES-256 key");
        Self { cipher, mac_key: key("mac") }
    }

    /// Seals for whoever gives the same `about` again; fresh randomness each time.
    ///
    /// # Panics
    /// Never: it fails only beyond 64 GiB.
    pub fn seal(&self, about: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: about })
            .expect("AES-GCM takes up to 64 GiB");
        [&nonce[..], &sealed].concat()
    }

    /// Opens; none for what was changed, sealed by another key, or is about something else.
    pub fn open(&self, about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        self.cipher.decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: about }).ok()
    }

    /// A fingerprint that nobody without the secret can try guesses against.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.mac_key, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_opens_it_and_only_for_the_same_matter() {
        let secret: SecretString = "a secret of this installation".into();
        let key = SealKey::derive(&secret, "test/v1");
        let sealed = key.seal(b"about", b"plain text");
        assert_eq!(key.open(b"about", &sealed).as_deref(), Some(&b"plain text"[..]));
        assert_ne!(key.seal(b"about", b"plain text"), sealed);
        assert_eq!(key.open(b"other", &sealed), None);
        assert_eq!(SealKey::derive(&secret, "test/v2").open(b"about", &sealed), None);
        assert_eq!(SealKey::derive(&"another".into(), "test/v1").open(b"about", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(b"about", &changed), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key.open(b"about", &sealed[..length]), None);
        }
    }

    #[test]
    fn parts_of_a_fingerprint_do_not_run_together() {
        let key = SealKey::derive(&"a secret".into(), "test/v1");
        assert_ne!(key.fingerprint(&[b"ab", b"c"]), key.fingerprint(&[b"a", b"bc"]));
        assert_eq!(key.fingerprint(&[b"ab"]), key.fingerprint(&[b"ab"]));
        assert_ne!(key.fingerprint(&[b"ab"]), SealKey::derive(&"b".into(), "test/v1").fingerprint(&[b"ab"]));
    }
}
