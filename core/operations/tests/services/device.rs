use std::sync::Arc;

use hexa_devices::session::CloseReason;
use hexa_devices::{claim, provision};
use hexa_model::ErrorCode;
use hexa_model::driver::Frame;
use hexa_model::event::Event;
use hexa_platform::idempotency::Key;

use crate::rig::{House, sign_up};

#[tokio::test]
async fn the_newest_session_wins_without_an_offline_event_and_open_commands_go_on() {
    let house = House::new().await;
    let mut old = house.device(1).await;
    let asked = house.set(&old, 0, true);
    let words = old.expect().await;
    let mut new = house.connect(&old.live).await;
    assert_eq!(old.actor.session().closing(), Some(CloseReason::Replaced));
    old.actor.closed();
    assert!(new.live.online(), "the old session's end does not unregister the new one");
    new.say(&format!("ack {}", words[1])).await;
    assert!(asked.await.unwrap().is_ok(), "I15: the ack came on the new socket");
    let offline = |e: &&Event| matches!(e, Event::DeviceOffline { .. });
    assert_eq!(house.ear.0.lock().iter().filter(offline).count(), 0);
    assert_eq!(house.services.metrics.device_sessions.get(), 1);
    new.actor.closed();
    assert_eq!(house.ear.0.lock().iter().filter(offline).count(), 1);
    house.check(&new.live).await;
}

#[tokio::test]
async fn a_command_that_waits_during_a_takeover_goes_out_once_on_the_new_socket() {
    let house = House::new().await;
    let mut old = house.device(1).await;
    let asked = house.set(&old, 0, true);
    while old.live.held.commands.lock().open_count() < 1 {
        tokio::task::yield_now().await;
    }
    let mut new = house.connect(&old.live).await;
    // Closing wakes the former session's task too; what it took would never reach the wire.
    let mut out = Vec::new();
    old.actor.encode_queued(&mut out);
    assert!(out.is_empty(), "a session that closes takes nothing");
    new.obey().await;
    assert!(asked.await.unwrap().is_ok(), "I15: nobody asked again, and it was sent");
    house.check(&new.live).await;
}

#[tokio::test]
async fn a_command_that_was_never_sent_has_its_row() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let unsent = house.set(&device, 0, true);
    while device.live.held.commands.lock().open_count() < 1 {
        tokio::task::yield_now().await;
    }
    device.actor.closed();
    assert_eq!(unsent.await.unwrap().unwrap_err().code, ErrorCode::DeviceOffline);
    let rows = house.rows(&device.live).await;
    assert_eq!(rows, [("set_relay".to_owned(), "error".to_owned(), false)], "I2: one primary row");
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_lost_connection_fails_only_what_was_not_sent() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let sent = house.set(&device, 0, true);
    device.expect().await;
    let unsent = house.set(&device, 0, false);
    while device.live.held.commands.lock().open_count() < 2 {
        tokio::task::yield_now().await;
    }
    device.actor.closed();
    assert_eq!(unsent.await.unwrap().unwrap_err().code, ErrorCode::DeviceOffline);
    assert_eq!(sent.await.unwrap().unwrap_err().code, ErrorCode::DeviceTimeout, "it may have moved the relay");
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_release_ends_open_commands_closes_the_socket_and_needs_a_new_code() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    device.expect().await;
    let code = claim::release(&house.services, &house.user, Key::none(), &device.live).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(device.actor.session().closing(), Some(CloseReason::Revoked));
    assert_eq!(house.set(&device, 0, true).await.unwrap().unwrap_err().code, ErrorCode::NotFound);
    let bob = sign_up(&house.services, "bob@example.com").await;
    let live = claim::claim(&house.services, &bob, Key::none(), secrecy::ExposeSecret::expose_secret(&code.code))
        .await
        .unwrap();
    assert_eq!(live.row.owner, Some(bob.account.key));
    assert_eq!(device.live.owner(), Some(bob.account.key));
    house.check(&device.live).await;
}

