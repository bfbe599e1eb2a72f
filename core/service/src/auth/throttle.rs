//! Wrong passwords (AU-4): slow for whoever guesses, without a way to lock somebody else out.
//!
//! Three counts. Of one account from one address, with a pause that doubles: it stops a guesser and nobody elsewhere.
//! Of one address: it stops trying one password on many accounts. And of one account from everywhere, kept in the
//! store: after 100 in a row (NIST SP 800-63B) only places that the account was used from before may still try.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hexa_crypto::token;
use hexa_store::UserRow;
use parking_lot::Mutex;

use super::{Auth, Origin};
use crate::error::{Error, Result};
use crate::limit::{FailureLimiter, Rate};

/// Wrong passwords in a row, from wherever, after which a new place is refused.
pub(super) const MAX_IN_A_ROW: i64 = 100;
/// An address from which somebody signed in so lately is no new place.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 86_400);
/// So long after the last wrong password the count of a row is as good as forgotten.
const ROW_ENDS: Duration = Duration::from_secs(24 * 3600);
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// An address may fail for so many times as many accounts as one of them allows.
const PER_ADDRESS: u32 = 4;
/// Pairs kept at the most; beyond, the idle ones are dropped, and then nothing more is counted.
const MAX_PAIRS: usize = 65_536;

type Pair = ([u8; 16], Option<IpAddr>);

#[derive(Clone, Copy, Debug)]
struct Guesses {
    failures: u32,
    first: Duration,
    last: Duration,
    paused_until: Duration,
    pauses: u32,
}

/// The counts in memory.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Wrong passwords in a minute that are free.
    free: u32,
    pairs: Mutex<HashMap<Pair, Guesses>>,
    addresses: FailureLimiter<Option<IpAddr>>,
}

/// The account as it was typed, without keeping what was typed.
fn pair(email: &str, ip: Option<IpAddr>) -> Pair {
    let hash = token::sha256(email.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    (short, network(ip))
}

/// An IPv6 subscriber has a whole /64.
fn network(ip: Option<IpAddr>) -> Option<IpAddr> {
    match ip?.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Some(IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
        }
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}

impl Throttle {
    pub(super) fn new(rate: Rate) -> Self {
        let free = rate.burst.get();
        Self {
            free,
            pairs: Mutex::default(),
            addresses: FailureLimiter::new("failed sign-ins", Rate::new(free.saturating_mul(PER_ADDRESS), rate.per)),
        }
    }

    /// Before a password is looked at.
    pub(super) fn check(&self, email: &str, ip: Option<IpAddr>, now: Duration) -> Result<()> {
        if let Some(guesses) = self.pairs.lock().get(&pair(email, ip))
            && guesses.paused_until > now
        {
            let seconds = (guesses.paused_until - now).as_millis().div_ceil(1000) as u64;
            return Err(Error::rate_limited(
                format!("too many failed sign-ins for this account from here; try again in {seconds} s"),
                seconds,
            ));
        }
        self.addresses.check(&network(ip), now)
    }

    /// After a wrong one.
    pub(super) fn failed(&self, email: &str, ip: Option<IpAddr>, now: Duration) {
        self.addresses.failed(&network(ip), now);
        let mut pairs = self.pairs.lock();
        let key = pair(email, ip);
        if pairs.len() >= MAX_PAIRS && !pairs.contains_key(&key) {
            pairs.retain(|_, g| now < g.last + PAUSE_MAX);
            if pairs.len() >= MAX_PAIRS {
                return;
            }
        }
        let fresh = Guesses { failures: 0, first: now, last: now, paused_until: Duration::ZERO, pauses: 0 };
        let guesses = pairs.entry(key).or_insert(fresh);
        if now >= guesses.last + ROW_ENDS || (guesses.pauses == 0 && now >= guesses.first + PAUSE) {
            *guesses = fresh;
        }
        guesses.failures += 1;
        guesses.last = now;
        // The first pause after the free ones, and then one, twice as long, after each.
        if guesses.pauses > 0 || guesses.failures >= self.free {
            let pause = PAUSE.saturating_mul(1 << guesses.pauses.min(16)).min(PAUSE_MAX);
            guesses.paused_until = now + pause;
            guesses.pauses += 1;
        }
    }

    /// After the right one.
    pub(super) fn succeeded(&self, email: &str, ip: Option<IpAddr>) {
        self.pairs.lock().remove(&pair(email, ip));
    }
}

impl Auth {
    /// Whether this place may try a password of an account that somebody is guessing at.
    pub(super) async fn check_row(&self, row: &UserRow, origin: &Origin) -> Result<()> {
        let now = self.clock.now();
        let guessed_at = row.failed_logins >= MAX_IN_A_ROW && row.failed_at.is_some_and(|at| now < at.plus(ROW_ENDS));
        if !guessed_at {
            return Ok(());
        }
        let since = hexa_model::TimeMs(now.0 - KNOWN_FOR.as_millis() as i64);
        if let Some(ip) = origin.ip
            && self.store.signed_in_from(row.key, &ip.to_string(), since).await?
        {
            return Ok(());
        }
        Err(Error::rate_limited(
            "this account is being guessed at: sign in from an address that you used before, change the password in an \
             open session, or ask an admin to end the guard",
            ROW_ENDS.as_secs(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn wait(throttle: &Throttle, email: &str, from: IpAddr, now: Duration) -> u64 {
        throttle.check(email, Some(from), now).err().and_then(|e| e.retry_after_s).unwrap_or(0)
    }

    #[test]
    fn whoever_guesses_waits_twice_as_long_each_time_and_nobody_else_does() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        let mut now = at(100);
        for _ in 0..5 {
            assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), 0);
            throttle.failed("ann@x.de", Some(ip(1)), now);
        }
        for pause in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), pause);
            assert_eq!(wait(&throttle, "ann@x.de", ip(2), now), 0, "she herself, elsewhere");
            assert_eq!(wait(&throttle, "bob@x.de", ip(1), now), 0, "her neighbour behind the same address");
            now += at(pause);
            assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), 0);
            throttle.failed("ann@x.de", Some(ip(1)), now);
        }
        throttle.succeeded("ann@x.de", Some(ip(1)));
        assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), 0);
    }

    #[test]
    fn a_few_slips_in_a_day_cost_nothing() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        for slip in 0..50 {
            let now = at(100 + slip * 61);
            assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), 0, "slip {slip}");
            throttle.failed("ann@x.de", Some(ip(1)), now);
        }
    }

    #[test]
    fn one_address_cannot_try_one_password_on_everybody() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        for n in 0..20 {
            let email = format!("user{n}@x.de");
            assert_eq!(wait(&throttle, &email, ip(1), at(1)), 0);
            throttle.failed(&email, Some(ip(1)), at(1));
        }
        assert!(wait(&throttle, "user20@x.de", ip(1), at(2)) > 0);
        assert_eq!(wait(&throttle, "user20@x.de", ip(2), at(2)), 0);
    }

    #[test]
    fn a_whole_ipv6_network_is_one_place() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        let of = |n: u16| IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, n));
        for n in 0..5 {
            throttle.failed("ann@x.de", Some(of(n)), at(1));
        }
        assert!(wait(&throttle, "ann@x.de", of(77), at(2)) > 0);
    }
}
