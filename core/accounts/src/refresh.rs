//! Refresh rotation with reuse detection (RFC 9700 section 4.14).
//!
//! A spent token that comes again means that two parties hold it: the whole family dies. One exception, because
//! answers get lost and tabs ask at the same time: within the grace time the immediate predecessor may ask again while its
//! successor is unused, and gets the same one.

use std::sync::Arc;

use hexa_crypto::token;
use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Change, ErrorCode, Outcome, Source, TimeMs};
use hexa_store::Tx;
use secrecy::{ExposeSecret, SecretString};

use super::Accounts;
use super::account::SignedIn;
use super::principal::{Account, Principal};
use hexa_platform::change::{Decided, change};
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;

/// Spent tokens of a session that are kept, the newest: one of them that comes again tells that two parties hold it, and an
/// older one is as good as made up.
const KEPT_SPENT: u32 = 16;

fn invalid() -> Error {
    Error::new(ErrorCode::InvalidToken, "the refresh token is wrong, expired or revoked; log in again")
}

impl Accounts {
    /// Spends a refresh token for a new pair, in one transaction.
    ///
    /// # Errors
    /// `invalid_token`, `refresh_token_reused` (the family is revoked then), `account_disabled`.
    pub async fn refresh(self: &Arc<Self>, key: Key<SignedIn>, given: &SecretString) -> Result<SignedIn> {
        let now = self.guard.latest();
        let hash = token::sha256(given.expose_secret().as_bytes());
        // What is made up never stands in the way of those who write.
        if !self.store.refresh_known(&hash, now).await? {
            return Err(invalid());
        }
        let (auth, fresh) = (Arc::clone(self), self.successor(given));
        change(&self.store, key, move |tx| Box::pin(async move { auth.rotate(tx, &hash, fresh, now).await })).await
    }

    /// What this token is spent for: always the same, so that of tabs that ask at the same time, or ask again, none is left
    /// with a dead one. It takes both the token itself and a key that is not in the database (ADR 0035).
    fn successor(&self, given: &SecretString) -> SecretString {
        token::of("hxr_", &self.successors.fingerprint(&[given.expose_secret().as_bytes()]))
    }

    async fn rotate(
        &self,
        tx: &mut Tx,
        hash: &token::Hash,
        fresh: SecretString,
        now: TimeMs,
    ) -> Result<Decided<SignedIn>> {
        let row = tx.refresh_by_hash(hash).await?.ok_or_else(invalid)?;
        if row.family_revoked_at.is_some() || row.expires_at <= now || row.family_expires_at <= now {
            return Err(invalid());
        }
        let user = tx.user_by_key(row.user).await?.ok_or_else(invalid)?;
        if !user.active {
            return Err(super::principal::disabled());
        }
        let fresh_hash = token::sha256(fresh.expose_secret().as_bytes());
        // A successor never outlives its family.
        let expires_at = now.plus(self.config.refresh_idle).min(row.family_expires_at);
        match row.spent_at {
            None => {
                let successor = tx.insert_refresh(row.family, &fresh_hash, now, expires_at).await?;
                if !tx.spend_refresh(row.id, successor, now).await? {
                    return Err(invalid());
                }
                tx.forget_spent(row.family, row.id, KEPT_SPENT).await?;
            }
            // Spent a moment ago, before or after a small step of the clock: not while it was far ahead.
            Some(spent)
                if !row.successor_spent
                    && now <= spent.plus(self.config.refresh_grace)
                    && spent <= now.plus(self.config.refresh_grace) =>
            {
                // Two tabs, a lost answer, or somebody who has a copy: whoever looks is to see it.
                let actor = Actor::User { key: user.key, id: user.id, role: user.role };
                tx.audit(&AuditEntry::event(self.clock.now(), actor, Source::Api, "security.refresh_repeated")).await?;
                if row.successor_hash.is_none_or(|hash| !token::same(&hash, &fresh_hash)) {
                    // It was spent by another version, or under another key.
                    let successor = tx.insert_refresh(row.family, &fresh_hash, now, expires_at).await?;
                    tx.replace_successor(row.id, successor).await?;
                    if let Some(lost) = row.successor {
                        tx.delete_refresh(lost).await?;
                    }
                }
            }
            Some(_) => {
                tx.revoke_family(row.family, now).await?;
                let actor = Actor::User { key: user.key, id: user.id, role: user.role };
                let entry = AuditEntry::event(self.clock.now(), actor, Source::Api, "security.refresh_reuse");
                tx.audit(&entry.outcome(Outcome::Rejected)).await?;
                let reused = Error::new(
                    ErrorCode::RefreshTokenReused,
                    "this refresh token was used before; the session is revoked for safety, log in again",
                );
                let ended = Change::Sessions { user: row.user, ended: vec![row.family_id] };
                return Ok(Decided::refused(reused).telling(ended));
            }
        }
        let account = Arc::new(Account::new(&user));
        let access_token = self.access_token(&account, row.family_id)?;
        hexa_model::crash_point!("refresh.in_tx");
        let expires_in_s = hexa_crypto::jwt::LIFETIME_S;
        Ok(Decided::done(SignedIn { account, access_token, refresh_token: fresh, expires_in_s }))
    }

    /// The account behind a principal, read afresh.
    ///
    /// # Errors
    /// `invalid_token` when the account is gone; `storage_unavailable`.
    pub async fn me(&self, principal: &Principal) -> Result<Arc<Account>> {
        let row = self.store.user_by_key(principal.account.key).await?.ok_or_else(invalid)?;
        Ok(Arc::new(Account::new(&row)))
    }
}
