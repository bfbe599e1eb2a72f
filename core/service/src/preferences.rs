//! What a user's pages and apps keep with the house: four JSON documents, changed by compare-and-set (platform.md 10).
//!
//! An entity tag is a hash of the document's text: it says the same after a restart and a restore, and a document that
//! was removed and made again with other contents never has its former tag.

mod document;

use std::collections::BTreeMap;

use hexa_crypto::{hex, token};
use hexa_model::ErrorCode;
use hexa_store::{PreferenceRow, Tx};
use serde_json::{Map, Value};

use crate::Services;
use crate::auth::principal::Principal;
use crate::error::{Error, Result};
use crate::idempotency;
pub use document::{MAX_BYTES, MAX_DEPTH, Name};

/// A representation and its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// JSON text.
    pub text: String,
    /// Strong entity tag, with its quotes (RFC 9110 section 8.8.3).
    pub etag: String,
}

/// Entity tags of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever is there.
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
pub async fn list(services: &Services, by: &Principal) -> Result<Tagged> {
    Ok(whole(&documents(services.store.preferences(by.account.key).await?)))
}

/// One document of the caller.
///
/// # Errors
/// `not_found` when there is none.
pub async fn get(services: &Services, by: &Principal, name: Name) -> Result<Tagged> {
    let mut found = documents(services.store.preferences(by.account.key).await?);
    found.remove(&name).map(Tagged::new).ok_or_else(|| no_document(name))
}

/// Stores a document whole; true when there was none before.
///
/// # Errors
/// `precondition_failed`, `payload_too_large`, `validation_error` for one that is nested too deep.
pub async fn put(
    services: &Services,
    by: &Principal,
    name: Name,
    document: Map<String, Value>,
    when: &Condition,
) -> Result<(Tagged, bool)> {
    let text = document::checked(name, document)?;
    let (mut tx, found) = begin(services, by).await?;
    let current = found.get(&name).cloned().map(Tagged::new);
    when.check(current.as_ref())?;
    let new = Tagged::new(text);
    store(services, by, &mut tx, name, &new.text).await?;
    let stored = (new, current.is_none());
    idempotency::commit(tx, &stored).await?;
    Ok(stored)
}

/// Removes a document.
///
/// # Errors
/// `not_found` when there is none and no condition says otherwise, `precondition_failed`.
pub async fn remove(services: &Services, by: &Principal, name: Name, when: &Condition) -> Result<()> {
    let (mut tx, found) = begin(services, by).await?;
    let current = found.get(&name).cloned().map(Tagged::new);
    when.check(current.as_ref())?;
    if !tx.delete_preference(by.account.key, name.as_str()).await? {
        return Err(no_document(name));
    }
    idempotency::commit(tx, &()).await
}

/// Stores or removes several documents at once, all or none; the ones that are not named stay as they are.
///
/// # Errors
/// As [`put`].
pub async fn put_all(services: &Services, by: &Principal, changes: Changes, when: &Condition) -> Result<Tagged> {
    change(services, by, when, |_| Ok(changes)).await
}

/// Merges into several documents at once, all or none (RFC 7396, the four documents being members of one object).
///
/// # Errors
/// As [`put`].
pub async fn merge_all(services: &Services, by: &Principal, patch: Changes, when: &Condition) -> Result<Tagged> {
    change(services, by, when, |found| {
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
    services: &Services,
    by: &Principal,
    when: &Condition,
    plan: impl FnOnce(&Documents) -> Result<Changes>,
) -> Result<Tagged> {
    let (mut tx, mut found) = begin(services, by).await?;
    when.check(Some(&whole(&found)))?;
    for (name, change) in plan(&found)? {
        if let Some(document) = change {
            let text = document::checked(name, document)?;
            store(services, by, &mut tx, name, &text).await?;
            found.insert(name, text);
        } else {
            tx.delete_preference(by.account.key, name.as_str()).await?;
            found.remove(&name);
        }
    }
    let whole = whole(&found);
    idempotency::commit(tx, &whole).await?;
    Ok(whole)
}

async fn begin(services: &Services, by: &Principal) -> Result<(Tx, Documents)> {
    let mut tx = services.store.begin().await?;
    let found = documents(tx.preferences_to_change(by.account.key).await?);
    Ok((tx, found))
}

async fn store(services: &Services, by: &Principal, tx: &mut Tx, name: Name, text: &str) -> Result<()> {
    let row = PreferenceRow { name: name.as_str().to_owned(), document: text.to_owned() };
    Ok(tx.put_preference(by.account.key, &row, services.clock.now()).await?)
}

fn no_document(name: Name) -> Error {
    let what = format!("{} is not stored; PUT makes it", name.as_str());
    Error::new(ErrorCode::NotFound, what)
}
