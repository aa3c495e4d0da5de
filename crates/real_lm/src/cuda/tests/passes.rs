//! Passes, training and generation of tiny models.

use std::ops::ControlFlow;
use std::sync::Arc;

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cuda::checks::relative_error;
use crate::cuda::emulated::Emulated;
use crate::cuda::{Engine, Error, Plan, Purpose};
use crate::head::{self, Rows, TokenGradient};
use crate::{
    AdamW, AdamWConfig, Architecture, Finish, Generated, Keep, Layout, Model, ModelConfig, Packed, Sampling,
    ValueGradient, ValueHead, Workspace, backward, clip_factor, clip_grad_norm, forward,
};

/// Both families, tied and untied, every width of heads.
pub(super) fn configs() -> [ModelConfig; 3] {
    let small = ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 203,
        hidden_size: 64,
        intermediate_size: 136,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: true,
    };
    [
        small.clone(),
        ModelConfig {
            architecture: Architecture::Llama,
            num_attention_heads: 3,
            num_key_value_heads: 1,
            head_dim: 64,
            tie_word_embeddings: false,
            ..small.clone()
        },
        ModelConfig { num_attention_heads: 1, num_key_value_heads: 1, head_dim: 128, ..small },
    ]
}

/// A random model whose parameters bf16 holds exactly, so that the two engines start from the same.
pub(super) fn model(config: &ModelConfig) -> Model {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut model = Model::random(config.clone(), 0.15, &mut rng);
    for layer in &model.layout.layers.clone() {
        // Biases and norms that are not the same everywhere.
        for range in [&layer.qkv_bias, &layer.input_layernorm, &layer.post_attention_layernorm] {
            model.params[range.clone()].iter_mut().for_each(|x| *x += rng.random_range(-0.3..0.3));
        }
    }
    model.params.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
    model
}

fn batch() -> Packed {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let sequences =
        [70, 1, 23, 5].map(|length| (0..length).map(|_| rng.random_range(0..203)).collect::<Vec<u32>>());
    Packed::new(&sequences)
}

/// Rows that have a next token, and these tokens.
fn scored(batch: &Packed) -> (Vec<usize>, Vec<u32>) {
    let rows: Vec<usize> = batch.sequences().flat_map(|rows| rows.start..rows.end - 1).collect();
    let targets = rows.iter().map(|row| batch.ids[row + 1]).collect();
    (rows, targets)
}

/// A loss of everything: log-probabilities, entropies and values.
fn derivative(_: usize, logprob: f32, entropy: f32) -> TokenGradient {
    TokenGradient { logprob: -0.01 * (1.0 + 0.1 * logprob.exp()), entropy: -0.002 * entropy }
}

struct Pass {
    logprobs: Vec<f32>,
    entropies: Vec<f32>,
    values: Vec<f32>,
    value_grads: Vec<f32>,
}

fn on_device(engine: &mut Engine, critic: &ValueHead, batch: &Packed) -> Result<Pass, Error> {
    let (rows, targets) = scored(batch);
    let scored = Rows { rows: &rows, targets: &targets, temperature: 0.8 };
    engine.forward(batch, Keep::Activations)?;
    let values = engine.values(critic, &rows)?;
    let d_values: Vec<f32> = values.iter().map(|value| 0.01 * (value - 1.0)).collect();
    let mut value_grads = vec![0.0; critic.params.len()];
    let gradient =
        ValueGradient { critic, rows: &rows, d_values: &d_values, into_trunk: true, grads: &mut value_grads };
    let scores = engine.accumulate(scored, derivative, Some(gradient))?;
    Ok(Pass { logprobs: scores.logprobs, entropies: scores.entropies, values, value_grads })
}

fn on_cpu(model: &Model, critic: &ValueHead, batch: &Packed) -> (Pass, Vec<f32>) {
    let (rows, targets) = scored(batch);
    let scored = Rows { rows: &rows, targets: &targets, temperature: 0.8 };
    let mut workspace = Workspace::new(Keep::Activations);
    forward(model, batch, &mut workspace);
    let values = critic.values(workspace.hidden(), &rows);
    let d_values: Vec<f32> = values.iter().map(|value| 0.01 * (value - 1.0)).collect();
    let (mut grads, mut value_grads) = (vec![0.0; model.params.len()], vec![0.0; critic.params.len()]);
    let mut d_hidden = vec![0.0; workspace.hidden().len()];
    let scores = head::backward(model, workspace.hidden(), scored, derivative, &mut d_hidden, &mut grads);
    critic.backward(workspace.hidden(), &rows, &d_values, Some(&mut d_hidden), &mut value_grads);
    backward(model, batch, &mut workspace, &d_hidden, &mut grads);
    (Pass { logprobs: scores.logprobs, entropies: scores.entropies, values, value_grads }, grads)
}

