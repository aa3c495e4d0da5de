//! `cargo xtask bench train`: the engine beside PyTorch on the same work, in turns, medians.
//!
//! Both run as processes of their own (`crates/real_lm/examples/bench_one.rs`, `reference/bench_torch.py`), one after the other, so that what
//! else the machine does meets both alike. CPU seconds are those of all threads; on a machine that is not idle they say more than the
//! clock on the wall, which the table has beside them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// Arguments of `cargo xtask bench train`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// A Python with torch and transformers, or with llama-cpp-python.
    #[arg(long, default_value = "python3")]
    python: String,
    /// The shape of the model, smollm2-135m or qwen2.5-0.5b; or a GGUF file, whose decoding is measured beside llama.cpp.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// What is measured: train, decode (16 sequences) or decode-one.
    #[arg(long, value_delimiter = ',', default_value = "train,decode,decode-one")]
    work: Vec<String>,
    /// Types that PyTorch computes with.
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16")]
    torch: Vec<String>,
    /// Turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Training steps, or passes of decoding, in each turn.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

/// The figures of one run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    tokens_per_cpu_second: f64,
    tokens_per_second: f64,
    peak_gigabytes: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    cargo(&["build", "--release", "--package", "real_lm", "--example", "bench_one"])?;
    println!("{}, medians of {} turns", args.model, args.rounds);
    println!("| work | engine | tokens / CPU s | tokens / s | peak GB | ours / theirs |");
    println!("|---|---|---|---|---|---|");
    if Path::new(&args.model).is_file() {
        return measure(args, "decode-one");
    }
    args.work.iter().try_for_each(|work| measure(args, work))
}

fn measure(args: &Args, work: &str) -> Result<()> {
    let repeats = args.repeats.to_string();
    let common = [work, args.model.as_str(), repeats.as_str()];
    let (own, script, others) = if Path::new(&args.model).is_file() {
        ("real, quantised", "reference/bench_llama.py", vec!["llama.cpp".to_owned()])
    } else {
        (
            "real f32",
            "reference/bench_torch.py",
            args.torch.iter().map(|dtype| format!("torch {dtype}")).collect(),
        )
    };
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for round in 1..=args.rounds {
        eprintln!("{work}: turn {round} of {}", args.rounds);
        let ours = sample(Command::new("target/release/examples/bench_one").args(common))?;
        samples.entry(own.to_owned()).or_default().push(ours);
        for other in &others {
            let mut command = Command::new(&args.python);
            command.arg(script).args(common).args(other.strip_prefix("torch "));
            samples.entry(other.clone()).or_default().push(sample(&mut command)?);
        }
    }
    let ours = median(&samples[own], |s| s.tokens_per_cpu_second);
    for (engine, samples) in &samples {
        let cpu = median(samples, |s| s.tokens_per_cpu_second);
        println!(
            "| {work} | {engine} | {cpu:.0} | {:.0} | {:.2} | {:.2} |",
            median(samples, |s| s.tokens_per_second),
            median(samples, |s| s.peak_gigabytes),
            ours / cpu
        );
    }
    Ok(())
}

/// Runs one measurement, which prints a line of JSON.
fn sample(command: &mut Command) -> Result<Sample> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let row: Value =
        serde_json::from_str(line.trim()).with_context(|| format!("{command:?} said {line:?}"))?;
    let number = |name: &str| row[name].as_f64().with_context(|| format!("{name} is missing in {line}"));
    Ok(Sample {
        tokens_per_cpu_second: number("tokens")? / number("cpu_seconds")?,
        tokens_per_second: number("tokens")? / number("wall_seconds")?,
        peak_gigabytes: number("peak_bytes")? / 1e9,
    })
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}
