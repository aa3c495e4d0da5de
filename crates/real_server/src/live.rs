//! What the page shows: the last two minutes, second by second, and the last answers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use real_reward::Score;
use serde_json::{Value, json};

use crate::app::Shared;
use crate::request::Reply;
use crate::verdict::Verdict;

/// Seconds that are remembered.
const SECONDS: usize = 120;

/// Answers that are remembered.
const RECENT: usize = 16;

/// Requests whose times are remembered.
const TIMES: usize = 512;

/// The seconds over which the pace is taken.
const PACE: usize = 10;

/// Counts of items by verdict.
type Counts = [u32; Verdict::ALL.len()];

/// The near past.
#[derive(Debug)]
pub(crate) struct Live {
    started: Instant,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// The last second is the one that is running.
    seconds: VecDeque<Counts>,
    /// Number of the last second since the start.
    now: u64,
    recent: VecDeque<Value>,
    times: VecDeque<f64>,
}

impl Default for Live {
    fn default() -> Self {
        Self { started: Instant::now(), past: Mutex::default() }
    }
}

impl Live {
    /// An item is answered.
    pub(crate) fn item(&self, score: &Score, verdict: Verdict) {
        let mut past = self.lock();
        past.seconds.back_mut().expect("there is a running second")[verdict as usize] += 1;
        if past.recent.len() == RECENT {
            past.recent.pop_back();
        }
        past.recent.push_front(json!({
            "task_id": score.task_id,
            "verdict": verdict.name(),
            "reward": score.reward,
            "tests": [score.tests.passed, score.tests.total],
            "findings": score.findings.iter().filter(|finding| finding.counted).count(),
            "type_errors": score.type_errors.len(),
        }));
    }

    /// A request for scores is answered.
    pub(crate) fn request(&self, time: Duration) {
        let mut past = self.lock();
        if past.times.len() == TIMES {
            past.times.pop_front();
        }
        past.times.push_back(time.as_secs_f64());
    }

    /// Items a second, lately.
    pub(crate) fn pace(&self) -> f64 {
        let past = self.lock();
        let whole = past.seconds.iter().rev().skip(1).take(PACE);
        f64::from(whole.clone().flatten().sum::<u32>()) / whole.count().max(1) as f64
    }

    /// The past, up to the running second.
    fn lock(&self) -> MutexGuard<'_, Past> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.started.elapsed().as_secs();
        let passed = if past.seconds.is_empty() { 1 } else { now - past.now };
        for _ in 0..passed.min(SECONDS as u64) {
            if past.seconds.len() == SECONDS {
                past.seconds.pop_front();
            }
            past.seconds.push_back(Counts::default());
        }
        past.now = now;
        past
    }
}

/// `GET /v1/live`
pub(crate) async fn live(State(app): State<Shared>) -> Reply<Value> {
    let load = app.load();
    let past = app.live.lock();
    let mut times: Vec<f64> = past.times.iter().copied().collect();
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| times.get((times.len() as f64 * q) as usize).copied();
    Reply(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": app.metrics.uptime().as_secs(),
        "draining": app.is_draining(),
        "waiting": load.waiting,
        "judging": load.judging,
        "capacity": app.config.queue.capacity,
        "verdicts": Verdict::ALL.map(Verdict::name),
        "totals": app.metrics.items(),
        "seconds": past.seconds,
        "request_seconds": { "p50": quantile(0.5), "p95": quantile(0.95) },
        "recent": past.recent,
    }))
}
