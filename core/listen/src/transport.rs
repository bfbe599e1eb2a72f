//! How a request came here: from which address, over which protocol, and whether that is good enough
//! (docs/PLATFORM.md#transport). Decided once for each request, from the connection and, if a trusted proxy sent it, from
//! its headers.

use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request};
use ipnet::IpNet;

use crate::request::Peer;

/// Settings of how connections come in.
#[derive(Clone, Debug, Default)]
pub struct TransportConfig {
    /// Plain HTTP is refused (`ENFORCE_HTTPS`).
    pub enforce_https: bool,
    /// Peers whose `X-Forwarded-*` or `Forwarded` headers are believed (`TRUST_PROXY`, `TRUSTED_PROXIES`); empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
}

/// The connection itself is encrypted.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted;

/// The connection came in by the maintenance listener; put there by it.
#[derive(Clone, Copy, Debug)]
pub struct Maintenance {
    /// By the socket file, which no browser reaches.
    pub file: bool,
}

/// For whom a request speaks (ADR 0030).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Whoever runs this server: by the maintenance listener, or from this machine while no proxy is trusted.
    Maintenance,
    /// A process of this machine while a proxy elsewhere is trusted: a client like any other that may ask how the
    /// server is.
    Neighbour,
    /// A trusted proxy that does not say for whom it speaks.
    Unnamed,
    /// A client that a trusted proxy named.
    Proxied,
    /// A client that came by itself, or by a proxy that is not trusted.
    Client,
}

/// From whom a request comes, and whether it came encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestSource {
    /// The client's address: the peer's, or what a trusted proxy says of it.
    pub ip: Option<IpAddr>,
    /// The client spoke TLS, with us or with a trusted proxy.
    pub https: bool,
    /// For whom it speaks.
    pub standing: Standing,
}

/// Why a request goes no further, before anything of it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Plain HTTP where HTTPS is enforced.
    Insecure,
    /// A trusted proxy speaks for somebody whom it does not name.
    Unnamed,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Headers that a proxy leaves; any of them, and the request is not this machine's own.
const TRACES: [HeaderName; 9] = [
    FORWARDED_FOR,
    FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-real-ip"),
    header::FORWARDED,
    header::VIA,
];

impl RequestSource {
    /// Finds out where this request came from, by its connection and its headers.
    pub fn of<B>(request: &Request<B>, config: &TransportConfig) -> Self {
        let peer = request.extensions().get::<Peer>().map(|p| p.0.ip());
        let encrypted = request.extensions().get::<Encrypted>().is_some();
        if request.extensions().get::<Maintenance>().is_some() {
            return Self { ip: peer, https: encrypted, standing: Standing::Maintenance };
        }
        let source = Self::decide(peer, encrypted, request.headers(), config);
        // Only a proxy that nobody configured still speaks HTTP/1.0: never this machine's own.
        let old = request.version() < http::Version::HTTP_11;
        match source.standing {
            Standing::Maintenance if old => Self { standing: Standing::Client, ..source },
            _ => source,
        }
    }

    fn decide(peer: Option<IpAddr>, encrypted: bool, headers: &HeaderMap, config: &TransportConfig) -> Self {
        let Some(peer) = peer.map(|p| p.to_canonical()) else {
            return Self { ip: None, https: encrypted, standing: Standing::Client };
        };
        if trusted(peer, config) {
            let Some((ip, https)) = said(headers, encrypted, config) else {
                return Self { ip: Some(peer), https: encrypted, standing: Standing::Unnamed };
            };
            return Self { ip: Some(ip), https, standing: Standing::Proxied };
        }
        let standing = match peer.is_loopback() && !has_trace(headers) {
            true if config.trusted_proxies.is_empty() => Standing::Maintenance,
            true => Standing::Neighbour,
            false => Standing::Client,
        };
        Self { ip: Some(peer), https: encrypted, standing }
    }

