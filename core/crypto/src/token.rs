//! Opaque secrets: device tokens, refresh tokens, claim codes. Only their SHA-256 is ever stored; of claim codes, which are
//! short, an HMAC of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::random_bytes;

/// SHA-256 of a secret, as stored. Compare with [`same`].
pub type Hash = [u8; 32];

/// The SHA-256 of these bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// A new 256-bit token, base64url without padding (43 characters), behind a prefix that secret scanners can find.
pub fn generate(prefix: &str) -> SecretString {
    of(prefix, &random_bytes())
}

/// The same of these 256 bits, which nobody can guess.
pub fn of(prefix: &str, bits: &[u8; 32]) -> SecretString {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits)).into()
}

/// Compares two hashes in constant time, so that the time tells nothing of how much is right.
pub fn same(a: &Hash, b: &Hash) -> bool {
    a.ct_eq(b).into()
}

/// Compares two secrets of any length in constant time, by their hashes.
pub fn same_text(a: &str, b: &str) -> bool {
    same(&sha256(a.as_bytes()), &sha256(b.as_bytes()))
}

/// A new claim code: 10 Crockford base32 digits (50 bits) as `XXXXX-XXXXX`.
pub fn generate_claim_code() -> SecretString {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits = random_bytes::<10>().map(|b| char::from(DIGITS[usize::from(b & 31)]));
    let (head, tail) = digits.split_at(5);
    format!("{}-{}", head.iter().collect::<String>(), tail.iter().collect::<String>()).into()
}

/// Hash of a claim code as a person typed it: case, spaces and dashes do not count, and `O`, `I`, `L` read as the
/// digits that Crockford's alphabet takes them for. `None` when it cannot be a code.
pub fn claim_code_hash(typed: &str) -> Option<Hash> {
    let mut plain = String::with_capacity(10);
    for c in typed.chars() {
        match c.to_ascii_uppercase() {
            ' ' | '-' => {}
            'O' => plain.push('0'),
            'I' | 'L' => plain.push('1'),
            'U' => return None,
            c if c.is_ascii_alphanumeric() => plain.push(c),
            _ => return None,
        }
        if plain.len() > 10 {
            return None;
        }
    }
    (plain.len() == 10).then(|| sha256(plain.as_bytes()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let (a, b) = (generate("hxd_"), generate("hxd_"));
        assert_eq!(a.expose_secret().len(), 4 + 43);
        assert!(!same_text(a.expose_secret(), b.expose_secret()));
        assert!(same_text("x", "x"));
    }

    #[test]
    fn a_code_reads_the_same_however_it_is_typed() {
        let code = generate_claim_code();
        let code = code.expose_secret();
        let hash = claim_code_hash(code).unwrap();
        assert_eq!(claim_code_hash(&code.to_lowercase().replace('-', " ")), Some(hash));
        assert_eq!(claim_code_hash("OIL00-00000"), claim_code_hash("01100-00000"));
        for bad in ["", "0000-0000", "00000-00000-0", "UUUUU-UUUUU", "äääää-ääääå"] {
            assert!(claim_code_hash(bad).is_none(), "{bad}");
        }
    }
}
