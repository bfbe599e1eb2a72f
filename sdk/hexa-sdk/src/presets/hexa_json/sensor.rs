//! Sensors: readings, whose keys the driver's descriptor declares.

use super::fields::MAX_TEXT;
use crate::bindings::hexa::core::types::Reading;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::json::excerpt::{SHOWN, shorten};

/// Most readings in one report.
const MAX_READINGS: usize = 64;

pub(super) fn readings<D: Driver>(m: Json<'_>) -> Result<Vec<Reading>> {
    m.need("readings")?;
    let descriptor = D::descriptor();
    let mut out = Vec::new();
    for (i, reading) in m.list("readings")?.enumerate() {
        if i >= MAX_READINGS {
            return Err(Error::malformed(format!("`readings` may list {MAX_READINGS} readings at most")));
        }
        let key = reading.str("key").map_err(|e| e.within(&format!("readings[{i}]: ")))?;
        if descriptor.find_reading(key).is_none() {
            let known: Vec<_> = descriptor.reading_keys().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let key = shorten(key, SHOWN);
            return Err(Error::malformed(format!("readings[{i}]: unknown key {key:?}; this driver knows {known}")));
        }
        out.push(one_reading(key, reading).map_err(|e| e.within(&format!("readings[{i}]: ")))?);
    }
    Ok(out)
}

fn one_reading(key: &str, reading: Json<'_>) -> Result<Reading> {
    let value = reading.need("value")?;
    let scalar = value.to_value().ok_or_else(|| value.wrong("value", "true, false, a finite number or a text"))?;
    if let Ok(text) = value.as_str("value")
        && text.len() > MAX_TEXT
    {
        return Err(Error::malformed(format!("`value` may be {MAX_TEXT} bytes long at most, not {}", text.len())));
    }
    Ok(Reading { key: key.to_owned(), value: scalar, at_ms: reading.opt_whole("at_ms")? })
}
