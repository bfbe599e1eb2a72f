//! Passwords: argon2id with the parameters of the OWASP minimum (19 MiB, t=2, p=1), kept as PHC strings.
//!
//! These functions take 20-30 ms and 19 MiB each: callers run them off the async threads, behind a semaphore.

use std::sync::OnceLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

/// Hashing failed; only memory exhaustion can cause it.
#[derive(Debug, thiserror::Error)]
#[error("the password could not be hashed: {0}")]
pub struct HashError(String);

/// A password that guessers try early.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WeakPassword(String);

/// Fewer guesses than this, for somebody who knows the usual lists and patterns, are too few.
const GUESSES: u64 = 100_000_000;
/// Words that a guesser tries here first.
const PRODUCT_WORDS: [&str; 7] = ["hexa", "iot", "relay", "smarthome", "homeassistant", "homekit", "alexa"];

/// Refuses what is on the lists of common passwords, alone or with the usual decorations, and what is made of the
/// account's own data or of this product's words (ASVS 6.2.4 and 6.2.11). No rule asks for kinds of characters.
///
/// # Errors
/// [`WeakPassword`] says why and what to do.
pub fn check_strength(password: &str, own: &[&str]) -> Result<(), WeakPassword> {
    let mut inputs: Vec<&str> = PRODUCT_WORDS.to_vec();
    inputs.extend(own.iter().flat_map(|o| o.split(['@', '.', ' ', '-', '_'])).filter(|w| w.len() > 2));
    inputs.extend(own.iter().flat_map(|o| [*o, o.split('@').next().unwrap_or(o)]).filter(|w| !w.is_empty()));
    let found = zxcvbn::zxcvbn(password, &inputs);
    if found.guesses() >= GUESSES {
        return Ok(());
    }
    let why = found.feedback().and_then(zxcvbn::feedback::Feedback::warning).map(|w| w.to_string());
    let why = why.unwrap_or_else(|| "It is guessed early.".to_owned());
    Err(WeakPassword(format!(
        "this password is too easy to guess: {why} Take four unrelated words, or let a password manager make one"
    )))
}

/// A PHC string with a fresh salt.
///
/// # Errors
/// When the hasher refuses its parameters, which are our own.
pub fn hash(password: &str) -> Result<String, HashError> {
    Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string()).map_err(|e| HashError(e.to_string()))
}

/// Whether the password fits the stored PHC string. A damaged string fits nothing.
pub fn verify(password: &str, stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|h| Argon2::default().verify_password(password.as_bytes(), &h).is_ok())
}

/// Whether the stored hash was made with weaker parameters than today's: rehash at the next login.
pub fn needs_rehash(stored: &str) -> bool {
    let today = argon2::Params::default();
    let Ok(parsed) = PasswordHash::new(stored) else { return false };
    let Ok(params) = argon2::Params::try_from(&parsed) else { return true };
    parsed.algorithm.as_str() != "argon2id"
        || params.m_cost() < today.m_cost()
        || params.t_cost() < today.t_cost()
        || params.p_cost() < today.p_cost()
}

/// Costs what [`verify`] costs and always fails: an unknown e-mail must not answer faster, or it could be told
/// from a known one.
pub fn verify_dummy(password: &str) -> bool {
    static DUMMY: OnceLock<Option<String>> = OnceLock::new();
    if let Some(stored) = DUMMY.get_or_init(|| hash("a password that nobody has").ok()) {
        verify(password, stored);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_only_and_names_its_parameters() {
        let stored = hash("correct horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify("correct horse battery", &stored));
        assert!(!verify("correct horse batterz", &stored));
        assert!(!verify("x", "not a phc string"));
        assert!(!needs_rehash(&stored));
        assert!(!verify_dummy("a password that nobody has"));
    }

    #[test]
    fn what_guessers_try_first_is_refused_and_what_people_make_up_is_not() {
        let own = ["ann.miller@example.org", "Ann Miller"];
        for weak in [
            "password1234",
            "123456789012",
            "qwertyuiop12",
            "aaaaaaaaaaaa",
            "abcdefghijkl",
            "Password123!",
            "iloveyou1234",
            "ann.miller123",
            "millermiller",
            "hexahexahexa",
            "smarthome2024",
        ] {
            assert!(check_strength(weak, &own).is_err(), "{weak}");
        }
        for good in
            ["correct horse battery staple", "Gartenzaun-Lampe-Regen", "x9#Lq2!vRt0pZ", "äpfel und schöne Grüße"]
        {
            assert_eq!(check_strength(good, &own), Ok(()), "{good}");
        }
    }

    #[test]
    fn weaker_parameters_ask_for_a_rehash() {
        let weak = Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            argon2::Params::new(8192, 1, 1, None).unwrap(),
        );
        let stored = weak.hash_password(b"long enough password").unwrap().to_string();
        assert!(verify("long enough password", &stored));
        assert!(needs_rehash(&stored));
    }
}
