//! Registration with its rules for e-mail, password and name, and the login with e-mail and password.

use std::sync::Arc;

use hexa_crypto::{password, random_bytes, token};
use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Change, ErrorCode, Outcome, Role, SessionId, Source, TimeMs, UserId, UserKey, names};
use hexa_store::{NewUser, StoreError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::invitations::{self, Door};
use super::principal::Account;
use super::{Accounts, ClientInfo};
use hexa_platform::change::{Decided, change, internal};
use hexa_platform::error::{Error, Result, named};
use hexa_platform::idempotency::Key;

/// Name of the setting that holds the hash of the bootstrap secret until it is used.
pub const BOOTSTRAP_SETTING: &str = "bootstrap_secret_sha256";

/// What a new account is asked to be; checked by [`Accounts::register`].
#[derive(Debug)]
pub struct Registration {
    /// E-mail address in any case, at most 254 bytes; kept in lower case, unique among accounts.
    pub email: String,
    /// 12 to 128 characters.
    pub password: SecretString,
    /// The name that is shown to people ([`hexa_model::names`]); none or empty = no name.
    pub name: Option<String>,
    /// Makes it an admin, once.
    pub bootstrap_secret: Option<SecretString>,
    /// The token of an invitation.
    pub invitation: Option<SecretString>,
}

/// An account that this transaction makes.
#[derive(Debug)]
pub(super) struct NewAccount {
    pub(super) key: UserKey,
    pub(super) at: TimeMs,
    pub(super) actor: Actor,
}

/// A session that has just begun: the two tokens, shown once.
#[derive(Debug)]
pub struct SignedIn {
    /// The account that has signed in.
    pub account: Arc<Account>,
    /// The access token: a signed JWT that lives `expires_in_s` seconds.
    pub access_token: SecretString,
    /// The refresh token (`hxr_...`): opaque, used once, and replaced with each refresh.
    pub refresh_token: SecretString,
    /// Seconds that the access token lives.
    pub expires_in_s: i64,
}

/// The shape of an e-mail address that we take: something, `@`, a domain with a dot or `localhost`. Whether mail
/// arrives there is for a confirmation mail to find out, not for a pattern.
pub(super) fn normalize_email(email: &str) -> Result<String> {
    let email = names::composed(&email.trim().to_lowercase());
    let wrong = |why: &str| Err(Error::validation("email", format!("the e-mail address {why}")));
    if email.len() > 254 {
        return wrong("is longer than 254 characters");
    }
    let Some((local, domain)) = email.rsplit_once('@') else { return wrong("has no @") };
    let clean = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    if !clean(local) || !clean(domain) || local.contains('@') || local.len() > 64 {
        return wrong("is not of the form name@domain");
    }
    if let Err(error) = names::clean(&email) {
        return wrong(&format!("is not seen as what it is: {error}"));
    }
    if !(domain.contains('.') || domain == "localhost") || domain.starts_with('.') || domain.ends_with('.') {
        return wrong("has no valid domain");
    }
    Ok(email)
}

/// Length only, no composition rule, nothing cut (ASVS 6.2); checked before anything is hashed.
pub(super) fn check_password(password: &SecretString) -> Result<()> {
    let length = password.expose_secret().chars().count();
    if !(12..=128).contains(&length) {
        return Err(Error::validation(
            "password",
            format!("a password has 12 to 128 characters; this one has {length}"),
        ));
    }
    Ok(())
}

pub(super) fn check_name(name: Option<&str>) -> Result<Option<String>> {
    named("name", name.unwrap_or_default())
}

impl Accounts {
    /// Makes an account and signs it in. With the bootstrap secret, which works once, it is an admin. Whoever may not make
    /// one is refused before anything is hashed.
    ///
    /// # Errors
    /// `registration_closed`, `invalid_invitation`, `rate_limited` after many wrong ones, `validation_error`, `email_taken`,
    /// `invalid_token` for a wrong or spent bootstrap secret, `busy`.
    pub async fn register(
        self: &Arc<Self>,
        key: Key<SignedIn>,
        new: Registration,
        origin: ClientInfo,
    ) -> Result<SignedIn> {
        let door = self.door(&new)?;
        let email = normalize_email(&new.email)?;
        check_password(&new.password)?;
        let name = check_name(new.name.as_deref())?;
        self.check_door(&door, &email, origin.ip).await?;
        let (plain, own) = (new.password, [email.clone(), name.clone().unwrap_or_default()]);
        let password_hash = self
            .registrations
            .run(move || {
                let own: Vec<_> = own.iter().map(String::as_str).collect();
                password::check_strength(plain.expose_secret(), &own)?;
                password::hash(plain.expose_secret()).map_err(Error::internal)
            })
            .await??;
        // Asked last: a password that nobody may have tells nothing of the e-mail, nor does the time that it takes.
        if self.store.user_by_email(&email).await?.is_some() {
            return Err(email_taken());
        }
        let (auth, now) = (Arc::clone(self), self.clock.now());
        change(&self.store, key, move |tx| {
            Box::pin(async move {
                // Taking and comparing happen in one transaction: two at once cannot both come in.
                let (role, invitation) = match &door {
                    Door::Open => (Role::User, None),
                    Door::Invited(hash) => (Role::User, Some(auth.pass(tx, hash, &email).await?)),
                    Door::Bootstrap(offered) => match tx.take_setting(BOOTSTRAP_SETTING).await? {
                        Some(kept) if token::same_text(&kept, offered) => (Role::Admin, None),
                        _ => return Err(invitations::not_bootstrap()),
                    },
                };
                let id = UserId::at(now, random_bytes());
                let user =
                    NewUser { id, email: email.clone(), name: name.clone(), role, password_hash, created_at: now };
                let key = tx.insert_user(&user).await.map_err(|e| match e {
                    StoreError::Conflict(_) => email_taken(),
                    other => other.into(),
                })?;
                let actor = Actor::User { key, id, role };
                let entry = AuditEntry::event(now, actor, Source::Api, "account.registered");
                tx.audit(&entry.details(&json!({ "role": role.as_str() }))).await?;
                if let Some(invitation) = &invitation {
                    invitations::spend(tx, invitation, &NewAccount { key, at: now, actor }).await?;
                }
                let account = Arc::new(Account { key, id, email, name, role, active: true, epoch: 0, created_at: now });
                auth.sign_in(tx, account, origin).await
            })
        })
        .await
    }

    /// Checks e-mail and password. An unknown e-mail costs and answers the same as a wrong password.
    ///
    /// # Errors
    /// `invalid_credentials`, `account_disabled` (only with the right password), `rate_limited`, `busy`.
    pub async fn login(
        self: &Arc<Self>,
        key: Key<SignedIn>,
        email: &str,
        given: SecretString,
        origin: ClientInfo,
    ) -> Result<SignedIn> {
        // Nothing longer was ever stored; it is refused before it is hashed.
        if given.expose_secret().chars().count() > 128 {
            return Err(Error::validation("password", "a password has at most 128 characters"));
        }
        let email = email.trim().to_lowercase();
        let trial = self.throttle.attempt(&email, origin.ip, self.clock.monotonic())?;
        let looked_up = async {
            let row = self.store.user_by_email(&email).await?;
            if let Some(row) = &row {
                self.check_row(row, &origin).await?;
            }
            Ok(row)
        };
        let row = match looked_up.await {
            Ok(row) => row,
            Err(error) => {
                trial.withdraw();
                return Err(error);
            }
        };
        let stored = row.as_ref().map(|r| r.password_hash.clone());
        let hashed = self
            .sign_ins
            .run(move || match stored {
                None => (password::verify_dummy(given.expose_secret()), None),
                Some(stored) => {
                    let fits = password::verify(given.expose_secret(), &stored);
                    let again = fits && password::needs_rehash(&stored);
                    (fits, again.then(|| password::hash(given.expose_secret()).ok()).flatten())
                }
            })
            .await;
        let (fits, rehashed) = match hashed {
            Ok(hashed) => hashed,
            Err(error) => {
                trial.withdraw();
                return Err(error);
            }
        };
        let Some(verified) = row.as_ref().filter(|_| fits) else {
            drop(trial);
            return Err(self.login_failed(row.map(|r| r.key), &origin).await?);
        };
        if !verified.active {
            trial.withdraw();
            return Err(super::principal::disabled());
        }
        trial.succeeded();
        let (auth, now, verified) = (Arc::clone(self), self.clock.now(), verified.clone());
        change(&self.store, key, move |tx| {
            Box::pin(async move {
                // The password that was verified may be another one by now, or the account deactivated: what a change of
                // the password ends must not begin after it.
                let row = tx.user_by_key(verified.key).await?.ok_or_else(wrong)?;
                if row.password_hash != verified.password_hash || row.epoch != verified.epoch {
                    return Err(wrong());
                }
                if !row.active {
                    return Err(super::principal::disabled());
                }
                tx.login_succeeded(row.key).await?;
                if let Some(hash) = rehashed {
                    tx.set_password_hash(row.key, &hash).await?;
                }
                let actor = Actor::User { key: row.key, id: row.id, role: row.role };
                tx.audit(&AuditEntry::event(now, actor, Source::Api, "account.signed_in")).await?;
                auth.sign_in(tx, Arc::new(Account::new(&row)), origin).await
            })
        })
        .await
    }

    /// Writes a wrong password down; gives what its caller is told.
    async fn login_failed(&self, user: Option<UserKey>, origin: &ClientInfo) -> Result<Error> {
        let (now, ip) = (self.clock.now(), origin.ip.map(|ip| ip.to_string()));
        internal(&self.store, move |tx| {
            Box::pin(async move {
                if let Some(user) = user {
                    tx.login_failed(user, now).await?;
                }
                let entry = AuditEntry::event(now, Actor::System, Source::Api, "security.login_failed");
                tx.audit(&entry.outcome(Outcome::Rejected).details(&json!({ "ip": ip }))).await?;
                Ok(Decided::done(()))
            })
        })
        .await?;
        Ok(wrong())
    }

    /// Begins a session: a refresh family with its first token, and an access token. An account has so many sessions:
    /// of one that has more, those that were used least lately end.
    pub(super) async fn sign_in(
        &self,
        tx: &mut hexa_store::Tx,
        account: Arc<Account>,
        origin: ClientInfo,
    ) -> Result<Decided<SignedIn>> {
        let now = self.guard.latest();
        let session = SessionId::at(now, random_bytes());
        let family = hexa_store::NewFamily {
            id: session,
            user: account.key,
            created_at: now,
            expires_at: now.plus(self.config.refresh_absolute),
            user_agent: origin.user_agent,
            ip: origin.ip.map(|ip| ip.to_string()),
        };
        let family = tx.insert_family(&family).await?;
        let refresh_token = token::generate("hxr_");
        let hash = token::sha256(refresh_token.expose_secret().as_bytes());
        tx.insert_refresh(family, &hash, now, now.plus(self.config.refresh_idle)).await?;
        let displaced = tx.revoke_idlest(account.key, self.config.max_sessions, now).await?;
        let access_token = self.access_token(&account, session)?;
        let expires_in_s = hexa_crypto::jwt::LIFETIME_S;
        let user = account.key;
        let signed_in = Decided::done(SignedIn { account, access_token, refresh_token, expires_in_s });
        if displaced.is_empty() {
            return Ok(signed_in);
        }
        Ok(signed_in.telling(Change::Sessions { user, ended: displaced }))
    }

    pub(crate) fn access_token(&self, account: &Account, session: SessionId) -> Result<SecretString> {
        let now = self.guard.latest();
        let issued = self.keys.load().issue(account.id, session, account.role, account.epoch, now);
        issued.map(Into::into).map_err(Error::internal)
    }
}

fn wrong() -> Error {
    Error::new(ErrorCode::InvalidCredentials, "e-mail or password is wrong")
}

pub(super) fn email_taken() -> Error {
    Error::new(ErrorCode::EmailTaken, "an account with this e-mail exists; log in instead")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        assert_eq!(normalize_email("  Ann@Example.COM ").unwrap(), "ann@example.com");
        assert_eq!(normalize_email("A\u{308}NNE@example.com").unwrap(), "\u{e4}nne@example.com");
        for unseen in ["a\u{200b}nn@example.com", "\u{202e}ann@example.com", "ann@exam\u{ad}ple.com"] {
            let refused = normalize_email(unseen).unwrap_err();
            assert!(refused.message.contains("not seen as what it is") && refused.message.contains("U+"), "{refused}");
        }
        assert!(normalize_email("demo@localhost").is_ok());
        for bad in ["", "ann", "@x.de", "a@", "a@b", "a b@c.de", "a@@b.de", "a@.de", "a@b.de.", &"a".repeat(300)] {
            assert!(normalize_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_judged_by_length_in_characters() {
        assert!(check_password(&"äöüäöüäöüäöü".into()).is_ok());
        assert!(check_password(&"eleven char".into()).is_err());
        assert!(check_password(&"x".repeat(129).into()).is_err());
    }
}
