//! What a user's pages and apps keep on the server: four JSON documents, changed by compare-and-set
//! (docs/PLATFORM.md#preferences).
//!
//! An entity tag is a hash of the document's text: it says the same after a restart and a restore, and a document that
//! was removed and made again with other contents never has its former tag.

mod document;

use crate::Accounts;
use std::collections::BTreeMap;

use hexa_crypto::{hex, token};
use hexa_model::{ErrorCode, TimeMs, UserKey};
use hexa_store::{PreferenceRow, Tx};
use serde_json::{Map, Value};

pub use document::{MAX_BYTES, MAX_DEPTH, Name};
use hexa_platform::change::Decided;
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;
use hexa_platform::principal::Principal;

/// A representation and its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// One document, or all of them as one object, as JSON text.
    pub text: String,
    /// Strong entity tag, with its quotes (RFC 9110 section 8.8.3).
    pub etag: String,
}

/// Entity tags of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// Whatever is stored now, or nothing.
    Any,
    /// Any of these; weak ones begin with `W/`.
    List(Vec<String>),
}

/// When a change may be made (RFC 9110 section 13).
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// Only if what is there has one of these.
    pub if_match: Option<Tags>,
    /// Only if what is there has none of these.
    pub if_none_match: Option<Tags>,
}

/// What a request wants of several documents at once: an object, or null to remove it.
pub type Changes = BTreeMap<Name, Option<Map<String, Value>>>;

type Documents = BTreeMap<Name, String>;

impl Tagged {
    fn new(text: String) -> Self {
        let hash = token::sha256(text.as_bytes());
        Self { etag: format!("\"{}\"", hex(&hash[..16])), text }
    }
}

impl Tags {
    /// Compares as `If-None-Match` does: a weak tag stands for the strong one of the same text.
    pub fn match_weakly(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags.iter().any(|t| t.strip_prefix("W/").unwrap_or(t) == etag),
        }
    }
    /// Compares as `If-Match` does: a weak tag is never equal.
    fn match_strongly(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags.iter().any(|t| t == etag),
        }
    }
}

impl Condition {
    /// 412 when what is there (none = nothing) does not fit; the details hold the tag it has now.
    fn check(&self, current: Option<&Tagged>) -> Result<()> {
        let etag = current.map(|c| c.etag.as_str());
        let matched = self.if_match.as_ref().is_none_or(|tags| etag.is_some_and(|e| tags.match_strongly(e)));
        let fresh = self.if_none_match.as_ref().is_none_or(|tags| !etag.is_some_and(|e| tags.match_weakly(e)));
        if matched && fresh {
            return Ok(());
        }
        let what = "it was changed meanwhile, nothing was stored: read it again, put your change into what you read, \
            and send that with its ETag";
        Err(Error::new(ErrorCode::PreconditionFailed, what).detail("etag", etag))
    }
}

fn documents(rows: Vec<PreferenceRow>) -> Documents {
    // A name of a later version is left alone.
    rows.into_iter().filter_map(|row| Some((Name::parse(&row.name)?, row.document))).collect()
}

/// All four as one object; null where there is none.
fn whole(documents: &Documents) -> Tagged {
    let members: Vec<_> = Name::ALL
        .iter()
        .map(|name| format!("\"{}\":{}", name.as_str(), documents.get(name).map_or("null", String::as_str)))
        .collect();
    Tagged::new(format!("{{{}}}", members.join(",")))
}

/// All four documents of the caller as one object; null where there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn list(accounts: &Accounts, by: &Principal) -> Result<Tagged> {
    Ok(whole(&documents(accounts.store.preferences(by.account.key).await?)))
}

/// One document of the caller.
///
/// # Errors
/// `not_found` when there is none.
pub async fn get(accounts: &Accounts, by: &Principal, name: Name) -> Result<Tagged> {
    let mut found = documents(accounts.store.preferences(by.account.key).await?);
    found.remove(&name).map(Tagged::new).ok_or_else(|| no_document(name))
}

