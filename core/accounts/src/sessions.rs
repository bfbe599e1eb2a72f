//! Sessions that a user sees and ends, and the password that guards them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::password;
use hexa_model::audit::AuditEntry;
use hexa_model::{Change, ErrorCode, Outcome, SessionId, Source, TimeMs, UserKey};
use hexa_store::SessionRow;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::account::{SignedIn, check_password};
use super::principal::{Account, Credential, Principal};
use super::{Accounts, ClientInfo};
use hexa_platform::change::{Decided, asked, change};
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;

/// The caller's living sessions, the last used first.
///
/// # Errors
/// `insufficient_scope` for a token's bearer.
pub async fn list(accounts: &Accounts, by: &Principal) -> Result<Vec<SessionRow>> {
    by.require_session()?;
    Ok(accounts.store.sessions_of(by.account.key, accounts.guard.latest()).await?)
}

/// Ends one session of the caller: its next request is refused, its sockets close.
///
/// # Errors
/// `not_found`, `insufficient_scope`.
pub async fn end(accounts: &Accounts, by: &Principal, key: Key<()>, id: SessionId) -> Result<()> {
    by.require_session()?;
    let entry = AuditEntry::event(accounts.clock.now(), by.actor(), Source::Api, "account.session_ended");
    let entry = entry.details(&json!({ "session": id.to_string() }));
    let none = || Error::new(ErrorCode::NotFound, "there is no such session, or it is not yours");
    end_one(accounts, by, key, (by.account.key, id), entry, none).await
}

/// Ends one session of an account, with this audit row; `none` when it is not there or ended before.
pub(super) async fn end_one(
    accounts: &Accounts,
    by: &Principal,
    key: Key<()>,
    (user, id): (UserKey, SessionId),
    entry: AuditEntry,
    none: fn() -> Error,
) -> Result<()> {
    asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            if !tx.revoke_session(user, id, entry.at).await? {
                return Err(none());
            }
            tx.audit(&entry).await?;
            Ok(Decided::done(()).telling(Change::Sessions { user, ended: vec![id] }))
        })
    })
    .await
}

/// Ends every session of the caller but the one that asks; gives how many.
///
/// # Errors
/// `insufficient_scope`.
pub async fn end_others(accounts: &Accounts, by: &Principal, key: Key<usize>) -> Result<usize> {
    let own = by.require_session()?;
    let (now, user, actor) = (accounts.clock.now(), by.account.key, by.actor());
    asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            let ended = tx.revoke_sessions_of(user, Some(own), now).await?;
            let entry = AuditEntry::event(now, actor, Source::Api, "account.sessions_ended");
            tx.audit(&entry.details(&json!({ "sessions": ended.len() }))).await?;
            Ok(Decided::done(ended.len()).telling(Change::Sessions { user, ended }))
        })
    })
    .await
}

/// Ends the session of a refresh token; an unknown one is as good as ended.
///
/// # Errors
/// `storage_unavailable`, `busy`.
pub async fn logout(accounts: &Accounts, key: Key<()>, given: &SecretString) -> Result<()> {
    let now = accounts.guard.latest();
    let hash = hexa_crypto::token::sha256(given.expose_secret().as_bytes());
    // What is made up never stands in the way of those who write.
    if !accounts.store.refresh_known(&hash, now).await? {
        return Ok(());
    }
    change(&accounts.store, key, move |tx| {
        Box::pin(async move {
            let Some(row) = tx.refresh_by_hash(&hash).await? else { return Ok(Decided::done(())) };
            tx.revoke_family(row.family, now).await?;
            Ok(Decided::done(()).telling(Change::Sessions { user: row.user, ended: vec![row.family_id] }))
        })
    })
    .await
}

