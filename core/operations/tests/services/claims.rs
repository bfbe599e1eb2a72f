//! Claim codes: what is kept of them, and how many wrong ones there may be.

use std::sync::Arc;
use std::time::Duration;

use hexa_devices::{claim, codes, provision};
use hexa_model::{Clock, DeviceClass, ErrorCode, ManualClock, TimeMs};
use hexa_operations::Operations;
use hexa_platform::audit::list::Wanted;
use hexa_platform::idempotency::Key;
use hexa_platform::principal::Principal;
use secrecy::ExposeSecret;

use crate::rig::{House, PlainDriver, sign_up};

async fn house() -> (Arc<ManualClock>, House) {
    let clock = Arc::new(ManualClock::at(TimeMs(1_800_000_000_000)));
    let house = House::at(Arc::clone(&clock) as Arc<dyn Clock>, PlainDriver::default()).await;
    (clock, house)
}

/// The code of a new device.
async fn code(services: &Operations) -> String {
    let caller = provision::Caller { ip: None, key: Some("a provisioning key".into()), proof: None };
    let class = Some(DeviceClass::RelayController);
    let new = provision::Registration { class, relay_count: 1, ..provision::Registration::default() };
    let made = provision::register(services, caller, Key::none(), new).await.unwrap();
    made.claim.code.expose_secret().to_owned()
}

async fn claim(services: &Arc<Operations>, by: &Principal, code: &str) -> Result<(), (ErrorCode, Option<u64>)> {
    let claimed = claim::claim(services, by, Key::none(), code).await;
    claimed.map(drop).map_err(|e| (e.code, e.retry_after_s))
}

async fn rows(house: &House, action: &str) -> usize {
    let mut admin = house.user.clone();
    Arc::make_mut(&mut admin.account).role = hexa_model::Role::Admin;
    let wanted = Wanted { action: Some(action.into()), ..Wanted::default() };
    hexa_platform::audit::list::page(&house.services, &admin, &wanted, None, 100).await.unwrap().0.len()
}

const WRONG: Result<(), (ErrorCode, Option<u64>)> = Err((ErrorCode::NotFound, None));

/// On this server 12 wrong codes are too many, and 5 of one account.
#[tokio::test]
async fn many_accounts_that_each_guess_within_their_bound_are_stopped_together() {
    let (clock, house) = house().await;
    let services = &house.services;
    let right = code(services).await;
    let owner = sign_up(services, "owner@example.com").await;
    for n in 0..3 {
        let guesser = sign_up(services, &format!("guesser{n}@example.com")).await;
        for guess in 0..4 {
            assert_eq!(claim(services, &guesser, &format!("ZZZZZ-ZZZ{n}{guess}")).await, WRONG);
        }
        // What cannot be a code guesses none: it counts for its account alone.
        assert_eq!(claim(services, &guesser, "too short").await, WRONG);
    }
    assert_eq!(rows(&house, "security.claim_codes_limited").await, 0, "none was refused yet");
    clock.advance(Duration::from_secs(100));
    for _ in 0..3 {
        let limited = Err((ErrorCode::RateLimited, Some(500)));
        assert_eq!(claim(services, &owner, &right).await, limited, "until the 10 minutes of the first guess are over");
    }
    assert_eq!(rows(&house, "security.claim_codes_limited").await, 1, "it is said once");
    assert_eq!(rows(&house, "security.wrong_claim_code").await, 15);
    clock.advance(Duration::from_secs(500));
    assert_eq!(claim(services, &owner, &right).await, Ok(()));
}

#[tokio::test]
async fn guesses_of_many_accounts_at_the_same_time_are_no_more_than_one_after_the_other() {
    let (_, house) = house().await;
    let mut guesses = Vec::new();
    for n in 0..6 {
        let guesser = sign_up(&house.services, &format!("guesser{n}@example.com")).await;
        for guess in 0..5 {
            let (services, guesser) = (Arc::clone(&house.services), guesser.clone());
            let code = format!("ZZZZZ-ZZZ{n}{guess}");
            guesses.push(tokio::spawn(async move { claim(&services, &guesser, &code).await }));
        }
    }
    let mut looked_at = 0;
    for guess in guesses {
        match guess.await.unwrap() {
            WRONG => looked_at += 1,
            refused => assert_eq!(refused.unwrap_err().0, ErrorCode::RateLimited),
        }
    }
    assert!(looked_at <= 12, "{looked_at}");
    assert_eq!(rows(&house, "security.wrong_claim_code").await, looked_at);
}

#[tokio::test]
async fn a_right_code_costs_nothing_however_often() {
    let (_, house) = house().await;
    for _ in 0..15 {
        let code = code(&house.services).await;
        assert_eq!(claim(&house.services, &house.user, &code).await, Ok(()));
    }
}

#[tokio::test]
async fn under_another_key_codes_are_void_and_with_the_former_key_they_are_good_again() {
    let (_, house) = house().await;
    let code = code(&house.services).await;
    let mut config = crate::rig::settings();
    config.key_encryption_key = "another key of these tests, and of nothing else".into();
    let (store, driver) = (house.services.store.clone(), Arc::clone(&house.services.drivers));
    let other = Operations::new(config, Arc::clone(&house.services.clock), store, driver);
    codes::bring_up_to_date(&other).await.unwrap();
    assert_eq!(codes::void(&other).await.unwrap(), 1);
    assert_eq!(claim(&other, &house.user, &code).await, WRONG);
    codes::bring_up_to_date(&house.services).await.unwrap();
    assert_eq!(codes::void(&house.services).await.unwrap(), 0);
    assert_eq!(claim(&house.services, &house.user, &code).await, Ok(()));
}

/// What is over goes with housekeeping, so that no clock that is believed later makes it good again.
#[tokio::test]
async fn codes_and_former_tokens_that_are_over_are_taken_away() {
    let (clock, house) = house().await;
    let services = &house.services;
    let (over, open) = (code(services).await, code(services).await);
    let owner = sign_up(services, "owner@example.com").await;
    let uid = claim::claim(services, &owner, Key::none(), &open).await.unwrap().row.uid;
    let live = services.registry.find(&uid).await.unwrap().unwrap();
    claim::rotate_token(services, &owner, Key::none(), &live).await.unwrap();
    let left = async || services.store.codes_over(services.guard.earliest(), 10).await.unwrap().len();
    assert_eq!(left().await, 0);
    clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(left().await, 2, "a code and a former token");
    hexa_operations::housekeeping::purge(services).await.unwrap();
    assert_eq!(left().await, 0);
    assert_eq!(claim(services, &owner, &over).await, WRONG);
}
