//! Personal access tokens: for scripts and the command line, with scopes, revocable, shown once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hexa_crypto::{random_bytes, token};
use hexa_model::audit::AuditEntry;
use hexa_model::event::AccessEnded;
use hexa_model::{ErrorCode, Role, Scope, Scopes, Source, TimeMs, TokenId, UserId, UserKey};
use hexa_store::{NewToken, TokenRow};
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::Auth;
use super::principal::{Principal, Via};
use crate::Services;
use crate::error::{Error, Result};
use crate::idempotency;
use crate::limit::network;

/// What they begin with, so that secret scanners find them.
pub(super) const PREFIX: &str = "hxp_";
/// Living tokens of one user.
const MAX_TOKENS: i64 = 50;
/// The longest life that can be asked for.
const MAX_DAYS: u32 = 3650;
/// Tokens kept in memory.
const MAX_KNOWN: usize = 20_000;
/// `last_used_at` is at most so old.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// A token as requests need it.
#[derive(Debug)]
pub(super) struct Pat {
    key: i64,
    pub(super) id: TokenId,
    pub(super) user: UserId,
    pub(super) scopes: Scopes,
    pub(super) expires_at: Option<TimeMs>,
    touched_at: AtomicI64,
}

/// Tokens that were used lately, by their hash.
#[derive(Debug, Default)]
pub(super) struct Pats {
    known: RwLock<HashMap<[u8; 32], Arc<Pat>>>,
    /// Raised with every revocation: what was read before one is not remembered after it.
    revocations: AtomicI64,
}

/// What a new token is to be.
#[derive(Debug)]
pub struct TokenRequest {
    /// 1 to 64 characters.
    pub name: String,
    /// Names of scopes; at least one.
    pub scopes: Vec<String>,
    /// It is dead after so many days; none = never.
    pub expires_in_days: Option<u32>,
}

/// A new token, shown once.
#[derive(Debug)]
pub struct NewPat {
    /// Its row.
    pub row: TokenRow,
    /// Itself.
    pub token: SecretString,
}

fn check(request: &TokenRequest, by: &Principal) -> Result<Scopes> {
    let name = request.name.trim();
    if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(Error::validation("name", "a token's name has 1 to 64 characters and no control characters"));
    }
    if request.expires_in_days.is_some_and(|d| d == 0 || d > MAX_DAYS) {
        return Err(Error::validation("expires_in_days", format!("expires_in_days is 1 to {MAX_DAYS}, or absent")));
    }
    let mut scopes = Vec::new();
    for name in &request.scopes {
        let Some(scope) = Scope::parse(name) else {
            let known: Vec<_> = Scope::ALL.iter().map(|s| s.as_str()).collect();
            return Err(Error::validation("scopes", format!("{name:?} is no scope; there are {}", known.join(", "))));
        };
        scopes.push(scope);
    }
    if scopes.is_empty() {
        return Err(Error::validation("scopes", "a token needs at least one scope"));
    }
    if scopes.contains(&Scope::Admin) && by.account.role != Role::Admin {
        return Err(Error::new(ErrorCode::Forbidden, "only an admin's token can have the scope admin:*"));
    }
    Ok(Scopes::of(scopes))
}

impl Auth {
    /// The token behind this text: known, not revoked, in time. One that is in no memory costs a read, so an address may
    /// try so many that nobody has.
    pub(super) async fn personal_token(&self, given: &str, from: Option<IpAddr>) -> Result<Option<Arc<Pat>>> {
        let hash = token::sha256(given.as_bytes());
        let now = self.clock.now();
        let known = self.pats.known.read().get(&hash).cloned();
        let pat = if let Some(pat) = known {
            pat
        } else {
            let attempt = self.unknown_tokens.attempt(&from.map(network), self.clock.monotonic())?;
            let seen = self.pats.revocations.load(Ordering::Acquire);
            let found = self.store.token_by_hash(&hash).await;
            if !matches!(found, Ok(None)) {
                attempt.forgive();
            }
            let Some(row) = found? else { return Ok(None) };
            let pat = Arc::new(Pat {
                key: row.key,
                id: row.id,
                user: row.user,
                scopes: row.scopes,
                expires_at: row.expires_at,
                touched_at: AtomicI64::new(row.last_used_at.map_or(0, |t| t.0)),
            });
            let mut known = self.pats.known.write();
            if self.pats.revocations.load(Ordering::Acquire) == seen {
                if known.len() >= MAX_KNOWN {
                    known.clear();
                }
                known.insert(hash, Arc::clone(&pat));
            }
            pat
        };
        if pat.expires_at.is_some_and(|at| at <= now) {
            return Ok(None);
        }
        if let Err(error) = self.touch(&pat, now).await {
            // Whoever may come in does so also while nothing can be written down.
            tracing::warn!(%error, "the use of an access token was not noted");
        }
        Ok(Some(pat))
    }

