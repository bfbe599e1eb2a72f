//! The audit for admins: pages and exports.

use hexa_model::audit::AuditEntry;
use hexa_model::{DeviceUid, ErrorCode, Outcome, Source, TimeMs, UserId};
use hexa_store::{ActionFilter, AuditFilter, AuditReader};
pub use hexa_store::{AuditPlace, ListedRow};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::Platform;
use crate::change::{Decided, internal};
use crate::error::{Error, Result};
use crate::principal::Principal;

/// Rows of an export that are in memory at once.
const EXPORT_ROWS: u32 = 500;
/// The longest name of an action that may be asked for.
const MAX_ACTION: usize = 64;

/// An account, as people name it.
#[derive(Clone, Debug)]
pub enum Who {
    /// By the public id, which never changes and belongs to one account.
    Id(UserId),
    /// By its e-mail, lower-cased.
    Email(String),
}

impl Who {
    /// An id or an e-mail.
    ///
    /// # Errors
    /// `validation_error` for anything else.
    pub fn parse(field: &str, text: &str) -> Result<Self> {
        if let Some(id) = UserId::parse(text) {
            return Ok(Self::Id(id));
        }
        if text.contains('@') {
            return Ok(Self::Email(text.trim().to_lowercase()));
        }
        Err(Error::validation(field, format!("{field} is the id or the e-mail of an account")))
    }

    fn text(&self) -> String {
        match self {
            Self::Id(id) => id.to_string(),
            Self::Email(email) => email.clone(),
        }
    }
}

/// What is asked for, by public names.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The account in whose name it was done; none = any actor, the system and devices too.
    pub actor: Option<Who>,
    /// The device that the row is about; none = any, and rows about no device.
    pub device: Option<DeviceUid>,
    /// An action, or the beginning of some: it ends with `.` or `*` then.
    pub action: Option<String>,
    /// One of the names of `Outcome`, such as `executed` or `timeout`; none = any.
    pub outcome: Option<String>,
    /// The entry point that it came by, one of the names of `Source`, such as `api`; none = any.
    pub source: Option<String>,
    /// The earliest time of a row, inclusive; none = from the beginning.
    pub since: Option<TimeMs>,
    /// The end of the time range, exclusive, and later than `since`; none = up to now.
    pub until: Option<TimeMs>,
}

