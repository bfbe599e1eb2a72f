//! Wrong passwords: slow for whoever guesses, without a way to lock somebody else out.
//!
//! Three counts. Of one account from one address, with a pause that doubles: it stops a guesser and nobody elsewhere.
//! Of one address: it stops trying one password on many accounts. And of one account from everywhere, kept in the
//! store: after 100 in a row (NIST SP 800-63B) only places that the account was used from before may still try.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_crypto::token;
use hexa_store::UserRow;
use parking_lot::Mutex;

use super::{Accounts, ClientInfo};
use hexa_platform::error::{Error, Result};
use hexa_platform::limit::{Attempt, FailureLimiter, Rate, network};

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
    under_way: u32,
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
    pairs: Arc<Mutex<HashMap<Pair, Guesses>>>,
    addresses: FailureLimiter<Option<IpAddr>>,
}

/// A password that is being looked at: wrong when it is dropped, also because its caller hung up.
#[derive(Debug)]
#[must_use = "dropping it counts a wrong password"]
pub(super) struct Trial {
    free: u32,
    now: Duration,
    pairs: Arc<Mutex<HashMap<Pair, Guesses>>>,
    /// None when it is not counted, or no more.
    pair: Option<Pair>,
    address: Option<Attempt<Option<IpAddr>>>,
}

