//! Against PyTorch in float64: logits, losses, every gradient, and ten updates.

use real_lm::head::{self, Rows, TokenGradient};
use real_lm::{AdamW, AdamWConfig, Keep, Workspace, backward, clip_grad_norm, forward};

use crate::golden::{Golden, NAMES};
use crate::support::{assert_close, assert_tensors_close, sft};

const TOLERANCE: f32 = 2e-5;

#[test]
fn logits() {
    for name in NAMES {
        let golden = Golden::read(name);
        let (model, batch) = (golden.model(), golden.batch());
        let mut workspace = Workspace::new(Keep::Nothing);
        forward(&model, &batch, &mut workspace);
        let rows: Vec<usize> = (0..batch.tokens()).collect();
        let logits = head::logits(&model, workspace.hidden(), &rows);
        assert_close(&logits, &golden.floats("logits"), TOLERANCE, name);
    }
}

#[test]
fn cross_entropy_and_every_gradient() {
    for name in NAMES {
        let golden = Golden::read(name);
        let model = golden.model();
        let (loss, grads) = sft(&model, &golden.batch());
        assert_close(&[loss], &golden.floats("sft.loss"), TOLERANCE, name);
        assert_tensors_close(&golden.config, &grads, &golden.flat("sft", &model.layout), TOLERANCE, name);
    }
}

#[test]
fn clipped_objective_with_entropy_and_every_gradient() {
    for name in NAMES {
        let golden = Golden::read(name);
        let (model, batch) = (golden.model(), golden.batch());
        let rows: Vec<usize> = golden.integers("ppo.rows").iter().map(|&row| row as usize).collect();
        let (targets, advantages) = (golden.integers("ppo.targets"), golden.floats("ppo.advantages"));
        let old_logprobs = golden.floats("ppo.old_logprobs");
        let count = rows.len() as f32;

        let gradient = |i: usize, logprob: f32, _entropy: f32| {
            let ratio = (logprob - old_logprobs[i]).exp();
            let clipped = ratio * advantages[i] > ratio.clamp(0.8, 1.2) * advantages[i];
            let logprob = if clipped { 0.0 } else { -advantages[i] * ratio / count };
            TokenGradient { logprob, entropy: -0.01 / count }
        };
        let mut workspace = Workspace::new(Keep::Activations);
        forward(&model, &batch, &mut workspace);
        let scored = Rows { rows: &rows, targets: &targets, temperature: 0.7 };
        let mut d_hidden = vec![0.0; workspace.hidden().len()];
        let mut grads = vec![0.0; model.params.len()];
        let scores = head::backward(&model, workspace.hidden(), scored, gradient, &mut d_hidden, &mut grads);
        backward(&model, &batch, &mut workspace, &d_hidden, &mut grads);

        assert_eq!(scores, head::score(&model, workspace.hidden(), scored));
        assert_close(&scores.logprobs, &golden.floats("ppo.logprobs"), TOLERANCE, name);
        assert_close(&scores.entropies, &golden.floats("ppo.entropies"), TOLERANCE, name);
        assert_tensors_close(&golden.config, &grads, &golden.flat("ppo", &model.layout), TOLERANCE, name);
    }
}

#[test]
fn ten_clipped_updates() {
    for name in NAMES {
        let golden = Golden::read(name);
        let (mut model, batch) = (golden.model(), golden.batch());
        let mut optimiser = AdamW::new(AdamWConfig::default(), model.params.len());
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let (loss, mut grads) = sft(&model, &batch);
            losses.push(loss);
            norms.push(clip_grad_norm(&mut [&mut grads], 0.5));
            optimiser.step(&mut model.params, &grads, 3e-3);
        }
        assert_close(&losses, &golden.floats("adamw.losses"), TOLERANCE, name);
        assert_close(&norms, &golden.floats("adamw.norms"), 5e-5, name);
        assert!(losses[9] < losses[0] - 0.1, "the updates reduce the loss: {losses:?}");
        // The first steps of Adam are nearly the sign of the gradient, which magnifies the rounding of tiny gradients.
        assert_tensors_close(&golden.config, &model.params, &golden.flat("adamw", &model.layout), 1e-4, name);
    }
}
