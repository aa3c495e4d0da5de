//! `cargo xtask bench load`: many clients at once on a server with the real judges; no answer is lost, crossed or given twice.

use anyhow::Result;

use crate::cargo;

/// Arguments of `cargo xtask bench load`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Clients at once.
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// For so long.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// A server that runs already; without it one is started.
    #[arg(long)]
    url: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (clients, seconds) = (args.clients.to_string(), args.seconds.to_string());
    let mut command =
        vec!["run", "--release", "--package", "real_server", "--example", "load", "--", &clients, &seconds];
    command.extend(args.url.as_deref());
    cargo(&command)
}
