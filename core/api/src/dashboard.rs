//! The console at `/dashboard`: files that are part of the binary, and one page around them.
//!
//! Every page has a nonce of its own: nothing that somebody manages to write into it runs or paints. Files have
//! their content in their name and are kept by browsers for a year; the page itself is asked for anew each time.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use bytes::Bytes;
use hexa_model::ErrorCode;
use hexa_platform::Error;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::error::ApiResult;
use crate::public::PublicUrl;
use crate::state::ApiState;

/// One file, compressed when it was built.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its path below `/dashboard/`, without a leading slash.
    pub path: &'static str,
    /// The value of the header `content-type`.
    pub kind: &'static str,
    /// What is sent, compressed where that is worth it.
    pub body: Body,
}

/// The contents of a file, as they were built into the server.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// Of a kind that is compressed by itself.
    Plain(&'static [u8]),
    /// In both codings: browsers take Brotli over TLS and on this machine only.
    Packed {
        /// The contents in Brotli, for clients that accept `br`.
        brotli: &'static [u8],
        /// The contents in gzip, for all others.
        gzip: &'static [u8],
    },
}

/// What the server was built with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dashboard {
    /// The page, with [`NONCE`] where its nonce belongs; none when no console was built.
    pub page: Option<&'static str>,
    /// Everything that it asks for, sorted by path.
    pub assets: &'static [Asset],
}

/// Stands in the page for the nonce of the answer.
pub(crate) const NONCE: &str = "__HEXA_NONCE__";

const MISSING: &str = include_str!("dashboard/missing.html");

/// `/` is where people begin.
pub(crate) async fn get_root(State(state): State<ApiState>) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, format!("{}/dashboard", below(&state)))]).into_response()
}

/// The path of `PUBLIC_URL`, below which everything of this server is for browsers.
fn below(state: &ApiState) -> &str {
    state.config.public_url.as_ref().map_or("", PublicUrl::path)
}

/// The page of the console, for `GET /dashboard`.
pub(crate) async fn get_page(State(state): State<ApiState>) -> Response {
    page(&state)
}

/// A file, or the page for an address that the console makes itself: those have no dot in their last part.
pub(crate) async fn get_file(
    State(state): State<ApiState>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let assets = state.config.dashboard.assets;
    if let Ok(found) = assets.binary_search_by(|asset| asset.path.cmp(path.as_str())) {
        return Ok(file(&assets[found], &headers));
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    if last.contains('.') || path.starts_with("assets/") {
        return Err(Error::new(ErrorCode::NotFound, "the console has no such file").into());
    }
    Ok(page(&state))
}

fn page(state: &ApiState) -> Response {
    let nonce = base64::engine::general_purpose::STANDARD.encode(hexa_platform::random_bytes::<16>());
    let connect = state.config.connect_src.join(" ");
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self' {connect}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
         object-src 'none'"
    );
    let mut body = state.config.dashboard.page.unwrap_or(MISSING).replace(NONCE, &nonce);
    if !below(state).is_empty() {
        // What the page asks for by itself; its scripts find out from their own address where they are.
        body = body.replace("=\"/dashboard/", &format!("=\"{}/dashboard/", below(state)));
        body = body.replace("=\"/api/", &format!("=\"{}/api/", below(state)));
    }
    let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let feature = HeaderName::from_static("permissions-policy");
    headers.insert(feature, HeaderValue::from_static("camera=(), microphone=(), geolocation=(), payment=(), usb=()"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn file(asset: &Asset, asked: &HeaderMap) -> Response {
    // Whoever asks for neither gets gzip all the same (RFC 9110 section 12.5.3 allows it): browsers always ask.
    let (bytes, encoding) = match asset.body {
        Body::Plain(bytes) => (bytes, None),
        Body::Packed { brotli, .. } if accepts(asked, "br") => (brotli, Some("br")),
        Body::Packed { gzip, .. } => (gzip, Some("gzip")),
    };
    let mut response = Bytes::from_static(bytes).into_response();
    let headers = response.headers_mut();
    let text = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, text(asset.kind));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, text(encoding));
        headers.insert(header::VARY, text("accept-encoding"));
    }
    headers.insert(header::CACHE_CONTROL, text("public, max-age=31536000, immutable"));
    response
}

/// RFC 9110 section 12.5.3, as far as clients use it: named, or everything, and not with weight zero.
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|offer| {
        let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        (name.trim().eq_ignore_ascii_case(coding) || name.trim() == "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_accepted_when_it_is_named_and_not_refused() {
        let accept = |line: &str, coding: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, line.parse().unwrap());
            accepts(&headers, coding)
        };
        assert!(accept("gzip, deflate, br, zstd", "br") && accept("gzip;q=0.5", "gzip") && accept("*", "br"));
        assert!(!accept("gzip", "br") && !accept("br;q=0", "br") && !accept("", "gzip"));
        assert!(!accepts(&HeaderMap::new(), "gzip"));
    }
}