/// Returns the norm that the gradients had.
fn clip_and_step(engine: &mut Engine, config: AdamWConfig, rate: f32, max_norm: f32) -> f32 {
    let norm = engine.grad_norm().unwrap();
    engine.step(config, rate, clip_factor(norm, max_norm)).unwrap();
    norm
}

fn critic() -> ValueHead {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    ValueHead { params: (0..65).map(|_| rng.random_range(-0.3..0.3)).collect() }
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn scores_and_every_gradient_agree_with_the_cpu() {
    let Some(device) = Emulated::open("scores_and_every_gradient_agree_with_the_cpu") else { return };
    for config in configs() {
        let (model, critic, batch) = (model(&config), critic(), batch());
        let mut engine = Engine::on(device.clone(), &model, Purpose::Training).unwrap();
        // So few that the scored rows are several chunks.
        engine.head = super::super::head::Head::empty(&engine.device, 40);
        let ours = on_device(&mut engine, &critic, &batch).unwrap();
        let (theirs, grads) = on_cpu(&model, &critic, &batch);
        let error = relative_error(&ours.logprobs, &theirs.logprobs);
        eprintln!("head_dim {}: log-probabilities {error:.1e}", config.head_dim);
        assert!(error < 5e-3, "log-probabilities: {error:e}");
        assert!(relative_error(&ours.entropies, &theirs.entropies) < 5e-3);
        assert!(relative_error(&ours.values, &theirs.values) < 2e-2);
        assert!(cosine(&ours.value_grads, &theirs.value_grads) > 0.9995);
        let our_grads = engine.gradients().unwrap();
        for (name, _, range) in Layout::new(&config).tensors(&config) {
            let (a, b) = (&our_grads[range.clone()], &grads[range]);
            let cosine = cosine(a, b);
            // Softmax does not change when all keys of a row move together, so the key's bias has no gradient but for rounding.
            if name.ends_with("k_proj.bias") && b.iter().all(|x| x.abs() < 1e-2) {
                continue;
            }
            assert!(cosine > 0.999, "head_dim {}, {name}: cosine {cosine}", config.head_dim);
        }
    }
}

#[test]
fn the_order_of_threads_does_not_matter() {
    let Some(ascending) = Emulated::open("the_order_of_threads_does_not_matter") else { return };
    let descending = Emulated::open("the_order_of_threads_does_not_matter").expect("it opened before");
    descending.run_descending();
    let (model, batch) = (model(&configs()[0]), batch());
    let sampling = Sampling { max_new_tokens: 5, batch: 2, top_p: 0.9, ..Sampling::default() };
    let results = [ascending, descending].map(|device| {
        let mut engine = Engine::on(device, &model, Purpose::Training).unwrap();
        on_device(&mut engine, &critic(), &batch).unwrap();
        let grads = engine.gradients().unwrap();
        clip_and_step(&mut engine, AdamWConfig::default(), 1e-3, 1.0);
        let completions = complete(&mut engine, &prompts()[..3], &sampling);
        (grads, engine.to_model().unwrap().params, completions)
    });
    assert!(results[0] == results[1], "a barrier is missing");
}

#[test]
fn micro_batches_accumulate_and_steps_are_those_of_the_cpu() {
    let Some(device) = Emulated::open("micro_batches_accumulate_and_steps_are_those_of_the_cpu") else {
        return;
    };
    let (mut model, critic, batch) = (model(&configs()[0]), critic(), batch());
    let mut engine = Engine::on(device, &model, Purpose::Training).unwrap();
    let config = AdamWConfig::default();
    let mut optimizer = AdamW::new(config, model.params.len());
    let start = model.params.clone();
    for step in 0..3 {
        let mut sum = vec![0.0; model.params.len()];
        for part in [&batch, &Packed::new(&[&batch.ids[..9]])] {
            on_device(&mut engine, &critic, part).unwrap();
            sum.iter_mut().zip(on_cpu(&model, &critic, part).1).for_each(|(a, b)| *a += b);
        }
        let ours = clip_and_step(&mut engine, config, 1e-3, 0.5);
        let theirs = clip_grad_norm(&mut [&mut sum], 0.5);
        // AdamW takes a full step along a gradient that is all rounding, so the two drift apart.
        let bound = if step == 0 { 1e-2 } else { 0.1 };
        assert!((ours / theirs - 1.0).abs() < bound, "step {step}: norms {ours} and {theirs}");
        optimizer.step(&mut model.params, &sum, 1e-3);
    }
    let moved = |params: &[f32]| -> Vec<f32> { params.iter().zip(&start).map(|(a, b)| a - b).collect() };
    let ours = engine.to_model().unwrap();
    let cosine = cosine(&moved(&ours.params), &moved(&model.params));
    eprintln!("updates: cosine {cosine:.4}");
    assert!(cosine > 0.95, "the updates point elsewhere: {cosine}");
    // What the passes read is the rounded copy of what was stepped.
    let reopened = Engine::on(engine.device.clone(), &ours, Purpose::Scoring).unwrap().to_model().unwrap();
    let rounded: Vec<f32> = ours.params.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
    assert!(reopened.params == rounded);
}

#[test]
fn a_resumed_optimiser_goes_on_as_if_nothing_had_happened() {
    let Some(device) = Emulated::open("a_resumed_optimiser_goes_on_as_if_nothing_had_happened") else {
        return;
    };
    let (model, critic, batch) = (model(&configs()[0]), critic(), batch());
    let config = AdamWConfig::default();
    let step = |engine: &mut Engine| {
        on_device(engine, &critic, &batch).unwrap();
        clip_and_step(engine, config, 1e-3, 1.0);
    };
    let mut engine = Engine::on(device.clone(), &model, Purpose::Training).unwrap();
    step(&mut engine);
    let (saved, optimizer) = (engine.to_model().unwrap(), engine.to_optimizer(config).unwrap());
    let mut resumed = Engine::on(device, &saved, Purpose::Training).unwrap();
    resumed.load_optimizer(&optimizer).unwrap();
    for engine in [&mut engine, &mut resumed] {
        step(engine);
    }
    assert!(engine.to_model().unwrap().params == resumed.to_model().unwrap().params);
}

pub(super) fn prompts() -> Vec<Vec<u32>> {
    vec![
        vec![3, 1, 4],
        vec![1],
        (0..70).map(|i| i * 7 % 203).collect(),
        vec![3, 1, 4],
        vec![3, 1, 4],
        vec![2, 7, 1, 8, 2],
        vec![9, 9],
        vec![100, 200],
        vec![5, 6, 7, 8],
        vec![11],
    ]
}

fn complete(engine: &mut Engine, prompts: &[Vec<u32>], sampling: &Sampling) -> Vec<Generated> {
    engine.generate(prompts, sampling, |_, _| ControlFlow::Continue(()), |_, _| ()).unwrap()
}

#[test]
fn completions_are_greedy_and_scored_as_the_cpu_says() {
    let Some(device) = Emulated::open("completions_are_greedy_and_scored_as_the_cpu_says") else { return };
    for config in configs() {
        let model = model(&config);
        let mut engine = Engine::on(device.clone(), &model, Purpose::Scoring).unwrap();
        let sampling = Sampling { temperature: 0.0, max_new_tokens: 20, batch: 3, ..Sampling::default() };
        let completions = complete(&mut engine, &prompts()[..3], &sampling);
        for (prompt, completion) in prompts().iter().zip(&completions) {
            assert_eq!((completion.ids.len(), completion.finish), (20, Finish::Length));
            let sequence = [&prompt[..], &completion.ids].concat();
            let mut workspace = Workspace::new(Keep::Nothing);
            forward(&model, &Packed::new(&[&sequence]), &mut workspace);
            let rows: Vec<usize> = (prompt.len() - 1..sequence.len() - 1).collect();
            let logits = head::logits(&model, workspace.hidden(), &rows);
            let scored = Rows { rows: &rows, targets: &completion.ids, temperature: 1.0 };
            let scores = head::score(&model, workspace.hidden(), scored);
            for (i, row) in logits.chunks_exact(config.vocab_size).enumerate() {
                let best = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
                let chosen = row[completion.ids[i] as usize];
                assert!(best - chosen < 0.05, "token {i} is not the most probable: {chosen} of {best}");
                let (ours, theirs) = (completion.logprobs[i], scores.logprobs[i]);
                assert!((ours - theirs).abs() < 0.05, "log-probability {ours}, not {theirs}");
            }
        }
    }
}

#[test]
fn completions_do_not_depend_on_the_company() {
    let Some(device) = Emulated::open("completions_do_not_depend_on_the_company") else { return };
    let model = model(&configs()[0]);
    let mut engine = Engine::on(device, &model, Purpose::Scoring).unwrap();
    let sampling = Sampling { max_new_tokens: 18, batch: 8, stop_tokens: vec![7, 50], ..Sampling::default() };
    let together = complete(&mut engine, &prompts(), &sampling);
    // Prompts 8 and 9 wait for a slot; with 16 nobody waits.
    assert_eq!(together, complete(&mut engine, &prompts(), &Sampling { batch: 16, ..sampling.clone() }));
    assert_eq!(together[..2], complete(&mut engine, &prompts()[..2], &sampling));
    assert_ne!(together[0].ids, together[3].ids, "equal prompts draw from streams of their own");
    assert_ne!(together, complete(&mut engine, &prompts(), &Sampling { seed: 1 << 40, ..sampling.clone() }));
    for completion in &together {
        let stop = completion.ids.iter().position(|id| sampling.stop_tokens.contains(id));
        let expected = if stop.is_some() { Finish::StopToken } else { Finish::Length };
        assert_eq!(completion.finish, expected);
        assert_eq!(completion.ids.len(), stop.map_or(18, |at| at + 1));
    }
}

#[test]
fn the_caller_can_stop_a_completion_and_sees_each_token_once() {
    let Some(device) = Emulated::open("the_caller_can_stop_a_completion_and_sees_each_token_once") else {
        return;
    };
    let model = model(&configs()[0]);
    let mut engine = Engine::on(device, &model, Purpose::Scoring).unwrap();
    let sampling = Sampling { max_new_tokens: 20, batch: 8, ..Sampling::default() };
    let (mut lengths, mut order) = ([0; 10], Vec::new());
    let completions = engine.generate(
        &prompts(),
        &sampling,
        |index, ids| {
            lengths[index] += 1;
            assert_eq!(lengths[index], ids.len());
            if index == 2 && ids.len() == 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        |index, generated| order.push((index, generated.clone())),
    );
    let completions = completions.unwrap();
    assert_eq!((completions[2].ids.len(), completions[2].finish), (6, Finish::Stopped));
    assert_eq!(completions[2].logprobs.len(), 6);
    assert!(completions.iter().enumerate().all(|(i, c)| i == 2 || c.finish == Finish::Length));
    assert_eq!(order[0].0, 2, "what ends first is finished first");
    order.sort_by_key(|(index, _)| *index);
    assert_eq!(order.into_iter().map(|(_, generated)| generated).collect::<Vec<_>>(), completions);
}

#[test]
fn the_longest_sequence_of_the_model_ends_a_completion() {
    let Some(device) = Emulated::open("the_longest_sequence_of_the_model_ends_a_completion") else { return };
    let model = model(&ModelConfig { max_position_embeddings: 5, ..configs()[0].clone() });
    let mut engine = Engine::on(device, &model, Purpose::Scoring).unwrap();
    let prompts = [vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3], vec![1, 2, 3, 4, 5]];
    let completions = complete(&mut engine, &prompts, &Sampling::default());
    assert_eq!(completions.iter().map(|c| c.ids.len()).collect::<Vec<_>>(), [0, 2, 0]);
    assert!(completions.iter().all(|c| c.finish == Finish::Length));
}

#[test]
fn generation_after_training_reads_the_new_weights() {
    let Some(device) = Emulated::open("generation_after_training_reads_the_new_weights") else { return };
    let (model, batch) = (model(&configs()[0]), batch());
    let mut engine = Engine::on(device.clone(), &model, Purpose::Training).unwrap();
    let sampling = Sampling { temperature: 0.0, max_new_tokens: 6, ..Sampling::default() };
    let before = complete(&mut engine, &prompts()[..2], &sampling);
    on_device(&mut engine, &critic(), &batch).unwrap();
    clip_and_step(&mut engine, AdamWConfig::default(), 0.1, 1.0);
    let after = complete(&mut engine, &prompts()[..2], &sampling);
    assert_ne!(before, after);
    let mut fresh = Engine::on(device, &engine.to_model().unwrap(), Purpose::Scoring).unwrap();
    assert_eq!(after, complete(&mut fresh, &prompts()[..2], &sampling));
}

#[test]
fn a_reference_beside_the_policy_stays_as_it_is() {
    let Some(device) = Emulated::open("a_reference_beside_the_policy_stays_as_it_is") else { return };
    let (model, batch) = (model(&configs()[0]), batch());
    let mut policy = Engine::on(device, &model, Purpose::Training).unwrap();
    let plan =
        Plan { purpose: Purpose::Scoring, micro_batch_tokens: 128, decode_sequences: 0, decode_tokens: 0 };
    let mut reference = policy.beside(&model, &plan).unwrap();
    let (rows, targets) = scored(&batch);
    let score = |engine: &mut Engine| {
        engine.forward(&batch, Keep::Nothing).unwrap();
        engine.score(Rows { rows: &rows, targets: &targets, temperature: 1.0 }).unwrap()
    };
    let before = score(&mut reference);
    assert_eq!(score(&mut policy), before, "the same weights give the same bits");
    on_device(&mut policy, &critic(), &batch).unwrap();
    clip_and_step(&mut policy, AdamWConfig::default(), 1e-2, 1.0);
    assert_ne!(score(&mut policy), before);
    assert_eq!(score(&mut reference), before);
}

#[test]
fn shapes_without_kernels_are_refused() {
    let Some(device) = Emulated::open("shapes_without_kernels_are_refused") else { return };
    let config = ModelConfig { head_dim: 48, ..configs()[0].clone() };
    let device: Arc<dyn crate::cuda::device::Device> = device;
    let error = Engine::on(device, &model(&config), Purpose::Scoring).unwrap_err();
    assert!(error.to_string().contains("head_dim is 48"), "{error}");
}

#[test]
fn a_plan_knows_the_memory_before() {
    let Some(device) = Emulated::open("a_plan_knows_the_memory_before") else { return };
    for purpose in [Purpose::Scoring, Purpose::Training] {
        let (config, tokens) = (&configs()[0], batch().tokens());
        let plan = Plan { purpose, micro_batch_tokens: tokens, decode_sequences: 3, decode_tokens: 90 };
        let before = device.allocated();
        let mut engine = Engine::on(device.clone(), &model(config), purpose).unwrap();
        let (rows, targets) = scored(&batch());
        let scored = Rows { rows: &rows, targets: &targets, temperature: 1.0 };
        if purpose == Purpose::Training {
            engine.forward(&batch(), Keep::Activations).unwrap();
            engine.accumulate(scored, derivative, None).unwrap();
        } else {
            engine.forward(&batch(), Keep::Nothing).unwrap();
            engine.score(scored).unwrap();
        }
        complete(
            &mut engine,
            &prompts()[..3],
            &Sampling { max_new_tokens: 20, batch: 3, ..Sampling::default() },
        );
        let (planned, used) = (plan.memory(config).total(), device.allocated() - before);
        let ratio = planned as f64 / used as f64;
        assert!((0.97..1.1).contains(&ratio), "{purpose:?}: {planned} bytes planned, {used} used");
    }
}

#[test]
fn a_plan_that_does_not_fit_names_the_setting_that_would() {
    let config = &configs()[0];
    let large = Plan {
        purpose: Purpose::Training,
        micro_batch_tokens: 1 << 20,
        decode_sequences: 8,
        decode_tokens: 64,
    };
    let error = large.check(config, 2 << 30).unwrap_err().to_string();
    let tokens: usize = error.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(error.contains("micro-batch from 1048576 to"), "{error}");
    Plan { micro_batch_tokens: tokens, ..large }.check(config, 2 << 30).unwrap();
    let many = Plan { micro_batch_tokens: 64, decode_sequences: 1 << 16, decode_tokens: 4096, ..large };
    let error = many.check(config, 2 << 30).unwrap_err().to_string();
    let sequences: usize = error.split("Decode ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    Plan { decode_sequences: sequences, ..many }.check(config, 2 << 30).unwrap();
    let error = large.check(config, 600 << 20).unwrap_err().to_string();
    assert!(error.contains("smaller model"), "{error}");
}

#[test]
fn memory_is_given_back() {
    let Some(device) = Emulated::open("memory_is_given_back") else { return };
    let mut engine = Engine::on(device.clone(), &model(&configs()[0]), Purpose::Training).unwrap();
    on_device(&mut engine, &critic(), &batch()).unwrap();
    complete(&mut engine, &prompts()[..2], &Sampling { max_new_tokens: 2, ..Sampling::default() });
    assert!(device.allocated() > 0);
    drop(engine);
    assert_eq!(device.allocated(), 0);
}
