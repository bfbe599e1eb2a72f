//! Sessions that ended a moment ago: their access tokens are still in time, and nothing but this says that they are over.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use hexa_crypto::jwt::{KEY_LEEWAY_S, LIFETIME_S};
use hexa_model::SessionId;
use parking_lot::RwLock;

/// No access token that was remembered before its session ended is taken for longer than this afterwards.
const KEEP: Duration = Duration::from_secs((LIFETIME_S + KEY_LEEWAY_S) as u64);

/// By monotonic time: no step of the wall clock makes it forget one too early. Sockets do not lean on it: they are
/// closed when their session ends, and ask the database from time to time.
#[derive(Debug, Default)]
pub(super) struct Ended(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashSet<SessionId>,
    /// In the order in which they are forgotten.
    order: VecDeque<(Duration, SessionId)>,
}

impl Ended {
    /// Costs the same however many there are.
    pub(super) fn add(&self, session: SessionId, now: Duration) {
        let mut inner = self.0.write();
        while let Some((_, over)) = inner.order.front().copied().filter(|(until, _)| *until <= now) {
            inner.order.pop_front();
            inner.known.remove(&over);
        }
        if inner.known.insert(session) {
            inner.order.push_back((now + KEEP, session));
        }
    }

    pub(super) fn contains(&self, session: SessionId) -> bool {
        let inner = self.0.read();
        !inner.known.is_empty() && inner.known.contains(&session)
    }
}

#[cfg(test)]
mod tests {
    use hexa_model::TimeMs;

    use super::*;

    #[test]
    fn an_ended_session_is_remembered_for_as_long_as_its_tokens_may_live_and_no_longer() {
        let (ended, at) = (Ended::default(), Duration::from_secs);
        let session = |n: u8| SessionId::at(TimeMs(1), [n; 10]);
        ended.add(session(1), at(100));
        ended.add(session(2), at(100) + KEEP - Duration::from_millis(1));
        assert!(ended.contains(session(1)) && ended.contains(session(2)));
        ended.add(session(3), at(100) + KEEP);
        assert!(!ended.contains(session(1)) && ended.contains(session(2)) && ended.contains(session(3)));
        assert_eq!(ended.0.read().order.len(), 2);
    }

    #[test]
    fn ending_costs_the_same_however_many_ended_before() {
        let ended = Ended::default();
        let all = |seconds: u64| {
            let begun = std::time::Instant::now();
            for n in 0..100_000 {
                ended.add(SessionId::at(TimeMs(n), [seconds as u8; 10]), Duration::from_secs(seconds));
            }
            begun.elapsed()
        };
        // One look at each of those that are there would be ten thousand million of them.
        let took = all(1) + all(2);
        assert_eq!(ended.0.read().known.len(), 200_000);
        assert!(took < Duration::from_secs(20), "{took:?}");
        all(3 + KEEP.as_secs());
        assert_eq!(ended.0.read().known.len(), 100_000, "those before are forgotten");
    }
}