    /// Writes down that it is in use, once a minute.
    async fn touch(&self, pat: &Pat, now: TimeMs) -> Result<()> {
        let before = pat.touched_at.load(Ordering::Relaxed);
        if now < TimeMs(before).plus(TOUCH_EVERY)
            || pat.touched_at.compare_exchange(before, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        tx.touch_token(pat.key, now).await?;
        Ok(tx.commit().await?)
    }

    /// The caller's tokens, the newest first.
    ///
    /// # Errors
    /// `insufficient_scope` for a token's bearer.
    pub async fn list_tokens(&self, by: &Principal) -> Result<Vec<TokenRow>> {
        by.require_session()?;
        Ok(self.store.tokens_of(by.account.key).await?)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// `validation_error`, `forbidden` for a scope beyond the account's role, `insufficient_scope`.
    pub async fn create_token(&self, by: &Principal, request: TokenRequest) -> Result<NewPat> {
        by.require_session()?;
        let scopes = check(&request, by)?;
        let now = self.clock.now();
        let secret = token::generate(PREFIX);
        let lasts = request.expires_in_days.map(|d| Duration::from_secs(u64::from(d) * 86_400));
        let new = NewToken {
            id: TokenId::at(now, random_bytes()),
            user: by.account.key,
            name: request.name.trim().to_owned(),
            hash: token::sha256(secret.expose_secret().as_bytes()),
            scopes,
            created_at: now,
            expires_at: lasts.map(|d| now.plus(d)),
        };
        let mut tx = self.store.begin().await?;
        if tx.count_tokens(by.account.key).await? >= MAX_TOKENS {
            return Err(Error::validation(
                "name",
                format!("an account has at most {MAX_TOKENS} tokens; revoke one first"),
            ));
        }
        tx.insert_token(&new).await?;
        let entry = AuditEntry::event(now, by.actor(), Source::Api, "account.token_created");
        tx.audit(&entry.details(&json!({ "token": new.id.to_string(), "scopes": scopes.to_text() }))).await?;
        let row = TokenRow {
            key: 0,
            id: new.id,
            user: by.account.id,
            name: new.name,
            scopes,
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
        };
        let made = NewPat { row, token: secret };
        idempotency::commit(tx, &made).await?;
        Ok(made)
    }

    fn forget_token(&self, id: TokenId) {
        let mut known = self.pats.known.write();
        self.pats.revocations.fetch_add(1, Ordering::Release);
        known.retain(|_, pat| pat.id != id);
    }
}

/// Revokes a token: the next request with it is refused, and its sockets close.
///
/// # Errors
/// `not_found`, `insufficient_scope`.
pub async fn revoke(services: &Services, by: &Principal, id: TokenId) -> Result<()> {
    by.require_session()?;
    end(services, by, id).await
}

/// Revokes the token that the request was made with: what leaves a place takes its access along.
///
/// # Errors
/// `not_found` for a session, which is ended by signing out.
pub async fn revoke_own(services: &Services, by: &Principal) -> Result<()> {
    let Via::Token { id, .. } = by.via else {
        return Err(Error::new(ErrorCode::NotFound, "this is a session; end it with POST /api/v1/auth/logout"));
    };
    end(services, by, id).await
}

async fn end(services: &Services, by: &Principal, id: TokenId) -> Result<()> {
    let entry = AuditEntry::event(services.clock.now(), by.actor(), Source::Api, "account.token_revoked");
    let entry = entry.details(&json!({ "token": id.to_string() }));
    if !end_one(services, by.account.key, id, &entry).await? {
        return Err(Error::new(ErrorCode::NotFound, "there is no such token, or it is not yours"));
    }
    Ok(())
}

/// Revokes one token of an account, with this audit row; false when it is not there or was revoked before.
pub(super) async fn end_one(services: &Services, user: UserKey, id: TokenId, entry: &AuditEntry) -> Result<bool> {
    let mut tx = services.store.begin().await?;
    if !tx.revoke_token(user, id, entry.at).await? {
        return Ok(false);
    }
    tx.audit(entry).await?;
    idempotency::commit(tx, &()).await?;
    services.auth.forget_token(id);
    services.bus.access_ended(AccessEnded::Token(user, id));
    Ok(true)
}
