//! Relays: the states that a device reports, and how it answers a command.

use super::fields::{MAX_RELAYS, MAX_TEXT, bounded, meta, name, no_such, required};
use crate::bindings::hexa::core::types::RelayState;
use crate::driver::{Context, Driver};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::json::excerpt::{SHOWN, shorten};
use crate::types::{Ack, AckOutcome, RejectReason, Rejection, RelayReport, StateReport};

pub(super) fn ack<D: Driver>(cx: &Context<'_, D>, m: Json<'_>) -> Result<Ack> {
    let outcome = match m.opt_str("status")? {
        None | Some("executed") => AckOutcome::Executed,
        Some("noop") => AckOutcome::Noop,
        Some("rejected") => AckOutcome::Rejected(rejection(m)?),
        Some(_) => return Err(m.need("status")?.wrong("status", "executed, noop or rejected")),
    };
    let relays = relays(cx, m)?.into_iter().map(|r| RelayState { index: r.index, on: r.on }).collect();
    Ok(Ack { token: required(m, "command_id")?, outcome, relays })
}

fn rejection(m: Json<'_>) -> Result<Rejection> {
    let word = m.opt_str("reason")?;
    let reason = match word {
        Some("interlock") => RejectReason::Interlock,
        Some("locked") => RejectReason::Locked,
        Some("overload") => RejectReason::Overload,
        Some("expired") => RejectReason::Expired,
        Some("busy") => RejectReason::Busy,
        Some("unsupported") => RejectReason::Unsupported,
        Some("bad_index") => RejectReason::BadIndex,
        _ => RejectReason::Other,
    };
    let own_word = word.filter(|_| reason == RejectReason::Other).map(|s| shorten(s, SHOWN).into_owned());
    Ok(Rejection { reason, detail: bounded(m, "message", MAX_TEXT)?.or(own_word) })
}

pub(super) fn state_report<D: Driver>(cx: &Context<'_, D>, m: Json<'_>) -> Result<StateReport> {
    m.need("relays")?;
    Ok(StateReport {
        relays: relays(cx, m)?,
        complete: m.opt_bool("complete")?.unwrap_or(false),
        firmware: name(m, "firmware_version")?,
        meta: meta(m)?,
        attrs: Vec::new(),
    })
}

/// The member `relays`; an absent one is empty.
pub(super) fn relays<D: Driver>(cx: &Context<'_, D>, m: Json<'_>) -> Result<Vec<RelayReport>> {
    let (count, mut seen) = (cx.relay_count(), 0u64);
    let mut out = Vec::new();
    for (i, relay) in m.list("relays")?.enumerate() {
        if i >= MAX_RELAYS {
            return Err(Error::malformed(format!("`relays` may list {MAX_RELAYS} relays at most")));
        }
        let report = one_relay(relay, count).map_err(|e| e.within(&format!("relays[{i}]: ")))?;
        let bit = 1u64 << (report.index & 63);
        if seen & bit != 0 {
            return Err(Error::malformed(format!("relays[{i}]: relay {} is listed twice", report.index)));
        }
        seen |= bit;
        out.push(report);
    }
    Ok(out)
}

fn one_relay(relay: Json<'_>, count: u32) -> Result<RelayReport> {
    let index = relay.u32("index")?;
    if index >= count.min(MAX_RELAYS as u32) {
        return Err(no_such("relay", index, count));
    }
    Ok(RelayReport {
        index,
        on: relay.bool("state")?,
        source: name(relay, "source")?,
        timer_ends_in_ms: relay.opt_whole("timer_ends_in_ms")?,
    })
}
