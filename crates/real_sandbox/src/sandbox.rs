//! The pool of workers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::group::Hierarchy;
use crate::launch::Launch;
use crate::worker::{Fault, MAX_COLLECTED, NoStart, Worker};
use crate::{Config, ControlGroups, Ending, Job, Layer, Outcome, Protection, Resource, Strictness};

/// Warm interpreters, ready to run jobs. Dropping it leaves no process and no file behind.
#[derive(Debug)]
pub struct Sandbox {
    launch: Launch,
    protection: Protection,
    queue: Mutex<Queue>,
    moved: Condvar,
}

/// Callers are served in the order in which they came.
#[derive(Debug)]
struct Queue {
    /// A place for every worker that is not running a job; `None` where one has to be started again.
    idle: Vec<Option<Worker>>,
    next_ticket: u64,
    now_serving: u64,
}

/// The sandbox itself failed. No program can cause any of these.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such interpreter, or it does not run.
    #[error("the Python interpreter `{}` cannot be used: {reason}", python.display())]
    Interpreter {
        /// As configured.
        python: PathBuf,
        /// Why.
        reason: String,
    },
    /// A layer of protection is not to be had here, and [`Strictness::Strict`] was asked for.
    #[error("this machine does not offer the `{layer}` protection: {reason}")]
    Unprotected {
        /// The layer.
        layer: Layer,
        /// Why.
        reason: String,
    },
    /// An interpreter did not get ready.
    #[error("the sandboxed interpreter did not start: {0}")]
    Start(String),
    /// The job asks for something that cannot be: a file name that is a path, or too many files.
    #[error("the job makes no sense: {0}")]
    Job(String),
    /// Twice, the job failed before the program got control: the prelude raised, or there was no memory for it.
    #[error("{0}")]
    NeverRan(String),
    /// Twice, the worker died under the job.
    #[error("the sandboxed interpreter was lost: {0}")]
    Lost(String),
    /// The operating system refused something that the sandbox needs.
    #[error("the operating system refused what the sandbox needs")]
    Io(#[from] io::Error),
}

impl Sandbox {
    /// Starts the workers and waits until they are warm.
    pub fn start(config: Config) -> Result<Self, Error> {
        let hierarchy = Hierarchy::find();
        let control_groups = match &hierarchy {
            Ok(hierarchy) => hierarchy.version.clone(),
            Err(reason) => ControlGroups::None(reason.clone()),
        };
        let mut launch = Launch {
            python: resolve(&config.python)?,
            profile: config.profile,
            site_packages: config.site_packages,
            own_modules: config.own_modules,
            seed: config.seed,
            layers: Layer::ALL.to_vec(),
            hierarchy: hierarchy.ok(),
        };
        let (first, missing) = start_first(&mut launch, &config.strictness)?;
        let facts = first.facts().clone();
        let mut workers = vec![Some(first)];
        workers.extend(start_more(&launch, config.workers.get() - 1)?.into_iter().map(Some));
        let protection = Protection {
            enforced: launch.layers.clone(),
            missing,
            landlock_version: facts.landlock,
            control_groups,
            python: facts.python,
            interpreter_memory: facts.memory,
        };
        let queue = Queue { idle: workers, next_ticket: 0, now_serving: 0 };
        Ok(Self { launch, protection, queue: Mutex::new(queue), moved: Condvar::new() })
    }

    /// Runs a job, waiting for a worker first if all are busy. May be called from many threads at once.
    ///
    /// Whatever the program does is data in the [`Outcome`]; `Err` is an outage of ours. A job whose worker is lost is tried once
    /// more on a fresh one.
    pub fn run(&self, job: &Job) -> Result<Outcome, Error> {
        check(job)?;
        match self.try_run(job)? {
            Ok(outcome) => return Ok(outcome),
            Err(Fault::Starved) => return Ok(starved()),
            Err(fault) => tracing::warn!(?fault, "a job is tried again"),
        }
        match self.try_run(job)? {
            Ok(outcome) => Ok(outcome),
            Err(Fault::Starved) => Ok(starved()),
            Err(Fault::Lost(reason)) => Err(Error::Lost(reason)),
            Err(Fault::NeverRan(reason)) => Err(Error::NeverRan(reason)),
        }
    }

