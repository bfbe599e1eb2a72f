//! Tickets for the client socket: a browser cannot put a header onto a WebSocket's handshake, and a token in a URL ends
//! up in logs. A ticket is for one handshake within 30 s (ASVS 4.4.3).

use std::collections::HashMap;
use std::time::Duration;

use hexa_crypto::token;
use hexa_model::{ErrorCode, Scope};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use super::Auth;
use super::principal::Principal;
use crate::error::{Error, Result};

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

impl Auth {
    /// A ticket in the caller's name.
    ///
    /// # Errors
    /// `insufficient_scope`; `rate_limited` when too many wait.
    pub fn issue_ticket(&self, by: &Principal) -> Result<SecretString> {
        by.require(Scope::DevicesRead)?;
        let now = self.clock.monotonic();
        let mut waiting = self.tickets.0.lock();
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

    /// Takes a ticket: it works once, and only while what it was issued for still holds.
    ///
    /// # Errors
    /// `invalid_token`, `account_disabled`.
    pub async fn redeem_ticket(&self, given: &SecretString) -> Result<Principal> {
        let hash = token::sha256(given.expose_secret().as_bytes());
        let found = self.tickets.0.lock().remove(&hash);
        match found.filter(|t| t.dies > self.clock.monotonic()) {
            Some(ticket) => self.still(&ticket.of).await,
            None => Err(Error::new(ErrorCode::InvalidToken, "the ticket is unknown, used or older than 30 s")),
        }
    }
}
