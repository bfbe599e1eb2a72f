//! From the contract's exports to a [`Driver`] and back. Drivers' native tests call the same functions.

use std::marker::PhantomData;

use crate::bindings::exports::hexa::driver::{catalog, codec};
use crate::driver::{Channel, Context, Driver, Message};
use crate::error::Error;
use crate::prepared::Accepted;
use crate::types::{CommandEnvelope, Decoded, DeviceCtx, DeviceIdent, Encoded, Frame};

/// `open-session` of driver `D`.
///
/// # Errors
/// What the driver refuses.
pub fn open<D: Driver>(ctx: &DeviceCtx) -> Result<Decoded, Error> {
    let mut cx = Context::<D>::new(ctx);
    D::open(&mut cx)?;
    let (events, replies, state) = cx.into_parts();
    Ok(Decoded { events, replies, state })
}

/// `decode-message` of driver `D`.
///
/// # Errors
/// What the driver refuses.
pub fn decode<D: Driver>(ctx: &DeviceCtx, channel: &str, message: &Frame) -> Result<Decoded, Error> {
    let mut cx = Context::<D>::new(ctx);
    D::decode(&mut cx, Channel::of(channel), Message::from(message))?;
    let (events, replies, state) = cx.into_parts();
    Ok(Decoded { events, replies, state })
}

/// `encode-command` of driver `D`.
///
/// # Errors
/// What the driver refuses.
pub fn encode<D: Driver>(ctx: &DeviceCtx, command: &CommandEnvelope) -> Result<Encoded, Error> {
    let mut cx = Context::<D>::new(ctx);
    let mut encoded = D::encode(&mut cx, command)?;
    let (_, _, state) = cx.into_parts();
    encoded.state.volatile = encoded.state.volatile.or(state.volatile);
    encoded.state.durable = encoded.state.durable.or(state.durable);
    Ok(encoded)
}

/// `validate-config` of driver `D`.
///
/// # Errors
/// What is wrong in the configuration, member by member.
pub fn validate<D: Driver>(ident: &DeviceIdent, config: &str) -> Result<catalog::Accepted, Vec<catalog::FieldError>> {
    match D::validate_config(ident, config) {
        Ok(Accepted { config, prepared, durable }) => Ok(catalog::Accepted { config, prepared, durable }),
        Err(wrong) => Err(wrong.into_iter().map(|(path, message)| catalog::FieldError { path, message }).collect()),
    }
}

/// The component's exports for driver `D`; made by [`crate::export_driver!`].
#[derive(Debug)]
pub struct Exported<D>(PhantomData<D>);

impl<D: Driver> catalog::Guest for Exported<D> {
    fn describe() -> String {
        D::descriptor().to_json()
    }

    fn validate_config(ident: DeviceIdent, config: String) -> Result<catalog::Accepted, Vec<catalog::FieldError>> {
        validate::<D>(&ident, &config)
    }
}

impl<D: Driver> codec::Guest for Exported<D> {
    fn open_session(ctx: DeviceCtx) -> Result<Decoded, Error> {
        open::<D>(&ctx)
    }

    fn encode_command(ctx: DeviceCtx, cmd: CommandEnvelope) -> Result<Encoded, Error> {
        encode::<D>(&ctx, &cmd)
    }

    fn decode_message(ctx: DeviceCtx, channel: String, message: Frame) -> Result<Decoded, Error> {
        decode::<D>(&ctx, &channel, &message)
    }
}
