//! A version 0.2 of the contract for tests only (`test_contract/driver.wit`) with its adapter: it proves that two
//! versions run side by side, and shows what a step between them costs.

use hexa_model::RelayAction;
use hexa_model::driver::{
    Accepted, AckPolicy, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverCommand, DriverError, Encoded,
    FieldError, Frame, NewState,
};
use wasmtime::Store;

use crate::cap::guest_state::GuestState;
use crate::contract::output_validation::{self as validate, OutputValidator};
use crate::contract::{Answer, Bound, Pre, Version};
use raw::hexa::driver::types;

mod raw {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
    wasmtime::component::bindgen!({ path: "src/contract/test_contract/driver.wit", world: "hexa:driver/driver" });
}
mod optional {
    #![allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic, reason = "generated code")]
    wasmtime::component::bindgen!({ path: "src/contract/test_contract/driver.wit", world: "hexa:driver/greeting" });
}
use optional::exports::hexa::driver::greeter;

pub(super) const VERSION: Version = Version {
    api: "0.2",
    imports: &["hexa:driver/types@0.2."],
    link: |_| Ok(()),
    fit: |linker, component| {
        let pre = linker.instantiate_pre(component)?;
        let greeter = greeter::GuestIndices::new(&pre).ok();
        Ok(Box::new(Fitting { driver: raw::DriverPre::new(pre)?, greeter }))
    },
};

struct Fitting {
    driver: raw::DriverPre<GuestState>,
    greeter: Option<greeter::GuestIndices>,
}

impl Pre for Fitting {
    fn instantiate(&self, store: &mut Store<GuestState>) -> wasmtime::Result<Box<dyn Bound>> {
        let instance = self.driver.instance_pre().instantiate(&mut *store)?;
        let driver = raw::DriverIndices::new(self.driver.instance_pre())?.load(&mut *store, &instance)?;
        let greeter = self.greeter.as_ref().map(|g| g.load(&mut *store, &instance)).transpose()?;
        Ok(Box::new(Exports { driver, greeter }))
    }
}

struct Exports {
    driver: raw::Driver,
    greeter: Option<greeter::Guest>,
}

/// A decoded message as the platform has it; the test contract knows replies only.
fn decoded(frames: Result<Vec<types::Frame>, String>, validator: &OutputValidator<'_>) -> Answer<Decoded> {
    let replies = match frames {
        Ok(frames) => frames.into_iter().map(frame).collect::<Vec<_>>(),
        Err(message) => return Ok(Err(DriverError::Malformed { message: validate::cut(message), reply: None })),
    };
    validator.replies(&replies)?;
    Ok(Ok(Decoded { replies, ..Decoded::default() }))
}

fn frame(raw: types::Frame) -> Frame {
    match raw {
        types::Frame::Text(text) => Frame::Text(text),
        types::Frame::Binary(bytes) => Frame::Binary(bytes.into()),
    }
}

fn ctx(call: &DriverCall<'_>) -> types::DeviceCtx {
    types::DeviceCtx { settings: call.prepared.to_vec(), now_ms: call.now.0 as u64 }
}

impl Bound for Exports {
    fn describe(&self, store: &mut Store<GuestState>) -> wasmtime::Result<String> {
        self.driver.hexa_driver_catalog().call_describe(store)
    }

    fn open_session(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
    ) -> Answer<Decoded> {
        let frames = self.driver.hexa_driver_codec().call_open_session(&mut *store, &ctx(call))?;
        let mut frames = frames.map_err(validate::cut);
        if let (Ok(frames), Some(greeter)) = (&mut frames, &self.greeter) {
            frames.push(types::Frame::Text(greeter.call_greet(store)?));
        }
        decoded(frames, validator)
    }

    fn encode_command(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
        envelope: &CommandEnvelope,
    ) -> Answer<Encoded> {
        let DriverCommand::Relay(RelayAction::Set { index, on, .. }) = envelope.command else {
            return Ok(Err(DriverError::Unsupported("drivers of version 0.2 set single relays only".into())));
        };
        let codec = self.driver.hexa_driver_codec();
        let frames = match codec.call_set_relay(store, &ctx(call), &envelope.id, u32::from(index), on)? {
            Ok(frames) => frames.into_iter().map(frame).collect(),
            Err(why) => return Ok(Err(DriverError::InvalidArgument(validate::cut(why)))),
        };
        let encoded = Encoded { frames, ack: AckPolicy::CommandId, state: NewState::default() };
        validate::encoded(&encoded, envelope)?;
        validator.replies(&encoded.frames)?;
        Ok(Ok(encoded))
    }

    fn decode_message(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
        _: &str,
        message: &Frame,
    ) -> Answer<Decoded> {
        let Frame::Text(text) = message else {
            let message = "drivers of version 0.2 read text only".into();
            return Ok(Err(DriverError::Malformed { message, reply: None }));
        };
        decoded(self.driver.hexa_driver_codec().call_decode_message(store, &ctx(call), text)?, validator)
    }

    fn validate_config(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        _: &DeviceIdent,
        config: &str,
    ) -> Answer<Result<Accepted, Vec<FieldError>>> {
        Ok(Ok(match self.driver.hexa_driver_catalog().call_validate_config(store, config)? {
            Ok(prepared) => {
                let accepted = Accepted { config: config.to_owned(), prepared, durable: Vec::new() };
                validator.accepted(&accepted)?;
                Ok(accepted)
            }
            Err(message) => Err(vec![FieldError { path: String::new(), message: validate::cut(message) }]),
        }))
    }
}

mod tests;
