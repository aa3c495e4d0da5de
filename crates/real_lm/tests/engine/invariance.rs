//! Arrangements that must not change results: packing, micro-batches, threads.

use real_lm::head::{self, Rows};
use real_lm::{AdamW, AdamWConfig, Keep, Model, Packed, Workspace, clip_grad_norm, forward, memory};

use crate::support::{assert_close, next_tokens, random_model, sft, sft_into, wide_model};

fn sequences(vocab: usize) -> Vec<Vec<u32>> {
    let lengths = [7usize, 1, 130, 64, 65, 2, 33, 20];
    let sequence =
        |(i, length): (usize, usize)| (0..length).map(|t| ((t * t + 13 * i + t) % vocab) as u32).collect();
    lengths.into_iter().enumerate().map(sequence).collect()
}

#[test]
fn packed_equals_separate() {
    let model = random_model(1);
    let sequences = sequences(model.config.vocab_size);
    let mut together = Workspace::new(Keep::Nothing);
    forward(&model, &Packed::new(&sequences), &mut together);
    let mut alone = Workspace::new(Keep::Nothing);
    let mut start = 0;
    for sequence in &sequences {
        forward(&model, &Packed::new(&[sequence]), &mut alone);
        let end = start + alone.hidden().len();
        assert_close(alone.hidden(), &together.hidden()[start..end], 1e-5, "hidden states");
        start = end;
    }
}

#[test]
fn eight_batches_of_one_equal_one_of_eight() {
    let model = random_model(2);
    let sequences = sequences(model.config.vocab_size);
    let batch = Packed::new(&sequences);
    let (loss, grads) = sft(&model, &batch);
    let count = next_tokens(&batch).0.len();
    let mut workspace = Workspace::new(Keep::Activations);
    let mut summed = vec![0.0; grads.len()];
    let losses: f32 = sequences
        .iter()
        .map(|s| sft_into(&model, &Packed::new(&[s]), count, &mut workspace, &mut summed))
        .sum();
    assert_close(&[losses], &[loss], 1e-5, "loss");
    assert_close(&summed, &grads, 1e-5, "gradients");
}

#[test]
fn a_used_workspace_equals_a_new_one() {
    let model = random_model(3);
    let sequences = sequences(model.config.vocab_size);
    let (small, large) = (Packed::new(&sequences[..1]), Packed::new(&sequences));
    let mut used = Workspace::new(Keep::Activations);
    for batch in [&small, &large, &small] {
        let mut grads = vec![0.0; model.params.len()];
        sft_into(&model, batch, 1, &mut used, &mut grads);
        let mut fresh = vec![0.0; model.params.len()];
        sft_into(&model, batch, 1, &mut Workspace::new(Keep::Activations), &mut fresh);
        assert_eq!(grads, fresh);
    }
}

#[test]
fn recomputed_equals_kept() {
    let model = random_model(5);
    let batch = Packed::new(&sequences(model.config.vocab_size));
    let [kept, recomputed] = [Keep::Activations, Keep::Inputs].map(|keep| {
        let mut workspace = Workspace::new(keep);
        let mut grads = vec![0.0; model.params.len()];
        let loss = sft_into(&model, &batch, 1, &mut workspace, &mut grads);
        assert_eq!(workspace.bytes(), memory::activations(&model.config, batch.tokens(), keep), "{keep:?}");
        (loss, grads)
    });
    assert!(kept == recomputed);
}

#[test]
fn scoring_without_activations_equals_scoring_with_them() {
    let model = random_model(4);
    let batch = Packed::new(&sequences(model.config.vocab_size));
    let (rows, targets) = next_tokens(&batch);
    let scores = [Keep::Activations, Keep::Nothing].map(|keep| {
        let mut workspace = Workspace::new(keep);
        forward(&model, &batch, &mut workspace);
        head::score(&model, workspace.hidden(), Rows { rows: &rows, targets: &targets, temperature: 1.3 })
    });
    assert_eq!(scores[0], scores[1]);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    // Wide enough for the products to be shared among threads.
    let model = wide_model();
    let batch = Packed::new(&sequences(model.config.vocab_size));
    let train = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| three_updates(model.clone(), &batch))
    };
    let one = train(1);
    for threads in [2, 3, 8] {
        assert!(one == train(threads), "{threads} threads differ from one");
    }
}

fn three_updates(mut model: Model, batch: &Packed) -> (Vec<f32>, Vec<f32>) {
    let mut optimiser = AdamW::new(AdamWConfig::default(), model.params.len());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (loss, mut grads) = sft(&model, batch);
        seen.extend([loss, clip_grad_norm(&mut [&mut grads], 1.0)]);
        optimiser.step(&mut model.params, &grads, 1e-3);
    }
    (model.params, seen)
}
