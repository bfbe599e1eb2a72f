//! How a request came here: from which address, over which protocol, and whether that is good enough (platform.md 13.2,
//! TR-1 to TR-5). Decided once for each request, from the connection and, if a trusted proxy sent it, from its headers.

use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request};
use ipnet::IpNet;

use crate::extract::Peer;

/// Settings of the outermost door.
#[derive(Clone, Debug, Default)]
pub struct TransportConfig {
    /// Plain HTTP is refused (`ENFORCE_HTTPS`).
    pub enforce_https: bool,
    /// Peers whose `X-Forwarded-*` headers are believed (`TRUST_PROXY`, `TRUSTED_PROXIES`); empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
}

/// The connection itself is encrypted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encrypted;

/// What was found out about a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The client's address: the peer's, or what a trusted proxy says of it.
    pub(crate) ip: Option<IpAddr>,
    /// The client spoke TLS, with us or with a trusted proxy.
    pub(crate) https: bool,
    /// A peer on this machine that speaks for nobody else.
    pub(crate) direct: bool,
    /// And that means this machine, by its `Host`.
    pub(crate) local: bool,
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

impl Way {
    /// Of this request.
    pub(crate) fn of<B>(request: &Request<B>, config: &TransportConfig) -> Self {
        let peer = request.extensions().get::<Peer>().map(|p| p.0.ip());
        let encrypted = request.extensions().get::<Encrypted>().is_some();
        // A proxy that nobody configured speaks HTTP/1.0 and leaves no other trace (nginx): never this machine's own.
        let old = request.version() < http::Version::HTTP_11;
        let way = Self::decide(peer, encrypted, request.headers(), config);
        Self { direct: way.direct && !old, local: way.local && !old, ..way }
    }

    fn decide(peer: Option<IpAddr>, encrypted: bool, headers: &HeaderMap, config: &TransportConfig) -> Self {
        let Some(peer) = peer.map(|p| p.to_canonical()) else {
            return Self { ip: None, https: encrypted, direct: false, local: false };
        };
        if !config.trusted_proxies.is_empty() && trusted(peer, config) && has_trace(headers) {
            // What the proxy says of its client counts more than how it came to us.
            let says = headers.contains_key(FORWARDED_PROTO) || headers.contains_key(header::FORWARDED);
            let https = if says { forwarded_https(headers) } else { encrypted };
            return Self { ip: Some(client(peer, headers, config)), https, direct: false, local: false };
        }
        let direct = peer.is_loopback() && !has_trace(headers);
        Self { ip: Some(peer), https: encrypted, direct, local: direct && host_is_local(headers) }
    }

    /// Whether the request may go on where HTTPS is enforced: maintenance on this machine needs none.
    pub(crate) fn allowed(self, config: &TransportConfig) -> bool {
        !config.enforce_https || self.https || self.local
    }
}

fn has_trace(headers: &HeaderMap) -> bool {
    TRACES.iter().any(|name| headers.contains_key(name))
}

fn trusted(ip: IpAddr, config: &TransportConfig) -> bool {
    config.trusted_proxies.iter().any(|net| net.contains(&ip))
}

/// From the right, past the hops that are trusted: whatever stands further left was said by a stranger. With a hop that
/// is no address the whole list is worth nothing.
fn client(peer: IpAddr, headers: &HeaderMap, config: &TransportConfig) -> IpAddr {
    let mut known = peer;
    // Several header lines are one list (RFC 9110 section 5.3).
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else { return peer };
        for hop in line.rsplit(',') {
            let Some(ip) = address(hop.trim()) else { return peer };
            known = ip;
            if !trusted(ip, config) {
                return known;
            }
        }
    }
    known
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
        let element = text.rsplit(',').next().unwrap_or_default();
        let proto = element
            .split(';')
            .find_map(|pair| pair.trim().to_ascii_lowercase().strip_prefix("proto=").map(str::to_owned));
        proto.is_some_and(|p| p.trim_matches('"') != "https")
    });
    says && !objects
}

fn host_is_local(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|h| h.to_str().ok()), hosts.next()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// On every answer (TR-4): what browsers must not make of it. A handler's own value stays.
pub(crate) fn guard(headers: &mut HeaderMap, api: bool, https: bool) {
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
