//! Sessions of this server's own pages: the refresh token lives in a cookie that no script can read (ASVS 3.3.4).
//!
//! A page asks for it with `x-hexa-session: cookie`. Such a request must carry the `Origin` of this server, and the
//! header itself is one that no foreign page may send: two locks against requests that a browser makes in somebody's
//! name. Answers are changed on their way out, so that first and repeated ones (idempotency) are treated alike.

use axum::body::Body;
use axum::response::Response;
use hexa_model::ErrorCode;
use hexa_platform::Error;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::SecretString;

use crate::public::{self, PublicUrl};
use crate::state::ApiState;
use hexa_listen::transport::RequestSource;

/// The header that asks for it.
pub(crate) static HEADER: HeaderName = HeaderName::from_static("x-hexa-session");
const PREFIX: &str = "/api/v1/auth/";
/// Answers of these routes are small.
const MAX_BODY: usize = 64 * 1024;

/// What this server's cookies are called. Browsers keep cookies by host name, for all its ports and schemes, so the name
/// carries an id of the server: two servers on one machine do not overwrite each other's.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    /// Over TLS: bound to this host and to TLS (RFC 6265bis section 4.1.3).
    secure: String,
    /// Over plain HTTP. Not every browser takes a `Secure` cookie from this machine itself (WebKit drops it).
    plain: String,
    path: String,
}

impl Cookies {
    /// Of the server with this id.
    pub(crate) fn new(server_id: &str, public: Option<&PublicUrl>) -> Self {
        let below = public.map_or("", PublicUrl::path);
        // A browser takes the first prefix with `Path=/` only.
        let prefix = if below.is_empty() { "__Host-" } else { "__Secure-" };
        let path = if below.is_empty() { "/" } else { below };
        let plain = format!("hexa_rt_{server_id}");
        Self { secure: format!("{prefix}{plain}"), plain, path: path.to_owned() }
    }

    /// One name for each way: what was set over plain HTTP, by whomever, is not read over TLS.
    fn name(&self, source: RequestSource) -> &str {
        if source.https { &self.secure } else { &self.plain }
    }

    /// The refresh token that the browser sent, when the page asked for it to be used.
    pub(crate) fn refresh_token(&self, source: RequestSource, headers: &HeaderMap) -> Option<SecretString> {
        if headers.get(&HEADER).is_none_or(|v| v.as_bytes() != b"cookie") {
            return None;
        }
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, value)| *name == self.name(source) && !value.is_empty()).map(|(_, value)| value.into())
    }

    fn set(&self, source: RequestSource, token: &str, max_age: u64) -> String {
        let (name, path) = (self.name(source), &self.path);
        let secure = if source.https { "; Secure" } else { "" };
        format!("{name}={token}; Path={path}; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
    }
}

/// Whether a request of this path asks for its session in a cookie.
pub(crate) fn asked(path: &str, headers: &HeaderMap) -> bool {
    path.starts_with(PREFIX) && headers.get(&HEADER).is_some_and(|v| v.as_bytes() == b"cookie")
}

/// Only a page of this server may.
///
/// # Errors
/// `origin_not_allowed`.
pub(crate) fn check_origin(state: &ApiState, source: RequestSource, headers: &HeaderMap) -> Result<(), Error> {
    if headers.get(header::ORIGIN).is_some() && public::own_origin(state, source, headers) {
        return Ok(());
    }
    let why = public::foreign(state, source, headers);
    let what = format!("sessions in cookies are for pages of this server: {why}");
    Err(Error::new(ErrorCode::OriginNotAllowed, what))
}

/// Puts the refresh token of an answer into the cookie; takes the cookie back at a sign-out.
///
/// A refusal leaves the cookie alone: by the time it arrives the browser may hold another one, of a sign-in or a refresh
/// in another tab, and a browser cannot be told which one is meant. A dead cookie does no harm.
pub(crate) async fn apply_session_cookie(
    state: &ApiState,
    source: RequestSource,
    path: &str,
    response: Response,
) -> Response {
    let cookies = &state.cookies;
    if path.ends_with("/logout") {
        return with(response, &cookies.set(source, "", 0));
    }
    if !response.status().is_success() {
        return response;
    }
    let (parts, body) = response.into_parts();
    // A body of ours, whole in memory already.
    let bytes = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    let Some(token) = value.get("refresh_token").and_then(|t| t.as_str()).map(str::to_owned) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    value["refresh_token"] = serde_json::Value::Null;
    let max_age = state.services.accounts.config.refresh_absolute.as_secs();
    let mut response = Response::from_parts(parts, Body::from(value.to_string()));
    response.headers_mut().remove(header::CONTENT_LENGTH);
    with(response, &cookies.set(source, &token, max_age))
}

fn with(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexa_listen::transport::Standing;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn source(https: bool) -> RequestSource {
        RequestSource { ip: None, https, standing: Standing::Client }
    }

    #[test]
    fn the_cookie_counts_only_where_the_page_says_so_and_only_this_servers_own() {
        use secrecy::ExposeSecret;
        let cookies = Cookies::new("0a1b", None);
        let read = |https: bool, pairs: &[(&str, &str)]| {
            cookies.refresh_token(source(https), &headers(pairs)).map(|t| t.expose_secret().to_owned())
        };
        let asks = ("x-hexa-session", "cookie");
        assert_eq!(read(true, &[("cookie", "__Host-hexa_rt_0a1b=abc")]), None);
        assert_eq!(read(true, &[asks, ("cookie", "a=b; __Host-hexa_rt_0a1b=abc; c=d")]).as_deref(), Some("abc"));
        assert_eq!(read(false, &[asks, ("cookie", "hexa_rt_0a1b=plain; x")]).as_deref(), Some("plain"));
        for (https, foreign) in [
            // Over TLS nothing that plain HTTP could have set.
            (true, "hexa_rt_0a1b=plain"),
            (false, "__Host-hexa_rt_0a1b=abc"),
            // Another server of this machine.
            (true, "__Host-hexa_rt_ffff=other"),
            (false, "hexa_rt_ffff=other"),
            (false, "xhexa_rt_0a1b=1"),
            (true, "__Host-hexa_rt_0a1b=; x"),
        ] {
            assert_eq!(read(https, &[asks, ("cookie", foreign)]), None, "{foreign}");
        }
    }

    #[test]
    fn a_cookie_is_bound_to_tls_where_there_is_tls_and_to_the_public_path() {
        let root = Cookies::new("0a1b", None);
        let rest = "; Max-Age=9; HttpOnly; SameSite=Strict";
        assert_eq!(root.set(source(true), "t", 9), format!("__Host-hexa_rt_0a1b=t; Path=/{rest}; Secure"));
        assert_eq!(root.set(source(false), "t", 9), format!("hexa_rt_0a1b=t; Path=/{rest}"));
        let public = PublicUrl::parse("https://h.example/hexa").unwrap();
        let below = Cookies::new("0a1b", Some(&public));
        assert_eq!(below.set(source(true), "t", 9), format!("__Secure-hexa_rt_0a1b=t; Path=/hexa{rest}; Secure"));
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
