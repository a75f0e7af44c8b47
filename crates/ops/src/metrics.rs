//! Counters, gauges and histograms, written in the text format that Prometheus reads (exposition format 0.0.4).
//!
//! A [`Registry`] hands out cheap handles that threads may share and update without a lock.
//!
//! ```
//! use eas_ops::metrics::Registry;
//!
//! let registry = Registry::new();
//! let queries = registry.counter("queries_total", "Queries answered.", &[("index", "hnsw")])?;
//! let latency = registry.histogram("latency_ms", "Time to answer.", &[], &[1.0, 10.0])?;
//! queries.inc();
//! latency.observe(0.7);
//! latency.observe(25.0);
//! assert_eq!(latency.count(), 2);
//! let text = registry.render();
//! assert!(text.contains("queries_total{index=\"hnsw\"} 1\n"));
//! assert!(text.contains("latency_ms_bucket{le=\"10\"} 1\n"));
//! # Ok::<(), eas_ops::OpsError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::OpsError;
use crate::error::check;

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: f64) {
        add_f64(&self.0, delta);
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

fn add_f64(bits: &AtomicU64, delta: f64) {
    // The update never declines, so this can't fail.
    let _ =
        bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + delta).to_bits()));
}

/// Counts of observations by size, in buckets fixed in advance.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// Inclusive upper bounds, ascending; one more bucket takes what lies above.
    bounds: Vec<f64>,
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &[f64]) -> Self {
        Self(Arc::new(Buckets {
            bounds: bounds.to_vec(),
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }))
    }

    /// Counts `value`. NaN falls in no bucket and is not counted.
    pub fn observe(&self, value: f64) {
        if !value.is_nan() {
            let bucket = self.0.bounds.partition_point(|&bound| bound < value);
            self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
            add_f64(&self.0.sum, value);
        }
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Sum of the observations.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.0.sum.load(Ordering::Relaxed))
    }

    /// The `q`-quantile by linear interpolation within its bucket, as Prometheus' `histogram_quantile` does it: as coarse
    /// as the buckets, and the highest bound when the quantile lies above. `None` without observations or for a `q` outside
    /// [0, 1].
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let counts: Vec<u64> = self.0.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * total as f64;
        let mut below = 0.0;
        for (i, &count) in counts.iter().enumerate() {
            let count = count as f64;
            if below + count >= rank && count > 0.0 {
                let Some(&high) = self.0.bounds.get(i) else { break };
                let low = if i == 0 { high.min(0.0) } else { self.0.bounds[i - 1] };
                return Some(low + (high - low) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        self.0.bounds.last().copied()
    }
}

#[derive(Debug)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Metric {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }

    /// Kind and buckets: what all metrics of one name have in common.
    fn shape(&self) -> String {
        match self {
            Self::Histogram(histogram) => format!("histogram with buckets {:?}", histogram.0.bounds),
            plain => plain.kind().to_string(),
        }
    }
}

type Labels = Vec<(String, String)>;

#[derive(Debug)]
struct Family {
    help: String,
    shape: String,
    kind: &'static str,
    series: BTreeMap<Labels, Metric>,
}

/// The metrics of one service. Asking twice for the same name and labels gives the same metric.
#[derive(Debug, Default)]
pub struct Registry {
    families: Mutex<BTreeMap<String, Family>>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter of this name and these labels; by convention the name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result<Counter, OpsError> {
        let new = Metric::Counter(Counter::default());
        self.metric(name, help, labels, new, |metric| match metric {
            Metric::Counter(counter) => Some(counter.clone()),
            _ => None,
        })
    }

    /// The gauge of this name and these labels.
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result<Gauge, OpsError> {
        let new = Metric::Gauge(Gauge::default());
        self.metric(name, help, labels, new, |metric| match metric {
            Metric::Gauge(gauge) => Some(gauge.clone()),
            _ => None,
        })
    }

    /// The histogram of this name and these labels; `bounds` are the inclusive upper bounds of its buckets, finite and
    /// ascending, the last bucket (`+Inf`) left out.
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
    ) -> Result<Histogram, OpsError> {
        let ascending = bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|b| b.is_finite());
        check("bounds", format!("{bounds:?}"), ascending && !bounds.is_empty(), "finite and ascending, at least one")?;
        let new = Metric::Histogram(Histogram::new(bounds));
        self.metric(name, help, labels, new, |metric| match metric {
            Metric::Histogram(histogram) => Some(histogram.clone()),
            _ => None,
        })
    }

    fn metric<T>(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        new: Metric,
        get: impl Fn(&Metric) -> Option<T>,
    ) -> Result<T, OpsError> {
        check_name("metric name", name, true)?;
        let mut key: Labels = Vec::with_capacity(labels.len());
        for (label, value) in labels {
            check_name("label name", label, false)?;
            let reserved = label.starts_with("__") || *label == "le";
            let repeated = key.iter().any(|(seen, _)| seen == label);
            check("label", *label, !reserved && !repeated, "given once, and not \"le\" or \"__…\"")?;
            key.push(((*label).to_string(), (*value).to_string()));
        }
        key.sort();
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_string()).or_insert_with(|| Family {
            help: help.to_string(),
            shape: new.shape(),
            kind: new.kind(),
            series: BTreeMap::new(),
        });
        let conflict =
            |existing: String, wanted: String| OpsError::MetricConflict { name: name.to_string(), existing, wanted };
        let wanted = new.shape();
        if family.shape != wanted {
            return Err(conflict(family.shape.clone(), wanted));
        }
        let metric = family.series.entry(key).or_insert(new);
        get(metric).ok_or_else(|| conflict(metric.shape(), wanted))
    }

    /// All metrics as text: names in order, labels in order, histograms with cumulative buckets.
    pub fn render(&self) -> String {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, family) in families.iter() {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", family.kind);
            for (labels, metric) in &family.series {
                let _ = match metric {
                    Metric::Counter(counter) => writeln!(text, "{name}{} {}", braced(labels, None), counter.get()),
                    Metric::Gauge(gauge) => writeln!(text, "{name}{} {}", braced(labels, None), float(gauge.get())),
                    Metric::Histogram(histogram) => render_histogram(&mut text, name, labels, histogram),
                };
            }
        }
        text
    }
}

