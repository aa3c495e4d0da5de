//! Tokens a second of training and decoding, on random weights.
//!
//! ```text
//! cargo run --release -p real_lm --example bench_engine -- [tiny|smol|qwen]… [--repeat N]
//! ```
//!
//! A training step is a forward pass, the fused head with cross-entropy, a backward pass, clipping and an AdamW update. Wall
//! times are medians. CPU seconds stand beside them: on a machine that does other things too they are the fairer number.

use std::ops::ControlFlow;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use real_lm::head::{self, Rows, TokenGradient};
use real_lm::{
    AdamW, AdamWConfig, Keep, Model, ModelConfig, Packed, Sampling, Workspace, backward, clip_grad_norm,
    forward, generate,
};

mod support;

use support::{cpu_seconds, median, qwen2_5_0_5b, smollm2_135m};

/// A model and the batches it is measured with.
struct Shape {
    name: &'static str,
    config: ModelConfig,
    /// Sequences and tokens of each in a training batch.
    train: (usize, usize),
    /// Sequences decoded at once.
    decode: &'static [usize],
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let repeat = arguments
        .iter()
        .position(|argument| argument == "--repeat")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(5);
    let chosen = |shape: &Shape| arguments.iter().any(|argument| argument == shape.name);
    let any_named = shapes().iter().any(chosen);
    println!("{} threads, medians of {repeat}", rayon::current_num_threads());
    for shape in shapes().iter().filter(|shape| if any_named { chosen(shape) } else { shape.name == "tiny" })
    {
        let model = Model::random(shape.config.clone(), 0.02, &mut ChaCha8Rng::seed_from_u64(0));
        println!("{}: {:.1} M parameters", shape.name, model.params.len() as f64 / 1e6);
        for &batch in shape.decode {
            decode(&model, batch, repeat);
        }
        train(model, shape.train, repeat);
    }
}

fn shapes() -> [Shape; 3] {
    let tiny = ModelConfig {
        vocab_size: 1024,
        hidden_size: 192,
        intermediate_size: 512,
        num_hidden_layers: 6,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 32,
        ..smollm2_135m()
    };
    [
        Shape { name: "tiny", config: tiny, train: (32, 200), decode: &[1, 32] },
        Shape { name: "smol", config: smollm2_135m(), train: (4, 256), decode: &[1, 16] },
        Shape { name: "qwen", config: qwen2_5_0_5b(), train: (4, 256), decode: &[1, 16] },
    ]
}

fn train(mut model: Model, (sequences, length): (usize, usize), repeat: usize) {
    let vocab = model.config.vocab_size;
    let sequence =
        |s: usize| (0..length).map(|t| ((s * length + t) * 7919 % vocab) as u32).collect::<Vec<_>>();
    let batch = Packed::new(&(0..sequences).map(sequence).collect::<Vec<_>>());
    let rows: Vec<usize> = (0..batch.tokens()).collect();
    let targets: Vec<u32> = batch.ids.iter().map(|id| (id + 1) % vocab as u32).collect();
    let weight = TokenGradient { logprob: -1.0 / rows.len() as f32, entropy: 0.0 };

    let mut workspace = Workspace::new(Keep::Activations);
    let mut optimiser = AdamW::new(AdamWConfig::default(), model.params.len());
    let mut grads = vec![0.0; model.params.len()];
    let mut times = Times::default();
    for _ in 0..=repeat {
        times.start();
        grads.fill(0.0);
        forward(&model, &batch, &mut workspace);
        times.mark("forward");
        let mut d_hidden = vec![0.0; workspace.hidden().len()];
        let scored = Rows { rows: &rows, targets: &targets, temperature: 1.0 };
        head::backward(&model, workspace.hidden(), scored, |_, _, _| weight, &mut d_hidden, &mut grads);
        times.mark("head");
        backward(&model, &batch, &mut workspace, &d_hidden, &mut grads);
        times.mark("backward");
        clip_grad_norm(&mut [&mut grads], 1.0);
        optimiser.step(&mut model.params, &grads, 1e-4);
        times.mark("update");
    }
    times.report(&format!("train {sequences} x {length}"), batch.tokens());
}

fn decode(model: &Model, batch: usize, repeat: usize) {
    let (prompt_length, new) = (128, 64);
    let vocab = model.config.vocab_size;
    let prompt =
        |s: usize| (0..prompt_length).map(|t| ((s * 31 + t) * 7919 % vocab) as u32).collect::<Vec<_>>();
    let prompts: Vec<Vec<u32>> = (0..batch).map(prompt).collect();
    let sampling = Sampling { max_new_tokens: new, batch, ..Sampling::default() };
    let (mut all, mut decode) = (Times::default(), Times::default());
    for _ in 0..=repeat {
        all.start();
        let mut drawn = 0;
        generate(
            model,
            &prompts,
            &sampling,
            |_, _| {
                drawn += 1;
                if drawn == batch {
                    // Every prompt has been taken in and has its first token.
                    all.mark("prefill");
                    decode.start();
                }
                ControlFlow::Continue(())
            },
            |_, _| (),
        );
        all.mark("decode");
        decode.mark("decode");
    }
    decode.report(&format!("decode {batch} at once"), batch * (new - 1));
    all.report("  with prefill", batch * new);
}

/// Wall and CPU seconds of the phases of repeated runs; the first run is not counted.
#[derive(Default)]
struct Times {
    runs: Vec<Vec<(&'static str, f64, f64)>>,
    last: Option<(Instant, f64)>,
}

impl Times {
    fn start(&mut self) {
        self.runs.push(Vec::new());
        self.last = Some((Instant::now(), cpu_seconds()));
    }

    fn mark(&mut self, phase: &'static str) {
        let (now, cpu) = (Instant::now(), cpu_seconds());
        if let (Some((then, cpu_then)), Some(run)) = (self.last, self.runs.last_mut()) {
            run.push((phase, (now - then).as_secs_f64(), cpu - cpu_then));
        }
        self.last = Some((now, cpu));
    }

    fn report(&self, what: &str, tokens: usize) {
        let runs = &self.runs[1..];
        let total = |of: fn(&(&str, f64, f64)) -> f64| {
            median(runs.iter().map(|run| run.iter().map(of).sum()).collect())
        };
        let (wall, cpu) = (total(|phase| phase.1), total(|phase| phase.2));
        let best = runs.iter().map(|run| run.iter().map(|phase| phase.1).sum()).fold(f64::INFINITY, f64::min);
        let rate = |seconds: f64| tokens as f64 / seconds;
        print!("{what}: {:.0} tokens/s (best {:.0}), {:.0} a CPU second;", rate(wall), rate(best), rate(cpu));
        for (i, (phase, ..)) in runs[0].iter().enumerate() {
            print!(" {phase} {:.1} ms", 1e3 * median(runs.iter().map(|run| run[i].1).collect()));
        }
        println!();
    }
}
