//! One plugin version: its instances, its limits, and how a call goes through them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use hexa_model::driver::{
    Accepted, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverCommand, DriverError, Encoded, Fault,
    FieldError, Frame, LimitBroken,
};
use hexa_model::{DeviceClass, DeviceUid};
use wasmtime::Engine;

use crate::check::Check;
use crate::descriptor::Descriptor;
use crate::fault::Broken;
use crate::instance::Instance;
use crate::limits::{Budget, CONFIG_BYTES, FRAME_BYTES, Limits};
use crate::log::PluginLog;
use crate::pool::{NoLease, Pool};
use crate::stats::{CallOutcome, Function, Stats};
use crate::wit::{Adapter, Answer};

/// A loaded plugin.
pub(crate) struct Plugin {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) classes: Vec<DeviceClass>,
    pub(crate) limits: Limits,
    pub(crate) descriptor: Descriptor,
    pub(crate) engine: Engine,
    pub(crate) pre: Adapter,
    pub(crate) pool: Pool,
    pub(crate) stats: Stats,
    pub(crate) log: Arc<PluginLog>,
}

impl Plugin {
    /// `describe`: cold, once, while loading.
    pub(crate) fn describe(&self) -> Result<String, DriverError> {
        self.run(Function::Describe, None, Budget::COLD, |i| Ok(Ok(i.bound.describe(&mut i.store)?)))
    }

    pub(crate) fn open_session(&self, call: &DriverCall<'_>) -> Result<Decoded, DriverError> {
        let check = self.check(call, true);
        self.run(Function::OpenSession, Some(call.uid), Budget::hot(&self.limits), |i| {
            i.bound.open_session(&mut i.store, &check, call)
        })
    }

    pub(crate) fn encode_command(
        &self,
        call: &DriverCall<'_>,
        envelope: &CommandEnvelope,
    ) -> Result<Encoded, DriverError> {
        if let DriverCommand::Custom { name, .. } = &envelope.command
            && !self.descriptor.declares_custom(name)
        {
            return Err(DriverError::Unsupported(format!("the driver declares no command {name:?}")));
        }
        let check = self.check(call, true);
        self.run(Function::EncodeCommand, Some(call.uid), Budget::hot(&self.limits), |i| {
            i.bound.encode_command(&mut i.store, &check, call, envelope)
        })
    }

    pub(crate) fn decode_message(
        &self,
        call: &DriverCall<'_>,
        channel: &str,
        message: &Frame,
    ) -> Result<Decoded, DriverError> {
        let size = message.size_bytes();
        if size > FRAME_BYTES {
            let message = format!("a message may be {FRAME_BYTES} bytes long at most, not {size}");
            return Err(DriverError::Malformed { message, reply: None });
        }
        let check = self.check(call, channel == "ws");
        self.run(Function::DecodeMessage, Some(call.uid), Budget::hot(&self.limits), |i| {
            i.bound.decode_message(&mut i.store, &check, call, channel, message)
        })
    }

    pub(crate) fn validate_config(
        &self,
        ident: &DeviceIdent,
        config: &str,
    ) -> Result<Result<Accepted, Vec<FieldError>>, DriverError> {
        if config.len() > CONFIG_BYTES {
            let size = config.len();
            let message = format!("a configuration may be {CONFIG_BYTES} bytes long at most, not {size}");
            return Ok(Err(vec![FieldError { path: String::new(), message }]));
        }
        let check = Check {
            relay_count: ident.relay_count,
            input_count: ident.input_count,
            state_bytes: self.limits.state_bytes,
            may_reply: false,
            descriptor: &self.descriptor,
        };
        self.run(Function::ValidateConfig, Some(&ident.uid), Budget::COLD, |i| {
            i.bound.validate_config(&mut i.store, &check, ident, config)
        })
    }

    /// A running instance, so that the first device waits for none.
    pub(crate) fn prewarm(&self) -> Result<(), DriverError> {
        match self.pool.lease(|| self.start()) {
            Ok(lease) => {
                lease.keep();
                Ok(())
            }
            Err(why) => Err(self.no_lease(why)),
        }
    }

    fn check(&self, call: &DriverCall<'_>, may_reply: bool) -> Check<'_> {
        Check {
            relay_count: call.relay_count,
            input_count: call.input_count,
            state_bytes: self.limits.state_bytes,
            may_reply,
            descriptor: &self.descriptor,
        }
    }

    fn start(&self) -> wasmtime::Result<Instance> {
        Instance::start(&self.engine, &*self.pre, &self.limits, &self.log)
    }

    fn run<T>(
        &self,
        function: Function,
        device: Option<&DeviceUid>,
        budget: Budget,
        call: impl FnOnce(&mut Instance) -> Answer<T>,
    ) -> Result<T, DriverError> {
        let begun = Instant::now();
        // A panic here is the host's own; the lease is dropped on the way out, so the instance is gone with it.
        let result = catch_unwind(AssertUnwindSafe(|| self.enter(device, budget, call)))
            .unwrap_or_else(|panic| Err(DriverError::Fault(self.host_panic(&*panic))));
        self.stats.record(function, CallOutcome::of(&result), begun.elapsed());
        result
    }

    fn enter<T>(
        &self,
        device: Option<&DeviceUid>,
        budget: Budget,
        call: impl FnOnce(&mut Instance) -> Answer<T>,
    ) -> Result<T, DriverError> {
        let mut lease = self.pool.lease(|| self.start()).map_err(|why| self.no_lease(why))?;
        let instance = lease.instance();
        instance.begin(device, budget);
        match call(instance) {
            Ok(answer) => {
                lease.keep();
                answer
            }
            Err(broken) => Err(self.fault(broken)),
        }
    }

    fn no_lease(&self, why: NoLease) -> DriverError {
        match why {
            NoLease::Busy => DriverError::Busy,
            // The engine-wide pool is full; the plugin did nothing wrong.
            NoLease::Broken(error) if error.is::<wasmtime::PoolConcurrencyLimitError>() => DriverError::Busy,
            NoLease::Broken(error) => self.fault(Broken::Trap(error)),
        }
    }

    fn fault(&self, broken: Broken) -> DriverError {
        DriverError::Fault(broken.into_fault(&self.id, &self.version))
    }

    fn host_panic(&self, panic: &(dyn std::any::Any + Send)) -> Fault {
        let said = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(plugin.id = %self.id, panic = said.unwrap_or("unknown"), "the plugin host panicked in a call");
        let limit: Option<LimitBroken> = None;
        let message = "the server's plugin host failed; this is not the plugin's fault".to_owned();
        Fault { plugin: self.id.clone(), version: self.version.clone(), kind: "host", limit, message }
    }
}
