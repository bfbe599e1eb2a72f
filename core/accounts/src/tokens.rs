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
    /// It is dead at this monotonic time, whatever the wall clock says by then.
    dies: Duration,
}

/// What is remembered of a token.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    /// It was found good, and is in time.
    Good(Verified),
    /// It was found good, and its time is over: checked again by a clock that went back, it might seem to be in time.
    Over,
    /// It was not seen before, or forgotten; with what is to be handed to [`Tokens::keep`].
    Never(u64),
}

/// By the SHA-256 of the token, so that looking one up tells nothing of those that are there; with the monotonic time at
/// which it is over, because a step of the wall clock makes no token live longer.
#[derive(Debug, Default)]
pub(super) struct Tokens(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    tokens: HashMap<[u8; 32], Verified>,
    /// Raised whenever every token is to be checked anew: what was verified before is not remembered after it.
    changes: u64,
}

impl Tokens {
    /// What a token says that was found good before and is in time. What changes meanwhile (the account, the session) is
    /// the caller's to check, every time.
    pub(super) fn known(&self, token: &str, (now, monotonic): (TimeMs, Duration)) -> Known {
        let table = self.0.read();
        let Some(verified) = table.tokens.get(&sha256(token.as_bytes())) else { return Known::Never(table.changes) };
        let in_time = Claims::in_time(verified.issued, verified.expires, now) && monotonic < verified.dies;
        if in_time { Known::Good(*verified) } else { Known::Over }
    }

    /// What a token says that is good now; `None` for any other.
    pub(super) fn verify(keys: &Keys, token: &str, (now, monotonic): (TimeMs, Duration)) -> Option<Verified> {
        let claims = keys.verify(token, now).ok()?;
        let left = Duration::from_millis((claims.exp * 1000).saturating_sub(now.0).max(0) as u64);
        Some(Verified {
            dies: monotonic + left.min(Duration::from_secs(LIFETIME_S as u64)),
            user: claims.user(),
            session: claims.session(),
            epoch: claims.epoch,
            issued: claims.iat,
            expires: claims.exp,
        })
    }

    /// Every token is checked anew.
    pub(super) fn forget(&self) {
        let mut known = self.0.write();
        known.changes += 1;
        known.tokens.clear();
    }

    /// Remembers a good token, unless every token was to be checked anew since `seen`.
    pub(super) fn keep(&self, token: &str, good: Verified, monotonic: Duration, seen: u64) -> bool {
        let mut known = self.0.write();
        if known.changes != seen {
            return false;
        }
        if known.tokens.len() >= MAX_TOKENS {
            known.tokens.retain(|_, t| monotonic < t.dies);
            if known.tokens.len() >= MAX_TOKENS {
                known.tokens.clear();
            }
        }
        known.tokens.insert(sha256(token.as_bytes()), good);
        true
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
        let after = |wall: i64, steady: u64| (at(wall), Duration::from_secs(steady));
        let known = |token: &str, wall, steady| match tokens.known(token, after(wall, steady)) {
            Known::Good(good) => Some(good),
            Known::Over | Known::Never(_) => None,
        };
        let Known::Never(seen) = tokens.known(&token, after(1000, 0)) else { panic!("it was never seen") };
        let good = Tokens::verify(&keys, &token, after(1000, 0)).unwrap();
        assert!(tokens.keep(&token, good, Duration::ZERO, seen));
        for (wall, steady) in [(1000, 0), (1001, 1), (1899, 899)] {
            let good = known(&token, wall, steady).unwrap();
            assert_eq!((good.user, good.session, good.epoch), (user, session, 3));
        }
        assert!(known(&token, 1000 + 15 * 60 + 5, 0).is_none(), "expired");
        assert!(known(&token, 900, 0).is_none(), "from the future");
        let over = tokens.known(&token, after(1001, 15 * 60));
        assert!(matches!(over, Known::Over), "a wall clock that was set back revives none");
        let altered = format!("{}{}", &token[..token.len() - 2], if token.ends_with("AA") { "BB" } else { "AA" });
        assert!(known(&altered, 1000, 0).is_none());
        assert!(Tokens::verify(&keys, &altered, after(1000, 0)).is_none());
        tokens.forget();
        assert!(!tokens.keep(&token, good, Duration::ZERO, seen), "verified with keys that may be gone");
        assert!(known(&token, 1000, 0).is_none());
    }
}
