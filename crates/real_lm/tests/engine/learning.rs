//! A tiny model learns a few sequences by heart and then says them.

use std::ops::ControlFlow;

use real_lm::{AdamW, AdamWConfig, Keep, Packed, Sampling, Workspace, clip_grad_norm, generate};

use crate::support::{next_tokens, random_model, sft_into};

#[test]
fn a_tiny_model_learns_sequences_by_heart() {
    let mut model = random_model(11);
    let sequences: Vec<Vec<u32>> = (0..4)
        .map(|i| (0..24).map(|t| if t == 0 { i } else { (t * t * (i + 2) + i) % 29 }).collect())
        .collect();
    let batch = Packed::new(&sequences);
    let count = next_tokens(&batch).0.len();
    let mut optimiser = AdamW::new(AdamWConfig::default(), model.params.len());
    let mut workspace = Workspace::new(Keep::Activations);
    let mut loss = f32::INFINITY;
    for _ in 0..200 {
        let mut grads = vec![0.0; model.params.len()];
        loss = sft_into(&model, &batch, count, &mut workspace, &mut grads);
        clip_grad_norm(&mut [&mut grads], 1.0);
        optimiser.step(&mut model.params, &grads, 5e-3);
    }
    assert!(loss < 0.05, "the loss is still {loss}");

    let prompts: Vec<Vec<u32>> = sequences.iter().map(|sequence| sequence[..1].to_vec()).collect();
    let sampling = Sampling { temperature: 0.0, max_new_tokens: 23, ..Sampling::default() };
    let completions = generate(&model, &prompts, &sampling, |_, _| ControlFlow::Continue(()), |_, _| ());
    for (sequence, completion) in sequences.iter().zip(completions) {
        assert_eq!(sequence[1..], completion.ids);
    }
}
