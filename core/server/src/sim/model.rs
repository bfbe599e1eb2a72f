//! What one device does, without sockets and without a clock: frames and times in, frames out.
//!
//! Times are epoch milliseconds as the device believes them; after `hello_ack` it believes the server.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use serde::Deserialize;
use serde_json::{Value, json};

use super::rng::{Rng, Stream};

/// How many command ids a device remembers (docs/DEVICES.md#rules).
pub(super) const REMEMBERED_COMMANDS: usize = 16;
/// Until the server says otherwise.
const DEFAULT_HEARTBEAT_S: u64 = 20;

/// How acks go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// From command to ack.
    pub(super) ack_delay_ms: u64,
    /// Up to so much more.
    pub(super) jitter_ms: u64,
    /// Lost acks; the relay has switched all the same.
    pub(super) drop_percent: u8,
    /// Acks that are sent twice.
    pub(super) duplicate_percent: u8,
}

/// What a device has counted since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) commands: u64,
    pub(super) duplicates: u64,
    pub(super) resends: u64,
    pub(super) acks_sent: u64,
    pub(super) acks_dropped: u64,
    pub(super) acks_duplicated: u64,
    pub(super) expired: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Relay {
    on: bool,
    /// `for_ms`: when it turns back by itself.
    turns_back_at: Option<u64>,
}

#[derive(Debug)]
struct Answered {
    command_id: String,
    ack: String,
    came_again: bool,
}

/// An ack on its way: due time, number for the order among equals, text.
type Outgoing = Reverse<(u64, u64, String)>;

/// A simulated device without its connection.
#[derive(Debug)]
pub(super) struct DeviceModel {
    relays: Vec<Relay>,
    answered: VecDeque<Answered>,
    outbox: BinaryHeap<Outgoing>,
    queued: u64,
    faults: Faults,
    fate: Rng,
    buttons: Rng,
    presses: u64,
    boot_id: String,
    clock_offset_ms: i64,
    heartbeat_s: u64,
    tally: Tally,
}

#[derive(Deserialize)]
struct Inbound<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    command_id: Option<Cow<'a, str>>,
    relay: Option<u64>,
    state: Option<bool>,
    for_ms: Option<u64>,
    expires_at_ms: Option<u64>,
    server_time_ms: Option<i64>,
    heartbeat_s: Option<u64>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

impl DeviceModel {
    /// Device `index` of a run, all relays off.
    pub(super) fn new(seed: u64, index: usize, relays: u16, faults: Faults) -> Self {
        let mut buttons = Rng::new(seed, index, Stream::Inputs);
        let boot_id = format!("{:016x}", buttons.next());
        Self {
            relays: vec![Relay::default(); usize::from(relays)],
            answered: VecDeque::with_capacity(REMEMBERED_COMMANDS),
            outbox: BinaryHeap::new(),
            queued: 0,
            faults,
            fate: Rng::new(seed, index, Stream::Faults),
            buttons,
            presses: 0,
            boot_id,
            clock_offset_ms: 0,
            heartbeat_s: DEFAULT_HEARTBEAT_S,
            tally: Tally::default(),
        }
    }

    /// The first frames of a connection: who it is, and every relay. Acks that wait follow when they are due.
    pub(super) fn greeting(&mut self, now_ms: u64) -> [String; 2] {
        self.turn_back(now_ms);
        let hello = json!({
            "type": "hello",
            "firmware_version": env!("CARGO_PKG_VERSION"),
            "hardware": "hexa-sim",
            "boot_id": self.boot_id,
        });
        let all: Vec<usize> = (0..self.relays.len()).collect();
        [hello.to_string(), self.report(&all, "boot", true, now_ms)]
    }

