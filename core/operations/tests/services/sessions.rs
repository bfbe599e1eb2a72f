//! Sessions that ended stay ended, whatever the clock does.

use std::sync::Arc;
use std::time::Duration;

use hexa_accounts::{ClientInfo, sessions};
use hexa_model::{Clock, ErrorCode, ManualClock, SessionId, TimeMs};
use hexa_platform::idempotency::Key;
use hexa_platform::principal::{Credential, Principal};
use secrecy::ExposeSecret;

use crate::rig::{House, PlainDriver};

const HOUR_MS: i64 = 3_600_000;

struct SignedIn {
    token: String,
    by: Principal,
    session: SessionId,
}

async fn sign_in(house: &House) -> SignedIn {
    let auth = &house.services.accounts;
    let new =
        auth.login(Key::none(), "ann@example.com", "a long password".into(), ClientInfo::default()).await.unwrap();
    let token = new.access_token.expose_secret().to_owned();
    let by = auth.authenticate(&token, None).await.unwrap();
    let Credential::Session(session) = by.via else { panic!("a session") };
    SignedIn { token, by, session }
}

async fn house() -> (Arc<ManualClock>, House) {
    let clock = Arc::new(ManualClock::at(TimeMs(1_800_000_000_000)));
    let house = House::at(Arc::clone(&clock) as Arc<dyn Clock>, PlainDriver::default()).await;
    (clock, house)
}

async fn refused(house: &House, token: &str) -> Option<ErrorCode> {
    house.services.accounts.authenticate(token, None).await.err().map(|e| e.code)
}

#[tokio::test]
async fn no_step_of_the_clock_revives_a_session_that_ended() {
    let (clock, house) = house().await;
    let (first, second) = (sign_in(&house).await, sign_in(&house).await);
    sessions::end(&house.services, &second.by, Key::none(), first.session).await.unwrap();
    assert_eq!(refused(&house, &first.token).await, Some(ErrorCode::InvalidToken));
    // Two hours ahead for a moment, while somebody else signs out, which is when what is over is forgotten.
    clock.jump(2 * HOUR_MS);
    let third = sign_in(&house).await;
    sessions::end(&house.services, &third.by, Key::none(), second.session).await.unwrap();
    clock.jump(-2 * HOUR_MS);
    for ended in [&first, &second] {
        assert_eq!(refused(&house, &ended.token).await, Some(ErrorCode::InvalidToken));
    }
}

#[tokio::test]
async fn a_token_that_expired_is_not_good_again_because_the_clock_went_back() {
    let (clock, house) = house().await;
    let signed_in = sign_in(&house).await;
    clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(refused(&house, &signed_in.token).await, Some(ErrorCode::InvalidToken));
    clock.jump(-10 * 60 * 1000);
    assert_eq!(refused(&house, &signed_in.token).await, Some(ErrorCode::InvalidToken));
}

#[tokio::test]
async fn what_remains_of_an_access_is_what_the_database_says() {
    let (clock, house) = house().await;
    let (first, second) = (sign_in(&house).await, sign_in(&house).await);
    let remaining = async |of: &[Principal]| house.services.accounts.remaining(of).await.unwrap();
    let both = [first.by.clone(), second.by.clone()];
    let fortnight = Duration::from_secs(14 * 86_400);
    assert_eq!(remaining(&both).await, [Some(fortnight), Some(fortnight)]);
    sessions::end(&house.services, &second.by, Key::none(), first.session).await.unwrap();
    // However long ago it ended, and whatever was forgotten since.
    for _ in 0..2 {
        clock.advance(Duration::from_secs(3600));
        let left = remaining(&both).await;
        assert!(left[0].is_none() && left[1].is_some(), "{left:?}");
    }
    clock.advance(fortnight);
    assert_eq!(remaining(&both).await, [None, None]);
    assert_eq!(remaining(&[]).await, []);
}

#[tokio::test]
async fn a_clock_that_is_ahead_for_a_moment_leaves_no_session_that_lives_on() {
    let (clock, house) = house().await;
    let first = sign_in(&house).await;
    clock.jump(40 * 24 * HOUR_MS);
    let second = sign_in(&house).await;
    // By this clock the first one is over, and it is ended all the same.
    let ended = sessions::end_others(&house.services, &second.by, Key::none()).await.unwrap();
    assert_eq!(ended, 2, "the one of the registration too");
    clock.jump(-40 * 24 * HOUR_MS);
    assert_eq!(refused(&house, &first.token).await, Some(ErrorCode::InvalidToken));
    assert!(!house.services.store.family_active(first.session).await.unwrap());
}

#[tokio::test]
async fn a_claim_that_was_never_tried_is_nobodys_wrong_code() {
    let (_clock, house) = house().await;
    let (ended, other) = (sign_in(&house).await, sign_in(&house).await);
    sessions::end(&house.services, &other.by, Key::none(), ended.session).await.unwrap();
    let claim = async |by: &Principal| {
        hexa_devices::claim::claim(&house.services, by, Key::none(), "ABCDE-FGH12").await.unwrap_err().code
    };
    for _ in 0..20 {
        assert_eq!(claim(&ended.by).await, ErrorCode::InvalidToken);
    }
    for _ in 0..5 {
        assert_eq!(claim(&other.by).await, ErrorCode::NotFound);
    }
    assert_eq!(claim(&other.by).await, ErrorCode::RateLimited);
}
