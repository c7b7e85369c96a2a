//! Families of samples in Prometheus' text format, by the types and the encoder of the `prometheus` crate.
//!
//! The crate's own counters are not used: theirs are shared by all threads, and ours are the sums of shards (`ops::watch::counters`).

use std::collections::HashSet;

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Summary};

use crate::ops::watch::counters::HistogramSeen;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::metrics::exposition";

/// Labels of one sample: the name, and a word of the program or a name of the configuration.
pub type Labels<'l> = Vec<(&'static str, &'l str)>;

/// Before the names of all families but the `process_` ones, which are called so everywhere.
const PREFIX: &str = "trollbridge_";

/// What a bucket's bound and a sum are divided by.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    One,
    /// Counted in nanoseconds, shown in seconds.
    Seconds,
}

/// The families so far, in the order in which they were added.
#[derive(Default)]
pub struct Exposition(Vec<MetricFamily>);

impl Exposition {
    /// Adds a counter; its name ends in `_total`.
    pub fn counter<'l>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'l>, f64)>) {
        self.family(name, MetricType::COUNTER, help, samples, |metric, value| {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        });
    }

    /// Adds a gauge.
    pub fn gauge<'l>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'l>, f64)>) {
        self.family(name, MetricType::GAUGE, help, samples, |metric, value| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    /// Adds a summary without quantiles: how often, and the sum.
    pub fn summary(&mut self, name: &str, help: &str, count: u64, sum: f64) {
        self.family(name, MetricType::SUMMARY, help, [(Vec::new(), sum)], |metric, sum| {
            let mut summary = Summary::default();
            summary.set_sample_count(count);
            summary.set_sample_sum(sum);
            metric.set_summary(summary);
        });
    }

    /// Adds a histogram.
    pub fn histogram<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Unit,
        samples: impl IntoIterator<Item = (Labels<'l>, &'l HistogramSeen)>,
    ) {
        self.family(name, MetricType::HISTOGRAM, help, samples, |metric, seen| metric.set_histogram(histogram(seen, unit)));
    }

    /// Writes the page.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0).unwrap_or_else(|error| {
            log::error!(target: LOG, "the metrics page can't be written: {error}");
            String::new()
        })
    }

    fn family<'l, S>(
        &mut self,
        name: &str,
        kind: MetricType,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, S)>,
        set: impl Fn(&mut Metric, S),
    ) {
        let mut known = HashSet::new();
        let metrics: Vec<Metric> = samples
            .into_iter()
            // Two samples of the same labels would make scrapers refuse the whole page.
            .filter(|(labels, _)| known.insert(labels.clone()))
            .map(|(labels, value)| {
                let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
                set(&mut metric, value);
                metric
            })
            .collect();
        // What has no sample yet has no family either: the encoder takes none.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(if name.starts_with("process_") { name.to_owned() } else { format!("{PREFIX}{name}") });
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

/// One sample without labels.
pub fn single(value: f64) -> [(Labels<'static>, f64); 1] {
    [(Vec::new(), value)]
}

fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn histogram(seen: &HistogramSeen, unit: Unit) -> Histogram {
    let scaled = |value: u64| match unit {
        Unit::One => value as f64,
        Unit::Seconds => value as f64 / 1e9,
    };
    let mut below = 0;
    let buckets = seen.bounds.iter().zip(&seen.counts).map(|(bound, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(scaled(*bound));
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(seen.counts.iter().sum());
    histogram.set_sample_sum(scaled(seen.sum));
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let seen = HistogramSeen { bounds: &[5_000, 250_000_000], counts: vec![2, 1, 4], sum: 1_500_000_000 };
        let mut page = Exposition::default();
        page.histogram("x_seconds", "Help.", Unit::Seconds, [(vec![("phase", "peek")], &seen)]);
        let expected = r#"# HELP trollbridge_x_seconds Help.
# TYPE trollbridge_x_seconds histogram
trollbridge_x_seconds_bucket{phase="peek",le="0.000005"} 2
trollbridge_x_seconds_bucket{phase="peek",le="0.25"} 3
trollbridge_x_seconds_bucket{phase="peek",le="+Inf"} 7
trollbridge_x_seconds_sum{phase="peek"} 1.5
trollbridge_x_seconds_count{phase="peek"} 7
"#;
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn names_are_escaped_and_no_sample_stands_twice() {
        let mut page = Exposition::default();
        page.gauge("g", "Help.", [(vec![("key", "a\"b\\c\nd")], 1.0), (vec![("key", "a\"b\\c\nd")], 2.0)]);
        page.counter("empty_total", "Nothing yet.", []);
        let escaped = r#"trollbridge_g{key="a\"b\\c\nd"} 1"#;
        assert_eq!(page.text(), format!("# HELP trollbridge_g Help.\n# TYPE trollbridge_g gauge\n{escaped}\n"));
    }

    #[test]
    fn large_counts_and_small_sums_keep_every_digit() {
        let mut page = Exposition::default();
        page.counter("a_total", "Help.", single(9_007_199_254_740_991.0));
        page.counter("cost_usd_total", "Help.", single(11_808_001.0 / 1e9));
        let page = page.text();
        assert!(page.contains(" 9007199254740991\n") && page.contains(" 0.011808001\n"), "{page}");
    }
}
