//! One identity on two devices: a cloned flash, a restored backup. Each takes the other's place, again and again, and the
//! relays are nobody's.
//!
//! A device that comes back takes its own former place, and once it has been replaced by itself it does not return as the
//! one it was. Two devices do: whoever was replaced a moment ago is there again. After some of these returns the present
//! session stays, the other one is refused while it lives, the audit names both, and so does the device's page.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Outcome, Source, TimeMs};
use serde_json::json;

use crate::Devices;
use crate::handle::DeviceHandle;
use hexa_platform::error::{Error, Result};

/// Returns within [`WINDOW`] that one device alone does not explain.
const RETURNS: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
/// Replaced sessions that are remembered.
const REMEMBERED: usize = 8;
/// The refused one is refused for so long after its last try; it is told to wait as long.
const GUARD: Duration = Duration::from_secs(300);

/// Who a session was, as far as the device tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The address that the session came from; none where it is not known.
    pub ip: Option<IpAddr>,
    /// Changes with every boot, and with nothing else.
    pub boot_id: Option<Box<str>>,
}

/// What is shown of it.
#[derive(Clone, Debug)]
pub struct Contested {
    /// When it was found out.
    pub since: TimeMs,
    /// The one that stays, and the other.
    pub parties: [Party; 2],
}

/// The memory of one device.
#[derive(Debug, Default)]
pub(crate) struct Contest {
    replaced: Vec<(Party, Duration)>,
    /// Boxed: next to no device has one.
    found: Option<Box<(Contested, Duration)>>,
}

/// What becomes of a connect.
#[derive(Debug)]
enum Verdict {
    Admitted,
    /// The present session stays; the first time with what there is to say.
    Refused(Option<Contested>),
}

impl Contest {
    /// A session was replaced.
    pub(crate) fn replaced(&mut self, party: Party, now: Duration) {
        self.replaced.retain(|(_, at)| now.saturating_sub(*at) < WINDOW);
        if self.replaced.len() == REMEMBERED {
            self.replaced.remove(0);
        }
        self.replaced.push((party, now));
    }

    /// Somebody wants the place of `present`.
    fn judge(&mut self, present: Party, now: Duration, at: TimeMs) -> Verdict {
        if let Some(found) = &mut self.found {
            if found.1 > now {
                found.1 = now + GUARD;
                return Verdict::Refused(None);
            }
            *self = Self::default();
        }
        let recent = self.replaced.iter().filter(|(_, at)| now.saturating_sub(*at) < WINDOW).map(|(party, _)| party);
        let line: Vec<&Party> = recent.chain([&present]).collect();
        let returns = line.windows(3).filter(|w| w[0] == w[2] && w[0] != w[1]).count();
        if returns < RETURNS {
            return Verdict::Admitted;
        }
        let other =
            line.iter().rev().find(|party| ***party != present).map_or_else(|| present.clone(), |p| (*p).clone());
        let contested = Contested { since: at, parties: [present, other] };
        self.found = Some(Box::new((contested.clone(), now + GUARD)));
        self.replaced = Vec::new();
        Verdict::Refused(Some(contested))
    }

    /// While it is going on.
    pub(crate) fn current(&self, now: Duration) -> Option<Contested> {
        self.found.as_ref().filter(|found| found.1 > now).map(|found| found.0.clone())
    }
}

/// Lets a device connect whose token was checked: not too often, and not in the place of another one that has the
/// same identity.
///
/// # Errors
/// `rate_limited`.
pub fn admit(services: &Devices, live: &DeviceHandle) -> Result<()> {
    if let Some(session) = live.session().filter(|s| s.closing().is_none()) {
        let now = services.clock.monotonic();
        let verdict = live.held.contest.lock().judge(session.party(), now, services.clock.now());
        if let Verdict::Refused(news) = verdict {
            if let Some(contested) = news {
                tell(services, live, &contested);
            }
            let seconds = GUARD.as_secs();
            let what = "another device with this uid and token is connected and stays: two devices have one identity, by a \
                cloned flash or a restored backup. Rotate the token, or provision one of them anew";
            return Err(Error::rate_limited(format!("{what}; try again in {seconds} s"), seconds));
        }
    }
    services.registry.admit(live)
}

