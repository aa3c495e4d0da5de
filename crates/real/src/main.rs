//! `real` trains language models to write code that is right and of good quality, with rewards from program analysis and
//! from running the code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod causes;
mod config;
mod doctor;
mod endpoint;
mod eval;
mod evaluation;
mod experiment;
mod generate;
mod interrupt;
mod judged;
mod kept;
mod policy;
mod progress;
mod records;
mod report;
mod run_folder;
mod samples;
mod scan;
mod score;
mod seeds;
mod serve;
mod sft;
mod tasks;
mod tensorboard;
mod tools;
mod train;
mod validate;

#[derive(Debug, Parser)]
#[command(
    name = "real",
    version,
    about = "Trains language models to write good code, with rewards from program analysis"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find weaknesses in Python code.
    Scan(scan::Args),
    /// Print the tasks of a benchmark as JSON lines.
    Tasks(tasks::Args),
    /// Score completions: analysis, type check, unit tests, reward.
    Score(score::Args),
    /// Find tests that cannot be trusted: run references, again and again. Exit status 1 where there are any.
    Validate(validate::Args),
    /// Let a model answer tasks.
    Generate(generate::Args),
    /// Measure Function, Quality and both of a model, an endpoint, or given completions.
    Eval(eval::Args),
    /// Supervised fine-tuning.
    Sft(config::Args),
    /// PPO with the hybrid reward.
    Train(config::Args),
    /// One page on a run, an evaluation or an experiment, that needs no network.
    Report(report::Args),
    /// A grid of runs, settings and seeds, from one file.
    Experiment(experiment::Args),
    /// Serve the reward over HTTP, to trainers on other machines and of other engines.
    Serve(serve::Args),
    /// What this machine offers, what is missing, and how to get it.
    Doctor(doctor::Args),
}

/// Exit status of a command that did not fail.
pub(crate) enum Status {
    /// Nothing to report.
    Clean,
    /// The command found what it looks for (weaknesses, missing tools).
    Found,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("REAL_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match cli.command {
        Command::Scan(args) => scan::run(&args),
        Command::Tasks(args) => tasks::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Sft(args) => sft::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Experiment(args) => experiment::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match result {
        Ok(Status::Clean) => ExitCode::SUCCESS,
        Ok(Status::Found) => ExitCode::from(1),
        Err(error) => {
            if !is_broken_pipe(&error) {
                eprintln!("error: {error:#}");
            }
            ExitCode::from(2)
        }
    }
}

/// The reader of our output went away (`real tasks | head`): nothing to tell anyone.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}
