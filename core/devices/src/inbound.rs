//! Every device message enters here: the closed enum of what a driver can understand, each kind to its room.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hexa_machine::AckTaken;
use hexa_model::audit::AuditEntry;
use hexa_model::driver::{Ack, DeviceEvent, EventMeta, Hello, InputEvent};
use hexa_model::event::Event;
use hexa_model::{Actor, CommandId, Outcome, Source};
use serde_json::json;

use crate::Devices;
use crate::command::acknowledge::acknowledge;
use crate::handle::DeviceHandle;
use crate::relay::report;

/// Whether a message counts against the device's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It counts as one message.
    Yes,
    /// It answered an open command: free.
    Free,
}

/// Foreign acks are audited once in this time per device: a hostile one must not fill the audit.
const FOREIGN_ACK_AUDIT_EVERY: Duration = Duration::from_secs(60);

/// What a device says of itself is logged once in this time: one that says much must not fill the disk.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Characters of a device's text in the log.
const LOG_TEXT: usize = 256;

/// A device's text as it may be shown, in the log and to people: short, on one line, and in the order in which it is read,
/// so that no line can be forged.
fn loggable(text: &str) -> String {
    let turns =
        |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let harmless = |c: char| {
        if c.is_control() || turns(c) || matches!(c, '\u{2028}' | '\u{2029}') { '\u{fffd}' } else { c }
    };
    text.chars().take(LOG_TEXT).map(harmless).collect()
}

/// Whether a line about this device may be logged now, and how many were not since the last one.
fn may_log(services: &Devices, live: &DeviceHandle) -> Option<u32> {
    let now = services.clock.monotonic();
    let mut last = live.held.last.lock();
    if last.log_line.is_some_and(|at| now.saturating_sub(at) < LOG_EVERY) {
        last.unlogged = last.unlogged.saturating_add(1);
        return None;
    }
    last.log_line = Some(now);
    Some(std::mem::take(&mut last.unlogged))
}

/// What is still to be waited for.
pub type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Acts on one event of `live`, and of `live` only. What it must wait for is given back, boxed, before the next event:
/// every idle connection would pay for the place of what it rarely waits for.
pub fn handle(services: &Arc<Devices>, live: &Arc<DeviceHandle>, event: DeviceEvent) -> (Counted, Option<Rest>) {
    match event {
        DeviceEvent::Ack(ack) => return acknowledgement(services, live, &ack),
        DeviceEvent::StateReport(state) => {
            if let Some(firmware) = &state.firmware {
                set_firmware(services, live, firmware);
            }
            booted(live, &state.meta);
            let (services, live) = (Arc::clone(services), Arc::clone(live));
            let rest = async move { report::reconcile(&services, &live, &state).await };
            return (Counted::Yes, Some(Box::pin(rest)));
        }
        DeviceEvent::Input(input) => input_event(services, live, input),
        DeviceEvent::Hello(hello) => greeting(services, live, &hello),
        DeviceEvent::Heartbeat(meta) => heartbeat(live, &meta),
        DeviceEvent::Bye(until) => {
            if let Some(unlogged) = may_log(services, live) {
                tracing::info!(device.uid = %live.uid, until_ms = until.map(|t| t.0), unlogged, "device says good-bye");
            }
        }
        DeviceEvent::Error { code, message, token } => {
            if let Some(unlogged) = may_log(services, live) {
                let (code, message) = (loggable(&code), loggable(&message));
                let token = token.as_deref().map(loggable);
                tracing::warn!(device.uid = %live.uid, code, message, command.id = token, unlogged, "device reports an error");
            }
        }
        DeviceEvent::Readings(readings) => {
            tracing::debug!(device.uid = %live.uid, count = readings.len(), "readings are not kept by this version");
        }
        DeviceEvent::Ignored(what) => tracing::debug!(device.uid = %live.uid, %what, "noise"),
        DeviceEvent::Other(what) => tracing::debug!(device.uid = %live.uid, %what, "no room for this kind yet"),
    }
    (Counted::Yes, None)
}

fn acknowledgement(services: &Arc<Devices>, live: &Arc<DeviceHandle>, ack: &Ack) -> (Counted, Option<Rest>) {
    let (taken, late) = acknowledge(services, live, ack);
    match taken {
        AckTaken::Open => return (Counted::Free, None),
        AckTaken::Late | AckTaken::Reported | AckTaken::Duplicate => {}
        AckTaken::Unknown => return (Counted::Yes, foreign_ack(services, live, &ack.token)),
    }
    let rest = late.map(|late| {
        let (services, live) = (Arc::clone(services), Arc::clone(live));
        Box::pin(async move {
            if let Err(error) = late.stored(&services, &live).await {
                tracing::error!(device.uid = %live.uid, %error, "what an acknowledgement says was not stored");
            }
        }) as Rest
    });
    (Counted::Yes, rest)
}

