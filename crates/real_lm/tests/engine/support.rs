//! What several tests need: losses on packed batches, and comparisons that say where they fail.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use real_lm::head::{self, Rows, TokenGradient};
use real_lm::{Architecture, Keep, Layout, Model, ModelConfig, Packed, Workspace, backward, forward};

/// Rows of a batch that have a next token, and these tokens.
pub(crate) fn next_tokens(batch: &Packed) -> (Vec<usize>, Vec<u32>) {
    let rows: Vec<usize> = batch.sequences().flat_map(|rows| rows.start..rows.end - 1).collect();
    let targets = rows.iter().map(|row| batch.ids[row + 1]).collect();
    (rows, targets)
}

/// Mean cross-entropy of all next tokens, and its gradients.
pub(crate) fn sft(model: &Model, batch: &Packed) -> (f32, Vec<f32>) {
    let mut grads = vec![0.0; model.params.len()];
    let count = next_tokens(batch).0.len();
    let loss = sft_into(model, batch, count, &mut Workspace::new(Keep::Activations), &mut grads);
    (loss, grads)
}

/// The part of a mean cross-entropy over `count` tokens that this batch has, and its gradients added to `grads`.
pub(crate) fn sft_into(
    model: &Model,
    batch: &Packed,
    count: usize,
    workspace: &mut Workspace,
    grads: &mut [f32],
) -> f32 {
    let (rows, targets) = next_tokens(batch);
    let scored = Rows { rows: &rows, targets: &targets, temperature: 1.0 };
    let weight = TokenGradient { logprob: -1.0 / count as f32, entropy: 0.0 };
    forward(model, batch, workspace);
    let mut d_hidden = vec![0.0; workspace.hidden().len()];
    let scores = head::backward(model, workspace.hidden(), scored, |_, _, _| weight, &mut d_hidden, grads);
    backward(model, batch, workspace, &d_hidden, grads);
    -scores.logprobs.iter().sum::<f32>() / count as f32
}

/// Asserts that two numbers a tensor agree to `tolerance`, relative to the largest of the tensor, and names what does not.
pub(crate) fn assert_tensors_close(
    config: &ModelConfig,
    ours: &[f32],
    theirs: &[f32],
    tolerance: f32,
    what: &str,
) {
    for (name, _, range) in Layout::new(config).tensors(config) {
        assert_close(&ours[range.clone()], &theirs[range], tolerance, &format!("{what} {name}"));
    }
}

/// Asserts that two tensors agree to `tolerance`, relative to the largest element.
pub(crate) fn assert_close(ours: &[f32], theirs: &[f32], tolerance: f32, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}: lengths");
    let largest = theirs.iter().fold(1e-6f32, |a, x| a.max(x.abs()));
    for (i, (x, y)) in ours.iter().zip(theirs).enumerate() {
        let error = (x - y).abs() / largest;
        assert!(error <= tolerance, "{what}[{i}]: {x} is not {y}; error {error:e} of the largest");
    }
}

/// A small Qwen2 with grouped heads and an untied head.
pub(crate) fn random_model(seed: u64) -> Model {
    let config = ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 31,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        max_position_embeddings: 256,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: false,
    };
    model_of(config, seed)
}

/// A model whose products are large enough for several threads.
pub(crate) fn wide_model() -> Model {
    let config = ModelConfig {
        vocab_size: 500,
        hidden_size: 192,
        intermediate_size: 320,
        num_attention_heads: 6,
        head_dim: 32,
        ..random_model(0).config
    };
    model_of(config, 0)
}

/// A model of this shape with weights much larger than at the start of training, so that nothing is nearly linear.
pub(crate) fn model_of(config: ModelConfig, seed: u64) -> Model {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut model = Model::random(config, 0.02, &mut rng);
    for value in &mut model.params {
        let is_norm = *value > 0.5;
        *value = if is_norm { *value } else { 6.0 * *value } + 0.1 * (rng.random::<f32>() - 0.5);
    }
    model
}
