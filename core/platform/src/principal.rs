//! The bearer of a request, and what it may do.

use std::sync::Arc;

use hexa_model::{Actor, ErrorCode, Role, Scope, Scopes, SessionId, TimeMs, TokenId, UserId, UserKey};
use hexa_store::{Tx, UserRow};

use crate::error::{Error, Result};

/// An account as the server needs it for each request. It never holds the password hash.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its key in the store; never shown outside the server.
    pub key: UserKey,
    /// Its public id, in tokens, the API and the audit.
    pub id: UserId,
    /// Its e-mail address in lower case, unique among accounts.
    pub email: String,
    /// The name that is shown to people; none when the user gave none.
    pub name: Option<String>,
    /// What it may do: `user`, or `admin` for everything of this server.
    pub role: Role,
    /// Whether it may do anything at all.
    pub active: bool,
    /// Tokens of an older epoch are dead.
    pub epoch: i64,
    /// When it was made.
    pub created_at: TimeMs,
}

impl Account {
    /// From its row in the store, without the password hash.
    pub fn new(row: &UserRow) -> Self {
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

/// With what the bearer proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An access token of this session: everything that the account may do.
    Session(SessionId),
    /// A personal access token: what the account may do, as far as the scopes go.
    Token {
        /// Which token it is, for the audit and for its revocation.
        id: TokenId,
        /// What the token may do at most, chosen when it was made.
        scopes: Scopes,
        /// It is dead then.
        expires_at: Option<TimeMs>,
    },
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The account that asks, as it was when the request was authenticated.
    pub account: Arc<Account>,
    /// How it proved itself.
    pub via: Credential,
}

impl Principal {
    /// For audit and authorization: an admin's token without the scope `admin:*` acts as a user.
    pub fn actor(&self) -> Actor {
        let role = if self.is_admin() { Role::Admin } else { Role::User };
        Actor::User { key: self.account.key, id: self.account.id, role }
    }
    /// Whether the account is an admin, and the bearer may act as one.
    pub fn is_admin(&self) -> bool {
        self.account.role == Role::Admin && self.may(Scope::Admin)
    }
    fn may(&self, scope: Scope) -> bool {
        match self.via {
            Credential::Session(_) => true,
            Credential::Token { scopes, .. } => scopes.has(scope),
        }
    }
    /// 403 unless admin: `forbidden` for the account, `insufficient_scope` for its token.
    ///
    /// # Errors
    /// `forbidden`, `insufficient_scope`.
    pub fn require_admin(&self) -> Result<()> {
        if self.account.role != Role::Admin {
            return Err(Error::new(ErrorCode::Forbidden, "this needs the role admin"));
        }
        self.require(Scope::Admin)
    }
    /// 403 `insufficient_scope` unless the bearer may do this.
    ///
    /// # Errors
    /// `insufficient_scope`.
    pub fn require(&self, scope: Scope) -> Result<()> {
        if self.may(scope) {
            return Ok(());
        }
        let what = format!("this access token lacks the scope {:?}; make one that has it", scope.as_str());
        Err(Error::new(ErrorCode::InsufficientScope, what).detail("scope", scope.as_str()))
    }
    /// The session. What touches passwords, sessions and tokens is for sessions only: a token that leaked must not
    /// make itself another one.
    ///
    /// # Errors
    /// `insufficient_scope` for a token's bearer.
    pub fn require_session(&self) -> Result<SessionId> {
        match self.via {
            Credential::Session(session) => Ok(session),
            Credential::Token { .. } => Err(Error::new(
                ErrorCode::InsufficientScope,
                "sign in with e-mail and password for this; an access token cannot do it, whatever its scopes",
            )),
        }
    }
}

impl Principal {
    /// Refused unless what the bearer proved still holds where nothing can come in between: in the transaction of what it
    /// asked for. What ended its access may have been committed since it was authenticated.
    ///
    /// # Errors
    /// `account_disabled`; `invalid_token` when its session, its token, or its role ended.
    pub async fn revalidate(&self, tx: &mut Tx) -> Result<()> {
        let (user, account) = (self.account.key, tx.user_by_key(self.account.key).await?.ok_or_else(invalid)?);
        if !account.active {
            return Err(disabled());
        }
        let living = match self.via {
            Credential::Session(id) => account.epoch == self.account.epoch && tx.has_session(user, id).await?,
            Credential::Token { id, .. } => account.role == self.account.role && tx.has_token(user, id).await?,
        };
        if living { Ok(()) } else { Err(invalid()) }
    }
}

/// `invalid_token`: what the bearer sent is not good, or not any more.
pub fn invalid() -> Error {
    Error::new(ErrorCode::InvalidToken, "the access token is missing, wrong or expired")
}

/// `account_disabled`: the account may do nothing.
pub fn disabled() -> Error {
    Error::new(ErrorCode::AccountDisabled, "this account is deactivated")
}
