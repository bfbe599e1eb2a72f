//! What the server counts, in Prometheus' words. No per-device and no per-user labels: the number of series does not
//! grow with the fleet.

use std::time::Duration;

use hexa_model::{Outcome, Source};
use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Where the latency buckets end, in seconds.
const LATENCY_BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All of the server's own counters, registered once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    command_errors: IntCounterVec,
    fast: Vec<CommandHandles>,
    interval: Mutex<Interval>,
    /// Devices that are connected to this process now (`hexa_device_sessions`).
    pub device_sessions: IntGauge,
    /// Client sockets that are open at this process now (`hexa_client_sessions`).
    pub client_sessions: IntGauge,
    /// Acks for commands that this device was never sent; they change nothing.
    pub unexpected_acks: IntCounter,
    /// Second acks of an ended command; they change nothing.
    pub duplicate_acks: IntCounter,
    /// Acks after the timeout; their state is stored, and no success counted.
    pub late_acks: IntCounter,
    /// Reports, by whether they changed anything.
    pub reports: IntCounterVec,
    /// Device frames that the driver did not understand.
    pub malformed_frames: IntCounter,
    /// Sessions that a newer one replaced.
    pub takeovers: IntCounter,
    /// State events that were folded into a later one because a client was slow.
    pub conflated: IntCounter,
    /// Encodings of broadcast frames; one per event, however many clients hear it.
    pub broadcast_encodes: IntCounter,
    /// Faults and changes of plugins that could not be stored.
    pub plugin_events_dropped: IntCounter,
    /// Device frames that their driver could not take.
    pub frames_dropped: IntCounter,
    /// Statements that read devices; devices that come at once share them.
    pub device_reads: IntCounter,
    /// Broadcast frames handed to clients.
    pub broadcast_frames: IntCounter,
    /// Connections closed at once because their address had too many.
    pub connections_refused: IntCounter,
    /// Audit rows that the database did not take yet.
    pub audit_waiting: IntGauge,
    /// Audit rows that were given up because too many waited.
    pub audit_dropped: IntCounter,
    /// Errors answered by the API, by code.
    pub api_errors: IntCounterVec,
}

/// Longer than any command takes: its timeout is in seconds.
const LONGEST_US: u64 = 120_000_000;

/// Commands that ended since the last sample. The buckets of `/metrics` are too wide to tell 13 ms from 24.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Commands that ended with success.
    pub succeeded: u64,
    /// Commands that ended otherwise.
    pub failed: u64,
    /// Microseconds that the successful ones took, to one percent.
    pub took: hdrhistogram::Histogram<u32>,
}

impl Default for Interval {
    fn default() -> Self {
        let took = hdrhistogram::Histogram::new_with_bounds(1, LONGEST_US, 2).expect("static bounds are valid");
        Self { succeeded: 0, failed: 0, took }
    }
}

/// Label lookups cost a hash of strings each; a command takes these instead.
#[derive(Debug)]
struct CommandHandles {
    source: Source,
    success: (IntCounter, Histogram),
    timeout: (IntCounter, Histogram),
    error: (IntCounter, Histogram),
}

