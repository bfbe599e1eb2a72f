//! Sessions of this server's own pages: the refresh token lives in a cookie that no script can read (DB-5, ASVS 3.3.4).
//!
//! A page asks for it with `x-hexa-session: cookie`. Such a request must carry the `Origin` of this server, and the
//! header itself is one that no foreign page may send: two locks against requests that a browser makes in somebody's
//! name. Answers are changed on their way out, so that first and repeated ones (idempotency) are treated alike.

use axum::body::Body;
use axum::response::Response;
use hexa_model::ErrorCode;
use hexa_service::Error;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use secrecy::SecretString;

use crate::state::ApiState;
use crate::transport::Way;

/// The header that asks for it.
pub(crate) static HEADER: HeaderName = HeaderName::from_static("x-hexa-session");
/// Bound to this host, to all its paths, and to TLS or the machine itself (RFC 6265bis section 4.1.3.2).
const NAME: &str = "__Host-hexa_rt";
/// Over plain HTTP from another machine a browser refuses the one above.
const PLAIN_NAME: &str = "hexa_rt";
const PREFIX: &str = "/api/v1/auth/";
/// Answers of these routes are small.
const MAX_BODY: usize = 64 * 1024;

/// Whether a request of this path asks for its session in a cookie.
pub(crate) fn asked(path: &str, headers: &HeaderMap) -> bool {
    path.starts_with(PREFIX) && headers.get(&HEADER).is_some_and(|v| v.as_bytes() == b"cookie")
}

/// Only a page of this server may.
///
/// # Errors
/// `origin_not_allowed`.
pub(crate) fn check_origin(state: &ApiState, headers: &HeaderMap) -> Result<(), Error> {
    if headers.get(header::ORIGIN).is_some() && own_origin(state, headers) {
        return Ok(());
    }
    let what = "sessions in cookies are for pages of this server: the request's Origin must be its own (PUBLIC_URL)";
    Err(Error::new(ErrorCode::OriginNotAllowed, what))
}

/// Whether the request's Origin, which it has, is this server.
pub(crate) fn own_origin(state: &ApiState, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN).and_then(|o| o.to_str().ok()) else { return false };
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    origin == state.config.public_url
        || origin.strip_prefix("http://").or(origin.strip_prefix("https://")) == Some(host)
}

/// The refresh token that the browser sent, when the page asked for it to be used.
pub(crate) fn refresh_token(headers: &HeaderMap) -> Option<SecretString> {
    if headers.get(&HEADER).is_none_or(|v| v.as_bytes() != b"cookie") {
        return None;
    }
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs: Vec<_> = lines.flat_map(|line| line.split(';')).filter_map(|p| p.trim().split_once('=')).collect();
    // The bound one first, should both be there.
    pairs.sort_by_key(|(name, _)| *name != NAME);
    pairs.into_iter().find(|(name, value)| matches!(*name, NAME | PLAIN_NAME) && !value.is_empty()).map(|p| p.1.into())
}

/// Puts the refresh token of an answer into the cookie; takes the cookie back where the session has ended.
pub(crate) async fn settle(state: &ApiState, way: Way, path: &str, response: Response) -> Response {
    if !response.status().is_success() {
        let over = response.status() == StatusCode::UNAUTHORIZED && path.ends_with("/refresh");
        return if over || path.ends_with("/logout") { ended(way, response) } else { response };
    }
    if path.ends_with("/logout") {
        let mut response = ended(way, response);
        let clear = HeaderValue::from_static("\"storage\"");
        response.headers_mut().insert(HeaderName::from_static("clear-site-data"), clear);
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // A body of ours, whole in memory already.
    let bytes = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    let Some(token) = value.get("refresh_token").and_then(|t| t.as_str()).map(str::to_owned) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    value["refresh_token"] = serde_json::Value::Null;
    let max_age = state.services.config.auth.refresh_absolute.as_secs();
    if let Ok(cookie) = HeaderValue::from_str(&cookie(way, &token, max_age)) {
        parts.headers.append(header::SET_COOKIE, cookie);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(value.to_string()))
}

fn ended(way: Way, mut response: Response) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(&cookie(way, "", 0)) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn cookie(way: Way, token: &str, max_age: u64) -> String {
    let rest = format!("={token}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict");
    // Browsers take this machine for safe without TLS as well (W3C Secure Contexts).
    if way.https || way.local { format!("{NAME}{rest}; Secure") } else { format!("{PLAIN_NAME}{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_cookie_counts_only_where_the_page_says_so() {
        use secrecy::ExposeSecret;
        let read = |pairs: &[(&str, &str)]| refresh_token(&headers(pairs)).map(|t| t.expose_secret().to_owned());
        let asks = ("x-hexa-session", "cookie");
        assert_eq!(read(&[("cookie", "__Host-hexa_rt=abc")]), None);
        assert_eq!(read(&[asks, ("cookie", "a=b; __Host-hexa_rt=abc; c=d")]).as_deref(), Some("abc"));
        assert_eq!(read(&[asks, ("cookie", "hexa_rt=plain; __Host-hexa_rt=abc")]).as_deref(), Some("abc"));
        assert_eq!(read(&[asks, ("cookie", "hexa_rt=plain")]).as_deref(), Some("plain"));
        assert_eq!(read(&[asks, ("cookie", "__Host-hexa_rt=; x")]), None);
        assert_eq!(read(&[asks, ("cookie", "xhexa_rt=1")]), None);
    }

    #[test]
    fn only_the_routes_of_accounts_are_asked() {
        let asks = headers(&[("x-hexa-session", "cookie")]);
        assert!(asked("/api/v1/auth/refresh", &asks));
        assert!(!asked("/api/v1/devices", &asks));
        assert!(!asked("/api/v1/auth/refresh", &HeaderMap::new()));
        assert!(!asked("/api/v1/auth/refresh", &headers(&[("x-hexa-session", "storage")])));
    }
}
