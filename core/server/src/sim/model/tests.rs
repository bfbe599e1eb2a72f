//! The device's own logic, with times given.

use serde_json::{Value, json};

use super::{DeviceModel, Faults, REMEMBERED_COMMANDS, Tally};

const NOW: u64 = 1_800_000_000_000;

fn device(faults: Faults) -> DeviceModel {
    DeviceModel::new(42, 0, 4, faults)
}

fn set_relay(id: &str, relay: u64, state: bool) -> String {
    json!({ "type": "set_relay", "command_id": id, "relay": relay, "state": state, "expires_at_ms": NOW + 3000 })
        .to_string()
}

fn sent(device: &mut DeviceModel, now_ms: u64) -> Vec<Value> {
    device.due(now_ms).iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn ask(device: &mut DeviceModel, frame: &str, now_ms: u64) -> Vec<Value> {
    device.receive(frame, now_ms).unwrap();
    sent(device, now_ms)
}

#[test]
fn a_command_is_executed_and_the_same_state_again_is_a_noop() {
    let mut device = device(Faults::default());
    let acks = ask(&mut device, &set_relay("a", 1, true), NOW);
    let relays = json!([{ "index": 1, "state": true }]);
    assert_eq!(acks, [json!({ "type": "ack", "command_id": "a", "status": "executed", "relays": relays })]);
    assert_eq!(ask(&mut device, &set_relay("b", 1, true), NOW)[0]["status"], "noop");
    let all = json!({ "type": "set_all_relays", "command_id": "c", "state": true }).to_string();
    let acks = ask(&mut device, &all, NOW);
    assert_eq!((&acks[0]["status"], acks[0]["relays"].as_array().unwrap().len()), (&json!("executed"), 4));
}

#[test]
fn a_duplicate_gets_the_original_ack_and_moves_nothing() {
    let mut device = device(Faults::default());
    let first = ask(&mut device, &set_relay("a", 0, true), NOW);
    ask(&mut device, &set_relay("b", 0, false), NOW);
    let again = ask(&mut device, &set_relay("a", 0, true), NOW);
    assert_eq!(again, first, "the original words");
    let [_, report] = device.greeting(NOW);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["relays"][0]["state"], false, "relay 0 stays where the newer command put it");
    ask(&mut device, &set_relay("a", 0, true), NOW);
    let tally = device.take_tally();
    assert_eq!((tally.commands, tally.duplicates, tally.resends, tally.acks_sent), (4, 2, 1, 4));
    assert_eq!(device.take_tally(), Tally::default(), "taken once");
}

#[test]
fn sixteen_command_ids_are_remembered() {
    let mut device = device(Faults::default());
    for n in 0..=REMEMBERED_COMMANDS {
        ask(&mut device, &set_relay(&n.to_string(), 0, n % 2 == 0), NOW);
    }
    ask(&mut device, &set_relay("1", 0, false), NOW);
    assert_eq!(device.take_tally().duplicates, 1, "the second of seventeen is still known");
    ask(&mut device, &set_relay("0", 0, true), NOW);
    assert_eq!(device.take_tally().duplicates, 0, "the first is forgotten");
}

#[test]
fn an_expired_command_is_refused_by_the_servers_clock() {
    let mut device = device(Faults::default());
    let late = ask(&mut device, &set_relay("a", 0, true), NOW + 3000);
    assert_eq!((&late[0]["status"], &late[0]["reason"]), (&json!("rejected"), &json!("expired")));
    assert_eq!(device.take_tally().expired, 1);
    // A device whose clock is an hour ahead learns it from hello_ack.
    let ahead = NOW + 3_600_000;
    let hello_ack = json!({ "type": "hello_ack", "server_time_ms": NOW, "session_id": "s", "heartbeat_s": 7 });
    assert!(ask(&mut device, &hello_ack.to_string(), ahead).is_empty());
    assert_eq!(device.heartbeat_s(), 7);
    assert_eq!(ask(&mut device, &set_relay("b", 0, true), ahead)[0]["status"], "executed");
}

