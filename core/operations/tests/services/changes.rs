//! What is committed is applied to memory by one function, from data that another process could be sent.

use std::sync::Arc;
use std::time::Duration;

use hexa_accounts::pats::{self, TokenRequest};
use hexa_accounts::sessions;
use hexa_accounts::users::{self, UserChange};
use hexa_devices::grant::{self, ShareRequest};
use hexa_devices::view::Names;
use hexa_devices::{claim, view};
use hexa_model::{Change, Clock, ErrorCode, GrantAccess, ManualClock, Role, TimeMs};
use hexa_operations::Operations;
use hexa_platform::idempotency::Key;
use hexa_platform::principal::{Credential, Principal};
use hexa_store::{Fact, Observer};
use parking_lot::Mutex;
use secrecy::ExposeSecret;

use crate::rig::{House, PlainDriver, sign_in, sign_up};

/// Every committed change, as another process would be sent it.
#[derive(Default)]
struct Feed(Mutex<Vec<String>>);

impl Observer for Feed {
    fn apply(&self, facts: &[Fact]) {
        self.0.lock().extend(facts.iter().map(|fact| serde_json::to_string(fact.change()).unwrap()));
    }
}

/// What a process says of these credentials and devices.
async fn says(services: &Arc<Operations>, tokens: &[&str], devices: &[&str]) -> Vec<String> {
    let mut said = Vec::new();
    for token in tokens {
        match services.accounts.authenticate(token, None).await {
            Err(error) => said.push(error.code.name().to_owned()),
            Ok(by) => {
                let mut seen = Vec::new();
                for uid in devices {
                    let sight = view::find(services, &by, uid).await.map(|(_, sight)| sight.standing.as_str());
                    seen.push(sight.unwrap_or("not there"));
                }
                said.push(format!("{:?}: {}", by.account.role, seen.join(", ")));
            }
        }
    }
    said
}

fn share(email: &str) -> ShareRequest {
    let email = email.to_owned();
    ShareRequest {
        email,
        access: GrantAccess::Control,
        relays: None,
        starts_at: None,
        expires_at: None,
        max_uses: None,
    }
}

async fn token(services: &Operations, by: &Principal) -> (hexa_model::TokenId, String) {
    let request = TokenRequest { name: "script".into(), scopes: vec!["devices:read".into()], expires_in_days: None };
    let made = services.accounts.create_token(by, Key::none(), request).await.unwrap();
    (made.row.id, made.token.expose_secret().to_owned())
}

#[tokio::test]
async fn another_process_that_hears_of_changes_late_and_twice_says_the_same() {
    let house = House::new().await;
    let services = &house.services;
    let (bob, carol) = (sign_in(services, "bob@example.com").await, sign_in(services, "carol@example.com").await);
    let ann = sign_in(services, "anna@example.com").await;
    let by = async |token: &str| services.accounts.authenticate(token, None).await.unwrap();
    let (lamp, _) = house.claimed(2).await;
    let (fan, _) = house.claimed(1).await;
    let (gone, _) = house.claimed(1).await;
    let grant = grant::create(services, &house.user, Key::none(), &lamp, share("bob@example.com")).await.unwrap();
    let (script, script_token) = token(services, &by(&bob).await).await;
    let other = house.other_process().await;
    let tokens = [bob.as_str(), &carol, &ann, &script_token];
    let devices = [lamp.uid.as_str(), fan.uid.as_str(), gone.uid.as_str()];
    let before = says(&other, &tokens, &devices).await;
    assert_eq!(before, says(services, &tokens, &devices).await);
    let feed = Arc::new(Feed::default());
    services.store.observe(Arc::clone(&feed) as Arc<dyn Observer>);

    grant::revoke(services, &house.user, Key::none(), &lamp, grant.grant.id).await.unwrap();
    grant::create(services, &house.user, Key::none(), &fan, share("carol@example.com")).await.unwrap();
    let code = claim::release(services, &house.user, Key::none(), &lamp).await.unwrap();
    claim::claim(services, &by(&carol).await, Key::none(), code.code.expose_secret()).await.unwrap();
    claim::delete(services, &house.user, Key::none(), &gone).await.unwrap();
    pats::revoke(services, &by(&bob).await, Key::none(), script).await.unwrap();
    // An admin is made by the database alone here: no account of this server is one.
    let user = services.store.user_by_email("anna@example.com").await.unwrap().unwrap();
    let made = services.store.change(move |tx| {
        Box::pin(async move {
            tx.set_standing(user.key, Role::Admin, true, user.created_at).await?;
            let epoch = tx.user_by_key(user.key).await?.map_or(0, |u| u.epoch);
            let changes = vec![Change::Account { user: user.key, id: user.id, epoch, ends_access: true }];
            Ok::<_, hexa_store::StoreError>(hexa_store::Changed { answer: (), changes })
        })
    });
    made.await.unwrap();
    let admin = sign_admin(services).await;
    let deactivated = UserChange { active: Some(false), ..UserChange::default() };
    let bob_id = by(&bob).await.account.id;
    users::change(services, &admin, Key::none(), bob_id, deactivated).await.unwrap();
    sessions::end_others(services, &by(&carol).await, Key::none()).await.unwrap();

    let after = says(services, &tokens, &devices).await;
    assert_ne!(after, before);
    // The other process has heard of nothing yet, and what it says is what it knew.
    assert_eq!(says(&other, &tokens, &devices).await, before);
    let told = feed.0.lock().clone();
    assert!(told.len() >= 8, "{told:#?}");
    // Late, in the wrong order, and each twice.
    for text in told.iter().rev().chain(&told) {
        let change: Change = serde_json::from_str(text).unwrap();
        let fact = other.store.fact(change).await.unwrap();
        other.apply(&fact);
    }
    assert_eq!(says(&other, &tokens, &devices).await, after);
}

