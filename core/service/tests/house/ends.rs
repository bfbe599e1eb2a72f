//! What the end of a command says, and of whom.

use hexa_model::CommandId;
use hexa_model::driver::Frame;
use hexa_model::{ErrorCode, Outcome, Source};
use hexa_service::device::claim;
use hexa_service::device::session::CloseReason;
use hexa_service::error::Sent;
use hexa_service::relay::lookup::{self, CommandView};
use secrecy::ExposeSecret;

use crate::rig::{Device, House, sign_up};

fn row(action: &str, outcome: &str, follow_up: bool) -> (String, String, bool) {
    (action.into(), outcome.into(), follow_up)
}

fn state(device: &Device) -> Option<(bool, u64)> {
    device.live.cache.lock().get(0).map(|s| (s.on, s.version))
}

#[tokio::test]
async fn a_report_from_before_a_command_does_not_answer_it() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    device.say("report 0=1").await;
    let off = house.set(&device, 0, false);
    let first = device.expect().await;
    let on = house.set(&device, 0, true);
    let second = device.expect().await;
    // It was on its way when the device had read neither.
    device.say("report 0=1").await;
    assert!(!on.is_finished() && !off.is_finished());
    device.say(&format!("ack {}", first[1])).await;
    device.say(&format!("ack {}", second[1])).await;
    let (off, on) = (off.await.unwrap().unwrap(), on.await.unwrap().unwrap());
    assert_eq!((off.relays[0].version, on.relays[0].version), (2, 3), "in the order in which the device acted");
    assert_eq!(state(&device), Some((true, 3)), "the server has what the device has");
    house.check(&device.live).await;
}

#[tokio::test]
async fn an_acknowledgement_that_says_otherwise_than_a_report_is_believed() {
    let house = House::new().await;
    let mut device = house.device(2).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    device.say("report 0=1 1=0").await;
    assert!(asked.await.unwrap().is_ok(), "nothing else was asked of this relay");
    device.say(&format!("ack {} ok 0=0", words[1])).await;
    assert_eq!(state(&device), Some((false, 2)));
    // The second one changes nothing, whatever it says (I8).
    device.say(&format!("ack {} ok 0=1", words[1])).await;
    assert_eq!(state(&device), Some((false, 2)));
    assert_eq!(house.services.metrics.duplicate_acks.get(), 1);
    let rows = house.rows(&device.live).await;
    let (command, report) = (row("set_relay", "executed", false), row("state_report", "done", false));
    assert_eq!(rows, [command, report.clone(), report], "the report's other relay, and the correction");
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_report_that_shows_something_else_ends_the_question() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    assert_eq!(asked.await.unwrap().unwrap_err().sent, Sent::Yes);
    device.say("report 0=0").await;
    device.say("report 0=1").await;
    let rows = house.rows(&device.live).await;
    let (timeout, report) = (row("set_relay", "timeout", false), row("state_report", "done", false));
    assert_eq!(rows, [timeout, report.clone(), report], "the button is nobody's command");
    // Its own word is still one.
    device.say(&format!("ack {}", words[1])).await;
    assert_eq!(house.rows(&device.live).await.last().unwrap(), &row("set_relay", "late_ack", true));
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_later_command_that_is_answered_ends_the_question() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    device.expect().await;
    assert!(asked.await.unwrap().is_err());
    let later = house.set(&device, 0, false);
    device.obey().await;
    assert!(later.await.unwrap().is_ok());
    device.say("report 0=1").await;
    let rows = house.rows(&device.live).await;
    let answered = row("set_relay", "executed", false);
    assert_eq!(rows, [row("set_relay", "timeout", false), answered, row("state_report", "done", false)]);
}

