//! Commands that are not about relays go the same way: acknowledged, audited, measured, looked up, told once.

use hexa_devices::command::lookup::{self, CommandView};
use hexa_devices::command::path::CommandAnswer;
use hexa_model::{Action, Cause, CustomCommand, ErrorCode, Outcome, RejectReason, ResultData, Source};
use hexa_platform::error::Sent;

use crate::rig::{House, stranger};

fn custom(name: &str, args: &str) -> Action {
    Action::Custom(Box::new(CustomCommand { name: name.into(), args: args.into() }))
}

#[tokio::test]
async fn identify_and_custom_commands_are_acknowledged_audited_and_looked_up() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    for (action, verb, name, details) in [
        (Action::Identify, "identify", "identify", None),
        (custom("self-test", "{\"level\":2}"), "self-test", "custom_command", Some(r#"{"command":"self-test"}"#)),
    ] {
        let asked = house.command(&device.live.uid, action);
        let words = device.expect().await;
        assert_eq!(words[0], verb);
        device.say(&format!("ack {}", words[1])).await;
        let done = asked.await.unwrap().unwrap();
        assert_eq!((done.outcome, &done.data), (Outcome::Executed, &ResultData::None));
        assert!(done.row_latency.is_some(), "an answer from the row is the same");
        let row = house.services.store.command_result(done.command).await.unwrap().unwrap();
        assert_eq!((row.action.as_str(), row.outcome, row.state), (name, Outcome::Executed, None));
        assert_eq!(row.details.as_deref(), details);
        let later = lookup::outcome(&house.services, done.command).await.unwrap().unwrap();
        assert_eq!((later.outcome, later.data), (done.outcome, ResultData::None));
        let view = lookup::find(&house.services, &house.user, done.command).await.unwrap();
        assert!(matches!(view, CommandView::Ended { row, .. } if row.action == name));
    }
    assert!(house.heard().is_empty(), "no relay has changed");
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_refused_custom_command_keeps_its_name_beside_the_reason() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.command(&device.live.uid, custom("self-test", "{}"));
    let words = device.expect().await;
    device.say(&format!("ack {} busy", words[1])).await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::DeviceRejected);
    let row = house.services.store.command_result(error.command.unwrap()).await.unwrap().unwrap();
    let details: serde_json::Value = serde_json::from_str(row.details.as_deref().unwrap()).unwrap();
    assert_eq!((&details["command"], &details["reason"]), (&"self-test".into(), &RejectReason::Busy.as_str().into()));
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_command_without_relays_that_times_out_is_followed_up_by_its_own_word_alone() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.command(&device.live.uid, Action::Identify);
    let words = device.expect().await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!((error.code, error.sent), (ErrorCode::DeviceTimeout, Sent::Yes));
    assert!(!error.message.contains("relay"), "{}", error.message);
    device.say("report 0=1").await;
    device.say(&format!("ack {}", words[1])).await;
    house.services.store.writer().flush().await;
    let row = house.services.store.command_result(error.command.unwrap()).await.unwrap().unwrap();
    assert_eq!(row.follow_up.map(|(outcome, ..)| outcome), Some(Outcome::LateAck));
    let later = lookup::outcome(&house.services, error.command.unwrap()).await.unwrap().unwrap_err();
    assert_eq!((later.code, &later.message), (error.code, &error.message));
    house.check(&device.live).await;
}

#[tokio::test]
async fn a_stranger_hears_that_there_is_no_device_and_bad_arguments_send_nothing() {
    let house = House::new().await;
    let device = house.device(1).await;
    let commands = house.services.commands();
    let request =
        commands.request((Source::Api, stranger()), Cause::request("test"), device.live.uid.clone(), Action::Identify);
    assert_eq!(commands.execute(request, None).await.unwrap_err().code, ErrorCode::NotFound);
    let wrong = house.command(&device.live.uid, custom("self-test", "[]")).await.unwrap().unwrap_err();
    assert_eq!((wrong.code, wrong.sent), (ErrorCode::ValidationError, Sent::No));
    house.check(&device.live).await;
}

#[tokio::test]
async fn an_answer_is_the_same_after_it_was_sent_as_text() {
    let house = House::new().await;
    let mut device = house.device(1).await;
    let asked = house.set(&device, 0, true);
    let words = device.expect().await;
    device.say(&format!("ack {}", words[1])).await;
    for result in [asked.await.unwrap(), house.set(&device, 9, true).await.unwrap()] {
        let sent = serde_json::to_value(CommandAnswer { result, key: hexa_model::KeyState::Taken }).unwrap();
        let back: CommandAnswer = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(serde_json::to_value(back).unwrap(), sent);
    }
    house.check(&device.live).await;
}
