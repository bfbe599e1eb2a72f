use hexa_model::{Cause, ErrorCode, Outcome, RelayAction, Source};

use crate::rig::{Device, House, PlainDriver, stranger};

fn row(action: &str, outcome: &str, follow_up: bool) -> (String, String, bool) {
    (action.into(), outcome.into(), follow_up)
}

async fn settled(house: &House, device: &Device) {
    house.check(&device.live).await;
}

#[tokio::test]
async fn an_acknowledged_command_is_stored_audited_and_heard_of() {
    let house = House::new().await;
    let mut device = house.device(4).await;
    let asked = house.set(&device, 2, true);
    let words = device.expect().await;
    assert_eq!((words[0].as_str(), words[2].as_str(), words[3].as_str()), ("set", "2", "1"));
    assert!(house.heard().is_empty(), "nothing is told before the ack");
    device.say(&format!("ack {}", words[1])).await;
    let done = asked.await.unwrap().unwrap();
    assert_eq!(
        (done.outcome, done.relays()[0].index, done.relays()[0].on, done.relays()[0].version),
        (Outcome::Executed, 2, true, 1)
    );
    assert_eq!(house.heard(), [(true, 1)]);
    assert_eq!(house.rows(&device.live).await, [row("set_relay", "executed", false)]);
    let stored = house.services.store.command_result(done.command).await.unwrap().unwrap();
    assert_eq!((stored.outcome, stored.changes[0].version), (Outcome::Executed, 1));
    settled(&house, &device).await;
}

#[tokio::test]
async fn a_noop_succeeds_without_a_new_version() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    device.say("report 0=1").await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    device.say(&format!("ack {} noop", words[1])).await;
    let done = asked.await.unwrap().unwrap();
    assert_eq!((done.outcome, done.relays()[0].version), (Outcome::Noop, 1));
    settled(&house, &device).await;
}

#[tokio::test]
async fn a_refusal_changes_nothing_and_says_why() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    device.say(&format!("ack {} busy", words[1])).await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::DeviceRejected);
    assert_eq!(error.details.unwrap()["reason"], "busy");
    assert_eq!(house.rows(&device.live).await, [row("set_relay", "rejected", false)]);
    assert!(house.heard().is_empty());
    settled(&house, &device).await;
}

#[tokio::test]
async fn a_late_ack_stores_the_state_with_one_follow_up() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::DeviceTimeout);
    assert_eq!(error.command.unwrap().to_string(), words[1]);
    for _ in 0..3 {
        device.say(&format!("ack {}", words[1])).await;
    }
    assert_eq!(house.heard(), [(true, 1)], "the second and third change nothing");
    let rows = house.rows(&device.live).await;
    assert_eq!(rows, [row("set_relay", "timeout", false), row("set_relay", "late_ack", true)]);
    assert_eq!((house.services.metrics.late_acks.get(), house.services.metrics.duplicate_acks.get()), (1, 2));
    settled(&house, &device).await;
}

#[tokio::test]
async fn a_report_heals_a_timeout_once() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    device.expect().await;
    assert!(asked.await.unwrap().is_err());
    device.say("report 0=1").await;
    device.say("report 0=0").await;
    device.say("report 0=1").await;
    let rows = house.rows(&device.live).await;
    let (timeout, report) = (row("set_relay", "timeout", false), row("state_report", "done", false));
    assert_eq!(rows, [timeout, row("set_relay", "healed", true), report.clone(), report]);
    settled(&house, &device).await;
}

#[tokio::test]
async fn an_ack_of_another_state_is_a_mismatch_and_the_reported_state_is_kept() {
    let house = House::new().await;
    let mut device = house.device(2).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    device.say(&format!("ack {} ok 0=0", words[1])).await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::DeviceStateMismatch);
    assert_eq!(error.details.unwrap()["relays"][0]["state"], false);
    assert_eq!(device.live.held.states.lock().get(0).map(|s| s.on), Some(false));
    settled(&house, &device).await;
}

#[tokio::test]
async fn a_partial_ack_of_set_all_stores_what_was_confirmed() {
    let house = House::new().await;
    let mut device = house.device(3).await;
    let asked = house.command(&device.live.uid, RelayAction::SetAll { on: true });
    let words = device.expect().await;
    assert_eq!((words[0].as_str(), words[2].as_str()), ("all", "1"));
    device.say(&format!("ack {} ok 0=1 2=1", words[1])).await;
    assert_eq!(asked.await.unwrap().unwrap_err().code, ErrorCode::DeviceStateMismatch);
    let known: Vec<_> = device.live.relays().iter().map(|s| s.index).collect();
    assert_eq!(known, [0, 2], "relay 1 stays unknown");
    settled(&house, &device).await;
}