    /// Takes a frame of the server; replies are queued. Gives the server's words when the frame is a complaint, or
    /// this device's when it does not understand the frame.
    pub(super) fn receive(&mut self, text: &str, now_ms: u64) -> Result<(), String> {
        let frame: Inbound<'_> =
            serde_json::from_str(text).map_err(|e| format!("the server sent what is no frame: {e}"))?;
        match (frame.kind.as_ref(), frame.command_id.as_deref()) {
            ("hello_ack", _) => self.greeted(&frame, now_ms),
            ("error", _) => {
                let (code, message) = (frame.code.unwrap_or_default(), frame.message.unwrap_or_default());
                return Err(format!("the server sent an error frame: {code}: {message}"));
            }
            ("request_state", _) => {
                let all: Vec<usize> = (0..self.relays.len()).collect();
                let report = self.report(&all, "request", true, now_ms);
                self.queue(now_ms, report);
            }
            (_, Some(id)) => self.command(id, &frame, now_ms),
            // Not for this kind of device, and nothing waits for an answer: an offer of new firmware, for example.
            _ => {}
        }
        Ok(())
    }

    /// What is to be sent by `now_ms`, in order.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<String> {
        let mut out = Vec::new();
        let turned = self.turn_back(now_ms);
        if !turned.is_empty() {
            out.push(self.report(&turned, "timer", false, now_ms));
        }
        while self.outbox.peek().is_some_and(|Reverse((due, ..))| *due <= now_ms) {
            if let Some(Reverse((_, _, text))) = self.outbox.pop() {
                self.tally.acks_sent += u64::from(text.starts_with(ACK_START));
                out.push(text);
            }
        }
        out
    }

    /// When [`due`](Self::due) has something next.
    pub(super) fn next_due(&self) -> Option<u64> {
        let timers = self.relays.iter().filter_map(|r| r.turns_back_at).min();
        let outgoing = self.outbox.peek().map(|Reverse((due, ..))| *due);
        [timers, outgoing].into_iter().flatten().min()
    }

    /// Somebody is at the device: in turn a press of a button, and a relay switched by hand.
    pub(super) fn touched(&mut self, now_ms: u64) {
        let which = self.buttons.below(self.relays.len() as u64) as usize;
        self.presses += 1;
        let frame = if self.presses % 2 == 1 {
            json!({ "type": "input_event", "input": which, "event": "press" }).to_string()
        } else {
            let relay = &mut self.relays[which];
            *relay = Relay { on: !relay.on, turns_back_at: None };
            self.report(&[which], "button", false, now_ms)
        };
        self.queue(now_ms, frame);
    }

    /// A sign of life.
    pub(super) fn heartbeat() -> String {
        json!({ "type": "heartbeat", "rssi": -50 }).to_string()
    }

    /// Seconds between signs of life, as the server asks.
    pub(super) fn heartbeat_s(&self) -> u64 {
        self.heartbeat_s
    }

    /// What was counted since the last call.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn greeted(&mut self, frame: &Inbound<'_>, now_ms: u64) {
        if let Some(server) = frame.server_time_ms {
            self.clock_offset_ms = server.saturating_sub(i64::try_from(now_ms).unwrap_or(i64::MAX));
        }
        if let Some(seconds) = frame.heartbeat_s {
            self.heartbeat_s = seconds.clamp(1, 3_600);
        }
    }

    fn command(&mut self, id: &str, frame: &Inbound<'_>, now_ms: u64) {
        self.tally.commands += 1;
        if let Some(known) = self.answered.iter_mut().find(|a| a.command_id == id) {
            self.tally.duplicates += 1;
            self.tally.resends += u64::from(!known.came_again);
            known.came_again = true;
            let ack = known.ack.clone();
            return self.queue(now_ms, ack);
        }
        // Drawn whether they are needed or not, so that a run with other percentages keeps its other dice.
        let lost = self.fate.percent(self.faults.drop_percent);
        let doubled = self.fate.percent(self.faults.duplicate_percent);
        let late_ms = self.fate.below(self.faults.jitter_ms + 1);
        let ack = match self.obey(frame, now_ms) {
            Ok((status, relays)) => ack(id, status, None, &self.states(&relays)),
            Err(reason) => ack(id, "rejected", Some(reason), &[]),
        };
        if self.answered.len() == REMEMBERED_COMMANDS {
            self.answered.pop_front();
        }
        self.answered.push_back(Answered { command_id: id.to_owned(), ack: ack.clone(), came_again: false });
        if lost {
            self.tally.acks_dropped += 1;
            return;
        }
        let due = now_ms + self.faults.ack_delay_ms + late_ms;
        if doubled {
            self.tally.acks_duplicated += 1;
            self.queue(due, ack.clone());
        }
        self.queue(due, ack);
    }

    /// Does it; gives the status and the relays concerned, or why not.
    fn obey(&mut self, frame: &Inbound<'_>, now_ms: u64) -> Result<(&'static str, Vec<usize>), &'static str> {
        let true_now = now_ms.saturating_add_signed(self.clock_offset_ms);
        if frame.expires_at_ms.is_some_and(|expires| expires <= true_now) {
            self.tally.expired += 1;
            return Err("expired");
        }
        let targets: Vec<usize> = match frame.kind.as_ref() {
            "set_relay" => {
                let index = frame.relay.and_then(|i| usize::try_from(i).ok()).filter(|i| *i < self.relays.len());
                vec![index.ok_or("bad_index")?]
            }
            "set_all_relays" => (0..self.relays.len()).collect(),
            "identify" => return Ok(("executed", Vec::new())),
            _ => return Err("unsupported"),
        };
        let on = frame.state.ok_or("unsupported")?;
        let turns_back_at = frame.for_ms.map(|ms| now_ms.saturating_add(ms));
        let mut changed = false;
        for &target in &targets {
            let relay = &mut self.relays[target];
            changed |= relay.on != on || relay.turns_back_at.is_some() || turns_back_at.is_some();
            *relay = Relay { on, turns_back_at };
        }
        Ok((if changed { "executed" } else { "noop" }, targets))
    }

    /// Ends the timers that are over; gives their relays.
    fn turn_back(&mut self, now_ms: u64) -> Vec<usize> {
        let mut turned = Vec::new();
        for (index, relay) in self.relays.iter_mut().enumerate() {
            if relay.turns_back_at.is_some_and(|at| at <= now_ms) {
                *relay = Relay { on: !relay.on, turns_back_at: None };
                turned.push(index);
            }
        }
        turned
    }

    fn queue(&mut self, due_ms: u64, text: String) {
        self.queued += 1;
        self.outbox.push(Reverse((due_ms, self.queued, text)));
    }

    fn states(&self, relays: &[usize]) -> Vec<Value> {
        relays.iter().map(|&i| json!({ "index": i, "state": self.relays[i].on })).collect()
    }

    fn report(&self, relays: &[usize], source: &str, complete: bool, now_ms: u64) -> String {
        let relays: Vec<Value> = relays
            .iter()
            .map(|&i| {
                let relay = self.relays[i];
                let mut entry = json!({ "index": i, "state": relay.on, "source": source });
                if let Some(at) = relay.turns_back_at {
                    entry["timer_ends_in_ms"] = at.saturating_sub(now_ms).into();
                }
                entry
            })
            .collect();
        json!({ "type": "state_report", "relays": relays, "complete": complete, "boot_id": self.boot_id }).to_string()
    }
}

/// Every ack begins with it, and nothing else does.
const ACK_START: &str = r#"{"type":"ack","#;

fn ack(command_id: &str, status: &str, reason: Option<&str>, relays: &[Value]) -> String {
    let mut rest = json!({ "command_id": command_id, "status": status });
    if let Some(reason) = reason {
        rest["reason"] = reason.into();
    } else {
        rest["relays"] = relays.into();
    }
    // The rest is an object with members, so that cutting its brace and setting the type before it is a whole frame.
    format!("{ACK_START}{}", &rest.to_string()[1..])
}

#[cfg(test)]
mod tests;
