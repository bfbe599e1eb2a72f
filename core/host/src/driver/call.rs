//! One plugin version: its instances, its limits, and how a call goes through them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hexa_model::driver::{
    Accepted, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverCommand, DriverError, Encoded, Fault,
    FieldError, Frame, LimitBroken,
};
use hexa_model::plugin::{PluginEvent, PluginFault, PluginInfo};
use hexa_model::{Clock, DeviceClass, DeviceUid};
use hexa_service::ports::PluginObserver;
use wasmtime::Engine;

use crate::cap::log::PluginLog;
use crate::contract::descriptor::Descriptor;
use crate::contract::fault::Broken;
use crate::contract::input_sample;
use crate::contract::output_validation::OutputValidator;
use crate::contract::{Adapter, Answer};
use crate::driver::instance::Instance;
use crate::driver::pool::{NoLease, Pool};
use crate::engine::limits::{Budget, CONFIG_BYTES, FRAME_BYTES, Limits};
use crate::lifecycle::cpu_quota::CpuQuota;
use crate::lifecycle::health::{Change, Health, Refusal};
use crate::lifecycle::stats::{CallOutcome, Function, FunctionStats, PluginStats, Stats};

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
    pub(crate) health: Health,
    pub(crate) share: CpuQuota,
    pub(crate) watch: Arc<dyn PluginObserver>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Every call gets an instance of its own: nothing can be carried from one device to another.
    pub(crate) per_call: bool,
}

type Ran<T> = Result<T, DriverError>;

/// What a call is about, for whoever must be told that it failed.
struct About<'a> {
    function: Function,
    device: Option<&'a DeviceUid>,
    input: Input<'a>,
}

/// What the guest was given; looked at only when it failed over it.
enum Input<'a> {
    Nothing,
    Message(&'a Frame),
    Command(&'a DriverCommand),
    Config(&'a str),
}

impl Input<'_> {
    fn sample(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Message(frame) => input_sample::frame(frame),
            Self::Command(command) => input_sample::text(&format!("{command:?}")),
            Self::Config(config) => input_sample::text(config),
        }
    }
}

impl Plugin {
    /// `describe`: cold, once, while loading.
    pub(crate) fn describe(&self) -> Result<String, DriverError> {
        let about = About { function: Function::Describe, device: None, input: Input::Nothing };
        self.run(&about, Budget::COLD, |i| Ok(Ok(i.bound.describe(&mut i.store)?)))
    }