async fn sign_admin(services: &Arc<Operations>) -> Principal {
    let origin = hexa_accounts::ClientInfo::default();
    let signed_in = services.accounts.login(Key::none(), "anna@example.com", "a long password".into(), origin);
    let token = signed_in.await.unwrap().access_token;
    services.accounts.authenticate(token.expose_secret(), None).await.unwrap()
}

/// What was authenticated before its access ended changes nothing after it: it is compared in the transaction of the
/// change, whatever memory says.
#[tokio::test]
async fn who_was_authenticated_before_access_ended_changes_nothing_after_it() {
    let house = House::new().await;
    let services = &house.services;
    let by = sign_up(services, "bob@example.com").await;
    let (id, script) = token(services, &by).await;
    let script = services.accounts.authenticate(&script, None).await.unwrap();
    pats::revoke(services, &by, Key::none(), id).await.unwrap();
    let refused = pats::revoke_own(services, &script, Key::none()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidToken, "a token that was revoked");

    let Credential::Session(session) = by.via else { panic!("a session") };
    sessions::end(services, &by, Key::none(), session).await.unwrap();
    let request = TokenRequest { name: "x".into(), scopes: vec!["devices:read".into()], expires_in_days: None };
    let refused = services.accounts.create_token(&by, Key::none(), request).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidToken, "a session that ended");
    assert_eq!(sessions::end_others(services, &by, Key::none()).await.unwrap_err().code, ErrorCode::InvalidToken);

    // Memory that has not heard of a release names nothing for the next owner.
    let (lamp, _) = house.claimed(2).await;
    let other = house.other_process().await;
    let (known, _) = view::find(&other, &house.user, lamp.uid.as_str()).await.unwrap();
    claim::release(services, &house.user, Key::none(), &lamp).await.unwrap();
    let names = Names { device: Some("mine".into()), relays: vec![(0, "mine".into())] };
    let refused = view::rename(&other, &house.user, Key::none(), &known, names).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    assert_eq!(services.store.device_by_key(lamp.key).await.unwrap().unwrap().name, None);
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_some_hours_ends_no_grant_for_good() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let clock = Arc::new(ManualClock::at(TimeMs(1_800_000_000_000)));
    let house = House::at(Arc::clone(&clock) as Arc<dyn Clock>, PlainDriver::default()).await;
    let services = &house.services;
    sign_in(services, "bob@example.com").await;
    let (lamp, _) = house.claimed(1).await;
    let request = ShareRequest { expires_at: Some(clock.now().plus(48 * HOUR)), ..share("bob@example.com") };
    grant::create(services, &house.user, Key::none(), &lamp, request).await.unwrap();
    let stored = async || services.store.grants_of(lamp.key).await.unwrap().len();
    for ahead in [60_i64, 23, 400 * 24] {
        clock.jump(ahead * 3_600_000);
        grant::look(services).await.unwrap();
        clock.advance(2 * HOUR);
        grant::look(services).await.unwrap();
        clock.jump(-ahead * 3_600_000);
        assert_eq!(stored().await, 1, "{ahead} hours");
    }
    // Six hours have passed.
    for _ in 0..41 {
        clock.advance(HOUR);
        grant::look(services).await.unwrap();
        assert_eq!(stored().await, 1);
    }
    // What is over for sure is over by the least that the clock has shown within the last day.
    for _ in 0..2 {
        clock.advance(24 * HOUR);
        grant::look(services).await.unwrap();
    }
    assert_eq!(stored().await, 0);
}
