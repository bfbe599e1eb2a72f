//! Inputs: what happened at a button or a switch.

use super::fields::{INPUT_EVENTS, meta, no_such};
use crate::driver::{Context, Driver};
use crate::error::Result;
use crate::json::Json;
use crate::types::InputEvent;

pub(super) fn input_event<D: Driver>(cx: &Context<'_, D>, m: Json<'_>) -> Result<InputEvent> {
    let input = m.u32("input")?;
    if input >= cx.input_count() {
        return Err(no_such("input", input, cx.input_count()));
    }
    let kind = m.str("event")?;
    if !INPUT_EVENTS.contains(&kind) {
        return Err(m.need("event")?.wrong("event", &format!("one of {}", INPUT_EVENTS.join(", "))));
    }
    Ok(InputEvent { input, kind: kind.to_owned(), duration_ms: m.opt_whole("duration_ms")?, meta: meta(m)? })
}