/// Changes the caller's password. Every session ends, and a new one begins for the caller; personal access tokens stay,
/// because they are listed and revoked by themselves.
///
/// # Errors
/// `invalid_credentials` for a wrong current password, `validation_error`, `rate_limited`, `insufficient_scope`, `busy`.
pub async fn change_password(
    accounts: &Arc<Accounts>,
    by: &Principal,
    key: Key<SignedIn>,
    (current, fresh): (SecretString, SecretString),
    origin: ClientInfo,
) -> Result<SignedIn> {
    by.require_session()?;
    let auth = Arc::clone(accounts);
    let email = by.account.email.as_str();
    check_password(&fresh)?;
    let verified = accounts.store.user_by_key(by.account.key).await?.ok_or_else(super::principal::invalid)?;
    let trial = auth.throttle.attempt(email, origin.ip, accounts.clock.monotonic())?;
    let (stored, own) = (verified.password_hash.clone(), [email.to_owned(), verified.name.clone().unwrap_or_default()]);
    let hashed = auth
        .sign_ins
        .run(move || {
            if !password::verify(current.expose_secret(), &stored) {
                return Ok(None);
            }
            let own: Vec<_> = own.iter().map(String::as_str).collect();
            password::check_strength(fresh.expose_secret(), &own)?;
            password::hash(fresh.expose_secret()).map(Some).map_err(Error::internal)
        })
        .await;
    // Dropped with a wrong password, it counts one.
    let hashed = match hashed {
        Ok(Ok(None)) => {
            drop(trial);
            None
        }
        Ok(Ok(hashed)) => {
            trial.withdraw();
            hashed
        }
        Ok(Err(error)) | Err(error) => {
            trial.withdraw();
            return Err(error);
        }
    };
    let (now, by) = (accounts.clock.now(), by.clone());
    asked(&accounts.store, &by.clone(), key, move |tx| {
        Box::pin(async move {
            let refused = || Error::new(ErrorCode::InvalidCredentials, "the current password is wrong");
            let row = tx.user_by_key(verified.key).await?.ok_or_else(super::principal::invalid)?;
            // Whoever asked may have been signed out, deactivated or given another password since it was verified.
            if !row.active || row.epoch != by.account.epoch {
                return Err(super::principal::invalid());
            }
            let hash = hashed.filter(|_| row.password_hash == verified.password_hash);
            let Some(hash) = hash else {
                let entry = AuditEntry::event(now, by.actor(), Source::Api, "security.password_change_refused");
                tx.audit(&entry.outcome(Outcome::Rejected)).await?;
                return Ok(Decided::refused(refused()));
            };
            tx.set_password(row.key, &hash, now).await?;
            let ended = tx.revoke_sessions_of(row.key, None, now).await?;
            tx.audit(&AuditEntry::event(now, by.actor(), Source::Api, "account.password_changed")).await?;
            let changed = tx.user_by_key(row.key).await?.ok_or_else(super::principal::invalid)?;
            let (user, id, epoch) = (row.key, row.id, changed.epoch);
            // Personal access tokens go on, with their sockets.
            Ok(auth
                .sign_in(tx, Arc::new(Account::new(&changed)), origin)
                .await?
                .telling(Change::Account { user, id, epoch, ends_access: false })
                .telling(Change::Sessions { user, ended }))
        })
    })
    .await
}

impl Accounts {
    /// Whether what opened a socket still holds, as far as memory tells: asked before each of its frames.
    ///
    /// # Errors
    /// `invalid_token`, `account_disabled`; `storage_unavailable` when the account is in no memory.
    pub async fn still(&self, by: &Principal) -> Result<Principal> {
        let account = self.account(by.account.id).await?.filter(|a| a.active).ok_or_else(super::principal::disabled)?;
        let over = match by.via {
            Credential::Session(session) => account.epoch != by.account.epoch || self.is_session_ended(session),
            Credential::Token { expires_at, .. } => expires_at.is_some_and(|at| at <= self.guard.latest()),
        };
        if over {
            return Err(super::principal::invalid());
        }
        Ok(Principal { account, via: by.via })
    }

    /// How long the access of each of these goes on if nobody renews or ends it, as the database says: none for what is
    /// over. Two statements, however many they are.
    ///
    /// # Errors
    /// `storage_unavailable`: nothing is known of any.
    pub async fn remaining(&self, of: &[Principal]) -> Result<Vec<Option<Duration>>> {
        let now = self.guard.latest();
        let (mut sessions, mut tokens) = (Vec::new(), Vec::new());
        for by in of {
            match by.via {
                Credential::Session(id) => sessions.push(id),
                Credential::Token { id, .. } => tokens.push(id),
            }
        }
        let sessions =
            if sessions.is_empty() { HashMap::new() } else { self.store.living_sessions(&sessions, now).await? };
        let tokens = if tokens.is_empty() { HashMap::new() } else { self.store.living_tokens(&tokens).await? };
        let mut all = Vec::with_capacity(of.len());
        for by in of {
            let account = self.account(by.account.id).await?;
            let same = account.is_some_and(|now| now.active && now.role == by.account.role);
            let ends = match by.via {
                Credential::Session(id) => sessions.get(&id).copied().filter(|_| !self.is_session_ended(id)),
                Credential::Token { id, .. } => tokens.get(&id).map(|ends| ends.unwrap_or(TimeMs(i64::MAX))),
            };
            let left = ends.filter(|ends| same && *ends > now).map(|ends| ends.0.saturating_sub(now.0));
            all.push(left.map(|ms| Duration::from_millis(ms as u64)));
        }
        Ok(all)
    }
}
