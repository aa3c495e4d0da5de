//! Low-rank adaptation: its gradients, what it leaves alone, and that it learns.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use real_lm::head::{self, Rows, TokenGradient};
use real_lm::{
    Keep, Lora, LoraConfig, Model, Packed, PpoConfig, PpoTrainer, Reward, Rollout, Workspace, backward,
    forward,
};

fn tiny() -> Model {
    crate::random(0.2)
}

fn adaptation(model: &Model) -> Lora {
    Lora::new(model, LoraConfig { rank: 3, alpha: 6.0 }, &mut ChaCha8Rng::seed_from_u64(4))
}

/// Mean cross-entropy of a sequence, and its gradients.
fn loss(model: &Model) -> (f64, Vec<f32>) {
    let batch = Packed::new(&[[1, 5, 2, 9, 4, 4, 7]]);
    let (rows, targets) = ([0, 1, 2, 3, 4, 5], [5, 2, 9, 4, 4, 7]);
    let mut workspace = Workspace::new(Keep::Activations);
    forward(model, &batch, &mut workspace);
    let (mut d_hidden, mut grads) = (vec![0.0; workspace.hidden().len()], vec![0.0; model.params.len()]);
    let scored = Rows { rows: &rows, targets: &targets, temperature: 1.0 };
    let weight = TokenGradient { logprob: -1.0 / 6.0, entropy: 0.0 };
    let scores =
        head::backward(model, workspace.hidden(), scored, |_, _, _| weight, &mut d_hidden, &mut grads);
    backward(model, &batch, &mut workspace, &d_hidden, &mut grads);
    (-scores.logprobs.iter().map(|&l| f64::from(l)).sum::<f64>() / 6.0, grads)
}

#[test]
fn a_new_adaptation_changes_nothing() {
    let base = tiny();
    let mut merged = tiny();
    merged.params.fill(0.0);
    let lora = adaptation(&base);
    lora.merge(&base, &mut merged);
    let adapted = merged.params.iter().filter(|w| **w != 0.0).count();
    assert!(merged.params.iter().zip(&base.params).all(|(m, b)| (m - b).abs() < 1e-9 || m.abs() < 1e-9));
    // Two layers of q, k, v, o, gate, up and down.
    assert_eq!(adapted, 2 * (16 * 16 + 2 * 8 * 16 + 16 * 16 + 3 * 24 * 16));
    assert_eq!(lora.params.len(), 2 * 3 * (32 + 24 + 24 + 32 + 40 + 40 + 40));
}

#[test]
fn gradients_are_slopes() {
    let base = tiny();
    let mut lora = adaptation(&base);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    lora.params.fill_with(|| 0.2 * (rng.random::<f32>() - 0.5));
    let mut merged = tiny();
    lora.merge(&base, &mut merged);
    let grads = lora.gradients(&loss(&merged).1);
    for index in (0..lora.params.len()).step_by(11) {
        let mut at = |offset: f32| {
            let mut moved = lora.clone();
            moved.params[index] += offset;
            moved.merge(&base, &mut merged);
            loss(&merged).0
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        let found = f64::from(grads[index]);
        assert!((found - slope).abs() < 2e-3 * (1.0 + slope.abs()), "{index}: {found} is not {slope}");
    }
}

#[test]
fn ppo_moves_the_projections_alone() {
    let base = tiny();
    let config = PpoConfig { learning_rate: 1e-2, kl_coef: 0.05, epochs: 2, ..PpoConfig::default() };
    let rollouts: Vec<Rollout> =
        (0..8).map(|i| Rollout { prompt: vec![1, i % 3], response: vec![i, 12 - i] }).collect();
    let rewards: Vec<Option<Reward>> = (0..8).map(|i| Some((f32::from(i as u8) / 8.0).into())).collect();
    let mut trainer = PpoTrainer::new(tiny(), Some(&base), config.clone()).with_lora(adaptation(&base));
    let first = trainer.update(&rollouts, &rewards, 1.0, 0, 1).unwrap();
    trainer.update(&rollouts, &rewards, 1.0, 1, 2).unwrap();
    assert!(first["policy/grad_norm"] > 0.0);
    let layout = &base.layout;
    for (name, _, range) in layout.tensors(&base.config) {
        let moved = trainer.policy().unwrap().params[range.clone()] != base.params[range];
        assert_eq!(moved, name.ends_with("_proj.weight"), "{name}");
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    trainer.save_state(&path).unwrap();
    let mut resumed = PpoTrainer::new(tiny(), Some(&base), config).with_lora(adaptation(&base));
    resumed.restore(trainer.policy().unwrap().into_owned(), &path).unwrap();
    for trainer in [&mut trainer, &mut resumed] {
        trainer.update(&rollouts, &rewards, 1.0, 2, 3).unwrap();
    }
    assert_eq!(trainer.policy().unwrap().params, resumed.policy().unwrap().params);
}
