//! Counters of plugin calls. The host counts; the server renders snapshots as metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hexa_model::driver::DriverError;

use crate::cap::log::nanos;
use crate::lifecycle::health::FaultOrigin;

/// A function of the contract, by its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the contract's names")]
pub enum Function {
    Describe,
    ValidateConfig,
    OpenSession,
    EncodeCommand,
    DecodeMessage,
}

impl Function {
    /// Every function, in the order of the counters.
    pub const ALL: [Self; 5] =
        [Self::Describe, Self::ValidateConfig, Self::OpenSession, Self::EncodeCommand, Self::DecodeMessage];

    /// As the label `function` of the metrics, and in reports of faults.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::ValidateConfig => "validate_config",
            Self::OpenSession => "open_session",
            Self::EncodeCommand => "encode_command",
            Self::DecodeMessage => "decode_message",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The driver gave a result.
    Ok,
    /// The driver refused: unsupported, malformed and so on; the instance is healthy.
    CodecError,
    /// Trap, limit or invalid output; the instance is gone.
    Fault,
    /// No instance was free.
    Busy,
    /// The host itself failed; not charged to the plugin.
    HostError,
}

impl CallOutcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 5] = [Self::Ok, Self::CodecError, Self::Fault, Self::Busy, Self::HostError];

    /// As the label `outcome` of the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::CodecError => "codec_error",
            Self::Fault => "fault",
            Self::Busy => "busy",
            Self::HostError => "host_error",
        }
    }

    pub(crate) fn of<T>(result: &Result<T, DriverError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(DriverError::Fault(fault)) if fault.kind == "host" => Self::HostError,
            Err(DriverError::Fault(_)) => Self::Fault,
            Err(DriverError::Busy | DriverError::Unavailable { .. }) => Self::Busy,
            Err(_) => Self::CodecError,
        }
    }
}

/// What ends a call in a fault: the values of the label `kind`.
pub const FAULT_KINDS: [&str; 6] = ["trap", "cpu", "wall", "memory", "io", "output"];

impl Function {
    /// What a fault in it counts as.
    pub(crate) fn origin(self) -> FaultOrigin {
        match self {
            Self::DecodeMessage => FaultOrigin::Device,
            Self::EncodeCommand | Self::OpenSession => FaultOrigin::Platform,
            Self::Describe | Self::ValidateConfig => FaultOrigin::Cold,
        }
    }
}

/// Upper bounds of the duration buckets in microseconds; one more bucket holds the rest.
pub const BUCKETS_US: [u64; 9] = [1, 2, 5, 10, 25, 100, 1_000, 10_000, 100_000];

/// What happened to one function of one plugin since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionStats {
    /// The function that was called.
    pub function: Function,
    /// Calls by outcome, in the order of [`CallOutcome::ALL`].
    pub outcomes: [u64; 5],
    /// Time of all calls together, nanoseconds.
    pub sum_ns: u64,
    /// Calls per duration bucket, not cumulated: the last one is over [`BUCKETS_US`].
    pub buckets: [u64; 10],
}

impl FunctionStats {
    /// All calls, whatever their outcome.
    pub fn calls(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}

/// What happened to one plugin since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginStats {
    /// The id in its manifest.
    pub plugin: String,
    /// The version in its manifest.
    pub version: String,
    /// Calls of each function of the contract.
    pub functions: Vec<FunctionStats>,
    /// Instances that exist now, idle or in a call.
    pub live: usize,
    /// Instances that wait for a call now.
    pub idle: usize,
    /// Calls that cost their instance, in the order of [`FAULT_KINDS`].
    pub faults: [u64; FAULT_KINDS.len()],
    /// `active`, `degraded`, `quarantined`, `half_open` or `faulted`.
    pub state: &'static str,
    /// Devices that are quarantined now.
    pub poisoned: usize,
    /// Linear memory of the instances that wait, in bytes.
    pub memory_bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    outcomes: [AtomicU64; 5],
    sum_ns: AtomicU64,
    buckets: [AtomicU64; 10],
}

/// The counters of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    functions: [Counters; 5],
    kinds: [AtomicU64; FAULT_KINDS.len()],
}

impl Stats {
    /// A call that cost its instance, by what ended it.
    pub(crate) fn fault(&self, kind: &str) {
        if let Some(place) = FAULT_KINDS.iter().position(|known| *known == kind) {
            self.kinds[place].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn faults(&self) -> [u64; FAULT_KINDS.len()] {
        std::array::from_fn(|i| self.kinds[i].load(Relaxed))
    }

    pub(crate) fn record(&self, function: Function, outcome: CallOutcome, took: Duration) {
        let counters = &self.functions[function as usize];
        let ns = nanos(took);
        let bucket = BUCKETS_US.iter().position(|us| ns <= us * 1_000).unwrap_or(BUCKETS_US.len());
        counters.outcomes[outcome as usize].fetch_add(1, Relaxed);
        counters.sum_ns.fetch_add(ns, Relaxed);
        counters.buckets[bucket].fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Vec<FunctionStats> {
        let read = |(function, c): (Function, &Counters)| FunctionStats {
            function,
            outcomes: std::array::from_fn(|i| c.outcomes[i].load(Relaxed)),
            sum_ns: c.sum_ns.load(Relaxed),
            buckets: std::array::from_fn(|i| c.buckets[i].load(Relaxed)),
        };
        Function::ALL.into_iter().zip(&self.functions).map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_once_in_its_outcome_and_bucket() {
        let stats = Stats::default();
        stats.record(Function::DecodeMessage, CallOutcome::Ok, Duration::from_nanos(1_000));
        stats.record(Function::DecodeMessage, CallOutcome::Fault, Duration::from_secs(1));
        let snapshot = stats.snapshot();
        let decode = &snapshot[4];
        assert_eq!((decode.function, decode.calls()), (Function::DecodeMessage, 2));
        assert_eq!(decode.outcomes, [1, 0, 1, 0, 0]);
        assert_eq!((decode.buckets[0], decode.buckets[9]), (1, 1));
        assert_eq!(decode.sum_ns, 1_000_001_000);
        assert!(snapshot[..4].iter().all(|f| f.calls() == 0));
    }
}