/// Stores a document whole; true when there was none before.
///
/// # Errors
/// `precondition_failed`, `payload_too_large`, `validation_error` for one that is nested too deep.
pub async fn put(
    accounts: &Accounts,
    by: &Principal,
    key: Key<(Tagged, bool)>,
    (name, document): (Name, Map<String, Value>),
    when: Condition,
) -> Result<(Tagged, bool)> {
    let text = document::checked(name, document)?;
    let (user, now) = (by.account.key, accounts.clock.now());
    hexa_platform::change::asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            let found = documents(tx.preferences_to_change(user).await?);
            let current = found.get(&name).cloned().map(Tagged::new);
            when.check(current.as_ref())?;
            let new = Tagged::new(text);
            store(tx, user, name, &new.text, now).await?;
            Ok(Decided::done((new, current.is_none())))
        })
    })
    .await
}

/// Removes a document.
///
/// # Errors
/// `not_found` when there is none and no condition says otherwise, `precondition_failed`.
pub async fn remove(accounts: &Accounts, by: &Principal, key: Key<()>, name: Name, when: Condition) -> Result<()> {
    let user = by.account.key;
    hexa_platform::change::asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            let found = documents(tx.preferences_to_change(user).await?);
            when.check(found.get(&name).cloned().map(Tagged::new).as_ref())?;
            if !tx.delete_preference(user, name.as_str()).await? {
                return Err(no_document(name));
            }
            Ok(Decided::done(()))
        })
    })
    .await
}

/// Stores or removes several documents at once, all or none; the ones that are not named stay as they are.
///
/// # Errors
/// As [`put`].
pub async fn put_all(
    accounts: &Accounts,
    by: &Principal,
    key: Key<Tagged>,
    changes: Changes,
    when: Condition,
) -> Result<Tagged> {
    change(accounts, by, key, when, |_| Ok(changes)).await
}

/// Merges into several documents at once, all or none (RFC 7396, the four documents being members of one object).
///
/// # Errors
/// As [`put`].
pub async fn merge_all(
    accounts: &Accounts,
    by: &Principal,
    key: Key<Tagged>,
    patch: Changes,
    when: Condition,
) -> Result<Tagged> {
    change(accounts, by, key, when, |found| {
        let merged = |(name, change): (Name, Option<Map<String, Value>>)| -> Result<_> {
            let Some(change) = change else { return Ok((name, None)) };
            let before = found.get(&name).map(|text| serde_json::from_str(text)).transpose();
            let before = before.map_err(Error::internal)?.unwrap_or_default();
            Ok((name, Some(document::merged(before, change))))
        };
        patch.into_iter().map(merged).collect()
    })
    .await
}

async fn change(
    accounts: &Accounts,
    by: &Principal,
    key: Key<Tagged>,
    when: Condition,
    plan: impl FnOnce(&Documents) -> Result<Changes> + Send + 'static,
) -> Result<Tagged> {
    let (user, now) = (by.account.key, accounts.clock.now());
    hexa_platform::change::asked(&accounts.store, by, key, move |tx| {
        Box::pin(async move {
            let mut found = documents(tx.preferences_to_change(user).await?);
            when.check(Some(&whole(&found)))?;
            for (name, change) in plan(&found)? {
                if let Some(document) = change {
                    let text = document::checked(name, document)?;
                    store(tx, user, name, &text, now).await?;
                    found.insert(name, text);
                } else {
                    tx.delete_preference(user, name.as_str()).await?;
                    found.remove(&name);
                }
            }
            Ok(Decided::done(whole(&found)))
        })
    })
    .await
}

async fn store(tx: &mut Tx, user: UserKey, name: Name, text: &str, now: TimeMs) -> Result<()> {
    let row = PreferenceRow { name: name.as_str().to_owned(), document: text.to_owned() };
    Ok(tx.put_preference(user, &row, now).await?)
}

fn no_document(name: Name) -> Error {
    let what = format!("{} is not stored; PUT makes it", name.as_str());
    Error::new(ErrorCode::NotFound, what)
}
