//! The store's writer, counted for Prometheus: read when scraped, nothing on the hot path.

use std::collections::HashMap;

use hexa_store::Store;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Metric, MetricFamily, MetricType};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};

use crate::metrics::Metrics;

/// Adds the writer's families to the registry.
pub(crate) fn register(metrics: &Metrics, store: &Store) {
    let about = Desc::new("hexa_writer_batches_total".into(), "Group commits.".into(), vec![], HashMap::new());
    let about = about.expect("static metric options are valid");
    let collector = WriterCollector { store: store.clone(), about };
    metrics.registry().register(Box::new(collector)).expect("metric names are unique");
}

struct WriterCollector {
    store: Store,
    /// One description stands for the collector; its families are made at each scrape.
    about: Desc,
}

impl Collector for WriterCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.about]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.store.writer().stats();
        let counter = |name: &str, help: &str, value: u64| {
            let counter = IntCounter::new(name, help).expect("static metric options are valid");
            counter.inc_by(value);
            counter.collect()
        };
        let gauge = |name: &str, help: &str, value: u64| {
            let gauge = IntGauge::new(name, help).expect("static metric options are valid");
            gauge.set(value as i64);
            gauge.collect()
        };
        let transactions = IntCounterVec::new(
            Opts::new("hexa_writer_transactions_total", "Database write transactions by kind."),
            &["kind"],
        )
        .expect("static metric options are valid");
        transactions.with_label_values(&["hot"]).inc_by(stats.hot_transactions);
        transactions.with_label_values(&["cold"]).inc_by(stats.cold_transactions);
        let mut families = transactions.collect();
        let abandoned = IntCounterVec::new(
            Opts::new(
                "hexa_changes_abandoned_total",
                "Changes whose caller went away before their end, by how far they had come; they were made all the same.",
            ),
            &["stage"],
        )
        .expect("static metric options are valid");
        for (stage, count) in self.store.abandoned() {
            abandoned.with_label_values(&[stage.as_str()]).inc_by(count);
        }
        families.extend(abandoned.collect());
        families.extend(counter("hexa_writer_batches_total", "Group commits.", stats.batches));
        families.extend(counter("hexa_writer_rows_total", "Writes committed in groups.", stats.rows));
        families.extend(counter("hexa_writer_statements_total", "Statements run in group commits.", stats.statements));
        families.extend(gauge("hexa_writer_queue", "Writes waiting for the next group.", stats.queued));
        families.extend(gauge(
            "hexa_audit_tail_rows",
            "Audit rows not yet moved to the indexed table.",
            stats.tail_rows,
        ));
        families.extend(batch_sizes(&stats.batch_sizes));
        families
    }
}

/// A histogram from counts by power of two; the writer keeps those because they cost one addition.
fn batch_sizes(counts: &[u64]) -> Vec<MetricFamily> {
    let (mut total, mut sum) = (0u64, 0.0);
    let mut buckets = Vec::with_capacity(counts.len());
    for (i, count) in counts.iter().enumerate() {
        total += count;
        // The middle of the bucket: the sum is an estimate, the counts are exact.
        sum += *count as f64 * 1.5 * f64::from(1u32 << i);
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(f64::from((2u32 << i) - 1));
        bucket.set_cumulative_count(total);
        buckets.push(bucket);
    }
    let mut histogram = prometheus::proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(total);
    histogram.set_sample_sum(sum);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    let mut family = MetricFamily::default();
    family.set_name("hexa_writer_batch_rows".to_owned());
    family.set_help("Writes per group commit.".to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(vec![metric]);
    vec![family]
}