    /// What is really enforced.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    fn try_run(&self, job: &Job) -> Result<Result<Outcome, Fault>, Error> {
        let place = Place { sandbox: self, worker: self.take() };
        place.run(job)
    }

    fn take(&self) -> Option<Worker> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        loop {
            if queue.now_serving == ticket
                && let Some(place) = queue.idle.pop()
            {
                queue.now_serving += 1;
                self.moved.notify_all();
                return place;
            }
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, worker: Option<Worker>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).idle.push(worker);
        self.moved.notify_all();
    }
}

/// The outcome of a job that took so much memory that the kernel killed its worker.
fn starved() -> Outcome {
    Outcome {
        ending: Ending::Exceeded(Resource::Memory),
        stdout: Vec::new(),
        stderr: Vec::new(),
        files: Vec::new(),
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
    }
}

/// A place in the pool, taken by one job, and given back however the job ends.
struct Place<'a> {
    sandbox: &'a Sandbox,
    worker: Option<Worker>,
}

impl Place<'_> {
    fn run(mut self, job: &Job) -> Result<Result<Outcome, Fault>, Error> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(&self.sandbox.launch)?,
        };
        let result = worker.run(job);
        if !matches!(result, Err(Fault::Lost(_) | Fault::Starved)) {
            self.worker = Some(worker);
        }
        Ok(result)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.sandbox.give_back(self.worker.take());
    }
}

type Missing = Vec<(Layer, String)>;

/// Finds out, layer by layer, what this machine offers.
fn start_first(launch: &mut Launch, strictness: &Strictness) -> Result<(Worker, Missing), Error> {
    let mut missing = Vec::new();
    if let Strictness::Without(layers) = strictness {
        launch.layers.retain(|wanted| !layers.contains(wanted));
        missing.extend(layers.iter().map(|&layer| (layer, "not wanted by the configuration".to_owned())));
    }
    loop {
        match Worker::start(launch) {
            Ok(worker) => return Ok((worker, missing)),
            Err(NoStart::Missing(layer, reason)) if *strictness == Strictness::Degrade => {
                tracing::warn!(%layer, reason, "a protection is missing");
                launch.layers.retain(|&wanted| wanted != layer);
                missing.push((layer, reason));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}

fn start_more(launch: &Launch, count: usize) -> Result<Vec<Worker>, Error> {
    thread::scope(|scope| {
        let starts: Vec<_> = (0..count).map(|_| scope.spawn(|| Worker::start(launch))).collect();
        let join = |start: thread::ScopedJoinHandle<'_, _>| start.join().expect("a start does not panic");
        starts.into_iter().map(join).collect::<Result<_, _>>().map_err(Error::from)
    })
}

impl From<NoStart> for Error {
    fn from(failure: NoStart) -> Self {
        match failure {
            NoStart::Missing(layer, reason) => Self::Unprotected { layer, reason },
            NoStart::Failed(reason) => Self::Start(reason),
            NoStart::Io(error) => Self::Io(error),
        }
    }
}

/// The interpreter behind a name, a shim or a link: the sandbox has no `PATH` and no shell to find it with.
fn resolve(python: &Path) -> Result<PathBuf, Error> {
    let broken = |reason: String| Error::Interpreter { python: python.to_owned(), reason };
    let script = "import sys; assert sys.version_info >= (3, 10), sys.version; print(sys.executable)";
    let output = Command::new(python)
        .args(["-I", "-S", "-c", script])
        .output()
        .map_err(|error| broken(error.to_string()))?;
    if !output.status.success() {
        return Err(broken(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn check(job: &Job) -> Result<(), Error> {
    if job.collect.len() > MAX_COLLECTED {
        return Err(Error::Job(format!("at most {MAX_COLLECTED} files can be collected")));
    }
    for name in job.files.iter().map(|(name, _)| name).chain(&job.collect) {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(Error::Job(format!("{name:?} is not a plain file name")));
        }
    }
    Ok(())
}
