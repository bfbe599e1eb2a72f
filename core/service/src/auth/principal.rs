//! The bearer of a request: token checked, account alive, rate within limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_model::{Actor, ErrorCode, Role, Scope, Scopes, SessionId, TimeMs, TokenId, UserId, UserKey};
use hexa_store::{Tx, UserRow};

use super::tokens::Known;
use super::{Auth, pats, tokens};
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

/// With what the bearer proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An access token of this session: everything that the account may do.
    Session(SessionId),
    /// A personal access token: what the account may do, as far as the scopes go.
    Token {
        /// Which.
        id: TokenId,
        /// How far.
        scopes: Scopes,
        /// It is dead then.
        expires_at: Option<TimeMs>,
    },
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The account.
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
    pub(crate) async fn still(&self, tx: &mut Tx) -> Result<()> {
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

impl Auth {
    /// Checks an access token against the live account: its role and state count, not the token's.
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

pub(super) fn invalid() -> Error {
    Error::new(ErrorCode::InvalidToken, "the access token is missing, wrong or expired")
}

pub(super) fn disabled() -> Error {
    Error::new(ErrorCode::AccountDisabled, "this account is deactivated")
}