    /// Whether the request may go on. How the server is may be asked by every neighbour: the health checks of a proxy
    /// name nobody, and those of a container come from within it.
    ///
    /// # Errors
    /// Why such a request is not taken this way.
    pub fn check(self, path: &str, config: &TransportConfig) -> Result<(), Refused> {
        let probe = matches!(path, "/health" | "/ready");
        match self.standing {
            Standing::Maintenance => Ok(()),
            Standing::Unnamed | Standing::Neighbour if probe => Ok(()),
            Standing::Unnamed => Err(Refused::Unnamed),
            _ if config.enforce_https && !self.https => Err(Refused::Insecure),
            _ => Ok(()),
        }
    }

    /// Whether it is whoever runs this server.
    pub fn is_maintenance(self) -> bool {
        self.standing == Standing::Maintenance
    }
}

fn has_trace(headers: &HeaderMap) -> bool {
    TRACES.iter().any(|name| headers.contains_key(name))
}

fn trusted(ip: IpAddr, config: &TransportConfig) -> bool {
    config.trusted_proxies.iter().any(|net| net.contains(&ip))
}

/// The client's address and whether it spoke TLS, as the nearest proxy says. The two families of headers are never
/// mixed: a proxy that writes the one passes a client's own lines of the other on.
fn said(headers: &HeaderMap, encrypted: bool, config: &TransportConfig) -> Option<(IpAddr, bool)> {
    if headers.contains_key(FORWARDED_FOR) || headers.contains_key(FORWARDED_PROTO) {
        let ip = client(headers, &FORWARDED_FOR, address, config)?;
        // What the proxy says of its client counts more than how it came to us.
        let says = headers.contains_key(FORWARDED_PROTO) || headers.contains_key(header::FORWARDED);
        return Some((ip, if says { forwarded_https(headers) } else { encrypted }));
    }
    let ip = client(headers, &header::FORWARDED, |element| address(&parameter(element, "for")?), config)?;
    let nearest = headers.get_all(header::FORWARDED).iter().next_back()?.to_str().ok()?.rsplit(',').next()?;
    Some((ip, parameter(nearest, "proto").map_or(encrypted, |proto| proto == "https")))
}

/// From the right, past the hops that are trusted: whatever stands further left was said by a stranger. With a hop that
/// is no address nothing is known.
fn client(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&str) -> Option<IpAddr>,
    config: &TransportConfig,
) -> Option<IpAddr> {
    let mut known = None;
    // Several header lines are one list (RFC 9110 section 5.3).
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    for line in lines.into_iter().rev() {
        for hop in line.to_str().ok()?.rsplit(',') {
            let ip = read(hop.trim())?;
            known = Some(ip);
            if !trusted(ip, config) {
                return known;
            }
        }
    }
    known
}

/// A parameter of an element of `Forwarded` (RFC 7239 section 4), without its quotes.
fn parameter(element: &str, name: &str) -> Option<String> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    })
}

/// An address as proxies write it: bare, with a port, or an IPv6 address in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|t| t.split_once(']')).map(|(ip, _)| ip);
    let bare = bracketed.or_else(|| text.split_once(':').filter(|(_, rest)| !rest.contains(':')).map(|(ip, _)| ip));
    bare.unwrap_or(text).parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// What the nearest proxy says: the rightmost value, exactly `https`. A `Forwarded` header that says otherwise counts
/// against it.
fn forwarded_https(headers: &HeaderMap) -> bool {
    let last = headers.get_all(FORWARDED_PROTO).iter().next_back().and_then(|v| v.to_str().ok());
    let says = last.and_then(|v| v.rsplit(',').next()).is_some_and(|v| v.trim() == "https");
    let objects = headers.get_all(header::FORWARDED).iter().next_back().is_some_and(|v| {
        let Ok(text) = v.to_str() else { return true };
        let nearest = text.rsplit(',').next().unwrap_or_default();
        parameter(nearest, "proto").is_some_and(|proto| proto != "https")
    });
    says && !objects
}

/// On every answer: what browsers must not make of it. A handler's own value stays.
pub fn guard(headers: &mut HeaderMap, api: bool, https: bool) {
    // Once, instead of growing twice.
    headers.reserve(8);
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    if api {
        set(header::CACHE_CONTROL, "no-store");
    }
    if https {
        // Over plain HTTP it would be ignored, and must not be sent (RFC 6797 section 7.2).
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains");
    }
}

#[cfg(test)]
mod tests;