impl Metrics {
    /// Makes every counter, gauge and histogram, and registers it once.
    pub fn new() -> Self {
        let registry = Registry::new();
        let commands = counter_vec(
            &registry,
            "hexa_commands_total",
            "Relay commands by source and outcome.",
            &["source", "outcome"],
        );
        let command_seconds = HistogramVec::new(
            HistogramOpts::new("hexa_command_seconds", "Time from acceptance to the end of a relay command.")
                .buckets(LATENCY_BUCKETS.to_vec()),
            &["outcome"],
        )
        .expect("static metric options are valid");
        register(&registry, command_seconds.clone());
        let handle = |source: Source, outcome: &str| {
            (commands.with_label_values(&[source.as_str(), outcome]), command_seconds.with_label_values(&[outcome]))
        };
        let fast = Source::ALL
            .into_iter()
            .map(|source| CommandHandles {
                source,
                success: handle(source, "success"),
                timeout: handle(source, "timeout"),
                error: handle(source, "error"),
            })
            .collect();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("static metric options are valid");
            register(&registry, counter.clone());
            counter
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("static metric options are valid");
            register(&registry, gauge.clone());
            gauge
        };
        Self {
            device_sessions: gauge("hexa_device_sessions", "Connected devices."),
            client_sessions: gauge("hexa_client_sessions", "Connected client sockets."),
            plugin_events_dropped: counter(
                "hexa_plugin_events_dropped_total",
                "Faults and changes of plugins that were not stored: too many at once, or the database was gone.",
            ),
            frames_dropped: counter(
                "hexa_device_frames_dropped_total",
                "Device frames that no driver took: it failed, is quarantined, or is busy.",
            ),
            device_reads: counter("hexa_device_reads_total", "Statements that read devices; many may share one."),
            unexpected_acks: counter("hexa_unexpected_acks_total", "Acks for commands this device was never sent."),
            duplicate_acks: counter("hexa_duplicate_acks_total", "Second acks of an ended command."),
            late_acks: counter("hexa_late_acks_total", "Acks that came after the timeout."),
            reports: counter_vec(&registry, "hexa_state_reports_total", "State reports by result.", &["result"]),
            malformed_frames: counter("hexa_malformed_frames_total", "Device frames that were not understood."),
            takeovers: counter("hexa_session_takeovers_total", "Device sessions replaced by a newer one."),
            conflated: counter(
                "hexa_client_conflated_total",
                "State events folded into a later one for a slow client.",
            ),
            broadcast_encodes: counter("hexa_broadcast_encodes_total", "Encodings of broadcast frames."),
            broadcast_frames: counter("hexa_broadcast_frames_total", "Broadcast frames handed to clients."),
            command_errors: counter_vec(
                &registry,
                "hexa_command_errors_total",
                "Relay commands that ended as an error, by reason.",
                &["reason"],
            ),
            connections_refused: counter(
                "hexa_connections_refused_total",
                "Connections closed at once because their address had too many that did not say who they are.",
            ),
            audit_waiting: gauge("hexa_audit_rows_waiting", "Audit rows that wait for the database to take them."),
            audit_dropped: counter("hexa_audit_rows_dropped_total", "Audit rows given up: too many waited."),
            api_errors: counter_vec(&registry, "hexa_api_errors_total", "Errors answered by the API.", &["code"]),
            fast,
            interval: Mutex::default(),
            registry,
        }
    }

    /// A family of counters of a room's own.
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        counter_vec(&self.registry, name, help, labels)
    }
    /// A family of gauges of a room's own.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels).expect("static metric options are valid");
        register(&self.registry, gauge.clone());
        gauge
    }
    /// For collectors of other rooms (the writer, the plugin host).
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// One ended command: one sample (invariant 5).
    pub fn command_ended(&self, source: Source, outcome: Outcome, reason: Option<&'static str>, took: Duration) {
        let Some(handles) = self.fast.iter().find(|h| h.source == source) else { return };
        let (count, seconds) = match outcome.metric() {
            "success" => &handles.success,
            "timeout" => &handles.timeout,
            _ => &handles.error,
        };
        count.inc();
        seconds.observe(took.as_secs_f64());
        if outcome.metric() == "error" {
            self.command_errors.with_label_values(&[reason.unwrap_or(outcome.as_str())]).inc();
        }
        let mut interval = self.interval.lock();
        if outcome.metric() == "success" {
            interval.succeeded += 1;
            interval.took.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST_US));
        } else {
            interval.failed += 1;
        }
    }

    /// What ended since this was last called; one caller.
    pub fn take_interval(&self) -> Interval {
        let empty = Interval::default();
        std::mem::replace(&mut *self.interval.lock(), empty)
    }

    /// The Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// When a collector produced an invalid family; a fault of the server.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        prometheus::TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register(registry: &Registry, collector: impl prometheus::core::Collector + 'static) {
    registry.register(Box::new(collector)).expect("metric names are unique");
}

fn counter_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counter = IntCounterVec::new(Opts::new(name, help), labels).expect("static metric options are valid");
    register(registry, counter.clone());
    counter
}
