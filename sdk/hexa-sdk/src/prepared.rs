//! The prepared configuration: what a driver is handed back with every call of a device.

use serde::Serialize;

use crate::types::{DeviceCtx, DeviceIdent};

/// First byte of a prepared blob: its own version, in case a driver is fed what an older SDK wrote.
const VERSION: u8 = 1;
/// Bytes before the configuration's JSON: version, relay count and input count (u16, little endian).
const HEADER: usize = 5;
/// Relays and inputs of a device whose configuration was never prepared: the platform's limit.
const MOST: u16 = 64;

/// A configuration that a driver agreed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// With defaults filled in, JSON; this is what is stored.
    pub config: String,
    /// Handed back with every call, at most 16 KiB.
    pub prepared: Vec<u8>,
    /// First durable state of a device that has none yet.
    pub durable: Vec<u8>,
}

impl Accepted {
    /// The usual answer: the configuration as it was parsed, prepared so that [`Context`](crate::Context) knows counts
    /// and configuration.
    ///
    /// # Errors
    /// A JSON pointer and a sentence when the configuration cannot be written as JSON.
    pub fn new<C: Serialize>(ident: &DeviceIdent, config: &C) -> Result<Self, Vec<(String, String)>> {
        let config = serde_json::to_string(config).map_err(|e| vec![(String::new(), e.to_string())])?;
        let count = |n: u32| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
        let mut prepared = Vec::with_capacity(HEADER + config.len());
        prepared.push(VERSION);
        prepared.extend_from_slice(&count(ident.relay_count));
        prepared.extend_from_slice(&count(ident.input_count));
        prepared.extend_from_slice(config.as_bytes());
        Ok(Self { config, prepared, durable: Vec::new() })
    }
}

/// Relays and inputs of the device.
pub(crate) fn counts(ctx: &DeviceCtx) -> (u16, u16) {
    match ctx.prepared.get(..HEADER) {
        Some([VERSION, r0, r1, i0, i1]) => (u16::from_le_bytes([*r0, *r1]), u16::from_le_bytes([*i0, *i1])),
        _ => (MOST, MOST),
    }
}

/// The configuration's JSON; an empty object while it was never prepared.
pub(crate) fn config(ctx: &DeviceCtx) -> &[u8] {
    ctx.prepared.get(HEADER..).unwrap_or(b"{}")
}
