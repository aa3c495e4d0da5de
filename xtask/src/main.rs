//! Automation in one place: `cargo xtask ci` runs what continuous integration runs, `cargo xtask test` the tests alone,
//! `cargo xtask python` those of the Python package, `cargo xtask bench NAME` a measurement.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

mod bench;
mod python;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Automation of the `real` workspace")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that must hold before a change lands: format, lints, documentation, tests.
    Ci,
    /// All tests.
    Test {
        /// Handed on to `cargo test`, such as the name of a test.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The tests of the Python package.
    Python {
        /// The interpreter: 3.10 or later. Adapters are tested against the engines that are installed for it.
        #[arg(long, default_value = "python3")]
        python: String,
    },
    /// A measurement.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Task::Ci => {
            cargo(&["fmt", "--all", "--check"])?;
            cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
            cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"])?;
            test(&[])?;
            python::test("python3")
        }
        Task::Test { arguments } => test(&arguments),
        Task::Python { python } => python::test(&python),
        Task::Bench(bench) => bench::run(&bench),
    }
}

fn test(arguments: &[String]) -> Result<()> {
    let mut command = vec!["test", "--workspace"];
    command.extend(arguments.iter().map(String::as_str));
    cargo(&command)
}

/// Runs cargo in the workspace, with its output on ours.
fn cargo(arguments: &[&str]) -> Result<()> {
    eprintln!("\n$ cargo {}", arguments.join(" "));
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments);
    if arguments[0] == "doc" {
        command.env("RUSTDOCFLAGS", "--deny warnings");
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}
