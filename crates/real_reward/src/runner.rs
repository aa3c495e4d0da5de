//! The sandbox as the judges use it, and the threads that drive it.

use std::num::NonZeroUsize;

use rayon::ThreadPool;
use rayon::prelude::*;
use real_sandbox::{Config, Job, Outcome, Profile, Protection, Sandbox, Strictness};

use crate::{Error, Tools};

/// A sandbox with as many workers as there are threads to drive them.
pub(crate) struct Runner {
    sandbox: Sandbox,
    threads: ThreadPool,
}

impl Runner {
    pub(crate) fn new(tools: &Tools, strictness: Strictness) -> Result<Self, Error> {
        let workers = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let config = Config {
            python: tools.python(),
            profile: Profile::Numpy,
            site_packages: vec![tools.site_packages()],
            workers,
            strictness,
        };
        let sandbox = Sandbox::start(config).map_err(|error| Error::Sandbox(error.to_string()))?;
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(workers.get())
            .thread_name(|index| format!("reward-{index}"))
            .build()
            .map_err(|error| Error::Sandbox(error.to_string()))?;
        Ok(Self { sandbox, threads })
    }

    /// Runs a job. The sandbox has tried twice before it gives up.
    pub(crate) fn run(&self, job: &Job) -> Result<Outcome, Error> {
        self.sandbox.run(job).map_err(|error| Error::Sandbox(error.to_string()))
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
        self.sandbox.protection()
    }
}
