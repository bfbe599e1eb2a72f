use std::time::Duration;

use hexa_model::{Actor, Cause, CommandId, RelayAction, Source, TimeMs};

use super::*;

/// The commands of one device, whose ends nobody learns of.
fn commands() -> Commands<()> {
    Commands::default()
}

fn submit(commands: &mut Commands<()>, command: NewCommand) -> Option<()> {
    commands.accept(command, ()).ok()
}

fn on(action: &Action) -> bool {
    action.relay().is_some_and(RelayAction::on)
}

fn id(n: u8) -> CommandId {
    CommandId::at(TimeMs(1_000 + i64::from(n)), [n; 10])
}

fn command(n: u8, on: bool) -> NewCommand {
    NewCommand {
        id: id(n),
        action: RelayAction::Set { index: 0, on, for_ms: None }.into(),
        source: Source::Api,
        actor: Actor::System,
        cause: Cause::platform("test"),
        authority: Authority::default(),
        accepted: Duration::ZERO,
        expires_at: TimeMs(9_000),
    }
}

#[test]
fn the_thirty_third_open_command_is_refused() {
    let mut open = commands();
    assert!((0..32).all(|n| submit(&mut open, command(n, true)).is_some()));
    assert!(submit(&mut open, command(32, true)).is_none());
    assert_eq!(open.open_count(), 32);
    let order: Vec<_> = open.queued().map(|q| q.id).collect();
    assert_eq!(order, (0..32).map(id).collect::<Vec<_>>());
}

#[test]
fn an_ack_counts_once_and_only_after_the_write() {
    let mut open = commands();
    assert!(submit(&mut open, command(1, true)).is_some());
    let token = id(1).to_string();
    assert!(matches!(open.acknowledged(&token), AckOf::Unknown), "not written yet");
    assert!(open.written(id(1), Token::CommandId));
    assert!(matches!(open.acknowledged(&id(2).to_string()), AckOf::Unknown), "a foreign id");
    assert!(matches!(open.acknowledged(&token), AckOf::Open(_)));
    assert!(matches!(open.acknowledged(&token), AckOf::Duplicate));
    assert!(open.time_out(id(1)).is_none(), "it was answered: the deadline finds nothing");
}

#[test]
fn a_late_ack_is_followed_up_once() {
    let mut open = commands();
    assert!(submit(&mut open, command(1, true)).is_some());
    open.written(id(1), Token::Text("7".into()));
    assert!(open.time_out(id(1)).is_some());
    assert!(matches!(open.acknowledged("7"), AckOf::Late(t) if t.id == id(1)));
    assert!(matches!(open.acknowledged("7"), AckOf::Duplicate));
    assert!(open.healed(|_| true, |_| true).is_empty());
}

#[test]
fn a_timeout_before_the_write_leaves_nothing_to_heal() {
    let mut open = commands();
    assert!(submit(&mut open, command(1, true)).is_some());
    assert!(open.time_out(id(1)).is_some());
    assert!(!open.written(id(1), Token::CommandId), "must not be sent any more");
    assert!(open.healed(|_| true, |_| true).is_empty());
}

#[test]
fn a_report_ends_what_it_shows_and_nothing_else() {
    let mut open = commands();
    assert!(submit(&mut open, command(1, true)).is_some());
    assert!(submit(&mut open, command(2, false)).is_some());
    assert!(submit(&mut open, command(3, true)).is_some());
    open.written(id(1), Token::StateReport);
    open.written(id(2), Token::CommandId);
    let ended: Vec<_> = open.shown(on).into_iter().map(|p| p.command.id).collect();
    assert_eq!(ended, [id(1)], "2 wants off, 3 is not written");
    open.time_out(id(2));
    assert_eq!(open.healed(|a| !on(a), |_| true).len(), 1);
}

#[test]
fn a_report_answers_nothing_behind_an_unanswered_command_of_the_same_relay() {
    let mut open = commands();
    for (n, on) in (1..).zip([false, true, true]) {
        assert!(submit(&mut open, command(n, on)).is_some());
    }
    open.written(id(1), Token::CommandId);
    open.written(id(2), Token::CommandId);
    open.written(id(3), Token::StateReport);
    let ended: Vec<_> = open.shown(on).into_iter().map(|p| p.command.id).collect();
    assert_eq!(ended, [id(3)], "the relay may have been on before 1; 3 has no other acknowledgement");
    assert!(matches!(open.acknowledged(&id(1).to_string()), AckOf::Open(_)));
    assert_eq!(open.shown(on).len(), 1, "now 2 is the first");
    assert!(matches!(open.acknowledged(&id(2).to_string()), AckOf::Reported(a) if on(&a)), "its own word counts");
    assert!(matches!(open.acknowledged(&id(2).to_string()), AckOf::Duplicate), "once");
}