#[tokio::test]
async fn a_foreign_ack_counts_for_nobody() {
    let house = House::new().await;
    let (mut a, mut b) = (house.device(1).await, house.device(1).await);
    let asked = house.set(&a, 0, true);
    let words = a.expect().await;
    b.say(&format!("ack {}", words[1])).await;
    b.say(&format!("ack {}", words[1])).await;
    assert_eq!(house.services.metrics.unexpected_acks.get(), 2);
    assert!(!asked.is_finished(), "the command is still open");
    a.say(&format!("ack {}", words[1])).await;
    assert!(asked.await.unwrap().is_ok());
    assert!(b.live.relays().is_empty());
    house.services.store.writer().flush().await;
    assert_eq!(house.rows(&b.live).await, [row("security.unexpected_ack", "rejected", false)], "audited once a minute");
    settled(&house, &a).await;
}

#[tokio::test]
async fn offline_and_busy_and_foreign_devices_are_refused_at_once() {
    let house = House::new().await;
    let (live, _) = house.claimed(2).await;
    let set = RelayAction::Set { index: 0, on: true, for_ms: None };
    let error = house.command(&live.uid, set).await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::DeviceOffline);
    assert_eq!(house.rows(&live).await, [row("set_relay", "offline", false)]);
    let device = house.connect(&live).await;
    let open: Vec<_> = (0..32).map(|_| house.set(&device, 0, true)).collect();
    while live.held.commands.lock().open_count() < 32 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.set(&device, 0, true).await.unwrap().unwrap_err().code, ErrorCode::DeviceBusy);
    for command in open {
        assert_eq!(command.await.unwrap().unwrap_err().code, ErrorCode::DeviceTimeout);
    }
    let commands = house.services.commands();
    let foreign = commands.request((Source::Api, stranger()), Cause::request("test"), live.uid.clone(), set);
    let error = commands.execute(foreign, None).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let beyond = RelayAction::Set { index: 2, on: true, for_ms: None };
    assert_eq!(house.command(&live.uid, beyond).await.unwrap().unwrap_err().code, ErrorCode::ValidationError);
    house.check(&live).await;
}

#[tokio::test]
async fn a_driver_that_cannot_says_so_and_nothing_is_sent() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.command(&device.live.uid, RelayAction::Set { index: 0, on: true, for_ms: Some(13) });
    let next = house.set(&device, 0, true);
    let words = device.expect().await;
    assert_eq!(words[0], "set", "the refused one left no frame");
    device.say(&format!("ack {}", words[1])).await;
    assert_eq!(asked.await.unwrap().unwrap_err().code, ErrorCode::UnsupportedCommand);
    assert!(next.await.unwrap().is_ok());
    settled(&house, &device).await;
}

#[tokio::test]
async fn a_report_behind_an_ack_is_no_change_of_its_own() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    // Both before the ack's commit can be heard of: the report is compared with what is on its way.
    device.say(&format!("ack {}", words[1])).await;
    device.say("report 0=1").await;
    device.say("report 0=0").await;
    assert!(asked.await.unwrap().is_ok());
    house.services.store.writer().flush().await;
    let rows = house.rows(&device.live).await;
    assert_eq!(rows, [row("set_relay", "executed", false), row("state_report", "done", false)]);
    assert_eq!(
        device.live.held.states.lock().get(0).map(|s| (s.on, s.version)),
        Some((false, 2)),
        "the button came last"
    );
    settled(&house, &device).await;
}

#[tokio::test]
async fn an_unchanged_report_writes_nothing() {
    let house = House::new().await;
    let mut device = house.device(2).await;
    device.say("report 0=1 1=0").await;
    house.services.store.writer().flush().await;
    let before = house.services.store.writer().stats();
    for _ in 0..20 {
        device.say("report 0=1 1=0").await;
    }
    let after = house.services.store.writer().stats();
    assert_eq!((after.hot_transactions, after.statements), (before.hot_transactions, before.statements));
    assert_eq!(house.rows(&device.live).await.len(), 1);
    settled(&house, &device).await;
}

#[tokio::test]
async fn a_driver_may_take_the_report_for_the_ack() {
    let house = House::with(PlainDriver { by_report: true, ..PlainDriver::default() }).await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    device.expect().await;
    device.say("report 0=0").await;
    assert!(!asked.is_finished());
    device.say("report 0=1").await;
    let done = asked.await.unwrap().unwrap();
    assert_eq!((done.outcome, done.relays()[0].on, done.relays()[0].version), (Outcome::Executed, true, 2));
    settled(&house, &device).await;
}

#[tokio::test]
async fn commands_of_one_device_are_pipelined_in_order() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let mut last = None;
    for round in 0..50u32 {
        let asked = house.set(&device, 0, round % 2 == 0);
        let id = device.obey().await;
        assert_ne!(last, Some(id));
        last = Some(id);
        assert_eq!(asked.await.unwrap().unwrap().relays()[0].version, u64::from(round) + 1, "versions are gapless");
    }
    let versions: Vec<_> = house.heard().iter().map(|h| h.1).collect();
    assert_eq!(versions, (1..=50).collect::<Vec<_>>());
    settled(&house, &device).await;
}
