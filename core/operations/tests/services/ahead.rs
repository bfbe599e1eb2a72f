//! What is made while the clock is ahead lives as long as anything else once the clock has been set back, and what is good
//! is not ended by a clock that is behind.

use std::sync::Arc;
use std::time::Duration;

use hexa_accounts::ClientInfo;
use hexa_accounts::pats::TokenRequest;
use hexa_devices::{claim, provision};
use hexa_model::{Clock, DeviceClass, ErrorCode, TimeMs};
use hexa_operations::Operations;
use hexa_operations::set_right::set_right;
use hexa_platform::audit::list::{Wanted, page};
use hexa_platform::idempotency::Key;
use hexa_store::set_right::{RULES, SetRight};
use secrecy::{ExposeSecret, SecretString};

use crate::invitations::{Office, REFUSED, office, register};
use crate::rig::{House, sign_up};

const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: i64 = 86_400_000;
const MINUTE: Duration = Duration::from_secs(60);

async fn provision(
    services: &Operations,
    serial: Option<&str>,
    label: bool,
) -> hexa_platform::Result<provision::Provisioned> {
    let caller = provision::Caller { ip: None, key: Some("a provisioning key".into()), proof: None };
    let new = provision::Registration {
        class: Some(DeviceClass::RelayController),
        relay_count: 1,
        serial: serial.map(str::to_owned),
        label,
        ..provision::Registration::default()
    };
    provision::register(services, caller, Key::none(), new).await
}

/// One of everything that has an end.
struct Made {
    access: SecretString,
    refresh: SecretString,
    token: SecretString,
    invitation: SecretString,
    code: SecretString,
    label: SecretString,
    former: (String, SecretString),
}

impl Made {
    async fn make(office: &Office) -> Self {
        let services = &office.house.services;
        let by = &office.admin;
        let login =
            services.accounts.login(Key::none(), "ben@example.com", "a long password".into(), ClientInfo::default());
        let signed_in = login.await.unwrap();
        let request = TokenRequest { name: "a".into(), scopes: vec!["devices:read".into()], expires_in_days: Some(1) };
        let token = services.accounts.create_token(by, Key::none(), request).await.unwrap().token;
        assert!(services.accounts.authenticate(token.expose_secret(), None).await.is_ok(), "it is in memory");
        let device = provision(services, Some("S-1"), false).await.unwrap();
        let claimed = claim::claim(services, by, Key::none(), device.claim.code.expose_secret()).await.unwrap();
        let live = services.registry.find(&claimed.row.uid).await.unwrap().unwrap();
        claim::rotate_token(services, by, Key::none(), &live).await.unwrap();
        provision::allow_reset(services, by, Key::none(), &live).await.unwrap();
        assert!(services.accounts.authenticate(signed_in.access_token.expose_secret(), None).await.is_ok());
        Self {
            access: signed_in.access_token,
            refresh: signed_in.refresh_token,
            token,
            invitation: office.invite().await.1,
            code: provision(services, None, false).await.unwrap().claim.code,
            label: provision(services, None, true).await.unwrap().claim.code,
            former: (device.uid.as_str().to_owned(), device.token),
        }
    }
}

/// Which of these open something now: the personal access token, the former token of a device.
async fn open(services: &Operations, made: &Made) -> (bool, bool) {
    let token = services.accounts.authenticate(made.token.expose_secret(), None).await.is_ok();
    (token, provision::authenticate(services, &made.former.0, &made.former.1).await.is_ok())
}

async fn claims(office: &Office, code: &SecretString) -> bool {
    claim::claim(&office.house.services, &office.admin, Key::none(), code.expose_secret()).await.is_ok()
}

