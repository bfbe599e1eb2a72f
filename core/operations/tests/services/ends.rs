//! What the end of a command says, and of whom.

use hexa_model::CommandId;
use hexa_model::driver::Frame;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hexa_devices::claim;
use hexa_devices::command::lookup::{self, CommandView};
use hexa_devices::session::CloseReason;
use hexa_model::{ErrorCode, Outcome, Source};
use hexa_platform::error::Sent;
use hexa_platform::idempotency::Key;
use hexa_store::{Changed, HotWrite, StoreError};
use secrecy::ExposeSecret;
use tokio::sync::oneshot;

use crate::rig::{Device, House, PlainDriver, sign_up};

fn row(action: &str, outcome: &str, follow_up: bool) -> (String, String, bool) {
    (action.into(), outcome.into(), follow_up)
}

/// Every place of the writer's queue is taken until this is dropped: a write is refused at once.
async fn full_queue(house: &House, device: &Device) -> oneshot::Sender<()> {
    let (held, mut release) = oneshot::channel::<()>();
    let (store, (began, begun)) = (house.services.store.clone(), oneshot::channel());
    tokio::spawn(async move {
        let open = store.change(move |_| {
            Box::pin(async move {
                let _ = began.send(());
                // Until the other end is dropped.
                let _ = (&mut release).await;
                Ok::<_, StoreError>(Changed::only(()))
            })
        });
        open.await
    });
    begun.await.unwrap();
    let refused = || {
        let mut end = house.services.store.writer().send(HotWrite::of(device.live.key));
        matches!(end.try_recv(), Ok(Err(StoreError::Busy)))
    };
    // The writer takes its batch out of the queue before it waits for this transaction.
    let mut in_a_row = 0;
    while in_a_row < 3 {
        if refused() {
            in_a_row += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        } else {
            in_a_row = 0;
        }
    }
    held
}

async fn nothing_waits(house: &House) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while house.services.metrics.audit_waiting.get() > 0 {
        assert!(tokio::time::Instant::now() < limit, "what waits is written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn state(device: &Device) -> Option<(bool, u64)> {
    device.live.held.states.lock().get(0).map(|s| (s.on, s.version))
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
    assert_eq!((off.relays()[0].version, on.relays()[0].version), (2, 3), "in the order in which the device acted");
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
    // The second one changes nothing, whatever it says.
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
    let code = claim::release(&house.services, &house.user, Key::none(), &device.live).await.unwrap();
    assert_eq!(device.actor.session().closing(), Some(CloseReason::Revoked));
    let bob = sign_up(&house.services, "bob@example.com").await;
    claim::claim(&house.services, &bob, Key::none(), code.code.expose_secret()).await.unwrap();
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
    assert_eq!(error.details.as_ref().unwrap()["sent"], false);
    // As the audit says it to whoever asks later.
    let id = error.command.unwrap();
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
    while device.live.held.commands.lock().open_count() < 2 {
        tokio::task::yield_now().await;
    }
    claim::release(&house.services, &house.user, Key::none(), &device.live).await.unwrap();
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
    let key = device.live.key;
    let deleted = house
        .services
        .store
        .change(move |tx| Box::pin(async move { Ok::<_, StoreError>(Changed::only(tx.delete_device(key).await?)) }));
    assert!(deleted.await.unwrap());
    device.say(&format!("ack {}", words[1])).await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!((error.code, error.sent), (ErrorCode::NotFound, Sent::Yes));
    nothing_waits(&house).await;
    let stored = house.services.store.command_result(id).await.unwrap().expect("its row is there");
    assert_eq!((stored.outcome, stored.source, stored.changes.len()), (Outcome::Executed, Source::Api, 0));
    assert!(house.services.open.get(id).await.is_none());
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

#[tokio::test]
async fn what_a_full_queue_refused_is_written_with_its_state() {
    let house = House::new().await;
    let mut device = house.device(2).await;
    let (first, second) = (house.set(&device, 0, true), house.set(&device, 1, true));
    let mut ids = Vec::new();
    while ids.len() < 2 {
        let mut out = Vec::new();
        device.actor.encode_queued(&mut out);
        for frame in out {
            let Frame::Text(text) = frame else { panic!("text") };
            ids.push(text.split(' ').nth(1).unwrap().to_owned());
        }
        tokio::task::yield_now().await;
    }
    let full = full_queue(&house, &device).await;
    for id in &ids {
        device.say(&format!("ack {id}")).await;
    }
    for asked in [first, second] {
        let error = asked.await.unwrap().unwrap_err();
        assert_eq!((error.code, error.sent), (ErrorCode::Busy, Sent::Yes));
    }
    assert_eq!(house.services.metrics.audit_waiting.get(), 2);
    let id = CommandId::parse(&ids[0]).unwrap();
    match lookup::find(&house.services, &house.user, id).await.unwrap() {
        CommandView::Ended { row, .. } => assert_eq!(row.outcome, Outcome::Executed, "and not pending"),
        open @ CommandView::Open { .. } => panic!("{open:?}"),
    }
    let asked_again = lookup::outcome(&house.services, id).await.unwrap().unwrap_err();
    assert_eq!(asked_again.code, ErrorCode::StorageUnavailable, "a success is said when it is on the disk");
    drop(full);
    nothing_waits(&house).await;
    let rows = house.rows(&device.live).await;
    assert_eq!(rows, [row("set_relay", "executed", false), row("set_relay", "executed", false)]);
    assert_eq!(house.heard(), [(true, 1), (true, 1)], "clients hear of both relays");
    assert!(lookup::outcome(&house.services, id).await.unwrap().is_ok());
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_row_that_comes_late_does_not_undo_what_the_device_said_since() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    let full = full_queue(&house, &device).await;
    device.say(&format!("ack {}", words[1])).await;
    assert!(asked.await.unwrap().is_err());
    // Whichever of the two comes first, the button was the last word.
    let button = device.say("report 0=0");
    drop(full);
    button.await;
    // Once the queue has room again, for that report may have been refused as well.
    house.services.store.writer().flush().await;
    device.say("report 0=0").await;
    nothing_waits(&house).await;
    assert_eq!(state(&device).map(|s| s.0), Some(false));
    let rows = house.rows(&device.live).await;
    assert!(rows.contains(&row("set_relay", "executed", false)), "who did it is known all the same: {rows:?}");
    house.check(&device.live).await;
}

#[tokio::test]
async fn driver_state_that_was_not_saved_is_saved_by_the_next_session() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let key = device.live.key;
    let saved = async |house: &House| {
        let row = house.services.store.device_by_key(key).await.unwrap().unwrap();
        row.driver_durable.map(|blob| String::from_utf8(blob).unwrap())
    };
    let full = full_queue(&house, &device).await;
    device.say("remember one").await;
    device.actor.closed();
    drop(full);
    house.services.store.writer().flush().await;
    assert_eq!(saved(&house).await, None);
    let _next = house.connect(&device.live).await;
    assert_eq!(saved(&house).await.as_deref(), Some("one"));
}

#[tokio::test]
async fn driver_state_of_another_version_is_not_saved_under_this_ones_name() {
    let driver = PlainDriver::default();
    let swapped = Arc::clone(&driver.swapped);
    let house = House::with(driver).await;
    let mut device = house.device(1).await;
    device.say("remember one").await;
    swapped.store(true, Ordering::SeqCst);
    device.say("remember two").await;
    let row = house.services.store.device_by_key(device.live.key).await.unwrap().unwrap();
    assert_eq!((row.driver_durable.as_deref(), row.driver_version.as_deref()), (Some(&b"one"[..]), Some("plain@1")));
}
