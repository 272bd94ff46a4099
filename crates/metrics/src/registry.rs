//! All series of a process, by name and labels, and the text that tells of them.
//!
//! Invariants: a name has one kind and one help; a name with labels has one series. A family has
//! [`SERIES_MAX`] series at most: a label whose values are not bounded would grow without end, so
//! what comes after is counted and told to nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::series::{Counter, Gauge, Histogram};

/// Series of one family: 64 stores of a playground with ten values of a label each.
pub const SERIES_MAX: usize = 640;

/// The media type of [`Registry::scrape`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values that tell the series of a family apart.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

type Refresh = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
type Compute = Arc<dyn Fn() -> f64 + Send + Sync>;

/// All series of a process. Clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    families: BTreeMap<&'static str, Family>,
    refreshes: Vec<Refresh>,
}

struct Family {
    help: &'static str,
    series: BTreeMap<Vec<(&'static str, String)>, Series>,
}

#[derive(Clone)]
enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
    /// Of a counter or a gauge, asked when it is told.
    Computed(Compute),
}

impl Registry {
    /// The counter of this name, which ends with `_total`, and labels.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Counter {
        let new = Series::Counter(Counter::default());
        match self.series(name, help, labels, new) {
            Series::Counter(counter) => counter,
            Series::Gauge(_) | Series::Histogram(_) | Series::Computed(_) => Counter::default(),
        }
    }

    /// The gauge of this name and labels.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Gauge {
        match self.series(name, help, labels, Series::Gauge(Gauge::default())) {
            Series::Gauge(gauge) => gauge,
            Series::Counter(_) | Series::Histogram(_) | Series::Computed(_) => Gauge::default(),
        }
    }

    /// The histogram of this name, which ends with `_seconds`, and labels.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
    ) -> Histogram {
        match self.series(name, help, labels, Series::Histogram(Histogram::default())) {
            Series::Histogram(histogram) => histogram,
            Series::Counter(_) | Series::Gauge(_) | Series::Computed(_) => Histogram::default(),
        }
    }

    /// A counter, if the name ends with `_total`, or a gauge, whose number is asked for when it is
    /// told; NaN if it is not known.
    pub fn computed(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        compute: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.series(name, help, labels, Series::Computed(Arc::new(compute)));
    }

    /// Is called, and awaited, before the series are told: for numbers that another thread has to
    /// be asked for. It must end within a second or so, whatever becomes of that thread.
    pub fn before_scrape<F, R>(&self, refresh: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.lock().refreshes.push(Arc::new(move || Box::pin(refresh())));
    }

    /// All series as text in the format of OpenMetrics, see [`CONTENT_TYPE`].
    pub async fn scrape(&self) -> String {
        let refreshes = self.lock().refreshes.clone();
        for refresh in refreshes {
            refresh().await;
        }
        self.text()
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(self.clone()));
        // A string takes all that is written to it.
        let _ = text::encode(&mut out, &registry);
        out
    }

    fn series(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        new: Series,
    ) -> Series {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_string())).collect();
        let mut inner = self.lock();
        let family = inner.families.entry(name).or_insert_with(|| {
            let series = BTreeMap::new();
            Family { help, series }
        });
        if family.series.len() >= SERIES_MAX && !family.series.contains_key(&labels) {
            return new;
        }
        family.series.entry(labels).or_insert(new).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Registry {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for (name, family) in &self.lock().families {
            family.encode(name, &mut encoder)?;
        }
        Ok(())
    }
}

