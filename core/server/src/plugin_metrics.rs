//! The plugin host, counted for Prometheus: read when scraped, nothing on the hot path.

use std::collections::HashMap;
use std::sync::Arc;

use hexa_host::{BUCKETS_US, CallOutcome, FAULT_KINDS, FunctionStats, PluginHost};
use hexa_platform::metrics::Metrics;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

/// Values of the label `state`.
const STATES: [&str; 7] = ["active", "degraded", "quarantined", "half_open", "faulted", "compiling", "failed"];

/// Adds the host's families to the registry.
pub(crate) fn register(metrics: &Metrics, host: Arc<PluginHost>) {
    let about = Desc::new("hexa_plugin_calls_total".into(), "Driver calls.".into(), vec![], HashMap::new());
    let about = about.expect("static metric options are valid");
    let registered = metrics.registry().register(Box::new(HostCollector { host, about }));
    registered.expect("metric names are unique");
}

struct HostCollector {
    host: Arc<PluginHost>,
    /// One description stands for the collector; its families are made at each scrape.
    about: Desc,
}

impl Collector for HostCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.about]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("static metric options are valid")
        };
        let calls = counter("hexa_plugin_calls_total", "Driver calls.", &["plugin", "function", "outcome"]);
        let faults = counter("hexa_plugin_faults_total", "Driver calls that cost their instance.", &["plugin", "kind"]);
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels).expect("static metric options are valid")
        };
        let instances = gauge("hexa_plugin_instances", "Driver instances.", &["plugin", "state"]);
        let states = gauge("hexa_plugin_state", "1 for the state it is in.", &["plugin", "version", "state"]);
        let poisoned = gauge("hexa_plugin_poisoned_devices", "Devices that are quarantined.", &["plugin"]);
        let memory = gauge("hexa_plugin_memory_bytes", "Linear memory of its instances.", &["plugin"]);
        let mut seconds = Vec::new();
        for stats in self.host.stats() {
            let plugin = stats.plugin.as_str();
            for function in &stats.functions {
                for (outcome, count) in CallOutcome::ALL.into_iter().zip(function.outcomes) {
                    let labels = [plugin, function.function.as_str(), outcome.as_str()];
                    calls.with_label_values(&labels).inc_by(count);
                }
                let host_errors = function.outcomes[CallOutcome::HostError as usize];
                faults.with_label_values(&[plugin, "host"]).inc_by(host_errors);
                seconds.push(histogram(plugin, function));
            }
            for (kind, count) in FAULT_KINDS.into_iter().zip(stats.faults) {
                faults.with_label_values(&[plugin, kind]).inc_by(count);
            }
            poisoned.with_label_values(&[plugin]).set(stats.poisoned as i64);
            memory.with_label_values(&[plugin]).set(stats.memory_bytes as i64);
            instances.with_label_values(&[plugin, "live"]).set(stats.live as i64);
            instances.with_label_values(&[plugin, "idle"]).set(stats.idle as i64);
        }
        for plugin in self.host.status() {
            for known in STATES {
                let is = i64::from(known == plugin.state);
                states.with_label_values(&[plugin.id.as_str(), plugin.version.as_str(), known]).set(is);
            }
        }
        let mut families = calls.collect();
        families.extend(faults.collect());
        for gauges in [instances, states, poisoned, memory] {
            families.extend(gauges.collect());
        }
        if !seconds.is_empty() {
            let mut family = MetricFamily::default();
            family.set_name("hexa_plugin_call_seconds".to_owned());
            family.set_help("Time of a driver call.".to_owned());
            family.set_field_type(MetricType::HISTOGRAM);
            family.set_metric(seconds);
            families.push(family);
        }
        families
    }
}

fn histogram(plugin: &str, stats: &FunctionStats) -> Metric {
    let mut total = 0;
    let mut buckets = Vec::with_capacity(BUCKETS_US.len());
    for (bound, count) in BUCKETS_US.iter().zip(stats.buckets) {
        total += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound as f64 / 1e6);
        bucket.set_cumulative_count(total);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(stats.buckets.iter().sum());
    histogram.set_sample_sum(stats.sum_ns as f64 / 1e9);
    let label = |name: &str, value: &str| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let mut metric = Metric::from_label(vec![label("function", stats.function.as_str()), label("plugin", plugin)]);
    metric.set_histogram(histogram);
    metric
}
