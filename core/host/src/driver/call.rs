//! One plugin version: its instances, its limits, and how a call goes through them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hexa_devices::ports::PluginObserver;
use hexa_model::driver::{
    Accepted, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverCommand, DriverError, Encoded, Fault,
    FieldError, Frame, LimitBroken,
};
use hexa_model::plugin::{PluginEvent, PluginFault, PluginInfo};
use hexa_model::{Clock, DeviceClass, DeviceUid};
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

/// A loaded plugin, ready to be called.
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
    pub(crate) cpu_quota: CpuQuota,
    pub(crate) observer: Arc<dyn PluginObserver>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Every call gets an instance of its own: nothing can be carried from one device to another.
    pub(crate) per_call: bool,
}

/// What a call is about, for the report of its failure.
struct CallSubject<'a> {
    function: Function,
    device: Option<&'a DeviceUid>,
    input: Input<'a>,
}

/// What the guest was given; sampled only when the call failed.
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
        let subject = CallSubject { function: Function::Describe, device: None, input: Input::Nothing };
        self.run(&subject, Budget::COLD, |i| Ok(Ok(i.bound.describe(&mut i.store)?)))
    }

    pub(crate) fn open_session(&self, call: &DriverCall<'_>) -> Result<Decoded, DriverError> {
        let validator = self.validator(call, true);
        let subject = CallSubject { function: Function::OpenSession, device: Some(call.uid), input: Input::Nothing };
        let opened =
            self.run(&subject, Budget::hot(&self.limits), |i| i.bound.open_session(&mut i.store, &validator, call));
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
        let subject = CallSubject { function: Function::EncodeCommand, device: Some(call.uid), input };
        self.run(&subject, Budget::hot(&self.limits), |i| {
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
        let subject = CallSubject { function: Function::DecodeMessage, device: Some(call.uid), input };
        self.run(&subject, Budget::hot(&self.limits), |i| {
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
        let subject = CallSubject { function: Function::ValidateConfig, device: Some(&ident.uid), input };
        self.run(&subject, Budget::COLD, |i| i.bound.validate_config(&mut i.store, &validator, ident, config))
    }

    /// Starts an instance, so that the first device waits for none. Later ones are started in the middle of a call, so
    /// one that takes longer to start than a hot call may is an error here.
    pub(crate) fn prewarm(&self) -> Result<(), DriverError> {
        // Not the one that `describe` started, which had the time of a cold call for it.
        self.pool.clear();
        match self.pool.lease(|| self.start(Budget::hot(&self.limits))) {
            Ok(lease) => {
                lease.give_back();
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

    /// One call, all the way: whether it is admitted, the call within its budget, and what its outcome leads to.
    fn run<T>(
        &self,
        subject: &CallSubject<'_>,
        budget: Budget,
        call: impl FnOnce(&mut Instance) -> Answer<T>,
    ) -> Result<T, DriverError> {
        let now = || self.clock.monotonic();
        let permit = self.health.admit(subject.device, now).map_err(|refusal| self.refused(refusal))?;
        let begun = Instant::now();
        // A panic here is the host's own; the lease is dropped on the way out, so the instance is gone with it.
        let result = catch_unwind(AssertUnwindSafe(|| self.enter(subject.device, budget, call)))
            .unwrap_or_else(|panic| Err(DriverError::Fault(self.host_panic(&*panic))));
        let outcome = CallOutcome::of(&result);
        self.stats.record(subject.function, outcome, begun.elapsed());
        match (&result, outcome) {
            (Err(DriverError::Fault(fault)), CallOutcome::Fault) => {
                self.stats.fault(fault.kind);
                self.observer.tell(PluginEvent::Fault(Box::new(self.fault_report(subject, fault))));
                for change in permit.fault(subject.device, subject.function.origin(), now()) {
                    self.changed(change);
                }
            }
            (_, CallOutcome::Ok | CallOutcome::CodecError) => {
                permit.succeeded(now).into_iter().for_each(|c| self.changed(c));
            }
            // The call says nothing about the plugin: a probe is given back.
            _ => drop(permit),
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
        let _permit = self.cpu_quota.acquire(now).ok_or(DriverError::Busy)?;
        let mut lease = self.pool.lease(|| self.start(budget)).map_err(|why| self.no_lease(why))?;
        let instance = lease.instance();
        instance.begin(device, budget);
        let begun = Instant::now();
        let answer = call(instance);
        self.cpu_quota.spend(instance.cpu_used(begun.elapsed()), now);
        match answer {
            Ok(answer) => {
                if !self.per_call {
                    lease.give_back();
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
            "active" if self.cpu_quota.over(|| now) => "degraded",
            state => state,
        }
    }

    /// Whether its calls should be kept off the async threads.
    pub(crate) fn slow(&self) -> bool {
        self.cpu_quota.over(|| self.clock.monotonic())
    }

    /// As the list of plugins shows it.
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
            poisoned_devices: self.health.quarantined_devices(now),
            instances: self.pool.size().0,
        }
    }

    /// Counters and gauges for the metrics.
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
            poisoned: self.health.quarantined_devices(now),
            memory_bytes: self.pool.memory_bytes(),
        }
    }

    fn fault_report(&self, subject: &CallSubject<'_>, fault: &Fault) -> PluginFault {
        PluginFault {
            plugin: self.id.clone(),
            version: self.version.clone(),
            function: subject.function.as_str(),
            kind: fault.kind,
            limit: fault.limit.clone(),
            message: fault.message.clone(),
            device: subject.device.cloned(),
            sample: subject.input.sample(),
            at: self.clock.now(),
        }
    }

    /// The answer to a call that did not enter the plugin.
    fn refused(&self, refusal: Refusal) -> DriverError {
        let (why, retry_after_s) = self.why(refusal);
        DriverError::Unavailable { why, retry_after_s }
    }

    fn why(&self, refusal: Refusal) -> (String, Option<u64>) {
        let seconds = |left: Duration| left.as_millis().div_ceil(1000).max(1) as u64;
        match refusal {
            Refusal::DeviceQuarantined(left) => {
                let left = seconds(left);
                (
                    format!(
                        "the driver {} failed repeatedly over this device, which is quarantined for {left} s",
                        self.id
                    ),
                    Some(left),
                )
            }
            Refusal::PluginQuarantined(left) => {
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
            Change::DeviceQuarantined(device, lasts) => {
                PluginEvent::DevicePoisoned { plugin, device, seconds: lasts.as_secs() }
            }
            Change::PluginQuarantined(lasts) => {
                // Instances of a driver that fails for many devices are not used for the next call.
                self.pool.clear();
                PluginEvent::State { plugin, version, state: "quarantined", seconds: Some(lasts.as_secs()) }
            }
            Change::Faulted => {
                self.pool.clear();
                PluginEvent::State { plugin, version, state: "faulted", seconds: None }
            }
            Change::Recovered => PluginEvent::State { plugin, version, state: "active", seconds: None },
        };
        self.observer.tell(event);
    }

    fn host_panic(&self, panic: &(dyn std::any::Any + Send)) -> Fault {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(plugin.id = %self.id, panic = text.unwrap_or("unknown"), "the plugin host panicked in a call");
        let limit: Option<LimitBroken> = None;
        let message = "the server's plugin host failed; this is not the plugin's fault".to_owned();
        Fault { plugin: self.id.clone(), version: self.version.clone(), kind: "host", limit, message }
    }
}
