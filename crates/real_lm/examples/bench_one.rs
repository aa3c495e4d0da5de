//! One measurement of the engine, as a line of JSON: `bench_one train|decode|decode-one MODEL REPEATS`, where MODEL is a shape, which gets
//! random weights, or a GGUF file, which is decoded with its quantised weights as they are.
//!
//! The work is that of `reference/bench_torch.py`: a training step is a forward and backward pass over 4 × 256 tokens with cross-entropy on
//! every next token, and an AdamW update; decoding is greedy, 16 sequences or one, with cached keys and values. The first
//! step is not measured. CPU time and peak memory come from `/proc`, so the measurement needs Linux.

use std::ops::ControlFlow;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use real_lm::{BlockModel, Example, Model, ModelConfig, Sampling, SftConfig, SftTrainer, Weights, generate};

mod support;

use support::{cpu_seconds, qwen2_5_0_5b, smollm2_135m};

const SEQUENCES: usize = 4;
const LENGTH: usize = 256;
const PROMPT: usize = 16;
const NEW_TOKENS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (work, model, repeats) = match arguments[..] {
        [work, model, repeats] => (work, model, repeats.parse().expect("the third argument is a number")),
        _ => panic!("usage: bench_one train|decode|decode-one smollm2-135m|qwen2.5-0.5b|FILE.gguf REPEATS"),
    };
    let (tokens, cpu, wall) = if std::path::Path::new(model).is_file() {
        let model = BlockModel::from_gguf(model.as_ref()).expect("a GGUF file");
        decode(Weights::from(&model), sequences(work), repeats)
    } else {
        let model = Model::random(shape(model), 0.02, &mut ChaCha8Rng::seed_from_u64(0));
        match work {
            "train" => train(model, repeats),
            _ => decode(Weights::from(&model), sequences(work), repeats),
        }
    };
    println!(
        "{{\"tokens\": {tokens}, \"cpu_seconds\": {cpu}, \"wall_seconds\": {wall}, \"peak_bytes\": {}}}",
        peak_bytes()
    );
}

/// How many sequences are decoded at once.
fn sequences(work: &str) -> usize {
    match work {
        "decode" => 16,
        "decode-one" => 1,
        _ => panic!("{work} is no work; train (of a shape), decode and decode-one are"),
    }
}

fn shape(name: &str) -> ModelConfig {
    match name {
        "smollm2-135m" => smollm2_135m(),
        "qwen2.5-0.5b" => qwen2_5_0_5b(),
        _ => panic!("{name} is no shape; smollm2-135m and qwen2.5-0.5b are"),
    }
}

fn train(model: Model, steps: usize) -> (usize, f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let vocab = model.config.vocab_size as u32;
    let mut sequence =
        || Example { ids: (0..=LENGTH).map(|_| rng.random_range(0..vocab)).collect(), prompt_len: 1 };
    let examples: Vec<Example> = (0..SEQUENCES).map(|_| sequence()).collect();
    let examples: Vec<&Example> = examples.iter().collect();
    let mut trainer = SftTrainer::new(model, SftConfig::default(), steps + 1);
    trainer.step(&examples).expect("the CPU computes");
    measure(steps * SEQUENCES * LENGTH, || {
        for _ in 0..steps {
            trainer.step(&examples).expect("the CPU computes");
        }
    })
}

fn decode(weights: Weights, batch: usize, repeats: usize) -> (usize, f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let vocab = weights.config().vocab_size as u32;
    let mut prompt = || (0..PROMPT).map(|_| rng.random_range(0..vocab)).collect::<Vec<u32>>();
    let prompts: Vec<Vec<u32>> = (0..batch).map(|_| prompt()).collect();
    let run = |new_tokens| {
        let sampling =
            Sampling { temperature: 0.0, max_new_tokens: new_tokens, batch, ..Sampling::default() };
        generate(weights, &prompts, &sampling, |_, _| ControlFlow::Continue(()), |_, _| ());
    };
    run(2);
    measure(repeats * batch * NEW_TOKENS, || {
        for _ in 0..repeats {
            run(NEW_TOKENS);
        }
    })
}

/// Tokens, CPU seconds and wall seconds.
fn measure(tokens: usize, work: impl FnOnce()) -> (usize, f64, f64) {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    work();
    (tokens, cpu_seconds() - cpu, wall.elapsed().as_secs_f64())
}

fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().expect("a number") * 1024
}
