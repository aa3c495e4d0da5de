//! Gradients against finite differences of the loss, on shapes that no golden file has.

use proptest::prelude::*;
use real_lm::head::{self, Rows, TokenGradient};
use real_lm::{Architecture, Keep, Model, ModelConfig, Packed, ValueHead, Workspace, backward, forward};

use crate::support::{random_model, sft};

/// A loss that uses everything the engine differentiates: log-probabilities, entropies and values, in a nonlinear way.
struct Everything {
    rows: Vec<usize>,
    targets: Vec<u32>,
    temperature: f32,
}

impl Everything {
    fn loss(&self, model: &Model, critic: &ValueHead, batch: &Packed) -> f64 {
        let mut workspace = Workspace::new(Keep::Nothing);
        forward(model, batch, &mut workspace);
        let scores = head::score(model, workspace.hidden(), self.scored());
        let values = critic.values(workspace.hidden(), &self.rows);
        let terms = scores.logprobs.iter().zip(&scores.entropies).zip(&values).map(
            |((&logprob, &entropy), &value)| {
                let (logprob, entropy, value) = (f64::from(logprob), f64::from(entropy), f64::from(value));
                -logprob.exp() - 0.3 * entropy * entropy + 0.5 * (value - 1.0) * (value - 1.0)
            },
        );
        terms.sum()
    }

    fn gradients(&self, model: &Model, critic: &ValueHead, batch: &Packed) -> (Vec<f32>, Vec<f32>) {
        let mut workspace = Workspace::new(Keep::Activations);
        forward(model, batch, &mut workspace);
        let mut d_hidden = vec![0.0; workspace.hidden().len()];
        let mut grads = vec![0.0; model.params.len()];
        let mut critic_grads = vec![0.0; critic.params.len()];
        let gradient = |_, logprob: f32, entropy: f32| TokenGradient {
            logprob: -logprob.exp(),
            entropy: -0.6 * entropy,
        };
        head::backward(model, workspace.hidden(), self.scored(), gradient, &mut d_hidden, &mut grads);
        let values = critic.values(workspace.hidden(), &self.rows);
        let d_values: Vec<f32> = values.iter().map(|value| value - 1.0).collect();
        let hidden = workspace.hidden();
        critic.backward(hidden, &self.rows, &d_values, Some(&mut d_hidden), &mut critic_grads);
        backward(model, batch, &mut workspace, &d_hidden, &mut grads);
        (grads, critic_grads)
    }

    fn scored(&self) -> Rows<'_> {
        Rows { rows: &self.rows, targets: &self.targets, temperature: self.temperature }
    }
}

/// Asserts that the gradient predicts how the loss changes along a direction.
fn assert_predicts(slope: f64, loss_at: impl Fn(f32) -> f64, what: &str) {
    // Two central differences cancel the error of second order in the step; that of higher order falls with the step until
    // rounding takes over, so the best of a few steps counts.
    let central = |step: f32| (loss_at(step) - loss_at(-step)) / (2.0 * f64::from(step));
    let found = [3e-2, 1e-2, 3e-3].map(|step| (4.0 * central(step / 2.0) - central(step)) / 3.0);
    let error = found.iter().map(|x| (x - slope).abs()).fold(f64::INFINITY, f64::min);
    assert!(error < 5e-3 * slope.abs() + 2e-3, "{what}: differences {found:?}, gradient {slope}");
}

fn moved(params: &[f32], direction: &[f32], step: f32) -> Vec<f32> {
    params.iter().zip(direction).map(|(p, d)| p + step * d).collect()
}

#[test]
fn every_tensor_of_both_architectures() {
    for architecture in [Architecture::Llama, Architecture::Qwen2] {
        let config = ModelConfig { architecture, ..random_model(0).config };
        let model = crate::support::model_of(config, 3);
        let critic =
            ValueHead { params: (0..=model.config.hidden_size).map(|i| (i as f32).sin() * 0.2).collect() };
        let batch = Packed::new(&[vec![1, 5, 2, 7, 7, 3], vec![4], vec![9, 8, 0]]);
        let everything =
            Everything { rows: vec![0, 2, 4, 6, 7, 8], targets: vec![3, 1, 4, 1, 5, 9], temperature: 0.8 };
        let (grads, critic_grads) = everything.gradients(&model, &critic, &batch);
        for (name, _, range) in model.layout.tensors(&model.config) {
            let own = &grads[range.clone()];
            let norm = own.iter().map(|g| g * g).sum::<f32>().sqrt();
            assert!(norm > 0.0, "{name} gets a gradient");
            // Along its own gradient a tensor's slope is the norm.
            let mut direction = vec![0.0; model.params.len()];
            direction[range].copy_from_slice(&own.iter().map(|g| g / norm).collect::<Vec<_>>());
            let loss_at = |step| {
                let moved = Model { params: moved(&model.params, &direction, step), ..model.clone() };
                everything.loss(&moved, &critic, &batch)
            };
            assert_predicts(f64::from(norm), loss_at, &name);
        }
        for (i, &slope) in critic_grads.iter().enumerate() {
            let loss_at = |step| {
                let mut moved = critic.clone();
                moved.params[i] += step;
                everything.loss(&model, &moved, &batch)
            };
            assert_predicts(f64::from(slope), loss_at, &format!("value head {i}"));
        }
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    for tied in [true, false] {
        let config = ModelConfig { tie_word_embeddings: tied, ..random_model(0).config };
        let model = crate::support::model_of(config, 5);
        // All tokens occur, so that every row of the embedding does.
        let batch =
            Packed::new(&[(0..model.config.vocab_size as u32).rev().collect::<Vec<_>>(), vec![0, 0, 1]]);
        let (_, grads) = sft(&model, &batch);
        for (name, _, range) in model.layout.tensors(&model.config) {
            let missing = grads[range.clone()].iter().filter(|&&g| g == 0.0).count();
            assert_eq!(missing, 0, "{missing} of {} elements of {name} get none", range.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_shapes_and_batches(
        (group, kv_heads, half_dim, layers) in (1usize..4, 1usize..4, 1usize..5, 1usize..3),
        (hidden, inner, vocab) in (8usize..24, 3usize..24, 2usize..40),
        lengths in prop::collection::vec(2usize..80, 1..4),
        (qwen, tied) in any::<(bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let model = crate::support::model_of(ModelConfig {
            architecture: if qwen { Architecture::Qwen2 } else { Architecture::Llama },
            vocab_size: vocab,
            hidden_size: hidden,
            intermediate_size: inner,
            num_hidden_layers: layers,
            num_attention_heads: group * kv_heads,
            num_key_value_heads: kv_heads,
            head_dim: 2 * half_dim,
            tie_word_embeddings: tied,
            ..random_model(0).config
        }, seed);
        let mut sequences = lengths.iter().map(|&length| {
            (0..length).map(|i| (seed.wrapping_add(i as u64 * 31) % vocab as u64) as u32).collect::<Vec<_>>()
        });
        let batch = Packed::new(&sequences.by_ref().collect::<Vec<_>>());
        let (_, grads) = sft(&model, &batch);
        let norm = grads.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let direction: Vec<f32> = grads.iter().map(|g| (f64::from(*g) / norm) as f32).collect();
        let loss_at = |step| {
            let moved = Model { params: moved(&model.params, &direction, step), ..model.clone() };
            f64::from(sft(&moved, &batch).0)
        };
        assert_predicts(norm, loss_at, "all parameters");
    }
}
