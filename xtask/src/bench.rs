//! `cargo xtask bench NAME`: measurements that print a table. Each file below is one of them.

mod scan;

use anyhow::Result;

/// What can be measured.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Bench {
    /// The analyzer: speed and findings on programs, on the standard library and on installed packages, beside ruff and bandit.
    Scan(scan::Args),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Scan(args) => scan::run(args),
    }
}
