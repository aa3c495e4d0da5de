//! `real tasks`, and the tasks of a run.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use real_reward::{Benchmark, Split, Task, starter};

use crate::Status;
use crate::config::Config;
use crate::seeds::{Purpose, derive};
use crate::tools;

/// Generated tasks of the `starter` benchmark, where no number is given.
const STARTER_TASKS: usize = 128;

/// Arguments of `real tasks`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub which: Which,
}

/// A benchmark and a part of it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// `starter`, `safesql`, `seccodeplt` or `apps`.
    #[arg(long)]
    pub benchmark: Benchmark,
    /// The folder that holds `safesql/test.parquet` and the like; not needed for `starter`.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// `train` or `test`.
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// The first so many tasks only.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of the generated tasks of `starter`.
    #[arg(long, default_value_t = 1)]
    pub task_seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for task in load(&args.which)? {
        serde_json::to_writer(&mut out, &task)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(Status::Clean)
}

/// The tasks that command-line arguments name.
pub(crate) fn load(which: &Which) -> Result<Vec<Task>> {
    if which.benchmark == Benchmark::Starter {
        return Ok(starter::benchmark(which.split, which.task_seed, which.limit.unwrap_or(STARTER_TASKS)));
    }
    let Some(data) = &which.data else {
        bail!("--benchmark {} needs --data DIR, the folder of the ReaL data", which.benchmark);
    };
    read(which.benchmark, data, which.split, which.limit.unwrap_or(usize::MAX))
}

/// The training tasks of a run.
pub(crate) fn train(config: &Config) -> Result<Vec<Task>> {
    of_run(config, Split::Train, config.data.train_tasks)
}

/// The test tasks of a run.
pub(crate) fn test(config: &Config) -> Result<Vec<Task>> {
    of_run(config, Split::Test, config.data.test_tasks)
}

fn of_run(config: &Config, split: Split, count: usize) -> Result<Vec<Task>> {
    let benchmark: Benchmark = config.data.benchmark.parse()?;
    if benchmark == Benchmark::Starter {
        let count = if count == 0 { STARTER_TASKS } else { count };
        return Ok(starter::benchmark(split, derive(config.seed, Purpose::Tasks, 0), count));
    }
    read(benchmark, &config.data.path, split, if count == 0 { usize::MAX } else { count })
}

fn read(benchmark: Benchmark, data: &Path, split: Split, limit: usize) -> Result<Vec<Task>> {
    let mut tasks = real_reward::load(benchmark, data, split, &tools::ensure()?)
        .with_context(|| format!("cannot read the tasks of {benchmark}"))?;
    tasks.truncate(limit);
    Ok(tasks)
}