#[test]
fn what_it_does_not_have_or_know_is_rejected_with_the_reason() {
    let mut device = device(Faults::default());
    for (frame, reason) in [
        (set_relay("a", 4, true), "bad_index"),
        (json!({ "type": "set_relay", "command_id": "b", "state": true }).to_string(), "bad_index"),
        (json!({ "type": "ir_learn", "command_id": "c", "slot": "tv" }).to_string(), "unsupported"),
    ] {
        assert_eq!(ask(&mut device, &frame, NOW)[0]["reason"], reason, "{frame}");
    }
    assert_eq!(ask(&mut device, r#"{"type":"identify","command_id":"d"}"#, NOW)[0]["status"], "executed");
    assert!(ask(&mut device, r#"{"type":"ota_available","release_id":"r"}"#, NOW).is_empty());
    let complaint = device.receive(r#"{"type":"error","code":"validation_error","message":"no"}"#, NOW);
    assert!(complaint.unwrap_err().contains("validation_error: no"));
    assert!(device.receive("not json", NOW).is_err());
}

#[test]
fn a_timer_turns_the_relay_back_and_reports_it() {
    let mut device = device(Faults::default());
    let frame = json!({ "type": "set_relay", "command_id": "a", "relay": 2, "state": true, "for_ms": 500 }).to_string();
    assert_eq!(ask(&mut device, &frame, NOW)[0]["status"], "executed");
    assert_eq!(device.next_due(), Some(NOW + 500));
    let report = ask(&mut device, r#"{"type":"request_state","command_id":"r"}"#, NOW + 100);
    assert_eq!(report[0]["relays"][2]["timer_ends_in_ms"], 400);
    assert!(sent(&mut device, NOW + 499).is_empty());
    let turned = sent(&mut device, NOW + 500);
    assert_eq!(turned[0]["relays"], json!([{ "index": 2, "state": false, "source": "timer" }]));
    assert_eq!(device.next_due(), None);
    // A new command ends a timer.
    ask(&mut device, &frame.replace("\"a\"", "\"b\""), NOW + 600);
    ask(&mut device, &set_relay("c", 2, true), NOW + 700);
    assert_eq!(device.next_due(), None);
}

#[test]
fn a_timer_that_ends_while_away_is_in_the_next_greeting() {
    let mut device = device(Faults::default());
    let frame = json!({ "type": "set_relay", "command_id": "a", "relay": 0, "state": true, "for_ms": 500 }).to_string();
    ask(&mut device, &frame, NOW);
    let [hello, report] = device.greeting(NOW + 1000);
    assert!(hello.contains("\"hello\""));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["complete"], &report["relays"][0]["state"]), (&json!(true), &json!(false)));
}

#[test]
fn acks_are_late_lost_and_doubled_as_told() {
    let mut slow = device(Faults { ack_delay_ms: 200, ..Faults::default() });
    assert!(ask(&mut slow, &set_relay("a", 0, true), NOW).is_empty());
    assert_eq!(slow.next_due(), Some(NOW + 200));
    assert_eq!(sent(&mut slow, NOW + 200).len(), 1);

    let mut lossy = device(Faults { drop_percent: 100, ..Faults::default() });
    assert!(ask(&mut lossy, &set_relay("a", 0, true), NOW).is_empty());
    let [_, report] = lossy.greeting(NOW);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["relays"][0]["state"], true, "it switched all the same");
    assert_eq!(lossy.take_tally().acks_dropped, 1);
    assert_eq!(ask(&mut lossy, &set_relay("a", 0, true), NOW).len(), 1, "the second copy is answered");

    let mut echo = device(Faults { duplicate_percent: 100, ..Faults::default() });
    let acks = ask(&mut echo, &set_relay("a", 0, true), NOW);
    assert_eq!((acks.len(), &acks[0]), (2, &acks[1]));
}

#[test]
fn the_same_seed_gives_the_same_fates_and_presses() {
    let run = || {
        let faults = Faults { jitter_ms: 500, drop_percent: 30, duplicate_percent: 30, ..Faults::default() };
        let mut device = DeviceModel::new(7, 3, 4, faults);
        for n in 0..50 {
            device.receive(&set_relay(&n.to_string(), n % 4, true), NOW).unwrap();
            device.touched(NOW);
        }
        (device.due(NOW + 1000), device.take_tally())
    };
    let (frames, tally) = run();
    assert_eq!((frames, tally), run());
    assert!((5..25).contains(&tally.acks_dropped) && (5..25).contains(&tally.acks_duplicated), "{tally:?}");
}

#[test]
fn touching_it_presses_a_button_and_switches_by_hand_in_turn() {
    let mut device = device(Faults::default());
    device.touched(NOW);
    device.touched(NOW);
    let frames = sent(&mut device, NOW);
    assert_eq!((&frames[0]["type"], &frames[0]["event"]), (&json!("input_event"), &json!("press")));
    assert_eq!((&frames[1]["type"], &frames[1]["relays"][0]["source"]), (&json!("state_report"), &json!("button")));
    assert_eq!(frames[1]["relays"][0]["state"], true);
}