/// I7: an ack for a command that is not open and not remembered here changes nothing and is counted. Of a command that
/// this device was never sent it is a security event; one that it was sent long ago, it may repeat.
fn foreign_ack(services: &Arc<Devices>, live: &Arc<DeviceHandle>, token: &str) -> Option<Rest> {
    services.metrics.unexpected_acks.inc();
    let now = services.clock.monotonic();
    {
        let mut last = live.held.last.lock();
        if last.foreign_ack_audit.is_some_and(|at| now.saturating_sub(at) < FOREIGN_ACK_AUDIT_EVERY) {
            return None;
        }
        last.foreign_ack_audit = Some(now);
    }
    let shown: String = loggable(token).chars().take(64).collect();
    let (services, live) = (Arc::clone(services), Arc::clone(live));
    Some(Box::pin(async move {
        if was_sent_to(&services, &live, &shown).await {
            tracing::debug!(device.uid = %live.uid, token = %shown, "ack for a command that ended long ago");
            // The next one may be a stranger's.
            live.held.last.lock().foreign_ack_audit = None;
            return;
        }
        tracing::warn!(device.uid = %live.uid, token = %shown, "ack for a command this device was not sent");
        let entry = AuditEntry::event(services.clock.now(), Actor::Device, Source::Device, "security.unexpected_ack")
            .device(live.key)
            .outcome(Outcome::Rejected)
            .details(&json!({ "token": shown }));
        services.audit.note(live.key, entry);
    }))
}

/// Whether a command of this id went to this device: then the audit knows it.
async fn was_sent_to(services: &Devices, live: &DeviceHandle, token: &str) -> bool {
    let Some(id) = CommandId::parse(token) else { return false };
    if services.open.get(id).await.is_some_and(|open| open.key == live.key) {
        return true;
    }
    match services.store.command_result(id).await {
        Ok(row) => row.is_some_and(|row| row.device == Some(live.key)),
        Err(_) => false,
    }
}

fn input_event(services: &Arc<Devices>, live: &Arc<DeviceHandle>, input: InputEvent) {
    let (input, at) = (Arc::new(input), services.clock.now());
    live.held.last.lock().input = Some((Arc::clone(&input), at));
    services.bus.publish(&Event::InputReceived { device: live.event_device(), input, at });
}

fn greeting(services: &Arc<Devices>, live: &Arc<DeviceHandle>, hello: &Hello) {
    if let Some(firmware) = &hello.firmware {
        set_firmware(services, live, firmware);
    }
    if let Some(hardware) = &hello.hardware {
        live.identity.lock().hardware = Some(hardware.as_str().into());
    }
    heartbeat(live, &hello.meta);
}

/// Tells two devices with one identity apart ([`contest`](crate::contest)).
fn booted(live: &DeviceHandle, meta: &EventMeta) {
    if let (Some(boot_id), Some(session)) = (&meta.boot_id, live.session()) {
        session.booted(&loggable(boot_id));
    }
}

fn heartbeat(live: &DeviceHandle, meta: &EventMeta) {
    booted(live, meta);
    tracing::trace!(device.uid = %live.uid, uptime_s = meta.uptime_s, rssi = meta.rssi, "heartbeat");
}

fn set_firmware(services: &Arc<Devices>, live: &DeviceHandle, firmware: &str) {
    // A version is shown to people and stored: what a terminal or a database would stumble over is left out.
    let clean: String;
    let firmware = if firmware.chars().any(char::is_control) {
        clean = firmware.chars().filter(|c| !c.is_control()).collect();
        &clean
    } else {
        firmware
    };
    let mut identity = live.identity.lock();
    if identity.firmware.as_deref() != Some(firmware) {
        identity.firmware = Some(firmware.into());
        drop(identity);
        services.registry.note(live, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_text_stays_on_one_line_of_the_log() {
        let forged = "broken\r\n2026-01-01 ERROR forged\u{2028}\u{1b}[31m\0";
        let shown = loggable(forged);
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{2028}'), "{shown:?}");
        assert!(shown.starts_with("broken") && shown.contains("forged"));
        assert_eq!(loggable(&"x".repeat(5000)).len(), LOG_TEXT);
    }
}
