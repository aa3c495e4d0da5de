//! `real doctor`: what this machine offers, what is missing, and how to get it.

use std::num::NonZero;

use anyhow::Result;
use real_reward::Tools;
use real_sandbox::{Config, ControlGroups, Layer, Sandbox, Strictness};

use crate::Status;
use crate::tools;

/// Arguments of `real doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Set up the Python environment of the judges where it is missing or broken.
    #[arg(long)]
    fix: bool,
}

/// One line of the report.
struct Check {
    name: String,
    /// What is there, or what is missing and what to do about it.
    found: Result<String, String>,
    /// Commands fail without it.
    required: bool,
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    if args.fix {
        tools::ensure()?;
    }
    let mut checks = vec![processor(), memory()];
    checks.extend(Tools::check().into_iter().map(|c| Check { name: c.name, found: c.found, required: true }));
    checks.extend(isolation());
    checks.push(gpu());
    let mut missing = false;
    for Check { name, found, required } in checks {
        let (mark, text) = match found {
            Ok(text) => ("ok", text),
            Err(text) if required => {
                missing = true;
                ("MISSING", text)
            }
            Err(text) => ("-", text),
        };
        println!("{mark:>8}  {name:<22} {text}");
    }
    if missing {
        println!(
            "\nWhat is missing is needed for scoring and training; `real doctor --fix` sets up what it can."
        );
    }
    Ok(if missing { Status::Found } else { Status::Clean })
}

fn processor() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let text = format!("{cores} cores, {}", features().join(" "));
    Check { name: "processor".to_owned(), found: Ok(text), required: false }
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let mut features = vec!["x86-64"];
    for (name, present) in [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ] {
        if present {
            features.push(name);
        }
    }
    features
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    vec![std::env::consts::ARCH]
}

fn memory() -> Check {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kib = text
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:"))?
            .trim()
            .strip_suffix(" kB")?
            .parse::<f64>();
        kib.ok()
    });
    let found = match total {
        Some(kib) => Ok(format!("{:.1} GB", kib / 1e6)),
        None => Err("size unknown".to_owned()),
    };
    Check { name: "memory".to_owned(), found, required: false }
}

/// The layers around a candidate program, as a sandbox that has been started reports them.
fn isolation() -> Vec<Check> {
    let config =
        Config { workers: NonZero::<usize>::MIN, strictness: Strictness::Degrade, ..Config::default() };
    let sandbox = match Sandbox::start(config) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            return vec![Check { name: "sandbox".to_owned(), found: Err(error.to_string()), required: true }];
        }
    };
    let protection = sandbox.protection();
    let groups = match &protection.control_groups {
        ControlGroups::V2 => Ok("version 2".to_owned()),
        ControlGroups::V1 => Ok("version 1".to_owned()),
        ControlGroups::None(why) => Err(why.clone()),
    };
    let groups = Check { name: "sandbox control groups".to_owned(), found: groups, required: false };
    Layer::ALL
        .into_iter()
        .map(|layer| {
            let missing = protection.missing.iter().find(|(other, _)| *other == layer);
            let found = match missing {
                Some((_, why)) => Err(why.clone()),
                None => Ok("enforced".to_owned()),
            };
            Check { name: format!("sandbox {layer}"), found, required: true }
        })
        .chain([groups])
        .collect()
}

fn gpu() -> Check {
    let found = real_lm::cuda::probe().map_err(|error| format!("none; training runs on the CPU ({error})"));
    Check { name: "gpu".to_owned(), found, required: false }
}
