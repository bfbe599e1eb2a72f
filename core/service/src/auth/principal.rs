//! The bearer of a request: token checked, account alive, rate within limits.

use std::sync::Arc;

use hexa_model::{Actor, ErrorCode, Role, SessionId, TimeMs, UserId, UserKey};
use hexa_store::UserRow;

use super::Auth;
use crate::error::{Error, Result};

/// An account as the house needs it for each request. It never holds the password hash.
#[derive(Clone, Debug)]
pub struct Account {
    /// Store key.
    pub key: UserKey,
    /// Public id.
    pub id: UserId,
    /// Lower-case e-mail.
    pub email: String,
    /// Shown name.
    pub name: Option<String>,
    /// Role.
    pub role: Role,
    /// Whether it may do anything at all.
    pub active: bool,
    /// Tokens of an older epoch are dead.
    pub epoch: i64,
    /// When it was made.
    pub created_at: TimeMs,
}

impl Account {
    pub(crate) fn new(row: &UserRow) -> Self {
        Self {
            key: row.key,
            id: row.id,
            email: row.email.clone(),
            name: row.name.clone(),
            role: row.role,
            active: row.active,
            epoch: row.epoch,
            created_at: row.created_at,
        }
    }
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The account.
    pub account: Arc<Account>,
    /// The session that the token belongs to.
    pub session: SessionId,
}

impl Principal {
    /// For audit and authorization.
    pub fn actor(&self) -> Actor {
        Actor::User { key: self.account.key, id: self.account.id, role: self.account.role }
    }
    /// Whether the account is an admin.
    pub fn is_admin(&self) -> bool {
        self.account.role == Role::Admin
    }
    /// 403 unless admin.
    pub fn require_admin(&self) -> Result<()> {
        if self.is_admin() { Ok(()) } else { Err(Error::new(ErrorCode::Forbidden, "this needs the role admin")) }
    }
}

impl Auth {
    /// Checks an access token against the live account: its role and state count, not the token's (review point 15).
    ///
    /// # Errors
    /// `invalid_token`, `account_disabled`, or `rate_limited` when the account asks too often.
    pub async fn authenticate(&self, token: &str) -> Result<Principal> {
        let principal = self.recheck(token).await?;
        self.count_request(principal.account.key)?;
        Ok(principal)
    }

    /// As [`Auth::authenticate`] without counting a request.
    async fn recheck(&self, token: &str) -> Result<Principal> {
        let invalid = || Error::new(ErrorCode::InvalidToken, "the access token is missing, wrong or expired");
        let claims = self.tokens.verify(&self.keys, token, self.clock.now()).ok_or_else(invalid)?;
        let account = self.account(claims.user).await?.ok_or_else(invalid)?;
        if !account.active {
            return Err(Error::new(ErrorCode::AccountDisabled, "this account is deactivated"));
        }
        if claims.epoch != account.epoch || self.is_session_ended(claims.session) {
            return Err(invalid());
        }
        Ok(Principal { session: claims.session, account })
    }
}
