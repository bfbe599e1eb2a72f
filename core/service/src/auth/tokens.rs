//! Access tokens whose signature was checked a moment ago: a client sends the same one for a quarter of an hour, and
//! checking it again costs as much as everything else about its request.

use std::collections::HashMap;
use std::time::Duration;

use hexa_crypto::jwt::{Claims, Keys, LIFETIME_S};
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

/// What is remembered of a token.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    /// It was found good, and is in time.
    Good(Verified),
    /// It was found good, and its time is over: checked again by a clock that went back, it might seem to be in time.
    Over,
    /// It was not seen before, or forgotten.
    Never,
}

/// By the SHA-256 of the token, so that looking one up tells nothing of those that are there; with the monotonic time at
/// which it is over, because a step of the wall clock makes no token live longer.
#[derive(Debug, Default)]
pub(super) struct Tokens(RwLock<HashMap<[u8; 32], (Verified, Duration)>>);

impl Tokens {
    /// What a token says that was found good before and is in time. What changes meanwhile (the account, the session) is
    /// the caller's to check, every time.
    pub(super) fn known(&self, token: &str, now: TimeMs, monotonic: Duration) -> Known {
        let Some((known, over)) = self.0.read().get(&sha256(token.as_bytes())).copied() else { return Known::Never };
        if monotonic < over && Claims::in_time(known.issued, known.expires, now) {
            Known::Good(known)
        } else {
            Known::Over
        }
    }

    /// What a token says that is good now; `None` for any other.
    pub(super) fn verify(keys: &Keys, token: &str, now: TimeMs) -> Option<Verified> {
        let claims = keys.verify(token, now).ok()?;
        Some(Verified {
            user: claims.user(),
            session: claims.session(),
            epoch: claims.epoch,
            issued: claims.iat,
            expires: claims.exp,
        })
    }

    /// Every token is checked anew.
    pub(super) fn forget(&self) {
        self.0.write().clear();
    }

    /// Remembers a good token.
    pub(super) fn keep(&self, token: &str, good: Verified, now: TimeMs, monotonic: Duration) {
        let left = good.expires.saturating_sub(now.seconds()).clamp(0, LIFETIME_S);
        let over = monotonic + Duration::from_secs(left as u64);
        let mut tokens = self.0.write();
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, (_, over)| monotonic < *over);
            if tokens.len() >= MAX_TOKENS {
                tokens.clear();
            }
        }
        tokens.insert(sha256(token.as_bytes()), (good, over));
    }
}

#[cfg(test)]
mod tests {
    use hexa_model::Role;

    use super::*;

    #[test]
    fn a_remembered_token_still_expires_and_an_altered_one_is_another() {
        let key = hexa_crypto::jwt::SigningKey::new("7".repeat(32).into());
        let keys = Keys::new(&key, [], "https://hexa.example");
        let (user, session) = (UserId::at(TimeMs(1), [1; 10]), SessionId::at(TimeMs(1), [2; 10]));
        let at = |seconds: i64| TimeMs(seconds * 1000);
        let token = keys.issue(user, session, Role::User, 3, at(1000)).unwrap();
        let tokens = Tokens::default();
        let mono = |seconds: u64| Duration::from_secs(50 + seconds);
        let known = |token: &str, now, monotonic| match tokens.known(token, now, monotonic) {
            Known::Good(good) => Some(good),
            Known::Over | Known::Never => None,
        };
        assert!(matches!(tokens.known(&token, at(1000), mono(0)), Known::Never));
        tokens.keep(&token, Tokens::verify(&keys, &token, at(1000)).unwrap(), at(1000), mono(0));
        for later in [0, 1, 899] {
            let good = known(&token, at(1000 + later), mono(later as u64)).unwrap();
            assert_eq!((good.user, good.session, good.epoch), (user, session, 3));
        }
        assert_eq!(tokens.0.read().len(), 1);
        assert!(known(&token, at(1000 + 15 * 60 + 5), mono(900)).is_none(), "expired");
        assert!(known(&token, at(900), mono(1)).is_none(), "from the future");
        assert!(matches!(tokens.known(&token, at(1100), mono(900)), Known::Over), "though the wall clock went back");
        let altered = format!("{}{}", &token[..token.len() - 2], if token.ends_with("AA") { "BB" } else { "AA" });
        assert!(known(&altered, at(1000), mono(0)).is_none());
        assert!(Tokens::verify(&keys, &altered, at(1000)).is_none());
    }
}
