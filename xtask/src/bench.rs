//! `cargo xtask bench NAME`: measurements that print a table. Each file below is one of them.

mod load;
mod reward;
mod scan;
mod train;
mod typecheck;

use anyhow::Result;

use crate::cargo;

/// What can be measured.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Bench {
    /// The analyzer: speed and findings on programs, on the standard library and on installed packages, beside ruff and bandit.
    Scan(scan::Args),
    /// The analyzer on many changed programs: no panic, and none takes a second.
    Mutations {
        /// Number of programs.
        #[arg(default_value_t = 100_000)]
        count: u32,
    },
    /// The judges: what a test, a program and a batch cost, and that nothing is left behind.
    Reward(reward::Args),
    /// Many clients at once on a server with the real judges.
    Load(load::Args),
    /// zuban beside mypy.
    Typecheck(typecheck::Args),
    /// The trainer: tokens per CPU second of training and decoding, and peak memory, beside PyTorch.
    Train(train::Args),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Scan(args) => scan::run(args),
        // With debug assertions, so that the verifier of the SSA form looks at each program.
        Bench::Mutations { count } => {
            cargo(&["run", "--package", "real_analysis", "--example", "mutations", "--", &count.to_string()])
        }
        Bench::Reward(args) => reward::run(args),
        Bench::Load(args) => load::run(args),
        Bench::Typecheck(args) => typecheck::run(args),
        Bench::Train(args) => train::run(args),
    }
}
