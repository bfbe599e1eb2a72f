//! Who sends a request: token checked, account alive, rate within limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_model::{TimeMs, UserId};
pub use hexa_platform::principal::{Account, Credential, Principal};
use hexa_platform::principal::{disabled, invalid};

use super::tokens::Known;
use super::{Accounts, pats, tokens};
use hexa_platform::error::Result;

impl Accounts {
    /// Checks an access token against the live account: its role and state count, not the token's (review point 15).
    ///
    /// # Errors
    /// `invalid_token`, `account_disabled`, or `rate_limited` when the account asks too often, or the address with tokens
    /// that nobody has.
    pub async fn authenticate(&self, token: &str, from: Option<IpAddr>) -> Result<Principal> {
        let principal = match token.strip_prefix(pats::PREFIX) {
            // Boxed: it may write, and a transaction is large; sessions do not carry it.
            Some(_) => Box::pin(self.by_personal_token(token, from)).await?,
            None => self.by_session(token).await?,
        };
        self.count_request(principal.account.key)?;
        Ok(principal)
    }

    async fn by_session(&self, token: &str) -> Result<Principal> {
        let now = (self.guard.latest(), self.clock.monotonic());
        let claims = match self.tokens.known(token, now) {
            Known::Good(claims) => claims,
            Known::Over => return Err(invalid()),
            // Boxed: what happens once for each token is not carried by every request.
            Known::Never(seen) => Box::pin(self.first_use(token, now, seen)).await?,
        };
        let account = self.living(claims.user).await?;
        if claims.epoch != account.epoch || self.is_session_ended(claims.session) {
            return Err(invalid());
        }
        Ok(Principal { account, via: Credential::Session(claims.session) })
    }

    /// A session that ended before a restart is in no memory: it is looked up once for each of its tokens.
    async fn first_use(&self, token: &str, now: (TimeMs, Duration), seen: u64) -> Result<tokens::Verified> {
        let claims = tokens::Tokens::verify(&self.keys.load(), token, now).ok_or_else(invalid)?;
        if !self.store.family_active(claims.session).await? {
            return Err(invalid());
        }
        if !self.tokens.keep(token, claims, now.1, seen) {
            // The keys changed meanwhile: it may have been signed with one that is gone.
            return tokens::Tokens::verify(&self.keys.load(), token, now).ok_or_else(invalid);
        }
        Ok(claims)
    }

    async fn by_personal_token(&self, token: &str, from: Option<IpAddr>) -> Result<Principal> {
        let pat = self.personal_token(token, from).await?.ok_or_else(invalid)?;
        let account = self.living(pat.user).await?;
        let via = Credential::Token { id: pat.id, scopes: pat.scopes, expires_at: pat.expires_at };
        Ok(Principal { account, via })
    }

    /// Whether an account may sign in.
    ///
    /// # Errors
    /// `account_disabled`, `invalid_token` when it is gone.
    pub async fn check_active(&self, id: UserId) -> Result<()> {
        self.living(id).await.map(drop)
    }

    async fn living(&self, id: UserId) -> Result<Arc<Account>> {
        let account = self.account(id).await?.ok_or_else(invalid)?;
        if account.active { Ok(account) } else { Err(disabled()) }
    }
}
