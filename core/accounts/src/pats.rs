//! Personal access tokens: for scripts and the command line, with scopes, revocable, shown once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hexa_crypto::{random_bytes, token};
use hexa_model::audit::AuditEntry;
use hexa_model::{Change, ErrorCode, Role, Scope, Scopes, Source, TimeMs, TokenId, UserId, UserKey};
use hexa_store::{NewToken, TokenRow};
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::Accounts;
use super::principal::{Credential, Principal};
use hexa_platform::change::{Decided, asked, internal};
use hexa_platform::error::{Error, Result, named};
use hexa_platform::idempotency::Key;
use hexa_platform::limit::network;

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
    /// What it is for: a name ([`hexa_model::names`]), not empty.
    pub name: String,
    /// Names of scopes; at least one.
    pub scopes: Vec<String>,
    /// It is dead after so many days; none = never.
    pub expires_in_days: Option<u32>,
}

/// A new token, shown once.
#[derive(Debug)]
pub struct NewPat {
    /// The token as it is stored and listed, without itself.
    pub row: TokenRow,
    /// The secret (`hxp_...`) itself; only its hash is stored.
    pub token: SecretString,
}

/// Its name as it is kept, and what it may do.
fn check(request: &TokenRequest, by: &Principal) -> Result<(String, Scopes)> {
    let name = named("name", &request.name)?.ok_or_else(|| Error::validation("name", "a token's name is not empty"))?;
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
    Ok((name, Scopes::of(scopes)))
}

impl Accounts {
    /// The token behind this text: known, not revoked, in time. One that is in no memory costs a read, so an address may
    /// try so many that nobody has.
    pub(super) async fn personal_token(&self, given: &str, from: Option<IpAddr>) -> Result<Option<Arc<Pat>>> {
        let hash = token::sha256(given.as_bytes());
        let now = self.guard.latest();
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
        let key = pat.key;
        internal(&self.store, move |tx| Box::pin(async move { Ok(Decided::done(tx.touch_token(key, now).await?)) }))
            .await
            .map(drop)
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
    pub async fn create_token(&self, by: &Principal, key: Key<NewPat>, request: TokenRequest) -> Result<NewPat> {
        by.require_session()?;
        let (name, scopes) = check(&request, by)?;
        let (now, made_at) = (self.clock.now(), self.guard.latest());
        let secret = token::generate(PREFIX);
        let lasts = request.expires_in_days.map(|d| Duration::from_secs(u64::from(d) * 86_400));
        let new = NewToken {
            id: TokenId::at(now, random_bytes()),
            user: by.account.key,
            name,
            hash: token::sha256(secret.expose_secret().as_bytes()),
            scopes,
            created_at: made_at,
            expires_at: lasts.map(|d| made_at.plus(d)),
        };
        let by = by.clone();
        asked(&self.store, &by.clone(), key, move |tx| {
            Box::pin(async move {
                // Asked again where nothing can come in between: the account may have been deactivated or demoted.
                let owner = tx.user_by_key(by.account.key).await?.ok_or_else(super::principal::invalid)?;
                if !owner.active || owner.epoch != by.account.epoch {
                    return Err(super::principal::invalid());
                }
                if tx.count_tokens(by.account.key).await? >= MAX_TOKENS {
                    let what = format!("an account has at most {MAX_TOKENS} tokens; revoke one first");
                    return Err(Error::validation("name", what));
                }
                tx.insert_token(&new).await?;
                let entry = AuditEntry::event(now, by.actor(), Source::Api, "account.token_created");
                let details = json!({ "token": new.id.to_string(), "scopes": scopes.to_text() });
                tx.audit(&entry.details(&details)).await?;
                let row = TokenRow {
                    key: 0,
                    id: new.id,
                    user: by.account.id,
                    name: new.name,
                    scopes,
                    created_at: made_at,
                    expires_at: new.expires_at,
                    last_used_at: None,
                };
                Ok(Decided::done(NewPat { row, token: secret }))
            })
        })
        .await
    }

    /// Everything that was read is read again.
    pub(crate) fn forget_tokens(&self) {
        let mut known = self.pats.known.write();
        self.pats.revocations.fetch_add(1, Ordering::Release);
        known.clear();
    }

    pub(crate) fn forget_token(&self, id: TokenId) {
        let mut known = self.pats.known.write();
        self.pats.revocations.fetch_add(1, Ordering::Release);
        known.retain(|_, pat| pat.id != id);
    }
}

/// Revokes a token: the next request with it is refused, and its sockets close.
///
/// # Errors
/// `not_found`, `insufficient_scope`.
pub async fn revoke(accounts: &Accounts, by: &Principal, key: Key<()>, id: TokenId) -> Result<()> {
    by.require_session()?;
    end(accounts, by, key, id).await
}

/// Revokes the token that the request was made with: what leaves a place takes its access along.
///
/// # Errors
/// `not_found` for a session, which is ended by signing out.
pub async fn revoke_own(accounts: &Accounts, by: &Principal, key: Key<()>) -> Result<()> {
    let Credential::Token { id, .. } = by.via else {
        return Err(Error::new(ErrorCode::NotFound, "this is a session; end it with POST /api/v1/auth/logout"));
    };
    end(accounts, by, key, id).await
}

async fn end(accounts: &Accounts, by: &Principal, key: Key<()>, id: TokenId) -> Result<()> {
    let entry = AuditEntry::event(accounts.clock.now(), by.actor(), Source::Api, "account.token_revoked");
    let entry = entry.details(&json!({ "token": id.to_string() }));
    let none = || Error::new(ErrorCode::NotFound, "there is no such token, or it is not yours");
    end_one(accounts, by, key, (by.account.key, id), entry, none).await
}

/// Revokes one token of an account, with this audit row; `none` when it is not there or was revoked before.
pub(super) async fn end_one(
    accounts: &Accounts,
    by: &Principal,
    key: Key<()>,
    (user, id): (UserKey, TokenId),
    entry: AuditEntry,
    none: fn() -> Error,
) -> Result<()> {
    asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            if !tx.revoke_token(user, id, entry.at).await? {
                return Err(none());
            }
            tx.audit(&entry).await?;
            Ok(Decided::done(()).telling(Change::Token { user, id }))
        })
    })
    .await
}
