//! `hexa:driver@0.1`: values in, checked values out.

mod values;

use hexa_model::driver::{
    Accepted, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverCommand, Encoded, FieldError, Frame,
};
use hexa_model::{RelayAction, TimeMs};
use wasmtime::Store;
use wasmtime::component::HasSelf;

use crate::cap::guest_state::GuestState;
use crate::cap::log::Level;
use crate::contract::output_validation::{self as validate, OutputValidator};
use crate::contract::v0_1::raw::hexa::core::log;
use crate::contract::v0_1::raw::hexa::driver::types;
use crate::contract::{Answer, Bound, Pre, Version};

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; which of these it breaks changes with the generator"
)]
mod raw {
    wasmtime::component::bindgen!({
        path: ["../../sdk/wit/core.wit", "../../sdk/wit/driver.wit"],
        world: "hexa:driver/driver",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}

/// This version, for the table of versions.
pub(super) const VERSION: Version = Version {
    api: "0.1",
    imports: &["hexa:core/log@0.1.", "hexa:core/types@0.1.", "hexa:driver/types@0.1."],
    link: |linker| raw::Driver::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state),
    fit: |linker, component| Ok(Box::new(Fitting(raw::DriverPre::new(linker.instantiate_pre(component)?)?))),
};

/// A component that fits the world, ready to be instantiated.
struct Fitting(raw::DriverPre<GuestState>);

impl Pre for Fitting {
    fn instantiate(&self, store: &mut Store<GuestState>) -> wasmtime::Result<Box<dyn Bound>> {
        Ok(Box::new(Exports(self.0.instantiate(store)?)))
    }
}

/// The exports of one instance.
struct Exports(raw::Driver);

impl Bound for Exports {
    fn describe(&self, store: &mut Store<GuestState>) -> wasmtime::Result<String> {
        self.0.hexa_driver_catalog().call_describe(store)
    }

    fn open_session(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
    ) -> Answer<Decoded> {
        match self.0.hexa_driver_codec().call_open_session(store, ctx(call))? {
            Ok(decoded) => Ok(Ok(values::decoded(decoded, validator)?)),
            Err(error) => Ok(Err(values::codec_error(error, validator)?)),
        }
    }

    fn encode_command(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
        envelope: &CommandEnvelope,
    ) -> Answer<Encoded> {
        match self.0.hexa_driver_codec().call_encode_command(store, ctx(call), command(envelope))? {
            Ok(encoded) => Ok(Ok(values::encoded(encoded, validator, envelope)?)),
            Err(error) => Ok(Err(values::codec_error(error, validator)?)),
        }
    }

    fn decode_message(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
        channel: &str,
        message: &Frame,
    ) -> Answer<Decoded> {
        let message = match message {
            Frame::Text(text) => types::FrameParam::Text(text),
            Frame::Binary(bytes) => types::FrameParam::Binary(bytes),
        };
        match self.0.hexa_driver_codec().call_decode_message(store, ctx(call), channel, message)? {
            Ok(decoded) => Ok(Ok(values::decoded(decoded, validator)?)),
            Err(error) => Ok(Err(values::codec_error(error, validator)?)),
        }
    }

    fn validate_config(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        ident: &DeviceIdent,
        config: &str,
    ) -> Answer<Result<Accepted, Vec<FieldError>>> {
        let ident = types::DeviceIdent {
            uid: ident.uid.as_str(),
            class: ident.class.as_str(),
            model: ident.model.as_deref(),
            hardware: ident.hardware.as_deref(),
            firmware: ident.firmware.as_deref(),
            relay_count: u32::from(ident.relay_count),
            input_count: u32::from(ident.input_count),
            attrs: &[],
        };
        let answer = self.0.hexa_driver_catalog().call_validate_config(store, ident, config)?;
        match answer {
            Ok(accepted) => {
                let accepted =
                    Accepted { config: accepted.config, prepared: accepted.prepared, durable: accepted.durable };
                validator.accepted(&accepted)?;
                Ok(Ok(Ok(accepted)))
            }
            Err(errors) => {
                let cut = |e: raw::exports::hexa::driver::catalog::FieldError| FieldError {
                    path: validate::cut(e.path),
                    message: validate::cut(e.message),
                };
                Ok(Ok(Err(errors.into_iter().take(crate::engine::limits::EVENTS).map(cut).collect())))
            }
        }
    }
}

fn ctx<'a>(call: &DriverCall<'a>) -> types::DeviceCtx<'a> {
    types::DeviceCtx {
        now_ms: epoch(call.now),
        session: call.session.map(|s| types::SessionInfo {
            id: &s.id,
            heartbeat_s: s.heartbeat_s,
            desired_config_version: s.desired_config_version,
        }),
        prepared: call.prepared,
        volatile: call.volatile,
        durable: call.durable,
    }
}

fn command(envelope: &CommandEnvelope) -> types::CommandEnvelope<'_> {
    let command = match &envelope.command {
        DriverCommand::Relay(RelayAction::Set { index, on, for_ms }) => {
            types::Command::SetRelay(types::RelayTarget { index: u32::from(*index), on: *on, for_ms: *for_ms })
        }
        DriverCommand::Relay(RelayAction::SetAll { on }) => types::Command::SetAllRelays(*on),
        DriverCommand::RequestState => types::Command::RequestState,
        DriverCommand::Identify => types::Command::Identify,
        DriverCommand::Custom { name, args } => types::Command::Custom(types::CustomCommand { name, args }),
    };
    types::CommandEnvelope { id: &envelope.id, command, expires_at_ms: epoch(envelope.expires_at) }
}

/// The contract's times are unsigned; before 1970 counts as 1970.
fn epoch(time: TimeMs) -> u64 {
    u64::try_from(time.0).unwrap_or(0)
}

impl log::Host for GuestState {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.log_line(host_level(level), &message)
    }

    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        Ok(host_level(level).enabled())
    }
}

fn host_level(level: log::Level) -> Level {
    match level {
        log::Level::Trace => Level::Trace,
        log::Level::Debug => Level::Debug,
        log::Level::Info => Level::Info,
        log::Level::Warn => Level::Warn,
        log::Level::Error => Level::Error,
    }
}

impl raw::hexa::core::types::Host for GuestState {}
impl types::Host for GuestState {}