#[tokio::test]
async fn nothing_heals_for_a_former_owner() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    assert!(asked.await.unwrap().is_err());
    let code = claim::release(&house.services, &house.user, &device.live).await.unwrap();
    assert_eq!(device.actor.session().closing(), Some(CloseReason::Revoked));
    let bob = sign_up(&house.services, "bob@example.com").await;
    claim::claim(&house.services, &bob, code.code.expose_secret()).await.unwrap();
    let mut device = house.connect(&device.live).await;
    device.say("report 0=1").await;
    device.say(&format!("ack {}", words[1])).await;
    let rows = house.rows(&device.live).await;
    assert_eq!(rows, [row("set_relay", "timeout", false), row("state_report", "done", false)]);
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_command_that_no_session_took_is_known_not_to_be_sent() {
    let house = House::new().await;
    let device = house.device(1).await;
    let error = house.set(&device, 0, true).await.unwrap().unwrap_err();
    assert_eq!((error.code, error.sent), (ErrorCode::DeviceTimeout, Sent::No));
    let details = error.details.unwrap();
    assert_eq!(details["sent"], false);
    // As the audit says it to whoever asks later.
    let id = CommandId::parse(details["command_id"].as_str().unwrap()).unwrap();
    let later = lookup::outcome(&house.services, id).await.unwrap().unwrap_err();
    assert_eq!((later.code, &later.message), (ErrorCode::DeviceTimeout, &error.message));
    house.check(&device.live).await;
}

#[tokio::test]
async fn what_is_known_of_the_frame_goes_with_every_end() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let written = house.set(&device, 0, true);
    device.expect().await;
    let queued = house.set(&device, 0, false);
    while device.live.pending.lock().open_count() < 2 {
        tokio::task::yield_now().await;
    }
    claim::release(&house.services, &house.user, &device.live).await.unwrap();
    let (written, queued) = (written.await.unwrap().unwrap_err(), queued.await.unwrap().unwrap_err());
    assert_eq!((written.code, written.sent), (ErrorCode::NotFound, Sent::Yes));
    assert_eq!((queued.code, queued.sent), (ErrorCode::NotFound, Sent::No));
}

#[tokio::test]
async fn the_row_of_a_deleted_devices_command_is_written() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    let id = CommandId::parse(&words[1]).unwrap();
    let open = lookup::find(&house.services, &house.user, id).await.unwrap();
    assert!(matches!(open, CommandView::Open { .. }));
    // Deleted between the answer and its commit.
    let mut tx = house.services.store.begin().await.unwrap();
    assert!(tx.delete_device(device.live.key).await.unwrap());
    tx.commit().await.unwrap();
    device.say(&format!("ack {}", words[1])).await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!((error.code, error.sent), (ErrorCode::NotFound, Sent::Yes));
    while house.services.metrics.audit_waiting.get() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let stored = house.services.store.command_result(id).await.unwrap().expect("its row is there");
    assert_eq!((stored.outcome, stored.source, stored.changes.len()), (Outcome::Executed, Source::Api, 0));
    assert!(house.services.open_command(id).is_none());
    assert_eq!(house.services.store.verify_audit().await.unwrap().first_bad, None);
}

#[tokio::test]
async fn a_devices_own_old_acknowledgement_is_no_security_event() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let mut first = None;
    for round in 0..40 {
        let asked = house.set(&device, 0, round % 2 == 0);
        first.get_or_insert(device.obey().await);
        asked.await.unwrap().unwrap();
    }
    device.say(&format!("ack {}", first.unwrap())).await;
    device.say("ack 01890000-0000-7000-8000-000000000000").await;
    house.services.store.writer().flush().await;
    let rows = house.rows(&device.live).await;
    let events: Vec<_> = rows.iter().filter(|r| r.0 == "security.unexpected_ack").collect();
    assert_eq!(events.len(), 1, "the stranger's alone: {events:?}");
    assert_eq!(house.services.metrics.unexpected_acks.get(), 2);
}

#[tokio::test]
async fn a_frame_in_the_buffer_of_a_replaced_connection_counts_for_nothing() {
    let house = House::new().await;
    let mut old = house.device(1).await;
    let mut new = house.connect(&old.live).await;
    new.say("report 0=1").await;
    let late = old.actor.message(Frame::Text("report 0=0".into()), &mut Vec::new()).await;
    assert_eq!(late, Err(CloseReason::Replaced));
    assert_eq!(state(&new), Some((true, 1)));
}
