//! `real validate`: which tests of which tasks can be trusted, by running their references.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;
use real_reward::{Task, Validation, read_jsonl, validate};

use crate::{Status, config, tools};

/// Arguments of `real validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tasks, as `real tasks` prints them.
    #[arg(long, value_name = "TASKS.jsonl")]
    tasks: PathBuf,
    /// Change a limit of the tests, such as `--set cpu_seconds=8`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let config = config::reward(None, &args.set)?;
    let tasks: Vec<Task> = read_jsonl(&args.tasks)?;
    let found = validate(&tasks, &config, &tools::ensure()?)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for validation in &found {
        serde_json::to_writer(&mut out, validation)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    let count = |of: &dyn Fn(&Validation) -> usize| found.iter().map(of).sum::<usize>();
    let sound = found.iter().filter(|one| one.is_sound()).count();
    eprintln!(
        "{sound} of {} tasks are sound; of {} tests {} are impossible and {} nondeterministic; {} tasks are vacuous, {} unusable",
        found.len(),
        count(&|one| one.tests),
        count(&|one| one.impossible.len()),
        count(&|one| one.nondeterministic.len()),
        count(&|one| usize::from(one.vacuous)),
        count(&|one| usize::from(one.unusable.is_some())),
    );
    Ok(if sound == found.len() { Status::Clean } else { Status::Found })
}