fn render_histogram(text: &mut String, name: &str, labels: &Labels, histogram: &Histogram) -> std::fmt::Result {
    let mut cumulative = 0;
    let bounds = histogram.0.bounds.iter().copied().chain([f64::INFINITY]);
    for (bound, count) in bounds.zip(&histogram.0.counts) {
        cumulative += count.load(Ordering::Relaxed);
        let labels = braced(labels, Some(bound));
        writeln!(text, "{name}_bucket{labels} {cumulative}")?;
    }
    let labels = braced(labels, None);
    writeln!(text, "{name}_sum{labels} {}", float(histogram.sum()))?;
    writeln!(text, "{name}_count{labels} {cumulative}")
}

fn braced(labels: &Labels, le: Option<f64>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    parts.extend(le.map(|bound| format!("le=\"{}\"", float(bound))));
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

/// Prometheus' spelling of the special values.
fn float(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".into()
    } else if value == f64::NEG_INFINITY {
        "-Inf".into()
    } else {
        value.to_string()
    }
}

fn check_name(what: &'static str, name: &str, colons: bool) -> Result<(), OpsError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let starts = name.chars().next().is_some_and(|c| good(c) && !c.is_ascii_digit());
    if starts && name.chars().all(good) {
        return Ok(());
    }
    Err(OpsError::MetricName {
        what,
        name: name.to_string(),
        pattern: if colons { "[a-zA-Z_:][a-zA-Z0-9_:]*" } else { "[a-zA-Z_][a-zA-Z0-9_]*" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let registry = Registry::new();
        let b = registry.counter("requests_total", "All requests.\nBoth \\ kinds.", &[("code", "5\"00")]);
        b.unwrap().add(2);
        registry.counter("requests_total", "", &[("code", "200"), ("app", "x")]).unwrap().inc();
        registry.gauge("depth", "Queue.", &[]).unwrap().set(-2.5);
        let latency = registry.histogram("latency_ms", "Latency.", &[("op", "search")], &[0.5, 1.0]).unwrap();
        for value in [0.5, 0.7, 3.0, f64::NAN] {
            latency.observe(value);
        }
        let expected = "\
# HELP depth Queue.
# TYPE depth gauge
depth -2.5
# HELP latency_ms Latency.
# TYPE latency_ms histogram
latency_ms_bucket{op=\"search\",le=\"0.5\"} 1
latency_ms_bucket{op=\"search\",le=\"1\"} 2
latency_ms_bucket{op=\"search\",le=\"+Inf\"} 3
latency_ms_sum{op=\"search\"} 4.2
latency_ms_count{op=\"search\"} 3
# HELP requests_total All requests.\\nBoth \\\\ kinds.
# TYPE requests_total counter
requests_total{app=\"x\",code=\"200\"} 1
requests_total{code=\"5\\\"00\"} 2
";
        assert_eq!(registry.render(), expected);
    }

    #[test]
    fn the_same_name_is_the_same_metric_or_an_error() {
        let registry = Registry::new();
        registry.counter("a_total", "", &[]).unwrap().inc();
        registry.counter("a_total", "", &[]).unwrap().inc();
        assert_eq!(registry.counter("a_total", "", &[]).unwrap().get(), 2);
        let error = registry.gauge("a_total", "", &[]).unwrap_err();
        assert!(error.to_string().contains("exists as counter"), "{error}");
        registry.histogram("h", "", &[], &[1.0]).unwrap();
        assert!(registry.histogram("h", "", &[("x", "y")], &[2.0]).is_err());
        for bad in ["", "9lives", "a-b", "ä"] {
            assert!(registry.counter(bad, "", &[]).is_err(), "{bad}");
        }
        for bad in [&[("le", "1")][..], &[("a:b", "1")], &[("x", "1"), ("x", "2")], &[("__x", "1")]] {
            assert!(registry.counter("b_total", "", bad).is_err(), "{bad:?}");
        }
        for bad in [&[][..], &[1.0, 1.0], &[2.0, 1.0], &[f64::INFINITY]] {
            assert!(registry.histogram("i", "", &[], bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn quantiles_interpolate_within_buckets() {
        let registry = Registry::new();
        let h = registry.histogram("h", "", &[], &[10.0, 20.0, 40.0]).unwrap();
        assert_eq!(h.quantile(0.5), None);
        for _ in 0..10 {
            h.observe(5.0);
            h.observe(15.0);
        }
        assert_eq!(h.quantile(0.5), Some(10.0));
        assert_eq!(h.quantile(0.75), Some(15.0));
        assert_eq!(h.quantile(1.0), Some(20.0));
        h.observe(1e9);
        assert_eq!(h.quantile(1.0), Some(40.0));
        assert_eq!(h.quantile(1.1), None);
    }

    #[test]
    fn threads_lose_no_update() {
        let registry = Registry::new();
        let histogram = registry.histogram("h", "", &[], &[1.0]).unwrap();
        let gauge = registry.gauge("g", "", &[]).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        histogram.observe(0.5);
                        gauge.add(1.0);
                    }
                });
            }
        });
        assert_eq!((histogram.count(), histogram.sum(), gauge.get()), (4_000, 2_000.0, 4_000.0));
    }
}
