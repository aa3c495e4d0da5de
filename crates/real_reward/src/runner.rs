//! The sandbox as the judges use it, and the threads that drive it.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use rayon::ThreadPool;
use rayon::prelude::*;
use real_sandbox::{Config, Job, Outcome, Profile, Protection, Sandbox, Strictness};

use crate::{Error, Tools};

/// A sandbox with as many workers as there are threads to drive them, and further ones for programs that import more: a fork of the
/// lightest interpreter costs a third less than one of the heaviest.
pub(crate) struct Runner {
    light: Sandbox,
    /// Each started when the first such program comes.
    plain: OnceLock<Result<Sandbox, String>>,
    numpy: OnceLock<Result<Sandbox, String>>,
    config: Config,
    threads: ThreadPool,
}

/// Our own Python, compiled once in the warm interpreter.
const OWN_MODULES: [(&str, &str); 5] = [
    ("_real_audit", include_str!("judge/audit.py")),
    ("_real_input", include_str!("judge/input.py")),
    ("_real_queries", include_str!("judge/queries.py")),
    ("_real_shell", include_str!("judge/shell.py")),
    ("_real_split", include_str!("checks/split.py")),
];

impl Runner {
    /// `seed` is that of string hashes and of `random` in every job.
    pub(crate) fn new(tools: &Tools, strictness: Strictness, seed: u32) -> Result<Self, Error> {
        let workers = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let config = Config {
            python: tools.python(),
            profile: Profile::Light,
            site_packages: vec![tools.site_packages()],
            own_modules: OWN_MODULES.map(|(name, source)| (name.to_owned(), source.to_owned())).to_vec(),
            seed,
            workers,
            strictness,
        };
        let light = Sandbox::start(config.clone()).map_err(|error| Error::Sandbox(error.to_string()))?;
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(workers.get())
            .thread_name(|index| format!("reward-{index}"))
            .build()
            .map_err(|error| Error::Sandbox(error.to_string()))?;
        Ok(Self { light, plain: OnceLock::new(), numpy: OnceLock::new(), config, threads })
    }

    /// Runs a job. The sandbox has tried twice before it gives up.
    pub(crate) fn run(&self, job: &Job) -> Result<Outcome, Error> {
        let profile = Profile::lightest([job.prelude.as_str(), &job.program]);
        self.sandbox(profile)?.run(job).map_err(|error| Error::Sandbox(error.to_string()))
    }

    fn sandbox(&self, profile: Profile) -> Result<&Sandbox, Error> {
        let place = match profile {
            Profile::Light => return Ok(&self.light),
            Profile::Plain => &self.plain,
            Profile::Numpy => &self.numpy,
        };
        let start = || {
            let config = Config { profile, ..self.config.clone() };
            Sandbox::start(config).map_err(|error| error.to_string())
        };
        place.get_or_init(start).as_ref().map_err(|error| Error::Sandbox(error.clone()))
    }

    /// Applies a function to each item on all threads; results in order.
    pub(crate) fn parallel<T: Sync, R: Send>(
        &self,
        items: &[T],
        apply: impl Fn(&T) -> R + Sync + Send,
    ) -> Vec<R> {
        self.threads.install(|| items.par_iter().with_max_len(1).map(apply).collect())
    }

    pub(crate) fn protection(&self) -> &Protection {
        self.light.protection()
    }
}
