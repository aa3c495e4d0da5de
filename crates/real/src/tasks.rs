//! `real tasks`, and the tasks of a run.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use real_reward::{Split, Task, starter};

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
    /// The benchmark.
    #[arg(long, value_enum)]
    pub benchmark: Benchmark,
    /// The folder that holds `safesql/test.parquet` and the like; not needed for `starter`.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which part.
    #[arg(long, value_enum, default_value = "test")]
    pub split: SplitName,
    /// The first so many tasks only.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of the generated tasks of `starter`.
    #[arg(long, default_value_t = 1)]
    pub task_seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Benchmark {
    Starter,
    #[value(name = "safesql")]
    SafeSql,
    #[value(name = "seccodeplt")]
    SecCodePlt,
    Apps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SplitName {
    Train,
    Test,
}

impl Benchmark {
    fn name(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::SafeSql => "safesql",
            Self::SecCodePlt => "seccodeplt",
            Self::Apps => "apps",
        }
    }
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
    let split = match which.split {
        SplitName::Train => Split::Train,
        SplitName::Test => Split::Test,
    };
    if which.benchmark == Benchmark::Starter {
        let count = which.limit.unwrap_or(STARTER_TASKS);
        return Ok(starter_tasks(split, which.task_seed, count));
    }
    let Some(data) = &which.data else {
        bail!("--benchmark {} needs --data DIR, the folder of the ReaL data", which.benchmark.name());
    };
    let mut tasks = read(which.benchmark.name(), data, split)?;
    tasks.truncate(which.limit.unwrap_or(usize::MAX));
    Ok(tasks)
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
    if config.data.benchmark == "starter" {
        let count = if count == 0 { STARTER_TASKS } else { count };
        return Ok(starter_tasks(split, derive(config.seed, Purpose::Tasks, 0), count));
    }
    let mut tasks = read(&config.data.benchmark, &config.data.path, split)?;
    tasks.truncate(if count == 0 { usize::MAX } else { count });
    Ok(tasks)
}

/// Tasks of `starter`; with the test tasks come those of templates that never appear in training, a quarter as many.
fn starter_tasks(split: Split, seed: u64, count: usize) -> Vec<Task> {
    let mut tasks = starter::tasks(split, seed, count);
    if split == Split::Test {
        tasks.extend(starter::tasks(Split::HeldOut, seed, count / 4));
    }
    tasks
}

fn read(benchmark: &str, data: &Path, split: Split) -> Result<Vec<Task>> {
    let tools = tools::ensure()?;
    real_reward::load(benchmark, data, split, &tools).with_context(|| format!("cannot read the tasks of {benchmark}"))
}
