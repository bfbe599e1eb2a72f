//! Tickets for the client socket: a browser cannot put a header onto a WebSocket's handshake, and a token in a URL ends
//! up in logs. A ticket is for one handshake within 30 s (ASVS 4.4.3).

use std::collections::HashMap;
use std::time::Duration;

use hexa_crypto::token;
use hexa_model::{ErrorCode, Scope};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use super::Accounts;
use super::principal::Principal;
use hexa_platform::error::{Error, Result};

/// How long a ticket waits to be used.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(30);
/// Tickets that may wait at the same time, and those of one account among them.
const MAX_TICKETS: usize = 10_000;
const MAX_OF_ONE: usize = 32;

/// Tickets that wait, by their hash.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<HashMap<[u8; 32], Ticket>>);

#[derive(Debug)]
struct Ticket {
    of: Principal,
    dies: Duration,
}

impl Tickets {
    fn issue(&self, by: &Principal, now: Duration) -> Result<SecretString> {
        let mut waiting = self.0.lock();
        waiting.retain(|_, t| t.dies > now);
        let own = waiting.values().filter(|t| t.of.account.key == by.account.key).count();
        if own >= MAX_OF_ONE || waiting.len() >= MAX_TICKETS {
            return Err(Error::rate_limited("too many tickets wait to be used", TICKET_LIFETIME.as_secs()));
        }
        let ticket = token::generate("hxt_");
        let hash = token::sha256(ticket.expose_secret().as_bytes());
        waiting.insert(hash, Ticket { of: by.clone(), dies: now + TICKET_LIFETIME });
        Ok(ticket)
    }

    /// Whose it is; it is gone then, good or not.
    fn redeem(&self, given: &SecretString, now: Duration) -> Option<Principal> {
        let hash = token::sha256(given.expose_secret().as_bytes());
        self.0.lock().remove(&hash).filter(|t| t.dies > now).map(|t| t.of)
    }
}

impl Accounts {
    /// A ticket in the caller's name.
    ///
    /// # Errors
    /// `insufficient_scope`; `rate_limited` when too many wait.
    pub fn issue_ticket(&self, by: &Principal) -> Result<SecretString> {
        by.require(Scope::DevicesRead)?;
        self.tickets.issue(by, self.clock.monotonic())
    }

    /// Takes a ticket: it works once, and only while what it was issued for still holds.
    ///
    /// # Errors
    /// `invalid_token`, `account_disabled`.
    pub async fn redeem_ticket(&self, given: &SecretString) -> Result<Principal> {
        match self.tickets.redeem(given, self.clock.monotonic()) {
            Some(of) => self.still(&of).await,
            None => Err(Error::new(ErrorCode::InvalidToken, "the ticket is unknown, used or older than 30 s")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hexa_model::{Role, SessionId, TimeMs, UserId, UserKey};

    use super::*;
    use hexa_platform::principal::{Account, Credential};

    fn principal(key: i64) -> Principal {
        let account = Account {
            key: UserKey(key),
            id: UserId::at(TimeMs(key), [0; 10]),
            email: "ann@example.com".into(),
            name: None,
            role: Role::User,
            active: true,
            epoch: 0,
            created_at: TimeMs(0),
        };
        Principal { account: Arc::new(account), via: Credential::Session(SessionId::at(TimeMs(1), [0; 10])) }
    }

    #[test]
    fn a_ticket_is_good_once_and_for_thirty_seconds() {
        let (tickets, at) = (Tickets::default(), Duration::from_secs);
        let ticket = tickets.issue(&principal(1), at(100)).unwrap();
        assert_eq!(tickets.redeem(&ticket, at(129)).map(|p| p.account.key), Some(UserKey(1)));
        assert!(tickets.redeem(&ticket, at(129)).is_none(), "used");
        let late = tickets.issue(&principal(1), at(100)).unwrap();
        assert!(tickets.redeem(&late, at(130)).is_none(), "too old");
        assert!(tickets.redeem(&"hxt_made-up".into(), at(100)).is_none());
    }

    #[test]
    fn an_account_has_so_many_tickets_and_others_are_not_concerned() {
        let (tickets, at) = (Tickets::default(), Duration::from_secs);
        for _ in 0..MAX_OF_ONE {
            tickets.issue(&principal(1), at(1)).unwrap();
        }
        assert_eq!(tickets.issue(&principal(1), at(2)).unwrap_err().retry_after_s, Some(30));
        tickets.issue(&principal(2), at(2)).unwrap();
        tickets.issue(&principal(1), at(31)).unwrap();
    }
}
