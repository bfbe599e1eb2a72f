use hexa_model::{Actor, Outcome, Source, TimeMs};

use super::*;

fn entry(command: Option<u32>) -> AuditEntry {
    let id = command.map(|n| {
        let mut chance = [0; 10];
        chance[..4].copy_from_slice(&n.to_be_bytes());
        CommandId::at(TimeMs(1), chance)
    });
    let entry = AuditEntry::event(TimeMs(1), Actor::System, Source::Api, "set_relay").outcome(Outcome::Executed);
    AuditEntry { command: id, ..entry }
}

#[test]
fn what_waits_is_bounded_and_commands_have_room() {
    let metrics = Arc::new(Metrics::new());
    let waiting = Waiting::new(Arc::clone(&metrics));
    for _ in 0..MAX_WAITING {
        waiting.add(entry(None), None, &StoreError::Busy);
    }
    let half = MAX_WAITING as u64 / 2;
    assert_eq!((metrics.audit_waiting.get(), metrics.audit_dropped.get()), (half as i64, half));
    for n in 0..MAX_WAITING as u32 {
        waiting.add(entry(Some(n)), None, &StoreError::Busy);
    }
    assert_eq!((metrics.audit_waiting.get(), metrics.audit_dropped.get()), (MAX_WAITING as i64, 2 * half));
    let first = entry(Some(0)).command.unwrap();
    assert_eq!(waiting.of(first).0.map(|e| e.outcome), Some(Outcome::Executed), "those that came first stay");
    assert!(waiting.of(first).1.is_none());
    let last = entry(Some(MAX_WAITING as u32 - 1)).command.unwrap();
    assert!(waiting.of(last).0.is_none());
}
