//! `real serve`: the reward over HTTP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use real_reward::{QueueConfig, Task, read_jsonl};
use real_server::ServeConfig;

use crate::{Status, config, tools};

/// The variable with the token, where no file is named. An argument would be seen by everyone on the machine.
const TOKEN: &str = "REAL_TOKEN";

/// Arguments of `real serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen. Addresses that other machines can reach need a token.
    #[arg(long, default_value = "127.0.0.1:8700")]
    addr: SocketAddr,
    /// A file with the token that clients must send; without it, the variable `REAL_TOKEN`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Tasks that clients may name by id, as `real tasks` prints them; may be repeated.
    #[arg(long, value_name = "TASKS.jsonl")]
    tasks: Vec<PathBuf>,
    /// α, the weight of quality against function.
    #[arg(long)]
    alpha: Option<f64>,
    /// Change a value of the reward, such as `--set aggregation=gated`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Completions that may wait; a request beyond is answered 429.
    #[arg(long, value_name = "N", default_value_t = QueueConfig::default().capacity)]
    queue: usize,
    /// Largest body of a request, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    max_body: usize,
    /// Completions that a request may have.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_items: usize,
    /// Seconds after which what is not judged yet is answered as an outage.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    deadline: u64,
    /// Seconds to answer what was accepted, after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    drain: u64,
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let reward = config::reward(args.alpha, &args.set)?;
    let config = ServeConfig {
        addr: args.addr,
        token: token(args)?,
        tasks: known_tasks(&args.tasks)?,
        queue: QueueConfig { capacity: args.queue, ..QueueConfig::default() },
        max_body: args.max_body << 20,
        max_items: args.max_items,
        deadline: Duration::from_secs(args.deadline),
        drain: Duration::from_secs(args.drain),
        ..ServeConfig::default()
    };
    config.validate()?;
    let scorer = tools::scorer(&reward)?;
    real_server::run(scorer, config, |addr| eprintln!("listening on http://{addr}"))?;
    eprintln!("stopped; everything that was accepted is answered");
    Ok(Status::Clean)
}

fn token(args: &Args) -> Result<Option<String>> {
    let token = match &args.token_file {
        Some(file) => {
            Some(std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?)
        }
        None => std::env::var(TOKEN).ok(),
    };
    let token = token.map(|token| token.trim().to_owned());
    if token.as_deref() == Some("") {
        bail!("the token is empty");
    }
    Ok(token)
}

fn known_tasks(files: &[PathBuf]) -> Result<HashMap<String, Arc<Task>>> {
    let mut tasks = HashMap::new();
    for file in files {
        for task in read_jsonl::<Task>(file)? {
            if let Some(other) = tasks.insert(task.id.clone(), Arc::new(task)) {
                bail!("{}: the task id `{}` comes twice", file.display(), other.id);
            }
        }
    }
    Ok(tasks)
}