#[test]
fn only_the_next_report_about_its_relay_heals_a_command() {
    let timed_out = |n| {
        let mut open = commands();
        assert!(submit(&mut open, command(n, true)).is_some());
        open.written(id(n), Token::CommandId);
        assert!(open.time_out(id(n)).is_some_and(|p| p.command.sent()));
        open
    };
    let mut open = timed_out(1);
    assert!(open.healed(|_| false, |_| false).is_empty(), "about another relay");
    assert!(open.healed(|_| false, |_| true).is_empty(), "it shows something else");
    assert!(open.healed(|_| true, |_| true).is_empty(), "that question is closed");
    assert!(matches!(open.acknowledged(&id(1).to_string()), AckOf::Late(_)), "its own word still counts");

    let mut open = timed_out(2);
    assert!(submit(&mut open, command(3, true)).is_some());
    open.written(id(3), Token::CommandId);
    assert!(matches!(open.acknowledged(&id(3).to_string()), AckOf::Open(_)));
    assert!(open.healed(|_| true, |_| true).is_empty(), "a later one was answered");

    let mut open = timed_out(4);
    assert!(open.cancel(true).is_empty());
    assert!(open.healed(|_| true, |_| true).is_empty(), "another owner's report is not about it");
    assert!(matches!(open.acknowledged(&id(4).to_string()), AckOf::Unknown));
}

#[test]
fn a_command_that_was_not_written_is_known_not_to_be_sent() {
    let mut open = commands();
    assert!(submit(&mut open, command(1, true)).is_some());
    assert!(!open.time_out(id(1)).unwrap().command.sent());
}

#[test]
fn losing_the_connection_cancels_only_what_was_not_written() {
    let mut open = commands();
    assert!(submit(&mut open, command(1, true)).is_some());
    assert!(submit(&mut open, command(2, true)).is_some());
    open.written(id(1), Token::CommandId);
    assert_eq!(open.cancel(false).len(), 1);
    let written = open.cancel(true);
    assert!(written.len() == 1 && written[0].command.sent());
    assert!(open.is_empty());
}

#[test]
fn memory_of_ended_commands_is_bounded() {
    let mut open = commands();
    for n in 0..100 {
        assert!(submit(&mut open, command(n, true)).is_some());
        open.written(id(n), Token::CommandId);
        assert!(matches!(open.acknowledged(&id(n).to_string()), AckOf::Open(_)));
    }
    assert_eq!(open.recent_count(), MAX_RECENT);
    assert!(matches!(open.acknowledged(&id(0).to_string()), AckOf::Unknown));
}

#[test]
fn a_report_says_nothing_of_what_is_not_about_relays() {
    let mut open = commands();
    assert!(submit(&mut open, NewCommand { action: Action::Identify, ..command(1, true) }).is_some());
    assert!(submit(&mut open, command(2, true)).is_some());
    open.written(id(1), Token::CommandId);
    open.written(id(2), Token::CommandId);
    let ended: Vec<_> = open.shown(on).into_iter().map(|p| p.command.id).collect();
    assert_eq!(ended, [id(2)], "the one before it is about no relay, so the report answers this one");
    assert!(open.time_out(id(1)).is_some_and(|p| p.command.sent()));
    assert!(open.healed(|a| kind_of(a).meets(a), |a| kind_of(a).meets(a)).is_empty(), "only its own word counts");
    assert!(matches!(open.acknowledged(&id(1).to_string()), AckOf::Late(late) if late.action == Action::Identify));
}

#[test]
fn an_open_command_is_the_same_after_it_was_handed_over_as_text() {
    let mut open = commands();
    assert!(submit(&mut open, command(1, true)).is_some());
    open.written(id(1), Token::Text("7".into()));
    let taken = open.cancel(true).remove(0).command;
    let text = serde_json::to_string(&taken).unwrap();
    let back: OpenCommand = serde_json::from_str(&text).unwrap();
    assert!(back == taken && back.sent(), "{text}");
}