#[tokio::test]
async fn what_is_made_while_the_clock_is_ahead_ends_in_its_time_once_it_was_set_back() {
    let office = office().await;
    let services = &office.house.services;
    sign_up(services, "ben@example.com").await;
    // Soon after a start it would be the network that told the time.
    office.clock.advance(5 * MINUTE);
    assert_eq!(set_right(services).await.unwrap(), 0);
    office.clock.jump(400 * DAY_MS);
    let made = Made::make(&office).await;
    assert_eq!(set_right(services).await.unwrap(), 0, "nobody knows yet that it is wrong");
    office.clock.jump(-400 * DAY_MS);
    assert_eq!(set_right(services).await.unwrap(), 0, "it may be behind for a moment");
    office.clock.advance(5 * MINUTE);
    // Of each kind: `store set_right::every_time_that_cannot_be_is_put_right_and_no_other`.
    assert!(set_right(services).await.unwrap() >= 8);
    assert_eq!(set_right(services).await.unwrap(), 0);

    // Nobody is locked out: but for the access token, which is of a later time, and which the session gives anew.
    assert!(services.accounts.authenticate(made.access.expose_secret(), None).await.is_err());
    let again = services.accounts.refresh(Key::none(), &made.refresh).await.unwrap();
    assert!(services.accounts.authenticate(again.access_token.expose_secret(), None).await.is_ok());
    assert_eq!(open(services, &made).await, (true, true));
    office.clock.advance(9 * MINUTE);
    assert_eq!(open(services, &made).await, (true, true));
    office.clock.advance(2 * MINUTE);
    assert_eq!(open(services, &made).await, (true, false), "a former token is good for ten minutes");
    office.clock.advance(5 * MINUTE);
    assert!(!claims(&office, &made.code).await, "a claim code is good for a quarter of an hour");
    assert!(claims(&office, &made.label).await, "and one on a label for ten years");
    let reset = provision(services, Some("S-1"), false).await;
    assert!(reset.is_err(), "the owner's word is not for later");
    office.clock.advance(DAY);
    assert!(!open(services, &made).await.0, "a token for a day");
    office.clock.advance(6 * DAY);
    assert_eq!(register(services, "late@example.com", &made.invitation).await, REFUSED, "an invitation for a week");
    office.clock.advance(7 * DAY);
    assert!(services.accounts.refresh(Key::none(), &again.refresh_token).await.is_err(), "idle for two weeks");
}

