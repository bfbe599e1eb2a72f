//! A device's `state_report`: reconcile with what is known, store what changed, heal what was open.
//!
//! An unchanged report costs no write of its own: `last_seen_at` goes out with the next coalesced flush.

use std::sync::Arc;

use hexa_machine::{Machine, TimedOut, WriteCause};
use hexa_model::audit::{AuditEntry, RelayStates};
use hexa_model::driver::{Ack, AckOutcome, StateReport};
use hexa_model::event::Event;
use hexa_model::{Actor, Outcome, RelayAction, Source};
use serde_json::json;

use crate::Devices;
use crate::command::acknowledge::{UnawaitedWrite, write_answer};
use crate::handle::DeviceHandle;

/// Takes one report: stores what it changes, ends open commands that it answers, and tells clients.
pub async fn reconcile(services: &Arc<Devices>, live: &Arc<DeviceHandle>, report: &StateReport) {
    let shown = Ack { token: String::new(), outcome: AckOutcome::Executed, relays: Vec::new() };
    let mut unawaited = None;
    let taken = live.observe(report, |write| match &write.cause {
        WriteCause::Report(healed) => {
            let audit = cause_row(services, live, report, healed.as_ref());
            let by = write.by();
            unawaited = Some(UnawaitedWrite::begin(services, live, (write.sets, write.number, audit), by));
        }
        // Open commands that the report answers end by it, each with its own state and audit row.
        WriteCause::Answer(_) | WriteCause::Late(_) | WriteCause::Correction => {
            drop(write_answer(services, live, write, &shown));
        }
    });
    for older in &taken.older {
        services.audit.note(live.key, cause_row(services, live, report, Some(older)));
    }
    let Some(write) = unawaited else {
        services.metrics.reports.with_label_values(&["unchanged"]).inc();
        return show_unchanged(services, live);
    };
    let changes_nothing = !write.has_states();
    match write.stored(services, live).await {
        Ok(_) => services.metrics.reports.with_label_values(&["changed"]).inc(),
        Err(error) => {
            services.metrics.reports.with_label_values(&["failed"]).inc();
            tracing::error!(device.uid = %live.uid, %error, "report not stored; the next one is compared afresh");
        }
    }
    if changes_nothing {
        show_unchanged(services, live);
    }
}

/// The audit row that is the cause of the change: of the device itself, or the follow-up of a healed command.
fn cause_row(services: &Devices, live: &DeviceHandle, report: &StateReport, healed: Option<&TimedOut>) -> AuditEntry {
    let sources: Vec<_> = report.relays.iter().filter_map(|r| r.source.as_deref()).collect();
    let mut entry =
        AuditEntry::event(services.clock.now(), Actor::Device, Source::Device, "state_report").device(live.key);
    if !sources.is_empty() {
        entry = entry.details(&json!({ "sources": sources }));
    }
    let Some(healed) = healed else { return entry };
    let took = services.clock.monotonic().saturating_sub(healed.accepted);
    AuditEntry {
        actor: healed.actor,
        action: healed.action.name(),
        command: Some(healed.id),
        follow_up: true,
        outcome: Outcome::Healed,
        relay: healed.action.relay().and_then(RelayAction::index),
        state: healed.action.relay().map(RelayAction::on),
        latency_ms: Some(took.as_millis().min(u128::from(u32::MAX)) as u32),
        ..entry
    }
}

/// "Server pushes `device_state` to owner clients": also when nothing changed, from the cache.
fn show_unchanged(services: &Devices, live: &DeviceHandle) {
    let cache = live.held.states.lock();
    let relays: RelayStates = cache.all();
    let (device, at) = (live.event_device(), services.clock.now());
    services.bus.publish(&Event::RelayChanged { device, relays, source: Source::Device, command: None, at });
}