/// The account as it was typed, without keeping what was typed.
fn pair(email: &str, ip: Option<IpAddr>) -> Pair {
    let hash = token::sha256(email.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    (short, ip.map(network))
}

impl Throttle {
    pub(super) fn new(rate: Rate) -> Self {
        let free = rate.burst.get();
        Self {
            free,
            pairs: Arc::default(),
            addresses: FailureLimiter::new("failed sign-ins", Rate::new(free.saturating_mul(PER_ADDRESS), rate.per)),
        }
    }

    /// Before a password is looked at: takes its place, so that many at the same time are no more than one after the
    /// other.
    pub(super) fn attempt(&self, email: &str, ip: Option<IpAddr>, now: Duration) -> Result<Trial> {
        let key = pair(email, ip);
        let mut pairs = self.pairs.lock();
        if pairs.len() >= MAX_PAIRS && !pairs.contains_key(&key) {
            pairs.retain(|_, g| g.under_way > 0 || now < g.last + PAUSE_MAX);
        }
        let counted = pairs.len() < MAX_PAIRS || pairs.contains_key(&key);
        if let Some(guesses) = pairs.get(&key) {
            if guesses.paused_until > now {
                let seconds = (guesses.paused_until - now).as_millis().div_ceil(1000) as u64;
                return Err(Error::rate_limited(
                    format!("too many failed sign-ins for this account from here; try again in {seconds} s"),
                    seconds,
                ));
            }
            // After a pause, one at a time.
            let left = if guesses.pauses > 0 { 1 } else { self.free.saturating_sub(guesses.living(now)).max(1) };
            if guesses.under_way >= left {
                return Err(Error::rate_limited("too many sign-ins to this account at once from here; try again", 1));
            }
        }
        let address = self.addresses.attempt(&ip.map(network), now)?;
        if counted {
            pairs.entry(key).or_insert_with(|| Guesses::fresh(now)).under_way += 1;
        }
        let pairs = Arc::clone(&self.pairs);
        Ok(Trial { free: self.free, now, pairs, pair: counted.then_some(key), address: Some(address) })
    }
}

impl Guesses {
    fn fresh(now: Duration) -> Self {
        Self { failures: 0, under_way: 0, first: now, last: now, paused_until: Duration::ZERO, pauses: 0 }
    }

    /// Whether what is counted belongs to an earlier row of mistakes.
    fn over(&self, now: Duration) -> bool {
        now >= self.last + ROW_ENDS || (self.pauses == 0 && now >= self.first + PAUSE)
    }

    /// Failures that still count.
    fn living(&self, now: Duration) -> u32 {
        if self.over(now) { 0 } else { self.failures }
    }

    fn failed(&mut self, free: u32, now: Duration) {
        if self.failures == 0 || self.over(now) {
            *self = Self { under_way: self.under_way, ..Self::fresh(now) };
        }
        self.failures += 1;
        self.last = now;
        // The first pause after the free ones, and then one, twice as long, after each.
        if self.pauses > 0 || self.failures >= free {
            let pause = PAUSE.saturating_mul(1 << self.pauses.min(16)).min(PAUSE_MAX);
            self.paused_until = now + pause;
            self.pauses += 1;
        }
    }
}

impl Trial {
    /// It was the right one: the row of mistakes is over.
    pub(super) fn succeeded(mut self) {
        self.end(|guesses, _, _| guesses.failures = 0);
    }

    /// It was not looked at, or was right without beginning a session.
    pub(super) fn withdraw(mut self) {
        self.end(|_, _, _| {});
    }

    fn end(&mut self, how: impl FnOnce(&mut Guesses, u32, Duration)) {
        if let Some(address) = self.address.take() {
            address.forgive();
        }
        self.end_pair(how);
    }

    fn end_pair(&mut self, how: impl FnOnce(&mut Guesses, u32, Duration)) {
        let Some(key) = self.pair.take() else { return };
        let mut pairs = self.pairs.lock();
        let Some(guesses) = pairs.get_mut(&key) else { return };
        guesses.under_way = guesses.under_way.saturating_sub(1);
        how(guesses, self.free, self.now);
        if guesses.failures == 0 {
            (guesses.pauses, guesses.paused_until) = (0, Duration::ZERO);
            if guesses.under_way == 0 {
                pairs.remove(&key);
            }
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // The address's attempt counts itself as it is dropped.
        self.end_pair(Guesses::failed);
    }
}

impl Accounts {
    /// Whether this place may try a password of an account that somebody is guessing at.
    pub(super) async fn check_row(&self, row: &UserRow, origin: &ClientInfo) -> Result<()> {
        let now = self.clock.now();
        let guessed_at = row.failed_logins >= MAX_IN_A_ROW && row.failed_at.is_some_and(|at| now < at.plus(ROW_ENDS));
        if !guessed_at {
            return Ok(());
        }
        let since = hexa_model::TimeMs(now.0 - KNOWN_FOR.as_millis() as i64);
        if let Some(place) = origin.ip.map(network) {
            let known = self.store.places_of(row.key, since).await?;
            if known.iter().any(|ip| ip.parse().is_ok_and(|ip| network(ip) == place)) {
                return Ok(());
            }
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
        match throttle.attempt(email, Some(from), now) {
            Ok(trial) => {
                trial.withdraw();
                0
            }
            Err(error) => error.retry_after_s.unwrap(),
        }
    }

    fn fail(throttle: &Throttle, email: &str, from: IpAddr, now: Duration) {
        drop(throttle.attempt(email, Some(from), now).unwrap());
    }

    #[test]
    fn whoever_guesses_waits_twice_as_long_each_time_and_nobody_else_does() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        let mut now = at(100);
        for _ in 0..5 {
            assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), 0);
            fail(&throttle, "ann@x.de", ip(1), now);
        }
        for pause in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), pause);
            assert_eq!(wait(&throttle, "ann@x.de", ip(2), now), 0, "she herself, elsewhere");
            assert_eq!(wait(&throttle, "bob@x.de", ip(1), now), 0, "her neighbour behind the same address");
            now += at(pause);
            assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), 0);
            fail(&throttle, "ann@x.de", ip(1), now);
        }
        now += at(3600);
        throttle.attempt("ann@x.de", Some(ip(1)), now).unwrap().succeeded();
        for _ in 0..4 {
            fail(&throttle, "ann@x.de", ip(1), now);
        }
        assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), 0, "the right password ended the row");
        assert_eq!(throttle.pairs.lock().len(), 1, "and nothing is kept of those who made no mistake");
    }

    #[test]
    fn forty_guesses_at_the_same_time_are_five() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        let guess = || throttle.attempt("ann@x.de", Some(ip(1)), at(1));
        let under_way: Vec<_> = (0..40).filter_map(|_| guess().ok()).collect();
        assert_eq!(under_way.len(), 5);
        assert_eq!(guess().unwrap_err().retry_after_s, Some(1), "they may all be right");
        // Who hangs up gets no place back.
        drop(under_way);
        assert_eq!(guess().unwrap_err().retry_after_s, Some(60));
        // After the pause there is one at a time.
        let later: Vec<_> = (0..40).filter_map(|_| throttle.attempt("ann@x.de", Some(ip(1)), at(61)).ok()).collect();
        assert_eq!(later.len(), 1);
    }

    #[test]
    fn a_few_slips_in_a_day_cost_nothing() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        for slip in 0..50 {
            let now = at(100 + slip * 61);
            assert_eq!(wait(&throttle, "ann@x.de", ip(1), now), 0, "slip {slip}");
            fail(&throttle, "ann@x.de", ip(1), now);
        }
    }

    #[test]
    fn one_address_cannot_try_one_password_on_everybody() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        for n in 0..20 {
            let email = format!("user{n}@x.de");
            assert_eq!(wait(&throttle, &email, ip(1), at(1)), 0);
            fail(&throttle, &email, ip(1), at(1));
        }
        assert!(wait(&throttle, "user20@x.de", ip(1), at(2)) > 0);
        assert_eq!(wait(&throttle, "user20@x.de", ip(2), at(2)), 0);
    }

    #[test]
    fn a_whole_ipv6_network_is_one_place() {
        let throttle = Throttle::new(Rate::new(5, at(60)));
        let of = |n: u16| IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, n));
        for n in 0..5 {
            fail(&throttle, "ann@x.de", of(n), at(1));
        }
        assert!(wait(&throttle, "ann@x.de", of(77), at(2)) > 0);
    }
}
