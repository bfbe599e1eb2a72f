//! Who may make an account: everybody, whoever has an invitation, or nobody (`REGISTRATION`, docs/adr/0032). An invitation
//! is a link that is good once, for seven days, and for as long as whoever made it is an active admin.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::token::Hash;
use hexa_crypto::{hex, random_bytes, token};
use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, ErrorCode, InvitationId, InvitationState, Source, TimeMs};
use hexa_store::{InvitationFilter, InvitationRow, NewInvitation, PersonRow, Tx, UserRow};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::Accounts;
use super::account::{BOOTSTRAP_SETTING, NewAccount, Registration, email_taken, normalize_email};
use super::principal::Principal;
use crate::config::RegistrationMode;
use hexa_platform::change::{Decided, asked, internal};
use hexa_platform::error::{Error, Result, named};
use hexa_platform::idempotency::Key;
use hexa_platform::limit::network;
use hexa_platform::worker::{self, RunsOn, WorkerSpec};

/// How long one is good.
pub const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// What its token begins with, so that secret scanners find it.
const PREFIX: &str = "hxi_";
/// How often those that are over are marked; whoever comes with one is refused without that.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Rows in one transaction.
const PIECE: u32 = 200;

/// By what somebody may make an account.
#[derive(Debug)]
pub(super) enum Door {
    /// Nothing is needed: the registration mode is `open`.
    Open,
    /// The bootstrap secret, in hexadecimal digits of its hash.
    Bootstrap(String),
    /// The invitation with a token of this hash.
    Invited(Hash),
}

impl Accounts {
    /// By what this registration comes in, as far as that is seen without the database.
    ///
    /// # Errors
    /// `registration_closed`, `invalid_invitation`, `validation_error`.
    pub(super) fn door(&self, new: &Registration) -> Result<Door> {
        let hash = |secret: &SecretString| token::sha256(secret.expose_secret().as_bytes());
        match (&new.bootstrap_secret, &new.invitation, self.config.registration) {
            (Some(_), Some(_), _) => {
                Err(Error::validation("invitation", "send a bootstrap_secret or an invitation, not both"))
            }
            (Some(secret), None, _) => Ok(Door::Bootstrap(hex(&hash(secret)))),
            (None, _, RegistrationMode::Closed) => {
                let what = "nobody may make an account here: ask whoever runs this server (REGISTRATION=closed)";
                Err(Error::new(ErrorCode::RegistrationClosed, what))
            }
            (None, Some(invitation), _) => Ok(Door::Invited(hash(invitation))),
            (None, None, RegistrationMode::Invite) => Err(self.not_invited()),
            (None, None, RegistrationMode::Open) => Ok(Door::Open),
        }
    }

    /// Whether it opens by now; asked before anything is hashed, and once more in the transaction.
    ///
    /// # Errors
    /// `invalid_invitation`, `invalid_token` for a wrong or spent bootstrap secret, `rate_limited`.
    pub(super) async fn check_door(&self, door: &Door, email: &str, from: Option<IpAddr>) -> Result<()> {
        match door {
            Door::Open => Ok(()),
            Door::Bootstrap(offered) => match self.store.setting(BOOTSTRAP_SETTING).await? {
                Some(kept) if token::same_text(&kept, offered) => Ok(()),
                _ => Err(not_bootstrap()),
            },
            Door::Invited(hash) => {
                let attempt = self.wrong_invitations.attempt(&from.map(network), self.clock.monotonic())?;
                let found = self.store.invitation_by_hash(hash).await;
                let opens = match found {
                    Ok(found) => self.good(found, email),
                    // Nobody's fault.
                    Err(error) => {
                        attempt.forgive();
                        return Err(error.into());
                    }
                };
                if opens.is_ok() {
                    attempt.forgive();
                }
                opens.map(drop)
            }
        }
    }

    /// What opens in this transaction: the invitation, which the account is to [`spend`].
    pub(super) async fn pass(&self, tx: &mut Tx, hash: &Hash, email: &str) -> Result<InvitationRow> {
        self.good(tx.invitation_by_hash(hash).await?, email)
    }

