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
    assert!(pending.healed(|_| true).is_empty());
}

#[test]
fn a_timeout_before_the_write_leaves_nothing_to_heal() {
    let mut pending = Pending::default();
    let _rx = pending.submit(command(1, true));
    assert!(pending.time_out(id(1)).is_some());
    assert!(!pending.written(id(1), Token::CommandId), "must not be sent any more");
    assert!(pending.healed(|_| true).is_empty());
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
    assert!(pending.healed(RelayAction::on).is_empty());
    assert_eq!(pending.healed(|a| !a.on()).len(), 1);
}

#[test]
fn losing_the_connection_cancels_only_what_was_not_written() {
    let mut pending = Pending::default();
    let _a = pending.submit(command(1, true));
    let _b = pending.submit(command(2, true));
    pending.written(id(1), Token::CommandId);
    assert_eq!(pending.cancel(false).len(), 1);
    assert!(pending.action_of(id(1)).is_some());
    assert_eq!(pending.cancel(true).len(), 1);
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
