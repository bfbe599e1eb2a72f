//! Accounts as an admin manages them.

use crate::Accounts;
use hexa_model::audit::AuditEntry;
use hexa_model::{Change, ErrorCode, Role, SessionId, Source, TokenId, UserId, UserKey};
use hexa_store::{SessionRow, TokenRow, UserFilter, UserRow};
use serde_json::json;

use super::account::check_name;
use super::principal::Principal;
use super::{invitations, pats, sessions};
use hexa_platform::change::Decided;
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;

/// What is to change; `None` leaves.
#[derive(Debug, Default)]
pub struct UserChange {
    /// The new role; refused where it would leave no active admin.
    pub role: Option<Role>,
    /// Whether it may sign in.
    pub active: Option<bool>,
    /// The shown name; an empty text takes it away.
    pub name: Option<String>,
}

fn none() -> Error {
    Error::new(ErrorCode::NotFound, "there is no such user")
}

/// The session is not there, or not of the user it was looked for with.
pub fn no_session() -> Error {
    Error::new(ErrorCode::NotFound, "there is no such session, or it is not this user's")
}

/// `not_found`: the token is not there, or belongs to another user.
pub fn no_token() -> Error {
    Error::new(ErrorCode::NotFound, "there is no such token, or it is not this user's")
}

/// One page of accounts, and where the next one starts.
///
/// # Errors
/// `forbidden`, `insufficient_scope`.
pub async fn list(
    accounts: &Accounts,
    by: &Principal,
    mut filter: UserFilter,
) -> Result<(Vec<UserRow>, Option<UserKey>)> {
    by.require_admin()?;
    let limit = filter.limit as usize;
    // One more than asked for tells whether there is a next page.
    filter.limit += 1;
    let mut rows = accounts.store.list_users(&filter).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(|r| r.key) } else { None };
    Ok((rows, next))
}

/// One account.
///
/// # Errors
/// `not_found`, `forbidden`, `insufficient_scope`.
pub async fn get(accounts: &Accounts, by: &Principal, id: UserId) -> Result<UserRow> {
    by.require_admin()?;
    accounts.store.user_by_id(id).await?.ok_or_else(none)
}

/// Changes role, activation or name. Role and activation act on the next request, and close what is open.
///
/// # Errors
/// `not_found`, `last_admin`, `validation_error`, `forbidden`, `insufficient_scope`.
pub async fn change(
    accounts: &Accounts,
    by: &Principal,
    key: Key<UserRow>,
    id: UserId,
    change: UserChange,
) -> Result<UserRow> {
    by.require_admin()?;
    let named = change.name.is_some();
    let name = check_name(change.name.as_deref())?;
    let user = get(accounts, by, id).await?.key;
    let (now, actor) = (accounts.clock.now(), by.actor());
    hexa_platform::change::asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            let before = tx.user_by_key(user).await?.ok_or_else(none)?;
            let role = change.role.unwrap_or(before.role);
            let active = change.active.unwrap_or(before.active);
            let was_admin = before.role == Role::Admin && before.active;
            if was_admin && !(role == Role::Admin && active) && !tx.has_other_admin(user).await? {
                let what = "this is the last active admin; make another one first";
                return Err(Error::new(ErrorCode::LastAdmin, what));
            }
            if named {
                tx.set_user_name(user, name.as_deref(), now).await?;
            }
            let standing = role != before.role || active != before.active;
            let mut ended = Vec::new();
            if standing {
                tx.set_standing(user, role, active, now).await?;
                if was_admin && !(role == Role::Admin && active) {
                    invitations::end_of(tx, &before, now, actor).await?;
                }
                if !active {
                    ended = tx.revoke_sessions_of(user, None, now).await?;
                }
            }
            let entry = AuditEntry::event(now, actor, Source::Api, "user.changed");
            let details = json!({ "user": id.to_string(), "role": role.as_str(), "active": active, "renamed": named });
            tx.audit(&entry.details(&details)).await?;
            let after = tx.user_by_key(user).await?.ok_or_else(none)?;
            let changed = Change::Account { user, id, epoch: after.epoch, ends_access: standing };
            let mut decided = Decided::done(after).telling(changed);
            if !ended.is_empty() {
                decided = decided.telling(Change::Sessions { user, ended });
            }
            Ok(decided)
        })
    })
    .await
}

/// Ends every session of an account, and the guard that wrong passwords put up; gives how many sessions.
///
/// # Errors
/// `not_found`, `forbidden`, `insufficient_scope`.
pub async fn end_sessions(accounts: &Accounts, by: &Principal, key: Key<usize>, id: UserId) -> Result<usize> {
    let user = get(accounts, by, id).await?.key;
    let (now, actor) = (accounts.clock.now(), by.actor());
    hexa_platform::change::asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            let ended = tx.revoke_sessions_of(user, None, now).await?;
            tx.login_succeeded(user).await?;
            let entry = AuditEntry::event(now, actor, Source::Api, "user.sessions_ended");
            tx.audit(&entry.details(&json!({ "user": id.to_string(), "sessions": ended.len() }))).await?;
            Ok(Decided::done(ended.len()).telling(Change::Sessions { user, ended }))
        })
    })
    .await
}

/// An account's living sessions, the last used first.
///
/// # Errors
/// `not_found`, `forbidden`, `insufficient_scope`.
pub async fn sessions_of(accounts: &Accounts, by: &Principal, id: UserId) -> Result<Vec<SessionRow>> {
    let row = get(accounts, by, id).await?;
    Ok(accounts.store.sessions_of(row.key, accounts.guard.latest()).await?)
}

/// Ends one session of an account: its next request is refused, its sockets close.
///
/// # Errors
/// `not_found`, `forbidden`, `insufficient_scope`.
pub async fn end_session(
    accounts: &Accounts,
    by: &Principal,
    key: Key<()>,
    id: UserId,
    session: SessionId,
) -> Result<()> {
    let row = get(accounts, by, id).await?;
    let entry = AuditEntry::event(accounts.clock.now(), by.actor(), Source::Api, "user.session_ended");
    let entry = entry.details(&json!({ "user": id.to_string(), "session": session.to_string() }));
    sessions::end_one(accounts, by, key, (row.key, session), entry, no_session).await
}

/// An account's tokens, without themselves, the newest first.
///
/// # Errors
/// `not_found`, `forbidden`, `insufficient_scope`.
pub async fn tokens_of(accounts: &Accounts, by: &Principal, id: UserId) -> Result<Vec<TokenRow>> {
    let row = get(accounts, by, id).await?;
    Ok(accounts.store.tokens_of(row.key).await?)
}

/// Revokes a token of an account: the next request with it is refused, and its sockets close.
///
/// # Errors
/// `not_found`, `forbidden`, `insufficient_scope`.
pub async fn revoke_token(accounts: &Accounts, by: &Principal, key: Key<()>, id: UserId, token: TokenId) -> Result<()> {
    let row = get(accounts, by, id).await?;
    let entry = AuditEntry::event(accounts.clock.now(), by.actor(), Source::Api, "user.token_revoked");
    let entry = entry.details(&json!({ "user": id.to_string(), "token": token.to_string() }));
    pats::end_one(accounts, by, key, (row.key, token), entry, no_token).await
}