    fn good(&self, found: Option<InvitationRow>, email: &str) -> Result<InvitationRow> {
        let now = self.guard.latest();
        let fits = |row: &InvitationRow| {
            row.state(now) == InvitationState::Open && row.email.as_deref().is_none_or(|bound| bound == email)
        };
        found.filter(fits).ok_or_else(|| self.not_invited())
    }

    /// The same for every reason: nothing is told of an invitation to who does not have it, nor of the e-mail.
    pub(super) fn not_invited(&self) -> Error {
        let what = match self.config.registration {
            RegistrationMode::Open => {
                "this invitation is not good, or not any more: it may be used, over, taken back, or for another e-mail. An \
                 account can be made here without one"
            }
            RegistrationMode::Invite | RegistrationMode::Closed => {
                "an account is made here with an invitation, and there is none that is good: it may be missing, used, \
                 over, taken back, or for another e-mail. Ask an admin of this server for a new link"
            }
        };
        Error::new(ErrorCode::InvalidInvitation, what)
    }

    /// How accounts are made here.
    pub fn registration(&self) -> RegistrationMode {
        self.config.registration
    }

    /// Whether the first admin is still to be made, which the bootstrap secret does in every mode.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn awaits_bootstrap(&self) -> Result<bool> {
        Ok(self.store.setting(BOOTSTRAP_SETTING).await?.is_some())
    }
}

/// Notes that this account was made with an invitation.
///
/// # Errors
/// When it ended meanwhile, which cannot be in the transaction that it was read in.
pub(super) async fn spend(tx: &mut Tx, invitation: &InvitationRow, new: &NewAccount) -> Result<()> {
    if !tx.use_invitation(invitation.key, new.key, new.at).await? {
        return Err(Error::internal("an invitation that was open in this transaction is not"));
    }
    let entry = AuditEntry::event(new.at, new.actor, Source::Api, "invitation.used");
    let details = json!({ "invitation": invitation.id.to_string(), "made_by": invitation.maker.id.to_string() });
    tx.audit(&entry.details(&details)).await?;
    Ok(())
}

pub(super) fn not_bootstrap() -> Error {
    Error::new(ErrorCode::InvalidToken, "the bootstrap secret is wrong or was used")
}

/// What a new invitation is to be.
#[derive(Debug, Default)]
pub struct InvitationRequest {
    /// Only this e-mail may be registered with it.
    pub email: Option<String>,
    /// For whoever looks at the list: a name ([`hexa_model::names`]).
    pub note: Option<String>,
}

/// A new invitation; its token is shown once.
#[derive(Debug)]
pub struct MadeInvitation {
    /// The invitation as it is stored, without its token.
    pub row: InvitationRow,
    /// The secret (`hxi_...`) that its holder registers with; only its hash is stored.
    pub token: SecretString,
}

/// Makes an invitation.
///
/// # Errors
/// `forbidden`, `insufficient_scope`; `validation_error`, also when as many are open as may be; `email_taken` for an
/// e-mail that has an account.
pub async fn create(
    accounts: &Accounts,
    by: &Principal,
    key: Key<MadeInvitation>,
    request: InvitationRequest,
) -> Result<MadeInvitation> {
    by.require_admin()?;
    let email = request.email.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let email = email.map(normalize_email).transpose()?;
    let note = named("note", request.note.as_deref().unwrap_or_default())?;
    if let Some(email) = &email
        && accounts.store.user_by_email(email).await?.is_some()
    {
        return Err(email_taken());
    }
    let (now, latest, most) = (accounts.clock.now(), accounts.guard.latest(), accounts.config.max_invitations);
    let secret = token::generate(PREFIX);
    let new = NewInvitation {
        id: InvitationId::at(now, random_bytes()),
        hash: token::sha256(secret.expose_secret().as_bytes()),
        maker: by.account.key,
        email,
        note,
        created_at: latest,
        expires_at: latest.plus(LIFETIME),
    };
    let by = by.clone();
    asked(&accounts.store, &by.clone(), key, move |tx| {
        Box::pin(async move {
            if tx.count_open_invitations(latest).await? >= i64::from(most) {
                let what = format!("{most} invitations are open, which is as many as may be; revoke one first");
                return Err(Error::validation("invitations", what));
            }
            let key = tx.insert_invitation(&new).await?;
            let entry = AuditEntry::event(now, by.actor(), Source::Api, "invitation.created");
            let details = json!({ "invitation": new.id.to_string(), "email": new.email, "note": new.note });
            tx.audit(&entry.details(&details)).await?;
            let account = &by.account;
            let maker = PersonRow { id: account.id, email: account.email.clone(), name: account.name.clone() };
            let row = InvitationRow {
                key,
                id: new.id,
                email: new.email,
                note: new.note,
                maker,
                maker_stands: true,
                created_at: new.created_at,
                expires_at: new.expires_at,
                ended: None,
                user: None,
            };
            Ok(Decided::done(MadeInvitation { row, token: secret }))
        })
    })
    .await
}