fn tell(services: &Devices, live: &DeviceHandle, contested: &Contested) {
    let shown = |party: &Party| json!({ "ip": party.ip.map(|ip| ip.to_string()), "boot_id": party.boot_id });
    let [stays, refused] = &contested.parties;
    let details = json!({ "stays": shown(stays), "refused": shown(refused) });
    tracing::warn!(device.uid = %live.uid, %details, "two devices have one identity; one of them stays");
    let entry = AuditEntry::event(contested.since, Actor::Device, Source::Device, "security.device_contested")
        .device(live.key)
        .outcome(Outcome::Rejected)
        .details(&details);
    services.audit.note(live.key, entry);
}

/// Whether it is going on now.
pub fn of(services: &Devices, live: Option<&Arc<DeviceHandle>>) -> Option<Contested> {
    live.and_then(|live| live.held.contest.lock().current(services.clock.monotonic()))
}

/// The identity is a new one, or somebody else's: whoever comes now is judged afresh.
pub(crate) fn over(live: &DeviceHandle) {
    *live.held.contest.lock() = Contest::default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(ip: u8, boot: &str) -> Party {
        let boot_id = Some(boot).filter(|b| !b.is_empty()).map(Into::into);
        Party { ip: Some([192, 0, 2, ip].into()), boot_id }
    }

    /// Each takes the place of the one before, a second apart; the number of the one that is refused.
    fn play(line: &[Party], step: Duration) -> Option<usize> {
        let (mut contest, mut now) = (Contest::default(), Duration::from_secs(1000));
        let mut present = line[0].clone();
        for (n, next) in line.iter().enumerate().skip(1) {
            now += step;
            if let Verdict::Refused(news) = contest.judge(present.clone(), now, TimeMs(7)) {
                let contested = news.unwrap();
                assert_eq!(contested.parties, [present, next.clone()]);
                assert_eq!(contest.current(now).map(|c| c.since), Some(TimeMs(7)));
                return Some(n);
            }
            contest.replaced(present, now);
            present = next.clone();
        }
        None
    }

    #[test]
    fn two_that_take_turns_are_found_by_address_or_by_boot() {
        let second = Duration::from_secs(1);
        for (a, b) in
            [(party(1, "x"), party(1, "y")), (party(1, ""), party(2, "")), (party(1, "same"), party(2, "same"))]
        {
            let line: Vec<_> = [a, b].iter().cycle().take(12).cloned().collect();
            assert_eq!(play(&line, second), Some(5), "{line:?}");
            assert_eq!(play(&line, Duration::from_secs(40)), None, "seldom enough to be none");
        }
    }

    #[test]
    fn one_device_is_never_taken_for_two() {
        let second = Duration::from_secs(1);
        let same = vec![party(1, "x"); 30];
        let reboots: Vec<_> = (0..30).map(|n| party(1, &n.to_string())).collect();
        let roams: Vec<_> = (0..30).map(|n| party(n, "x")).collect();
        // To another network and back once.
        let back: Vec<_> = [1, 2, 1, 1, 1, 2, 2, 2, 1].map(|ip| party(ip, "x")).into();
        for line in [same, reboots, roams, back] {
            assert_eq!(play(&line, second), None, "{line:?}");
        }
    }

    #[test]
    fn the_guard_lasts_as_long_as_the_other_one_tries() {
        let (a, b) = (party(1, "x"), party(2, "y"));
        let mut contest = Contest::default();
        let at = Duration::from_secs;
        for (n, party) in [&a, &b, &a, &b].into_iter().enumerate() {
            contest.replaced(party.clone(), at(n as u64));
        }
        assert!(matches!(contest.judge(a.clone(), at(5), TimeMs(1)), Verdict::Refused(Some(_))));
        for n in 1..9 {
            assert!(matches!(contest.judge(a.clone(), at(5 + n * 299), TimeMs(1)), Verdict::Refused(None)), "{n}");
        }
        let quiet = at(5 + 8 * 299 + 301);
        assert!(contest.current(quiet).is_none());
        assert!(matches!(contest.judge(a, quiet, TimeMs(1)), Verdict::Admitted));
    }
}