impl Family {
    fn encode(&self, name: &str, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(first) = self.series.values().next() else { return Ok(()) };
        let base = name.strip_suffix("_total").unwrap_or(name);
        let kind = match first {
            Series::Histogram(_) => MetricType::Histogram,
            Series::Counter(_) => MetricType::Counter,
            Series::Computed(_) if base.len() < name.len() => MetricType::Counter,
            Series::Gauge(_) | Series::Computed(_) => MetricType::Gauge,
        };
        let (base, unit) = match base.rsplit_once('_') {
            Some((base, "seconds")) => (base, Some(Unit::Seconds)),
            Some((base, "bytes")) => (base, Some(Unit::Bytes)),
            _ => (base, None),
        };
        let mut family = encoder.encode_descriptor(base, self.help, unit.as_ref(), kind)?;
        for (labels, series) in &self.series {
            if labels.is_empty() {
                encode(series, kind, &mut family)?;
            } else {
                encode(series, kind, &mut family.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode(series: &Series, kind: MetricType, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    const NO_EXEMPLAR: Option<&Exemplar<Vec<(String, String)>, f64>> = None;
    match series {
        Series::Counter(counter) => encoder.encode_counter(&counter.value(), NO_EXEMPLAR),
        Series::Gauge(gauge) => match gauge.value() {
            Some(value) => encoder.encode_gauge(&value),
            None => Ok(()),
        },
        Series::Histogram(histogram) => {
            let (sum, buckets) = (histogram.sum(), histogram.buckets());
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
        Series::Computed(compute) => match (compute(), kind) {
            (value, _) if value.is_nan() => Ok(()),
            (value, MetricType::Counter) => encoder.encode_counter(&value, NO_EXEMPLAR),
            (value, _) => encoder.encode_gauge(&value),
        },
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("families", &self.lock().families.len()).finish()
    }
}

impl PartialEq for Registry {
    /// True for clones.
    fn eq(&self, other: &Registry) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Registry {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_family_is_told_once_with_all_its_series() {
        let registry = Registry::default();
        let name = "flotilla_store_sent_bytes_total";
        for (store, bytes) in [("1", 5), ("2", 7)] {
            registry.counter(name, "Bytes sent", &[("store", store)]).add(bytes);
        }
        registry.counter(name, "Bytes sent", &[("store", "2")]).inc();
        let text = "# HELP flotilla_store_sent_bytes Bytes sent\n\
                    # TYPE flotilla_store_sent_bytes counter\n\
                    # UNIT flotilla_store_sent_bytes bytes\n\
                    flotilla_store_sent_bytes_total{store=\"1\"} 5\n\
                    flotilla_store_sent_bytes_total{store=\"2\"} 8\n\
                    # EOF\n";
        assert_eq!(registry.text(), text);
    }

    #[test]
    fn numbers_that_are_not_known_are_not_told() {
        let registry = Registry::default();
        let gauge = registry.gauge("flotilla_a", "A", &[]);
        registry.computed("flotilla_b", "B", &[], || f64::NAN);
        registry.computed("flotilla_c_total", "C", &[], || 3.0);
        assert!(!registry.text().contains("\nflotilla_a "), "{}", registry.text());
        gauge.set(2.0);
        let text = registry.text();
        assert!(text.contains("\nflotilla_a 2.0\n"), "{text}");
        assert!(!text.contains("\nflotilla_b "), "{text}");
        assert!(text.contains("# TYPE flotilla_c counter\nflotilla_c_total 3.0\n"), "{text}");
    }

    #[test]
    fn a_histogram_is_told_with_cumulative_buckets_in_seconds() {
        let registry = Registry::default();
        let histogram = registry.histogram("flotilla_d_seconds", "D", &[("stage", "whole")]);
        histogram.observe(Duration::from_micros(75));
        histogram.observe(Duration::from_secs(60));
        let text = registry.text();
        for line in [
            "flotilla_d_seconds_bucket{le=\"0.00005\",stage=\"whole\"} 0",
            "flotilla_d_seconds_bucket{le=\"0.0001\",stage=\"whole\"} 1",
            "flotilla_d_seconds_bucket{le=\"5.0\",stage=\"whole\"} 1",
            "flotilla_d_seconds_bucket{le=\"+Inf\",stage=\"whole\"} 2",
            "flotilla_d_seconds_count{stage=\"whole\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_label_without_bound_does_not_grow_without_end() {
        let registry = Registry::default();
        for key in 0..2 * SERIES_MAX {
            registry.counter("flotilla_e_total", "E", &[("key", &key.to_string())]).inc();
        }
        let series = registry.text().lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(series, SERIES_MAX);
    }
}
