//! The reward over HTTP.
//!
//! A trainer on another machine, or in another language, sends completions and gets what `real score` would write about them, byte for byte.
//! Engines that have a wire format of their own for this are answered in that:
//!
//! | path | asks | speaks |
//! |---|---|---|
//! | `POST /v1/score` | scores of completions | our own, described in `/openapi.json` |
//! | `POST /openrlhf` | `{query, prompts, labels}` → `{rewards, scores, extra_logs}` | OpenRLHF's remote reward model |
//! | `POST /slime` | `{prompt, response, label}` → a number | slime's `remote_rm` |
//! | `POST /verify`, `/seed_session`, `/aggregate_metrics` | a response → the same and `reward` | NeMo-Gym's resources server |
//! | `POST /run_code` | runs a program, judges nothing | SandboxFusion's, as verl calls it |
//! | `POST /test_program`, `/test_program_stdio` | assertions, inputs and outputs → `{results, runtimes}` | open-instruct's code verifier |
//! | `GET /health`, `/metrics`, `/v1/live`, `/` | is it well, numbers for Prometheus, the same for people | |
//!
//! Where an engine sends a task along (a label, a `verifier_metadata`), it is the JSON of a [`Task`], or the id of one that
//! the server was started with.
//!
//! # What holds
//!
//! - **No grading happens here.** Items go to [`Judges`], which is [`Scorer`]; this crate moves them.
//! - **An accepted item is answered exactly once, in order**, within the deadline of its request: with a score, or with an `infra_error` and no
//!   reward. A format that has no room for that gets an HTTP error that its client tries again, or, where an error would do
//!   more harm (OpenRLHF), a number beside a flag.
//! - **What cannot be accepted is refused at once**: 413 for a body or a request that is too large, 429 where the queue is full, 503
//!   while shutting down, each of the last two with `Retry-After`. Engines that take an error for a reward of 0 wait in line instead.
//! - **SIGTERM and SIGINT drain**: no new connection, and what was accepted is answered. A second one ends the process.
//! - **Nobody else's business**: without a token the server binds to loopback addresses only, and answers only to their names; with
//!   one, all but `/health` and the static files need it. Tokens are compared in constant time.

mod access;
mod app;
mod connections;
mod engines;
mod live;
mod metrics;
mod page;
mod request;
mod routes;
mod score;
mod verdict;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use real_reward::{Check, QueueConfig, Score, Scorer, Task};
use real_sandbox::{Job, Limits, Outcome};

pub use connections::Server;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where to listen. Other machines can reach it only where there is a `token`.
    pub addr: SocketAddr,
    /// What clients must send as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// Tasks that clients may name by their id.
    pub tasks: HashMap<String, Arc<Task>>,
    /// The queue of items.
    pub queue: QueueConfig,
    /// Largest body of a request, bytes.
    pub max_body: usize,
    /// Most items of a request.
    pub max_items: usize,
    /// Most requests that are under way at once.
    pub max_requests: usize,
    /// The deadline of a request; clients may ask for a shorter one.
    pub deadline: Duration,
    /// How long a client may take to send a request.
    pub patience: Duration,
    /// How long to wait for accepted items when shutting down; the rest are answered as outages.
    pub drain: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 8700)),
            token: None,
            tasks: HashMap::new(),
            queue: QueueConfig::default(),
            max_body: 16 << 20,
            max_items: 1024,
            max_requests: 1024,
            deadline: Duration::from_mins(2),
            patience: Duration::from_secs(30),
            drain: Duration::from_mins(1),
        }
    }
}

impl ServeConfig {
    /// Refuses to let everyone run programs here.
    pub fn validate(&self) -> Result<(), Error> {
        if self.token.is_none() && !self.addr.ip().is_loopback() {
            return Err(Error::Unprotected(self.addr));
        }
        Ok(())
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Anyone who can reach the address could run programs here.
    #[error(
        "{0} can be reached from other machines, so a token is needed; without one, listen on a loopback address such as 127.0.0.1:8700"
    )]
    Unprotected(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Threads or signals are not to be had.
    #[error("the operating system refused what the server needs: {0}")]
    System(#[from] std::io::Error),
}

/// What the server hands items to: [`Scorer`], or a stand-in for it in tests.
pub trait Judges: Send + Sync + 'static {
    /// Gives `done` the place of each completion once, with its score, as soon as it is known.
    fn score(&self, items: &[(&Task, &str)], done: &(dyn Fn(usize, Score) + Sync));
    /// Runs a program.
    fn run(&self, job: &Job) -> Result<Outcome, real_reward::Error>;
    /// Whether each assertion holds.
    fn assertions(
        &self,
        program: &str,
        assertions: &[String],
        limits: &Limits,
    ) -> Result<Vec<Check>, real_reward::Error>;
    /// Whether each output is printed.
    fn outputs(
        &self,
        program: &str,
        cases: &[(String, String)],
        limits: &Limits,
    ) -> Result<Vec<Check>, real_reward::Error>;
}

impl Judges for Scorer {
    fn score(&self, items: &[(&Task, &str)], done: &(dyn Fn(usize, Score) + Sync)) {
        self.score_each(items, done);
    }

    fn run(&self, job: &Job) -> Result<Outcome, real_reward::Error> {
        Self::run(self, job)
    }

    fn assertions(
        &self,
        program: &str,
        assertions: &[String],
        limits: &Limits,
    ) -> Result<Vec<Check>, real_reward::Error> {
        self.check_assertions(program, assertions, limits)
    }

    fn outputs(
        &self,
        program: &str,
        cases: &[(String, String)],
        limits: &Limits,
    ) -> Result<Vec<Check>, real_reward::Error> {
        self.check_outputs(program, cases, limits)
    }
}

/// Serves until SIGTERM or SIGINT. `ready` hears the address, which tells the port where port 0 was asked for.
pub fn run(judges: impl Judges, config: ServeConfig, ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let signal = connections::signals()?;
        let server = Server::bind(judges, config).await?;
        ready(server.addr());
        server.serve(signal).await;
        Ok(())
    })
}
