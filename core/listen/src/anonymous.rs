//! Connections of an address that has not said who it is: so many at the same time, so that one stranger does not take
//! the places of a fleet (`LIMIT_ANONYMOUS_CONNECTIONS`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hexa_platform::limit::network;
use hexa_platform::metrics::Metrics;
use ipnet::IpNet;
use parking_lot::Mutex;

/// The count of every address.
#[derive(Clone, Debug)]
pub struct AnonymousLimit {
    most: u32,
    exempt: Vec<IpNet>,
    open: Arc<Mutex<HashMap<IpAddr, u32>>>,
    metrics: Arc<Metrics>,
}

/// How a connection may come in.
pub(super) enum Entry {
    /// This machine, or a trusted proxy.
    Exempt,
    /// Counted until it says who it is, or ends.
    Counted(Arc<AnonymousConnection>),
    /// Its address has too many.
    Full,
}

/// One connection that is counted.
#[derive(Debug)]
pub struct AnonymousConnection {
    ip: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, u32>>>,
    counted: AtomicBool,
}

impl AnonymousLimit {
    /// So many of one address; `exempt` are trusted proxies, which speak for many.
    pub fn new(most: u32, exempt: Vec<IpNet>, metrics: Arc<Metrics>) -> Self {
        Self { most, exempt, open: Arc::default(), metrics }
    }

    pub(super) fn enter(&self, ip: IpAddr) -> Entry {
        let whole = ip.to_canonical();
        let ip = network(whole);
        if ip.is_loopback() || self.exempt.iter().any(|net| net.contains(&whole)) {
            return Entry::Exempt;
        }
        let mut open = self.open.lock();
        let count = open.entry(ip).or_default();
        if *count >= self.most {
            self.metrics.connections_refused.inc();
            return Entry::Full;
        }
        *count += 1;
        drop(open);
        Entry::Counted(Arc::new(AnonymousConnection {
            ip,
            open: Arc::clone(&self.open),
            counted: AtomicBool::new(true),
        }))
    }
}

impl AnonymousConnection {
    /// It has said who it is, and is counted no more.
    pub fn known(&self) {
        if !self.counted.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
    }
}

impl Drop for AnonymousConnection {
    fn drop(&mut self) {
        self.known();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_has_so_many_places_and_whoever_is_known_needs_none() {
        let anonymous = AnonymousLimit::new(2, vec!["10.0.0.0/8".parse().unwrap()], Arc::new(Metrics::new()));
        let enter = |ip: &str| anonymous.enter(ip.parse().unwrap());
        let counted = |ip: &str| match enter(ip) {
            Entry::Counted(guest) => Some(guest),
            Entry::Exempt | Entry::Full => None,
        };
        for exempt in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3"] {
            assert!(matches!(enter(exempt), Entry::Exempt), "{exempt}");
        }
        let (first, _second) = (counted("192.0.2.1").unwrap(), counted("192.0.2.1").unwrap());
        assert!(matches!(enter("192.0.2.1"), Entry::Full) && matches!(enter("::ffff:192.0.2.1"), Entry::Full));
        assert!(counted("192.0.2.2").is_some(), "another one");
        first.known();
        first.known();
        let third = counted("192.0.2.1").unwrap();
        assert!(matches!(enter("192.0.2.1"), Entry::Full));
        drop(third);
        drop(first);
        assert!(counted("192.0.2.1").is_some());
        assert_eq!(anonymous.metrics.connections_refused.get(), 3);
    }
}
