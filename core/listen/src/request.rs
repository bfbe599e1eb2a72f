//! What the listener says of a request, for whoever answers it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The peer's address, put into every request by the listener.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The id of the request under way, for handlers that must name it (socket errors).
#[derive(Clone, Debug)]
pub struct RequestId(pub HeaderValue);

impl RequestId {
    /// The header that carries it, in both directions.
    pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    /// The id as text, for the log and error bodies.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Taken from the caller if it is harmless in a log, else made: `req-` and hex that no other request of
    /// this or an earlier start has.
    pub fn of(headers: &HeaderMap) -> Self {
        let inbound = headers.get(Self::HEADER).filter(|v| {
            let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            (1..=64).contains(&v.len()) && v.as_bytes().iter().all(fits)
        });
        Self(inbound.cloned().unwrap_or_else(Self::fresh))
    }

    /// One that no other request of this or an earlier start has.
    pub fn fresh() -> HeaderValue {
        static START: OnceLock<u32> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let start = START.get_or_init(hexa_platform::random_u32);
        let mut text = String::with_capacity(24);
        let _ = write!(text, "req-{start:08x}{:08x}", COUNT.fetch_add(1, Ordering::Relaxed));
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("req-0"))
    }
}

/// Marks a request whose length can be read in two ways, put there by the listener.
#[derive(Clone, Copy, Debug)]
pub struct Ambiguous;