/// By itself, while the server goes on, and however many there are: more than go into one transaction.
#[tokio::test]
async fn a_running_server_puts_right_what_was_made_ahead_by_itself() {
    let office = office().await;
    let services = &office.house.services;
    sign_up(services, "ben@example.com").await;
    office.clock.advance(5 * MINUTE);
    hexa_operations::set_right::start(services);
    office.clock.jump(400 * DAY_MS);
    let made = Made::make(&office).await;
    let mut codes = Vec::new();
    for _ in 0..60 {
        codes.push(provision(services, None, false).await.unwrap().claim.code);
    }
    office.clock.jump(-400 * DAY_MS);
    services.guard.latest();
    office.clock.advance(5 * MINUTE);
    let by = SetRight {
        newest: office.clock.now().plus(MINUTE),
        now: office.clock.now(),
        refresh_idle: DAY,
        rotation_grace: DAY,
        reset_lifetime: DAY,
        key_lifetime: DAY,
    };
    let begin = std::time::Instant::now();
    for rule in 0..RULES {
        while services.store.beyond(rule, &by, None, 1).await.unwrap().last().is_some() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{rule}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let wanted = Wanted { action: Some("clock.set_right".into()), ..Wanted::default() };
    assert_eq!(page(services, &office.admin, &wanted, None, 10).await.unwrap().0.len(), 1);
    assert_eq!(open(services, &made).await, (true, true));
    office.clock.advance(16 * MINUTE);
    for code in &codes[..3] {
        assert!(!claims(&office, code).await);
    }
    assert!(!claims(&office, codes.last().unwrap()).await, "none of them");
}

#[tokio::test]
async fn a_clock_that_is_behind_for_more_than_a_day_ends_nothing_that_is_good() {
    let office = office().await;
    let services = &office.house.services;
    sign_up(services, "ben@example.com").await;
    office.clock.advance(5 * MINUTE);
    let made = Made::make(&office).await;
    let behind = office.clock.now().0;
    office.clock.jump(-behind);
    for _ in 0..2 {
        services.guard.latest();
        office.clock.advance(DAY);
    }
    assert_eq!(services.guard.latest(), TimeMs(2 * DAY_MS), "it is believed");
    assert_eq!(set_right(services).await.unwrap(), 0);
    office.clock.jump(behind - 2 * DAY_MS);
    assert_eq!(register(services, "guest@example.com", &made.invitation).await, None);
    assert_eq!(open(services, &made).await, (true, true));
    assert!(claims(&office, &made.code).await && claims(&office, &made.label).await);
    assert!(services.accounts.refresh(Key::none(), &made.refresh).await.is_ok());
}

/// A new server knows no other time than that of its clock: one that is behind for a moment looks like one that was ahead.
#[tokio::test]
async fn in_its_first_minutes_a_server_puts_nothing_right_before_the_clock_has_stayed() {
    let office = office().await;
    let services = &office.house.services;
    services.guard.is_new();
    sign_up(services, "ben@example.com").await;
    // At the end of the first five minutes it is behind, for a moment.
    office.clock.advance(5 * MINUTE - Duration::from_secs(1));
    let made = Made::make(&office).await;
    office.clock.jump(-10 * DAY_MS);
    assert_eq!(set_right(services).await.unwrap(), 0);
    office.clock.advance(Duration::from_secs(3));
    assert_eq!(set_right(services).await.unwrap(), 0);
    office.clock.jump(10 * DAY_MS);
    office.clock.advance(5 * MINUTE);
    assert_eq!(set_right(services).await.unwrap(), 0);
    assert_eq!(open(services, &made).await, (true, true));
    assert!(claims(&office, &made.code).await && claims(&office, &made.label).await);
    assert_eq!(register(services, "guest@example.com", &made.invitation).await, None);
    assert!(services.accounts.refresh(Key::none(), &made.refresh).await.is_ok());
}

#[tokio::test]
async fn what_a_new_server_made_ahead_is_put_right_when_the_clock_has_stayed_for_some_minutes() {
    let office = office().await;
    let services = &office.house.services;
    services.guard.is_new();
    sign_up(services, "ben@example.com").await;
    office.clock.jump(10 * DAY_MS);
    let made = Made::make(&office).await;
    office.clock.jump(-10 * DAY_MS);
    assert_eq!(set_right(services).await.unwrap(), 0);
    office.clock.advance(5 * MINUTE);
    assert!(set_right(services).await.unwrap() >= 8);
    assert!(services.accounts.refresh(Key::none(), &made.refresh).await.is_ok());
    assert_eq!(open(services, &made).await, (true, true));
    office.clock.advance(16 * MINUTE);
    assert_eq!(open(services, &made).await, (true, false));
    assert!(!claims(&office, &made.code).await);
}

/// A token that was spent while the clock was ahead is no lost answer for as long as it lies ahead.
#[tokio::test]
async fn a_spent_token_of_a_later_time_is_a_stolen_one() {
    let office = office().await;
    let services = &office.house.services;
    sign_up(services, "ben@example.com").await;
    office.clock.advance(5 * MINUTE);
    office.clock.jump(400 * DAY_MS);
    let made = Made::make(&office).await;
    services.accounts.refresh(Key::none(), &made.refresh).await.unwrap();
    office.clock.jump(-400 * DAY_MS);
    let again = services.accounts.refresh(Key::none(), &made.refresh).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::RefreshTokenReused);
}

/// Of a server that was set up anew with the same database, say.
#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_under_another_key() {
    let house = House::new().await;
    sign_up(&house.services, "ben@example.com").await;
    let login =
        house.services.accounts.login(Key::none(), "ben@example.com", "a long password".into(), ClientInfo::default());
    let first = login.await.unwrap().refresh_token;
    let lost = house.services.accounts.refresh(Key::none(), &first).await.unwrap().refresh_token;
    let mut config = crate::rig::settings();
    config.key_encryption_key = "another key of these tests".into();
    let (clock, store) = (Arc::clone(&house.services.clock), house.services.store.clone());
    let other = Operations::new(config, clock, store, Arc::clone(&house.services.drivers));
    let again = other.accounts.refresh(Key::none(), &first).await.unwrap().refresh_token;
    assert_ne!(again.expose_secret(), lost.expose_secret());
    let same = other.accounts.refresh(Key::none(), &first).await.unwrap().refresh_token;
    assert_eq!(same.expose_secret(), again.expose_secret());
    assert_eq!(other.accounts.refresh(Key::none(), &lost).await.unwrap_err().code, ErrorCode::InvalidToken);
    assert!(other.accounts.refresh(Key::none(), &again).await.is_ok());
}
