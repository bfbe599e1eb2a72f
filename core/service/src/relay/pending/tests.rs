use std::time::Duration;

use hexa_model::{Actor, CommandId, RelayAction, Source, TimeMs};

use super::*;
use crate::relay::machine::{AckOf, MAX_RECENT};

fn id(n: u8) -> CommandId {
    CommandId::at(TimeMs(1_000 + i64::from(n)), [n; 10])
}

fn command(n: u8, on: bool) -> NewCommand {
    let action = RelayAction::Set { index: 0, on, for_ms: None };
    NewCommand::new(id(n), action, (Source::Api, Actor::System), Authority::default(), Duration::ZERO, TimeMs(9_000))
}

#[test]
fn the_thirty_third_open_command_is_refused() {
    let mut pending = Pending::default();
    let kept: Vec<_> = (0..32).map(|n| pending.submit(command(n, true)).unwrap()).collect();
    assert!(pending.submit(command(32, true)).is_none());
    assert_eq!((kept.len(), pending.open_count()), (32, 32));
    let order: Vec<_> = pending.queued().map(|q| q.id).collect();
    assert_eq!(order, (0..32).map(id).collect::<Vec<_>>());
}

#[test]
fn an_ack_counts_once_and_only_after_the_write() {
    let mut pending = Pending::default();
    let _rx = pending.submit(command(1, true));
    let token = id(1).to_string();
    assert!(matches!(pending.acknowledged(&token), AckOf::Unknown), "not written yet");
    assert!(pending.written(id(1), Token::CommandId));
    assert!(matches!(pending.acknowledged(&id(2).to_string()), AckOf::Unknown), "a foreign id");
    assert!(matches!(pending.acknowledged(&token), AckOf::Open(_)));
    assert!(matches!(pending.acknowledged(&token), AckOf::Duplicate));
    assert!(pending.time_out(id(1)).is_none(), "it was answered: the deadline finds nothing");
}

#[test]
fn a_late_ack_is_followed_up_once() {
    let mut pending = Pending::default();
    let _rx = pending.submit(command(1, true));
    pending.written(id(1), Token::Text("7".into()));
    assert!(pending.time_out(id(1)).is_some());
    assert!(matches!(pending.acknowledged("7"), AckOf::Late(t) if t.id == id(1)));
    assert!(matches!(pending.acknowledged("7"), AckOf::Duplicate));
    assert!(pending.healed(|_| true, |_| true).is_empty());
}

#[test]
fn a_timeout_before_the_write_leaves_nothing_to_heal() {
    let mut pending = Pending::default();
    let _rx = pending.submit(command(1, true));
    assert!(pending.time_out(id(1)).is_some());
    assert!(!pending.written(id(1), Token::CommandId), "must not be sent any more");
    assert!(pending.healed(|_| true, |_| true).is_empty());
}

#[test]
fn a_report_ends_what_it_shows_and_nothing_else() {
    let mut pending = Pending::default();
    let _a = pending.submit(command(1, true));
    let _b = pending.submit(command(2, false));
    let _c = pending.submit(command(3, true));
    pending.written(id(1), Token::StateReport);
    pending.written(id(2), Token::CommandId);
    let ended: Vec<_> = pending.shown(RelayAction::on).into_iter().map(|c| c.id).collect();
    assert_eq!(ended, [id(1)], "2 wants off, 3 is not written");
    pending.time_out(id(2));
    assert_eq!(pending.healed(|a| !a.on(), |_| true).len(), 1);
}

#[test]
fn a_report_answers_nothing_behind_an_unanswered_command_of_the_same_relay() {
    let mut pending = Pending::default();
    let _all: Vec<_> = [false, true, true].into_iter().zip(1..).map(|(on, n)| pending.submit(command(n, on))).collect();
    pending.written(id(1), Token::CommandId);
    pending.written(id(2), Token::CommandId);
    pending.written(id(3), Token::StateReport);
    let ended: Vec<_> = pending.shown(RelayAction::on).into_iter().map(|c| c.id).collect();
    assert_eq!(ended, [id(3)], "the relay may have been on before 1; 3 has no other acknowledgement");
    assert!(matches!(pending.acknowledged(&id(1).to_string()), AckOf::Open(_)));
    assert_eq!(pending.shown(RelayAction::on).len(), 1, "now 2 is the first");
    assert!(matches!(pending.acknowledged(&id(2).to_string()), AckOf::Reported(a) if a.on()), "its own word counts");
    assert!(matches!(pending.acknowledged(&id(2).to_string()), AckOf::Duplicate), "once");
}

#[test]
fn only_the_next_report_about_its_relay_heals_a_command() {
    let timed_out = |n| {
        let mut pending = Pending::default();
        let _rx = pending.submit(command(n, true));
        pending.written(id(n), Token::CommandId);
        assert!(pending.time_out(id(n)).is_some_and(|c| c.sent()));
        pending
    };
    let mut pending = timed_out(1);
    assert!(pending.healed(|_| false, |_| false).is_empty(), "about another relay");
    assert!(pending.healed(|_| false, |_| true).is_empty(), "it shows something else");
    assert!(pending.healed(|_| true, |_| true).is_empty(), "that question is closed");
    assert!(matches!(pending.acknowledged(&id(1).to_string()), AckOf::Late(_)), "its own word still counts");

    let mut pending = timed_out(2);
    let _rx = pending.submit(command(3, true));
    pending.written(id(3), Token::CommandId);
    assert!(matches!(pending.acknowledged(&id(3).to_string()), AckOf::Open(_)));
    assert!(pending.healed(|_| true, |_| true).is_empty(), "a later one was answered");

    let mut pending = timed_out(4);
    assert!(pending.cancel(true).is_empty());
    assert!(pending.healed(|_| true, |_| true).is_empty(), "another owner's report is not about it");
    assert!(matches!(pending.acknowledged(&id(4).to_string()), AckOf::Unknown));
}

#[test]
fn a_command_that_was_not_written_is_known_not_to_be_sent() {
    let mut pending = Pending::default();
    let _rx = pending.submit(command(1, true));
    assert!(!pending.time_out(id(1)).unwrap().sent());
}

#[test]
fn losing_the_connection_cancels_only_what_was_not_written() {
    let mut pending = Pending::default();
    let _a = pending.submit(command(1, true));
    let _b = pending.submit(command(2, true));
    pending.written(id(1), Token::CommandId);
    assert_eq!(pending.cancel(false).len(), 1);
    let written = pending.cancel(true);
    assert!(written.len() == 1 && written[0].sent());
    assert!(pending.is_empty());
}

#[test]
fn memory_of_ended_commands_is_bounded() {
    let mut pending = Pending::default();
    for n in 0..100 {
        let _rx = pending.submit(command(n, true));
        pending.written(id(n), Token::CommandId);
        assert!(matches!(pending.acknowledged(&id(n).to_string()), AckOf::Open(_)));
    }
    assert_eq!(pending.recent_count(), MAX_RECENT);
    assert!(matches!(pending.acknowledged(&id(0).to_string()), AckOf::Unknown));
}
