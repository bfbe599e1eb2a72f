//! Where this server is for the rest of the world: `PUBLIC_URL`, or what each request says of the way that it came.
//!
//! Addresses are compared and put together as URLs, never as text: browsers write an origin in lower case and without
//! the usual port, people do not.

use http::{HeaderMap, HeaderName, header};
use url::{Host, Url};

use crate::state::ApiState;
use hexa_listen::transport::{RequestSource, Standing};

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What begins the server's own paths: a public path that begins so could not be told from them.
const OWN: [&str; 6] = ["api", "dashboard", "health", "metrics", "ready", "ws"];

/// `PUBLIC_URL` as browsers write it: lower case, no usual port, no dot at the end of the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    secure: bool,
    path: String,
}

impl PublicUrl {
    /// Reads one.
    ///
    /// # Errors
    /// What is allowed, to complete a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const ALLOWED: &str = "an http:// or https:// address without user, query or fragment";
        let url = Url::parse(text).map_err(|_| ALLOWED)?;
        let plain = url.username().is_empty() && url.password().is_none();
        let plain = plain && url.query().is_none() && url.fragment().is_none();
        if !plain || !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(ALLOWED);
        }
        if unspecified(&url) {
            return Err("the address by which others reach this server, not the wildcard that it listens on");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        let good = |part: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
            !part.is_empty() && part.bytes().all(fits)
        };
        if !path.is_empty() && !path.split('/').skip(1).all(good) {
            return Err("a path of letters, digits, and . _ ~ -, such as https://example.org/hexa");
        }
        if path.split('/').nth(1).is_some_and(|first| OWN.contains(&first)) {
            return Err("a path that does not begin with api, dashboard, health, metrics, ready or ws");
        }
        let secure = url.scheme() == "https";
        Ok(Self { origin: canonical(url).ok_or(ALLOWED)?, secure, path })
    }

    /// Scheme, host, and the port if it is not the usual one.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What the server's paths are below; empty, or with a slash in front and none at the end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is https.
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

/// Without a slash at the end.
impl std::fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

fn unspecified(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_unspecified(),
        Some(Host::Ipv6(ip)) => ip.is_unspecified(),
        Some(Host::Domain(_)) | None => false,
    }
}

/// The origin, with the name as it is without the root's dot.
fn canonical(mut url: Url) -> Option<String> {
    if let Some(bare) = url.domain().and_then(|name| name.strip_suffix('.')).map(str::to_owned) {
        url.set_host(Some(&bare)).ok()?;
    }
    let origin = url.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// Host and port by which the client reached the server: what a trusted proxy says, else `Host`.
fn asked_host(source: RequestSource, headers: &HeaderMap) -> Option<&str> {
    let text = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let said = text(&FORWARDED_HOST).and_then(|hosts| hosts.rsplit(',').next()).map(str::trim);
    said.filter(|host| source.standing == Standing::Proxied && !host.is_empty()).or_else(|| text(&header::HOST))
}

/// The origin of this host; none when it is more, or something else, than host and port.
fn origin_of(scheme: &str, host: &str) -> Option<(Url, String)> {
    if host.contains(['/', '?', '#', '@', '\\']) {
        return None;
    }
    let url = Url::parse(&format!("{scheme}://{host}/")).ok()?;
    let origin = canonical(url.clone())?;
    Some((url, origin))
}

/// What is put in front of a path to give it to somebody who came this way.
pub(crate) fn base(state: &ApiState, source: RequestSource, headers: &HeaderMap) -> String {
    if let Some(public) = &state.config.public_url {
        return public.to_string();
    }
    let scheme = if source.https { "https" } else { "http" };
    let said = asked_host(source, headers).filter(|_| !by_socket(source, headers));
    match said.and_then(|host| origin_of(scheme, host)) {
        Some((url, origin)) if !unspecified(&url) => origin,
        _ => state.config.fallback_url.clone(),
    }
}

/// The maintenance listener may be a socket file, whose clients name no host that others could use.
fn by_socket(source: RequestSource, headers: &HeaderMap) -> bool {
    source.standing == Standing::Maintenance && headers.get(header::HOST).is_none_or(|host| host == "localhost")
}

/// Whether the request's Origin, which it has, is this server.
pub(crate) fn own_origin(state: &ApiState, source: RequestSource, headers: &HeaderMap) -> bool {
    let Some(origin) = origin(headers) else { return false };
    let own = state.config.public_url.as_ref().is_some_and(|public| public.origin() == origin);
    // A page over plain HTTP is not this server's where its client speaks HTTPS: somebody may have written into it.
    let scheme = if origin.starts_with("https://") { "https" } else { "http" };
    let same =
        || asked_host(source, headers).and_then(|host| origin_of(scheme, host)).is_some_and(|(_, o)| o == origin);
    own || ((!source.https || scheme == "https") && same())
}

/// The request's Origin, as it is compared.
fn origin(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::ORIGIN)?.to_str().ok()?;
    canonical(Url::parse(text).ok()?)
}

/// Both sides of a comparison that failed, for whoever set the server up.
pub(crate) fn foreign(state: &ApiState, source: RequestSource, headers: &HeaderMap) -> String {
    let shown = |text: &str| text.chars().take(120).collect::<String>();
    let origin = headers.get(header::ORIGIN).and_then(|o| o.to_str().ok()).map_or("none".to_owned(), shown);
    let own = match &state.config.public_url {
        Some(public) => public.origin().to_owned(),
        None => shown(&base(state, source, headers)),
    };
    format!("its Origin is {origin}, and this server takes itself for {own}; see PUBLIC_URL")
}

/// Whether a name was asked for that this server is not called by: a page that has bent its own name to this machine
/// (DNS rebinding) sends its own.
pub(crate) fn rebound(state: &ApiState, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else { return false };
    let Some((url, origin)) = origin_of("http", host) else { return true };
    let local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    let own = |public: &PublicUrl| {
        public.origin() == origin || origin_of("https", host).is_some_and(|o| o.1 == public.origin())
    };
    url.domain().is_some_and(|name| !local(name)) && !state.config.public_url.as_ref().is_some_and(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_browsers_write_it() {
        for (given, kept) in [
            ("https://hexa.example", "https://hexa.example"),
            ("HTTPS://Hexa.Example:443/", "https://hexa.example"),
            ("https://hexa.example.", "https://hexa.example"),
            ("http://hexa.example:80", "http://hexa.example"),
            ("http://hexa.example:8080", "http://hexa.example:8080"),
            ("https://küche.example", "https://xn--kche-0ra.example"),
            ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
            ("https://h.example/hexa/", "https://h.example/hexa"),
            ("https://h.example/a/b-c_d.e~1", "https://h.example/a/b-c_d.e~1"),
        ] {
            assert_eq!(PublicUrl::parse(given).unwrap().to_string(), kept, "{given}");
        }
        let below = PublicUrl::parse("https://h.example/hexa").unwrap();
        assert_eq!((below.origin(), below.path(), below.is_secure()), ("https://h.example", "/hexa", true));
        for bad in [
            "hexa.example",
            "ftp://hexa.example",
            "https://user@hexa.example",
            "https://:secret@hexa.example",
            "https://hexa.example/?a=b",
            "https://hexa.example/#a",
            "http://0.0.0.0:8080",
            "http://[::]:8080",
            "https://h.example/a//b",
            "https://h.example/a%20b",
            "https://h.example/api",
            "https://h.example/dashboard/x",
        ] {
            assert!(PublicUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