#[tokio::test]
async fn fifty_users_race_one_code_and_one_gets_the_device() {
    let house = House::new().await;
    let device = house.device(1).await;
    let code = claim::release(&house.services, &house.user, Key::none(), &device.live).await.unwrap();
    let code: Arc<str> = secrecy::ExposeSecret::expose_secret(&code.code).into();
    let racers: Vec<_> = (0..50)
        .map(|_| {
            let (services, user, code) = (Arc::clone(&house.services), house.user.clone(), Arc::clone(&code));
            tokio::spawn(async move { claim::claim(&services, &user, Key::none(), &code).await.map(|l| l.row.key) })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Ok(_) => won += 1,
            Err(e) => assert!(matches!(e.code, ErrorCode::NotFound | ErrorCode::RateLimited), "{e}"),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_token_is_good_until_it_is_rotated_and_the_new_one_used() {
    let house = House::new().await;
    let (live, old) = house.claimed(1).await;
    let good =
        async |token: &str| provision::authenticate(&house.services, live.uid.as_str(), &token.into()).await.is_ok();
    assert!(good(&old).await);
    assert!(!good("hxd_wrong").await);
    let rotated = claim::rotate_token(&house.services, &house.user, Key::none(), &live).await.unwrap();
    let new = secrecy::ExposeSecret::expose_secret(&rotated.token).to_owned();
    assert!(good(&old).await, "grace");
    assert!(good(&new).await);
    assert!(!good(&old).await, "the new one was used");
    assert!(good(&new).await);
}

#[tokio::test]
async fn a_deleted_device_is_gone_and_its_audit_stays() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    device.say("report 0=1").await;
    claim::delete(&house.services, &house.user, Key::none(), &device.live).await.unwrap();
    let late = device.actor.message(Frame::Text("report 0=0".into()), &mut Vec::new()).await;
    assert_eq!(late, Err(CloseReason::Revoked));
    assert!(house.services.registry.find(&device.live.uid).await.unwrap().is_none());
    assert_eq!(house.rows(&device.live).await.len(), 1, "the report after the deletion left no row");
    assert_eq!(house.services.store.verify_audit().await.unwrap().first_bad, None);
}

#[tokio::test]
async fn a_device_that_floods_or_babbles_is_closed() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let mut out = Vec::new();
    let babble = hexa_model::driver::Frame::Text("what".into());
    let mut ends = Vec::new();
    for _ in 0..20 {
        ends.push(device.actor.message(babble.clone(), &mut out).await);
    }
    assert_eq!(ends.iter().filter(|e| e.is_err()).count(), 1);
    assert_eq!(ends.last(), Some(&Err(CloseReason::Malformed)));
    let mut device = house.device(1).await;
    let report = hexa_model::driver::Frame::Text("report 0=1".into());
    let mut taken = 0;
    while device.actor.message(report.clone(), &mut out).await.is_ok() {
        taken += 1;
        assert!(taken < 1000, "60 a second and a burst of 120 are the limit");
    }
    assert!(taken >= 120, "{taken}");
}

#[tokio::test]
async fn a_fleet_that_connects_at_once_is_read_together_and_each_is_told_the_truth() {
    let house = House::new().await;
    let mut fleet = Vec::new();
    for _ in 0..100 {
        fleet.push(house.claimed(1).await);
    }
    let reads = || house.services.metrics.device_reads.get();
    let before = reads();
    let asked = fleet.iter().enumerate().map(|(n, (live, token))| {
        let token = if n % 10 == 3 { "hxd_wrong".to_owned() } else { token.clone() };
        let (services, uid) = (Arc::clone(&house.services), live.uid.clone());
        async move { provision::authenticate(&services, uid.as_str(), &token.into()).await }
    });
    let answers = futures_util::future::join_all(asked).await;
    for (n, (answer, (live, _))) in answers.into_iter().zip(&fleet).enumerate() {
        match answer {
            Ok(found) => assert!(n % 10 != 3 && Arc::ptr_eq(&found.live, live), "{n}: its own device and no other's"),
            Err(error) => assert!(n % 10 == 3 && error.code == ErrorCode::InvalidToken, "{n}: {error}"),
        }
    }
    assert!(reads() - before <= 10, "{} statements for 100 connects", reads() - before);
    let alone = reads();
    let nobody = provision::authenticate(&house.services, "hx0000000000000000", &"hxd_wrong".into()).await;
    assert_eq!(nobody.unwrap_err().code, ErrorCode::InvalidToken);
    assert_eq!(reads() - alone, 1);
}

#[tokio::test]
async fn beyond_so_many_devices_without_an_owner_nobody_is_provisioned() {
    let house = House::new().await;
    let provision = async || {
        let caller = provision::Caller { ip: None, key: Some("a provisioning key".into()), proof: None };
        let class = Some(hexa_model::DeviceClass::RelayController);
        let new = provision::Registration { class, relay_count: 1, ..provision::Registration::default() };
        provision::register(&house.services, caller, Key::none(), new).await
    };
    let mut last = None;
    for _ in 0..100 {
        last = Some(provision().await.unwrap());
    }
    assert_eq!(provision().await.unwrap_err().code, ErrorCode::RateLimited);
    let code = secrecy::ExposeSecret::expose_secret(&last.unwrap().claim.code).to_owned();
    claim::claim(&house.services, &house.user, Key::none(), &code).await.unwrap();
    provision().await.unwrap();
}
