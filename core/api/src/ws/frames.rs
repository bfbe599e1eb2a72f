//! What a client socket hears, as JSON: events as frames, cut to what a grantee may see.

use axum::extract::ws::Utf8Bytes;
use hexa_model::event::{Event, ShareChange};
use hexa_model::{RelayMask, RelayState};
use serde::Serialize;

use crate::wire::{RelayBody, rfc3339};

/// How much of an event a grantee hears.
pub(super) enum Part {
    Whole,
    Some,
    Nothing,
}

pub(super) fn part(event: &Event, mask: RelayMask) -> Part {
    match event {
        _ if mask.is_all() => Part::Whole,
        Event::RelayChanged { relays, .. } => match relays.iter().filter(|r| mask.has(r.index)).count() {
            0 => Part::Nothing,
            n if n == relays.len() => Part::Whole,
            _ => Part::Some,
        },
        // An input belongs to the device, not to a relay.
        Event::InputReceived { .. } => Part::Nothing,
        _ => Part::Whole,
    }
}

pub(super) fn seen(states: &[RelayState], mask: RelayMask) -> Vec<RelayBody> {
    states.iter().filter(|s| mask.has(s.index)).map(Into::into).collect()
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EventFrame<'a> {
    DeviceState {
        device_uid: &'a str,
        relays: Vec<RelayBody>,
        source: &'static str,
        command_id: Option<String>,
        at: String,
    },
    DeviceOnline {
        device_uid: &'a str,
        at: String,
    },
    DeviceOffline {
        device_uid: &'a str,
        at: String,
    },
    InputEvent {
        device_uid: &'a str,
        input: u16,
        event: &'a str,
        duration_ms: Option<u32>,
        at: String,
    },
    DeviceUpdated {
        device_uid: &'a str,
    },
    DeviceAdded {
        device_uid: &'a str,
    },
    DeviceRemoved {
        device_uid: &'a str,
    },
}

pub(super) fn encode(event: &Event, mask: RelayMask) -> Utf8Bytes {
    let device_uid = event.device().uid.as_str();
    let frame = match event {
        Event::RelayChanged { relays: states, source, command, at, .. } => EventFrame::DeviceState {
            device_uid,
            relays: seen(states, mask),
            source: source.as_str(),
            command_id: command.map(|c| c.to_string()),
            at: rfc3339(*at),
        },
        Event::DeviceOnline { at, .. } => EventFrame::DeviceOnline { device_uid, at: rfc3339(*at) },
        Event::DeviceOffline { at, .. } => EventFrame::DeviceOffline { device_uid, at: rfc3339(*at) },
        Event::InputReceived { input, at, .. } => EventFrame::InputEvent {
            device_uid,
            input: input.input,
            event: &input.kind,
            duration_ms: input.duration_ms,
            at: rfc3339(*at),
        },
        Event::DeviceUpdated { .. } | Event::ShareChanged { change: ShareChange::Changed, .. } => {
            EventFrame::DeviceUpdated { device_uid }
        }
        Event::DeviceClaimed { .. } | Event::ShareChanged { change: ShareChange::Began, .. } => {
            EventFrame::DeviceAdded { device_uid }
        }
        Event::DeviceReleased { .. } | Event::ShareChanged { change: ShareChange::Ended, .. } => {
            EventFrame::DeviceRemoved { device_uid }
        }
    };
    serde_json::to_string(&frame).unwrap_or_default().into()
}

/// One device in a snapshot.
#[derive(Serialize)]
pub(crate) struct SnapshotDevice<'a> {
    pub(crate) device_uid: &'a str,
    pub(crate) online: bool,
    pub(crate) access: &'static str,
    pub(crate) relays: Vec<RelayBody>,
}