/// One page, newest first, and where the next one begins; for admins.
///
/// # Errors
/// `forbidden` for anybody else, `validation_error` for a filter that cannot be met.
pub async fn page(
    platform: &Platform,
    by: &Principal,
    wanted: &Wanted,
    before: Option<AuditPlace>,
    limit: u32,
) -> Result<(Vec<ListedRow>, Option<AuditPlace>)> {
    by.require_admin()?;
    let Some(filter) = resolve(platform, wanted).await? else { return Ok((Vec::new(), None)) };
    let mut rows = platform.store.audit_reader().list(&filter, before.as_ref(), limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = if more { rows.last().map(|r| r.place.clone()) } else { None };
    Ok((rows, next))
}

/// Begins an export; for admins, audited before the first row is given.
///
/// # Errors
/// As [`page`].
pub async fn export(platform: &Platform, by: &Principal, wanted: &Wanted, format: &str) -> Result<Export> {
    by.require_admin()?;
    let filter = resolve(platform, wanted).await?;
    let details = json!({
        "format": format,
        "actor": wanted.actor.as_ref().map(Who::text),
        "device": wanted.device.as_ref().map(DeviceUid::as_str),
        "action": wanted.action,
        "outcome": wanted.outcome,
        "source": wanted.source,
        "since_ms": wanted.since.map(|t| t.0),
        "until_ms": wanted.until.map(|t| t.0),
    });
    let entry = AuditEntry::event(platform.clock.now(), by.actor(), Source::Api, "audit.exported").details(&details);
    internal(&platform.store, move |tx| Box::pin(async move { Ok(Decided::done(tx.audit(&entry).await?)) })).await?;
    let mut export = Export::new(platform.store.audit_reader(), filter.clone().unwrap_or_default());
    export.ended = filter.is_none();
    export.stop = platform.stop.clone();
    Ok(export)
}

/// An export under way: a part of it at a time.
#[derive(Debug)]
pub struct Export {
    reader: AuditReader,
    filter: AuditFilter,
    before: Option<AuditPlace>,
    ended: bool,
    stop: CancellationToken,
}

impl Export {
    /// Over these rows, newest first. Rows that are written meanwhile are not part of it.
    pub fn new(reader: AuditReader, filter: AuditFilter) -> Self {
        Self { reader, filter, before: None, ended: false, stop: CancellationToken::new() }
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// When the database does not answer, or the server stops: what was given is not all then.
    pub async fn next(&mut self) -> Result<Option<Vec<ListedRow>>> {
        if self.ended {
            return Ok(None);
        }
        if self.stop.is_cancelled() {
            return Err(Error::new(ErrorCode::ShuttingDown, "the server is stopping; the export is not complete"));
        }
        let rows = self.reader.list(&self.filter, self.before.as_ref(), EXPORT_ROWS).await?;
        self.ended = rows.len() < EXPORT_ROWS as usize;
        self.before = rows.last().map(|r| r.place.clone());
        Ok(Some(rows).filter(|rows| !rows.is_empty()))
    }
}

/// The filter by keys; none when it names somebody who is not there, so that no row can fit.
async fn resolve(platform: &Platform, wanted: &Wanted) -> Result<Option<AuditFilter>> {
    let known = |field: &str, text: &Option<String>, known: fn(&str) -> bool, names: &str| match text.as_deref() {
        Some(text) if !known(text) => Err(Error::validation(field, format!("{field} is one of {names}"))),
        _ => Ok(()),
    };
    let outcomes = "executed, noop, rejected, timeout, offline, mismatch, error, late_ack, healed, done";
    known("outcome", &wanted.outcome, |t| Outcome::parse(t).is_some(), outcomes)?;
    let sources: Vec<_> = Source::ALL.iter().map(|s| s.as_str()).collect();
    known("source", &wanted.source, |t| Source::parse(t).is_some(), &sources.join(", "))?;
    if wanted.since.zip(wanted.until).is_some_and(|(since, until)| since >= until) {
        return Err(Error::validation("until", "until is later than since"));
    }
    let mut filter = AuditFilter {
        action: wanted.action.as_deref().map(action).transpose()?.flatten(),
        outcome: wanted.outcome.clone(),
        source: wanted.source.clone(),
        since: wanted.since,
        until: wanted.until,
        ..AuditFilter::default()
    };
    // Keys of deleted rows may be given again: what came before somebody was made is not theirs.
    if let Some(who) = &wanted.actor {
        let found = match who {
            Who::Id(id) => platform.store.user_by_id(*id).await?,
            Who::Email(email) => platform.store.user_by_email(email).await?,
        };
        let Some(user) = found else { return Ok(None) };
        filter.actor = Some(user.key);
        filter.since = filter.since.max(Some(user.created_at));
    }
    if let Some(uid) = &wanted.device {
        let Some(device) = platform.store.device_by_uid(uid).await? else { return Ok(None) };
        filter.device = Some(device.key);
        filter.since = filter.since.max(Some(device.created_at));
    }
    Ok(Some(filter))
}

/// `set_relay` is itself, `security.` and `security.*` are all that begin so, `*` is no filter.
fn action(text: &str) -> Result<Option<ActionFilter>> {
    let name = text.strip_suffix('*').unwrap_or(text);
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.';
    if text.is_empty() || text.len() > MAX_ACTION || !name.bytes().all(fits) {
        let what = "action is a name such as set_relay, or the beginning of some, such as security. or device.*";
        return Err(Error::validation("action", what));
    }
    Ok(match name {
        "" => None,
        _ if name.len() < text.len() || name.ends_with('.') => Some(ActionFilter::Prefix(name.to_owned())),
        _ => Some(ActionFilter::Exact(name.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_a_name_or_a_beginning() {
        let exact = |name: &str| Some(ActionFilter::Exact(name.into()));
        let prefix = |name: &str| Some(ActionFilter::Prefix(name.into()));
        for (text, filter) in [
            ("set_relay", exact("set_relay")),
            ("device.claimed", exact("device.claimed")),
            ("security.", prefix("security.")),
            ("security.*", prefix("security.")),
            ("set*", prefix("set")),
            ("*", None),
        ] {
            assert_eq!(action(text).unwrap(), filter, "{text}");
        }
        for bad in ["", "Set", "a b", "a%", "a*b", "**", "'", "ä", &"x".repeat(65)] {
            assert!(action(bad).is_err(), "{bad}");
        }
    }
}
