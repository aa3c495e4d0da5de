//! Numbers for Prometheus, in its text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::verdict::Verdict;

/// Upper bounds of the histogram of request times, seconds.
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Counters since the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: Instant,
    items: [AtomicU64; Verdict::ALL.len()],
    /// By path and status.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    seconds: Mutex<Histogram>,
}

#[derive(Debug, Default)]
struct Histogram {
    /// Within each bound, and beyond the last.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            items: std::array::from_fn(|_| AtomicU64::new(0)),
            requests: Mutex::default(),
            seconds: Mutex::default(),
        }
    }
}

impl Metrics {
    /// An item is answered.
    pub(crate) fn item(&self, verdict: Verdict) {
        self.items[verdict as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A request is answered.
    pub(crate) fn request(&self, path: &str, status: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((path.to_owned(), status)).or_default() += 1;
        drop(requests);
        let seconds = time.as_secs_f64();
        let mut histogram = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        histogram.sum += seconds;
    }

    /// Items answered, by verdict, in the order of [`Verdict::ALL`].
    pub(crate) fn items(&self) -> [u64; Verdict::ALL.len()] {
        std::array::from_fn(|index| self.items[index].load(Ordering::Relaxed))
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The page for Prometheus.
    pub(crate) fn render(&self, app: &App) -> String {
        let mut page = String::new();
        let load = app.load();
        let in_flight = app.config.max_requests - app.requests.available_permits();
        gauge(&mut page, "real_queue_items", "Items that wait to be judged.", load.waiting);
        gauge(&mut page, "real_queue_capacity", "Items that may wait.", app.config.queue.capacity);
        gauge(&mut page, "real_judging_items", "Items that are being judged.", load.judging);
        gauge(&mut page, "real_requests_in_flight", "Requests under way, this one included.", in_flight);
        gauge(&mut page, "real_uptime_seconds", "Seconds since the start.", self.uptime().as_secs());
        head(&mut page, "real_items_total", "counter", "Items answered, by verdict.");
        for (verdict, count) in Verdict::ALL.iter().zip(self.items()) {
            line(&mut page, format_args!("real_items_total{{verdict=\"{}\"}} {count}", verdict.name()));
        }
        head(&mut page, "real_requests_total", "counter", "Requests answered, by path and status.");
        for ((path, status), count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            line(
                &mut page,
                format_args!("real_requests_total{{path=\"{path}\",status=\"{status}\"}} {count}"),
            );
        }
        self.histogram(&mut page);
        page
    }

    fn histogram(&self, page: &mut String) {
        let name = "real_request_seconds";
        head(page, name, "histogram", "Time from the head of a request to its answer.");
        let histogram = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (bound, within) in BOUNDS.iter().zip(histogram.counts) {
            count += within;
            line(page, format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        count += histogram.counts[BOUNDS.len()];
        line(page, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        line(page, format_args!("{name}_sum {}", histogram.sum));
        line(page, format_args!("{name}_count {count}"));
    }
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    line(page, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn gauge(page: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    head(page, name, "gauge", help);
    line(page, format_args!("{name} {value}"));
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string can be written to");
}