    pub(crate) fn open_session(&self, call: &DriverCall<'_>) -> Result<Decoded, DriverError> {
        let validator = self.validator(call, true);
        let about = About { function: Function::OpenSession, device: Some(call.uid), input: Input::Nothing };
        let opened =
            self.run(&about, Budget::hot(&self.limits), |i| i.bound.open_session(&mut i.store, &validator, call));
        if opened.is_ok() {
            self.health.session(true);
        }
        opened
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
        let validator = self.validator(call, true);
        let input = Input::Command(&envelope.command);
        let about = About { function: Function::EncodeCommand, device: Some(call.uid), input };
        self.run(&about, Budget::hot(&self.limits), |i| {
            i.bound.encode_command(&mut i.store, &validator, call, envelope)
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
        let validator = self.validator(call, channel == "ws");
        let input = Input::Message(message);
        let about = About { function: Function::DecodeMessage, device: Some(call.uid), input };
        self.run(&about, Budget::hot(&self.limits), |i| {
            i.bound.decode_message(&mut i.store, &validator, call, channel, message)
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
        let validator = OutputValidator {
            relay_count: ident.relay_count,
            input_count: ident.input_count,
            state_bytes: self.limits.state_bytes,
            may_reply: false,
            descriptor: &self.descriptor,
        };
        let input = Input::Config(config);
        let about = About { function: Function::ValidateConfig, device: Some(&ident.uid), input };
        self.run(&about, Budget::COLD, |i| i.bound.validate_config(&mut i.store, &validator, ident, config))
    }

    /// A running instance, so that the first device waits for none. Later ones are started in the middle of a call, so
    /// one that takes longer to start than a hot call may is an error here.
    pub(crate) fn prewarm(&self) -> Result<(), DriverError> {
        // Not the one that `describe` started, which had the time of a cold call for it.
        self.pool.clear();
        match self.pool.lease(|| self.start(Budget::hot(&self.limits))) {
            Ok(lease) => {
                lease.keep();
                Ok(())
            }
            Err(why) => Err(self.no_lease(why)),
        }
    }

    fn validator(&self, call: &DriverCall<'_>, may_reply: bool) -> OutputValidator<'_> {
        OutputValidator {
            relay_count: call.relay_count,
            input_count: call.input_count,
            state_bytes: self.limits.state_bytes,
            may_reply,
            descriptor: &self.descriptor,
        }
    }

    fn start(&self, budget: Budget) -> wasmtime::Result<Instance> {
        Instance::start(&self.engine, &*self.pre, &self.limits, &self.log, budget)
    }

    /// One call, all the way: may it enter, does it fit the budget, what became of it.
    fn run<T>(&self, about: &About<'_>, budget: Budget, call: impl FnOnce(&mut Instance) -> Answer<T>) -> Ran<T> {
        let now = || self.clock.monotonic();
        let leave = self.health.admit(about.device, now).map_err(|refusal| self.refused(refusal))?;
        let begun = Instant::now();
        // A panic here is the host's own; the lease is dropped on the way out, so the instance is gone with it.
        let result = catch_unwind(AssertUnwindSafe(|| self.enter(about.device, budget, call)))
            .unwrap_or_else(|panic| Err(DriverError::Fault(self.host_panic(&*panic))));
        let outcome = CallOutcome::of(&result);
        self.stats.record(about.function, outcome, begun.elapsed());
        match (&result, outcome) {
            (Err(DriverError::Fault(fault)), CallOutcome::Fault) => {
                self.stats.fault(fault.kind);
                self.watch.tell(PluginEvent::Fault(Box::new(self.fault_report(about, fault))));
                for change in leave.fault(about.device, about.function.part(), now()) {
                    self.changed(change);
                }
            }
            (_, CallOutcome::Ok | CallOutcome::CodecError) => leave.well(now).into_iter().for_each(|c| self.changed(c)),
            // Nothing was learned about the plugin: a probe is given back.
            _ => drop(leave),
        }
        result
    }

    fn enter<T>(
        &self,
        device: Option<&DeviceUid>,
        budget: Budget,
        call: impl FnOnce(&mut Instance) -> Answer<T>,
    ) -> Result<T, DriverError> {
        let now = || self.clock.monotonic();
        let _turn = self.share.turn(now).ok_or(DriverError::Busy)?;
        let mut lease = self.pool.lease(|| self.start(budget)).map_err(|why| self.no_lease(why))?;
        let instance = lease.instance();
        instance.begin(device, budget);
        let begun = Instant::now();
        let answer = call(instance);
        self.share.spend(instance.cpu_used(begun.elapsed()), now);
        match answer {
            Ok(answer) => {
                if !self.per_call {
                    lease.keep();
                }
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

    fn state(&self, now: Duration) -> &'static str {
        match self.health.state(now) {
            "active" if self.share.over(|| now) => "degraded",
            state => state,
        }
    }

    /// Whether its calls should be kept off the async threads.
    pub(crate) fn slow(&self) -> bool {
        self.share.over(|| self.clock.monotonic())
    }

    /// For people.
    pub(crate) fn info(&self) -> PluginInfo {
        let now = self.clock.monotonic();
        let functions = self.stats.snapshot();
        let state = self.state(now);
        PluginInfo {
            id: self.id.clone(),
            version: self.version.clone(),
            state,
            reason: self.health.refusal(now).map(|refusal| self.why(refusal).0),
            classes: self.classes.clone(),
            calls: functions.iter().map(FunctionStats::calls).sum(),
            faults: functions.iter().map(|f| f.outcomes[CallOutcome::Fault as usize]).sum(),
            sessions: self.health.sessions(),
            poisoned_devices: self.health.poisoned(now),
            instances: self.pool.size().0,
        }
    }

    /// For metrics.
    pub(crate) fn counted(&self) -> PluginStats {
        let (live, idle) = self.pool.size();
        let now = self.clock.monotonic();
        PluginStats {
            plugin: self.id.clone(),
            version: self.version.clone(),
            functions: self.stats.snapshot(),
            live,
            idle,
            faults: self.stats.faults(),
            state: self.state(now),
            poisoned: self.health.poisoned(now),
            memory_bytes: self.pool.memory_bytes(),
        }
    }

    fn fault_report(&self, about: &About<'_>, fault: &Fault) -> PluginFault {
        PluginFault {
            plugin: self.id.clone(),
            version: self.version.clone(),
            function: about.function.as_str(),
            kind: fault.kind,
            limit: fault.limit.clone(),
            message: fault.message.clone(),
            device: about.device.cloned(),
            sample: about.input.sample(),
            at: self.clock.now(),
        }
    }

    /// Says why no wasm was entered, and when to come back.
    fn refused(&self, refusal: Refusal) -> DriverError {
        let (why, retry_after_s) = self.why(refusal);
        DriverError::Unavailable { why, retry_after_s }
    }

    fn why(&self, refusal: Refusal) -> (String, Option<u64>) {
        let seconds = |left: Duration| left.as_millis().div_ceil(1000).max(1) as u64;
        match refusal {
            Refusal::Poisoned(left) => {
                let left = seconds(left);
                (
                    format!(
                        "this device made its driver {} fail again and again; it is quarantined for {left} s",
                        self.id
                    ),
                    Some(left),
                )
            }
            Refusal::Quarantined(left) => {
                let left = seconds(left);
                (format!("the driver {} failed for many devices; it is stopped for {left} s", self.id), Some(left))
            }
            Refusal::Probing => (format!("the driver {} is being tried again after failures", self.id), Some(1)),
            Refusal::Faulted => (
                format!("the driver {} failed too often and is stopped until an admin resets or replaces it", self.id),
                None,
            ),
        }
    }

    fn changed(&self, change: Change) {
        let (plugin, version) = (self.id.clone(), self.version.clone());
        let event = match change {
            Change::Poisoned(device, lasts) => PluginEvent::DevicePoisoned { plugin, device, seconds: lasts.as_secs() },
            Change::Quarantined(lasts) => {
                // Instances of a driver in trouble are not to be trusted with the next call.
                self.pool.clear();
                PluginEvent::State { plugin, version, state: "quarantined", seconds: Some(lasts.as_secs()) }
            }
            Change::Faulted => {
                self.pool.clear();
                PluginEvent::State { plugin, version, state: "faulted", seconds: None }
            }
            Change::Recovered => PluginEvent::State { plugin, version, state: "active", seconds: None },
        };
        self.watch.tell(event);
    }

    fn host_panic(&self, panic: &(dyn std::any::Any + Send)) -> Fault {
        let said = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(plugin.id = %self.id, panic = said.unwrap_or("unknown"), "the plugin host panicked in a call");
        let limit: Option<LimitBroken> = None;
        let message = "the server's plugin host failed; this is not the plugin's fault".to_owned();
        Fault { plugin: self.id.clone(), version: self.version.clone(), kind: "host", limit, message }
    }
}
