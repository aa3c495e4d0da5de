//! The engine on a GPU: whether it is right, then how fast it is. Prints tables in Markdown.
//!
//! ```text
//! cargo run --release -p real_lm --example bench_cuda [-- STAGE…]
//! ```
//!
//! Each stage runs in a process of its own, so that a failure of one, even of the device, leaves the others theirs. Weights are
//! random, in the shape of Qwen2.5-0.5B: nothing has to be downloaded. All together take less than five minutes.

use std::ops::ControlFlow;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use real_lm::cuda::{Engine, Plan, Purpose, check_operations, measure_device};
use real_lm::head::{self, Rows, TokenGradient};
use real_lm::{
    AdamWConfig, Keep, Layout, Model, ModelConfig, Packed, Sampling, Workspace, backward, clip_factor,
    forward,
};

mod support;

use support::{median, qwen2_5_0_5b};

/// Dense bf16 operations a second that the data sheet of the H100 (SXM) promises.
const H100_PEAK: f64 = 989e12;

/// What a process of its own does.
type Stage = fn() -> Result<()>;

const STAGES: [(&str, Stage); 5] = [
    ("operations", operations),
    ("parity", parity),
    ("ceilings", ceilings),
    ("train", train),
    ("decode", decode),
];

fn main() -> Result<()> {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &chosen[..]
        && flag == "--stage"
    {
        let stage = STAGES.iter().find(|stage| stage.0 == name).context("no such stage")?;
        return stage.1();
    }
    let program = std::env::current_exe()?;
    let mut failed = Vec::new();
    for (name, _) in STAGES.iter().filter(|(name, _)| chosen.is_empty() || chosen.iter().any(|c| c == name)) {
        println!("\n## {name}\n");
        let start = Instant::now();
        let status = Command::new(&program).args(["--stage", name]).status()?;
        println!(
            "\n{name}: {:.0} s{}",
            start.elapsed().as_secs_f64(),
            if status.success() { "" } else { ", FAILED" }
        );
        if !status.success() {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Every operation against the CPU.
fn operations() -> Result<()> {
    println!("| operation | relative error | bound | |\n|---|---|---|---|");
    let checks = check_operations()?;
    for check in &checks {
        let error = match &check.error {
            Ok(error) => format!("{error:.1e}"),
            Err(error) => error.to_string(),
        };
        let verdict = if check.passed() { "passed" } else { "FAILED" };
        println!("| {} | {error} | {:.0e} | {verdict} |", check.name, check.bound);
    }
    if !checks.iter().all(real_lm::cuda::Check::passed) {
        bail!("an operation differs from the CPU's");
    }
    Ok(())
}

/// A whole pass, forward and backward, against the CPU engine in f32, on a model of 30 million parameters.
fn parity() -> Result<()> {
    let config = ModelConfig {
        vocab_size: 8192,
        hidden_size: 512,
        intermediate_size: 1408,
        num_hidden_layers: 6,
        num_attention_heads: 8,
        ..qwen2_5_0_5b()
    };
    let (model, batch) = (random_model(config.clone()), random_batch(&config, &[300, 64, 1, 130]));
    let mut engine = Engine::open(&model, &plan(Purpose::Training, 1024, 0, 0))?;
    let (rows, targets) = next_tokens(&batch);
    let scored = Rows { rows: &rows, targets: &targets, temperature: 1.0 };
    let weight = TokenGradient { logprob: -1.0 / rows.len() as f32, entropy: 0.0 };
    engine.forward(&batch, Keep::Activations)?;
    let ours = engine.accumulate(scored, |_, _, _| weight, None)?;
    let (our_grads, mut grads) = (engine.gradients()?, vec![0.0; model.params.len()]);

    let mut workspace = Workspace::new(Keep::Activations);
    forward(&model, &batch, &mut workspace);
    let mut d_hidden = vec![0.0; workspace.hidden().len()];
    let theirs =
        head::backward(&model, workspace.hidden(), scored, |_, _, _| weight, &mut d_hidden, &mut grads);
    backward(&model, &batch, &mut workspace, &d_hidden, &mut grads);

    println!("| | |\n|---|---|");
    println!(
        "| log-probabilities, relative error | {:.1e} |",
        relative_error(&ours.logprobs, &theirs.logprobs)
    );
    let cosines = Layout::new(&config)
        .tensors(&config)
        .into_iter()
        .map(|(name, _, range)| (cosine(&our_grads[range.clone()], &grads[range]), name));
    // The bias of the keys has no gradient but for rounding.
    let worst = cosines.filter(|(_, name)| !name.ends_with("k_proj.bias")).min_by(|a, b| a.0.total_cmp(&b.0));
    let (cosine, name) = worst.context("a model has tensors")?;
    println!("| lowest cosine of a gradient, {name} | {cosine:.6} |");

    engine.forward(&batch, Keep::Activations)?;
    let again = engine.accumulate(scored, |_, _, _| weight, None)?;
    println!("| the same bits the second time | {} |", again == ours);
    if cosine < 0.999 || again != ours {
        bail!("the passes differ");
    }
    Ok(())
}

fn ceilings() -> Result<()> {
    let (device, rates) = measure_device()?;
    println!("{device}\n\n| | |\n|---|---|");
    for rate in rates {
        println!("| {} | {:.0} {} |", rate.name, rate.rate, rate.unit);
    }
    Ok(())
}

/// Steps of 16 sequences of 1024 tokens.
fn train() -> Result<()> {
    const STEPS: usize = 10;
    let config = qwen2_5_0_5b();
    let (model, batch) = (random_model(config.clone()), random_batch(&config, &[1024; 16]));
    let start = Instant::now();
    let mut engine = Engine::open(&model, &plan(Purpose::Training, batch.tokens(), 0, 0))?;
    println!("{}; opened in {:.1} s", engine.device(), start.elapsed().as_secs_f64());
    let (rows, targets) = next_tokens(&batch);
    let scored = Rows { rows: &rows, targets: &targets, temperature: 1.0 };
    let weight = TokenGradient { logprob: -1.0 / rows.len() as f32, entropy: 0.0 };
    let mut phases: [Vec<f64>; 4] = Default::default();
    for step in 0..STEPS + 2 {
        let mut times = [0.0; 4];
        let mut clock = Instant::now();
        let mut lap = |engine: &Engine, slot: usize| -> Result<()> {
            engine.synchronize()?;
            times[slot] = clock.elapsed().as_secs_f64();
            clock = Instant::now();
            Ok(())
        };
        engine.forward(&batch, Keep::Activations)?;
        lap(&engine, 0)?;
        let scores = engine.score(scored)?;
        lap(&engine, 1)?;
        engine.accumulate(scored, |_, _, _| weight, None)?;
        lap(&engine, 2)?;
        let norm = engine.grad_norm()?;
        engine.step(AdamWConfig::default(), 1e-5, clip_factor(norm, 1.0))?;
        lap(&engine, 3)?;
        if step == 0 || step == STEPS + 1 {
            let loss = -scores.logprobs.iter().sum::<f32>() / rows.len() as f32;
            println!("step {step}: loss {loss:.4}, gradient norm {norm:.3}");
        }
        if step >= 2 {
            phases.iter_mut().zip(times).for_each(|(phase, time)| phase.push(time));
        }
    }
    let [forward, score, back, update] = phases.map(median);
    // Scoring is not part of a step: accumulating makes the logits itself.
    let (seconds, tokens) = (forward + back + update, batch.tokens() as f64);
    let operations = tokens * operations_a_token(&config, 1024);
    println!("\n| phase | ms |\n|---|---|");
    for (name, time) in [
        ("forward", forward),
        ("head, its gradient, backward", back),
        ("norm, AdamW", update),
        ("(scoring alone)", score),
    ] {
        println!("| {name} | {:.1} |", 1e3 * time);
    }
    println!("| tokens/s | {:.0} |", tokens / seconds);
    println!("| TFLOP/s | {:.0} |", operations / seconds / 1e12);
    println!("| MFU of an H100 | {:.1} % |", 100.0 * operations / seconds / H100_PEAK);
    Ok(())
}

/// 256 sequences of 256 tokens, each getting 256 more.
fn decode() -> Result<()> {
    let config = qwen2_5_0_5b();
    let model = random_model(config.clone());
    let mut engine = Engine::open(&model, &plan(Purpose::Scoring, 16_384, 256, 512))?;
    println!(
        "{}\n\n| sequences | new tokens | prefill s | tokens/s | ms a step |\n|---|---|---|---|---|",
        engine.device()
    );
    for sequences in [1, 16, 256] {
        let prompts: Vec<Vec<u32>> =
            random_batch(&config, &vec![256; sequences]).ids.chunks(256).map(<[u32]>::to_vec).collect();
        let time = |engine: &mut Engine, max_new_tokens: usize| -> Result<f64> {
            let sampling = Sampling { max_new_tokens, batch: sequences, ..Sampling::default() };
            let start = Instant::now();
            let completions =
                engine.generate(&prompts, &sampling, |_, _| ControlFlow::Continue(()), |_, _| ())?;
            if completions.iter().any(|c| c.logprobs.iter().any(|x| !x.is_finite())) {
                bail!("log-probabilities that are no numbers");
            }
            Ok(start.elapsed().as_secs_f64())
        };
        time(&mut engine, 256)?;
        let (short, long) = (time(&mut engine, 16)?, time(&mut engine, 256)?);
        let step = (long - short) / 240.0;
        let rate = sequences as f64 / step;
        println!("| {sequences} | 256 | {:.3} | {rate:.0} | {:.2} |", short - 16.0 * step, 1e3 * step);
    }
    Ok(())
}

/// Multiplications and additions of a training step a token: 6 for each weight of a product, and attention, whose forward
/// pass takes 2 · 2 · H D for each of the keys that a token sees, on average half the length; backward twice that.
fn operations_a_token(config: &ModelConfig, length: usize) -> f64 {
    let layer = config.qkv_size() * config.hidden_size
        + config.attention_size() * config.hidden_size
        + 3 * config.hidden_size * config.intermediate_size;
    let weights = config.num_hidden_layers * layer + config.vocab_size * config.hidden_size;
    let attention = config.num_hidden_layers * 3 * 4 * config.attention_size() * length / 2;
    (6 * weights + attention) as f64
}

fn plan(purpose: Purpose, micro_batch_tokens: usize, decode_sequences: usize, decode_tokens: usize) -> Plan {
    Plan { purpose, micro_batch_tokens, decode_sequences, decode_tokens }
}

/// Uniform weights with the deviation of an initialisation, made on all cores; norms are 1.
fn random_model(config: ModelConfig) -> Model {
    const CHUNK: usize = 1 << 20;
    let layout = Layout::new(&config);
    let mut params = vec![0.0f32; layout.len];
    params.par_chunks_mut(CHUNK).enumerate().for_each(|(index, chunk)| {
        let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
        for x in chunk {
            *x = rng.random_range(-0.035..0.035);
        }
    });
    let norms = layout.layers.iter().flat_map(|l| [&l.input_layernorm, &l.post_attention_layernorm]);
    for range in norms.chain([&layout.norm]).cloned().collect::<Vec<_>>() {
        params[range].fill(1.0);
    }
    Model { config, layout, params }
}

fn random_batch(config: &ModelConfig, lengths: &[usize]) -> Packed {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut draw = || rng.random_range(0..config.vocab_size as u32);
    Packed::new(
        &lengths.iter().map(|&length| (0..length).map(|_| draw()).collect()).collect::<Vec<Vec<u32>>>(),
    )
}

fn next_tokens(batch: &Packed) -> (Vec<usize>, Vec<u32>) {
    let rows: Vec<usize> = batch.sequences().flat_map(|rows| rows.start..rows.end - 1).collect();
    let targets = rows.iter().map(|row| batch.ids[row + 1]).collect();
    (rows, targets)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn relative_error(ours: &[f32], theirs: &[f32]) -> f64 {
    let difference: Vec<f32> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    (dot(&difference, &difference) / dot(theirs, theirs)).sqrt()
}
