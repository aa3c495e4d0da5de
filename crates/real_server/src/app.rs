//! What all requests share, and how a request gets its items judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use real_reward::{Item, Load, Queue, Refused, Score, Task};
use tokio::sync::{Notify, Semaphore, watch};

use crate::live::Live;
use crate::metrics::Metrics;
use crate::request::Refusal;
use crate::verdict::Verdict;
use crate::{Judges, ServeConfig};

/// Jobs that are run without a score and may wait for a worker at once; each holds a thread.
const JOBS: usize = 64;

/// How often a request that waits for room in the queue looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What all requests share.
pub(crate) struct App {
    pub(crate) config: ServeConfig,
    pub(crate) metrics: Metrics,
    pub(crate) live: Live,
    pub(crate) requests: Semaphore,
    judges: Arc<dyn Judges>,
    queue: Queue,
    jobs: Semaphore,
    draining: AtomicBool,
    /// True once accepted items are not waited for any more.
    over: watch::Sender<bool>,
}

pub(crate) type Shared = Arc<App>;

/// What a request does where the queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Says so, for a client that comes again.
    Refuse,
    /// Waits for it until the deadline, for a client that takes an error for a reward.
    Wait,
}

impl App {
    pub(crate) fn new(judges: impl Judges, config: ServeConfig) -> Self {
        let judges: Arc<dyn Judges> = Arc::new(judges);
        let score = Arc::clone(&judges);
        Self {
            metrics: Metrics::default(),
            live: Live::default(),
            requests: Semaphore::new(config.max_requests),
            queue: Queue::start(move |items, done| score.score(items, done), config.queue),
            judges,
            jobs: Semaphore::new(JOBS),
            draining: AtomicBool::new(false),
            over: watch::Sender::new(false),
            config,
        }
    }

    /// The scores of some items, in order, within the deadline.
    pub(crate) async fn score(
        &self,
        items: Vec<Item>,
        deadline: Instant,
        full: Full,
    ) -> Result<Vec<Score>, Refusal> {
        if items.len() > self.config.max_items.min(self.config.queue.capacity) {
            let most = self.config.max_items.min(self.config.queue.capacity);
            let reason = format!("{} items in a request; at most {most} are accepted", items.len());
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        let items: Arc<[Item]> = items.into();
        let complete = Arc::new(Notify::new());
        let ticket = loop {
            let complete = Arc::clone(&complete);
            match self.queue.submit(Arc::clone(&items), move || complete.notify_one()) {
                Ok(ticket) => break ticket,
                Err(Refused::Full { .. }) if full == Full::Wait && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(refused) => return Err(self.refusal(refused)),
            }
        };
        let mut over = self.over.subscribe();
        let outage = tokio::select! {
            () = complete.notified() => "",
            () = tokio::time::sleep_until(deadline.into()) => "the deadline of the request has passed",
            _ = over.wait_for(|over| *over) => "the server was shut down",
        };
        let scores = ticket.finish(outage);
        for score in &scores {
            let verdict = Verdict::of(score);
            self.metrics.item(verdict);
            self.live.item(score, verdict);
        }
        Ok(scores)
    }

    /// Runs something that is not scored on a thread that may wait.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&dyn Judges) -> Result<T, real_reward::Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = tokio::time::timeout_at(deadline.into(), self.jobs.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(self.busy("too many programs are waiting to be run"));
        };
        let judges = Arc::clone(&self.judges);
        let result = tokio::task::spawn_blocking(move || work(&*judges)).await;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.busy(&error.to_string())),
            Err(error) => Err(self.busy(&format!("a bug of ours: {error}"))),
        }
    }

    /// An outage, for a client that can only be told by a status.
    pub(crate) fn busy(&self, reason: &str) -> Refusal {
        Refusal::later(StatusCode::SERVICE_UNAVAILABLE, reason, self.retry_after())
    }

    /// The scores, if we did not fail to judge any of them.
    pub(crate) fn judged(&self, scores: Vec<Score>) -> Result<Vec<Score>, Refusal> {
        match scores.iter().find_map(|score| score.infra_error.as_deref()) {
            Some(reason) => Err(self.busy(reason)),
            None => Ok(scores),
        }
    }

    /// A task from what a client sends with a completion: its JSON, or its id.
    pub(crate) fn task(&self, label: &str) -> Result<Arc<Task>, Refusal> {
        if label.trim_start().starts_with('{') {
            let task = serde_json::from_str(label);
            return task
                .map(Arc::new)
                .map_err(|error| Refusal::mistake(format!("the label is no task: {error}")));
        }
        self.config.tasks.get(label).cloned().ok_or_else(|| {
            Refusal::mistake(format!(
                "the label is neither the JSON of a task nor the id of one that the server was started with: `{label}`"
            ))
        })
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.deadline
    }

    pub(crate) fn load(&self) -> Load {
        self.queue.load()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Shutting down begins.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Accepted items are not waited for any more.
    pub(crate) fn give_up(&self) {
        self.queue.close();
        self.over.send_replace(true);
    }

    fn refusal(&self, refused: Refused) -> Refusal {
        let status = match refused {
            Refused::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refused::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refusal::later(status, refused.to_string(), self.retry_after())
    }

    /// About how many seconds the queue needs, at the pace of the last seconds.
    fn retry_after(&self) -> u64 {
        let pace = self.live.pace().max(1.0);
        ((self.load().waiting as f64 / pace).ceil() as u64).clamp(1, 60)
    }
}
