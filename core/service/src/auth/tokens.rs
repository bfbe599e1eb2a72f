//! Access tokens whose signature was checked a moment ago: a client sends the same one for a quarter of an hour, and
//! checking it again costs as much as everything else about its request.

use std::collections::HashMap;

use hexa_crypto::jwt::{Claims, Keys};
use hexa_crypto::token::sha256;
use hexa_model::{SessionId, TimeMs, UserId};
use parking_lot::RwLock;

/// Tokens kept at the most: some 80 bytes each.
const MAX_TOKENS: usize = 20_000;

/// What a good token says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verified {
    pub(super) user: UserId,
    pub(super) session: SessionId,
    pub(super) epoch: i64,
    /// Of the token, in seconds since 1970.
    issued: i64,
    expires: i64,
}

/// By the SHA-256 of the token, so that looking one up tells nothing of those that are there.
#[derive(Debug, Default)]
pub(super) struct Tokens(RwLock<HashMap<[u8; 32], Verified>>);

impl Tokens {
    /// The claims of a token that is good now; `None` for any other. What changes meanwhile (the account, the session)
    /// is the caller's to check, every time.
    pub(super) fn verify(&self, keys: &Keys, token: &str, now: TimeMs) -> Option<Verified> {
        let hash = sha256(token.as_bytes());
        if let Some(known) = self.0.read().get(&hash).copied()
            && Claims::in_time(known.issued, known.expires, now)
        {
            return Some(known);
        }
        let claims = keys.verify(token, now).ok()?;
        let good = Verified {
            user: claims.user(),
            session: claims.session(),
            epoch: claims.epoch,
            issued: claims.iat,
            expires: claims.exp,
        };
        let mut tokens = self.0.write();
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, t| Claims::in_time(t.issued, t.expires, now));
            if tokens.len() >= MAX_TOKENS {
                tokens.clear();
            }
        }
        tokens.insert(hash, good);
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use hexa_model::Role;

    use super::*;

    #[test]
    fn a_remembered_token_still_expires_and_an_altered_one_is_another() {
        let keys = Keys::new(&[7; 32], "https://hexa.example");
        let (user, session) = (UserId::at(TimeMs(1), [1; 10]), SessionId::at(TimeMs(1), [2; 10]));
        let at = |seconds: i64| TimeMs(seconds * 1000);
        let token = keys.issue(user, session, Role::User, 3, at(1000)).unwrap();
        let tokens = Tokens::default();
        for now in [at(1000), at(1001), at(1899)] {
            let good = tokens.verify(&keys, &token, now).unwrap();
            assert_eq!((good.user, good.session, good.epoch), (user, session, 3));
        }
        assert_eq!(tokens.0.read().len(), 1);
        assert!(tokens.verify(&keys, &token, at(1000 + 15 * 60 + 5)).is_none(), "expired");
        assert!(tokens.verify(&keys, &token, at(900)).is_none(), "from the future");
        let altered = format!("{}{}", &token[..token.len() - 2], if token.ends_with("AA") { "BB" } else { "AA" });
        assert!(tokens.verify(&keys, &altered, at(1000)).is_none());
        assert_eq!(tokens.0.read().len(), 1, "only good ones are remembered");
    }
}
