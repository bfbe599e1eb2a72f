//! `/api/v1/admin/audit`: who did what, page by page or as a file.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hexa_model::{DeviceUid, TimeMs};
use hexa_platform::Error;
use hexa_platform::audit::list::{self, AuditPlace, Export, Wanted, Who};
use http::header;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::audit_text::{AuditBody, Encoder, Format};
use crate::error::ApiResult;
use crate::extract::{Query, User};
use crate::state::ApiState;
use crate::wire::{PageBody, rfc3339, time};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    actor: Option<String>,
    device: Option<String>,
    action: Option<String>,
    outcome: Option<String>,
    source: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    format: Format,
    actor: Option<String>,
    device: Option<String>,
    action: Option<String>,
    outcome: Option<String>,
    source: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl ExportQuery {
    fn wanted(self) -> Result<Wanted, Error> {
        let actor = self.actor.as_deref().map(|text| Who::parse("actor", text));
        let device = self.device.as_deref().map(|text| {
            DeviceUid::parse(text).ok_or_else(|| Error::validation("device", "device is the uid of a device"))
        });
        Ok(Wanted {
            actor: actor.transpose()?,
            device: device.transpose()?,
            action: self.action,
            outcome: self.outcome,
            source: self.source,
            since: self.since.as_deref().map(|text| time("since", text)).transpose()?,
            until: self.until.as_deref().map(|text| time("until", text)).transpose()?,
        })
    }
}

/// Those of versions whose places had no chain began with `a`, and are refused.
const CURSOR: char = 'b';
/// As long as the name of a node may be.
const MAX_CHAIN: usize = 64;

pub(super) fn write_cursor(place: &AuditPlace) -> String {
    format!("{CURSOR}{}.{}.{}", place.at.0, place.seq, place.chain)
}

pub(super) fn read_cursor(cursor: &str) -> Result<AuditPlace, Error> {
    let read = || {
        let mut parts = cursor.strip_prefix(CURSOR)?.splitn(3, '.');
        let (at, seq, chain) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let named = chain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let fits = named && (1..=MAX_CHAIN).contains(&chain.len());
        fits.then(|| AuditPlace { at: TimeMs(at), chain: chain.to_owned(), seq })
    };
    let what = "cursor is the next_cursor of an earlier page, given out by this version; begin again without it";
    read().ok_or_else(|| Error::validation("cursor", what))
}

pub(super) async fn list_audit(
    State(state): State<ApiState>,
    User(user): User,
    Query(query): Query<AuditQuery>,
) -> ApiResult<axum::Json<PageBody<AuditBody>>> {
    user.require_admin()?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::validation("limit", format!("limit is 1 to {MAX_LIMIT}")).into());
    }
    let before = query.cursor.as_deref().map(read_cursor).transpose()?;
    let AuditQuery { actor, device, action, outcome, source, since, until, .. } = query;
    let format = Format::Jsonl;
    let wanted = ExportQuery { format, actor, device, action, outcome, source, since, until }.wanted()?;
    let (rows, next) = list::page(&state.services, &user, &wanted, before, limit).await?;
    let items = rows.into_iter().map(AuditBody::new).collect();
    Ok(axum::Json(PageBody { items, next_cursor: next.as_ref().map(write_cursor) }))
}

pub(super) async fn export_audit(
    State(state): State<ApiState>,
    User(user): User,
    Query(query): Query<ExportQuery>,
) -> ApiResult<Response> {
    user.require_admin()?;
    let format = query.format;
    let wanted = query.wanted()?;
    let mut export = list::export(&state.services, &user, &wanted, format.as_str()).await?;
    let mut encoder = Encoder::new(format);
    // Before the answer begins, so that a database that does not answer is an error like any other.
    let rows = export.next().await?.unwrap_or_default();
    let first = encoder.encode(rows).map_err(Error::internal)?;
    let day = rfc3339(state.services.clock.now()).chars().take(10).collect::<String>();
    let headers = [
        (header::CONTENT_TYPE, format.content_type().to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"hexa-audit-{day}.{}\"", format.as_str())),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(parts(first, export, encoder))).into_response())
}

/// The file, part by part as the reader takes it. What fails breaks the answer off, so that it is not taken for whole.
fn parts(first: Vec<u8>, export: Export, encoder: Encoder) -> impl stream::Stream<Item = std::io::Result<Vec<u8>>> {
    stream::try_unfold((Some(first), export, encoder), async |(first, mut export, mut encoder)| {
        if let Some(first) = first {
            return Ok(Some((first, (None, export, encoder))));
        }
        let rows = export.next().await.map_err(|error| {
            tracing::error!(%error, "an audit export broke off");
            std::io::Error::other(error)
        })?;
        let Some(rows) = rows else { return Ok(None) };
        Ok(Some((encoder.encode(rows)?, (None, export, encoder))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_and_nonsense_does_not() {
        let place = AuditPlace { at: TimeMs(1_700_000_000_123), chain: "node-2".into(), seq: 42 };
        assert_eq!(read_cursor(&write_cursor(&place)).unwrap(), place);
        let long = format!("b1.2.{}", "x".repeat(65));
        // The third one is of a version whose places had no chain.
        for bad in ["", "b", "a1700000000123.42", "b1.2", "b1.2.", "b1..main", "b.2.main", "bx.2.main", "b1.2.a.b"]
            .into_iter()
            .chain(["b1.2.Main", "b1.2.a b", "1.2.main", "d1f", long.as_str()])
        {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