/// A page of invitations.
#[derive(Debug)]
pub struct Listed {
    /// The rows of this page, newest first.
    pub rows: Vec<InvitationRow>,
    /// Behind which row the next page begins.
    pub next: Option<i64>,
    /// At which time they were looked at.
    pub now: TimeMs,
}

/// Invitations that are kept, those of every admin.
///
/// # Errors
/// `forbidden`, `insufficient_scope`.
pub async fn list(
    accounts: &Accounts,
    by: &Principal,
    state: Option<InvitationState>,
    after: Option<i64>,
    limit: u32,
) -> Result<Listed> {
    by.require_admin()?;
    let now = accounts.guard.latest();
    // One more than asked for tells whether there is a next page.
    let filter = InvitationFilter { state, now, after, limit: limit + 1 };
    let mut rows = accounts.store.list_invitations(&filter).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = if more { rows.last().map(|row| row.key) } else { None };
    Ok(Listed { rows, next, now })
}

/// Takes an invitation back: its link makes no account any more.
///
/// # Errors
/// `not_found` when it is not there, or not open any more; `forbidden`, `insufficient_scope`.
pub async fn revoke(accounts: &Accounts, by: &Principal, key: Key<()>, id: InvitationId) -> Result<()> {
    by.require_admin()?;
    let (now, latest, actor) = (accounts.clock.now(), accounts.guard.latest(), by.actor());
    asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            if !tx.revoke_invitation(id, latest, now).await? {
                return Err(none());
            }
            let entry = AuditEntry::event(now, actor, Source::Api, "invitation.revoked");
            tx.audit(&entry.details(&json!({ "invitation": id.to_string() }))).await?;
            Ok(Decided::done(()))
        })
    })
    .await
}

/// There is no such invitation to take back.
pub fn none() -> Error {
    Error::new(ErrorCode::NotFound, "there is no such invitation, or it is not open any more")
}

/// Takes back what an account made that is no active admin any more: they stay so when it becomes one again.
pub(super) async fn end_of(tx: &mut Tx, maker: &UserRow, at: TimeMs, by: Actor) -> Result<()> {
    let ended = tx.revoke_invitations_of(maker.key, at).await?;
    if ended > 0 {
        let entry = AuditEntry::event(at, by, Source::Api, "invitation.revoked");
        tx.audit(&entry.details(&json!({ "made_by": maker.id.to_string(), "invitations": ended }))).await?;
    }
    Ok(())
}

const EXPIRES: WorkerSpec = WorkerSpec {
    name: "invitation_expiry",
    purpose: "marks invitations whose time has passed, so that they stay over whatever the clock does later",
    runs_on: RunsOn::OneNode,
};

/// Starts the worker that marks them.
pub(crate) fn start(accounts: &Arc<Accounts>) {
    let shared = Arc::clone(accounts);
    accounts.workers.periodic(EXPIRES, LOOK_EVERY, move |_| {
        let accounts = Arc::clone(&shared);
        worker::run(async move { expire(&accounts).await.map(drop) })
    });
}

/// Marks them now; gives how many.
///
/// # Errors
/// When the database does not take it.
pub async fn expire(accounts: &Accounts) -> Result<u64> {
    // What is marked stays so: only what is over for certain.
    let now = accounts.guard.earliest();
    let mut marked = 0;
    while !accounts.stopping() && accounts.store.has_expired_invitations(now).await? {
        let piece = internal(&accounts.store, move |tx| {
            Box::pin(async move { Ok(Decided::done(tx.expire_invitations(now, PIECE).await?)) })
        });
        marked += piece.await?;
    }
    Ok(marked)
}
