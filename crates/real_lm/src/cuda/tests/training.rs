//! PPO and supervised fine-tuning with everything on a device, against the same on the CPU.

use std::ops::ControlFlow;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::passes::{configs, cosine, model};
use crate::cuda::emulated::Emulated;
use crate::cuda::{Engine, Purpose};
use crate::{
    CriticKind, Example, Model, PpoConfig, PpoTrainer, Reward, Rollout, Sampling, SftConfig, SftTrainer,
};

fn start() -> Model {
    model(&configs()[0])
}

fn engine(device: &Arc<Emulated>, model: &Model) -> Engine {
    Engine::on(device.clone(), model, Purpose::Training).unwrap()
}

fn rollouts(count: usize) -> (Vec<Rollout>, Vec<Option<Reward>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut tokens = |n: usize| (0..n).map(|_| rng.random_range(0..203)).collect::<Vec<u32>>();
    let rollout = |i: usize| Rollout { prompt: tokens(2 + i % 3), response: tokens(1 + i % 5) };
    let rewards = (0..count).map(|i| (i % 4 != 3).then(|| ((i % 5) as f32 / 4.0).into()));
    ((0..count).map(rollout).collect(), rewards.collect())
}

fn config(critic: CriticKind) -> PpoConfig {
    PpoConfig {
        learning_rate: 1e-3,
        value_learning_rate: 1e-3,
        kl_coef: 0.05,
        epochs: 2,
        mini_batch: 5,
        micro_batch_tokens: 16,
        critic,
        ..PpoConfig::default()
    }
}

fn moved(model: &Model) -> Vec<f32> {
    model.params.iter().zip(&start().params).map(|(a, b)| a - b).collect()
}

#[test]
fn a_step_of_ppo_is_that_of_the_cpu() {
    let Some(device) = Emulated::open("a_step_of_ppo_is_that_of_the_cpu") else { return };
    let (rollouts, rewards) = rollouts(10);
    for critic in [CriticKind::Head, CriticKind::Model] {
        let (base, config) = (start(), config(critic));
        let mut ours =
            PpoTrainer::on_engine(engine(&device, &base), &base, Some(&base), config.clone()).unwrap();
        let mut theirs = PpoTrainer::new(start(), Some(&base), config);
        for step in 0..2 {
            let update =
                |trainer: &mut PpoTrainer| trainer.update(&rollouts, &rewards, 0.9, step, 7).unwrap();
            let (ours, theirs) = (update(&mut ours), update(&mut theirs));
            assert!(ours.keys().eq(theirs.keys()));
            for (name, ours) in &ours {
                let theirs = theirs[name];
                // Two of some twenty tokens may fall on the other side of the clip.
                let bound =
                    if name.ends_with("grad_norm") || name.ends_with("clipfrac") { 0.1 } else { 0.03 };
                let error = (ours - theirs).abs();
                assert!(
                    error < bound * (1.0 + theirs.abs()),
                    "{critic:?} {step} {name}: {ours}, not {theirs}"
                );
            }
        }
        let pairs = [(ours.policy().unwrap(), theirs.policy().unwrap())];
        let critics = ours.critic_model().unwrap().zip(theirs.critic_model().unwrap());
        for (ours, theirs) in pairs.into_iter().chain(critics) {
            let cosine = cosine(&moved(&ours), &moved(&theirs));
            assert!(cosine > 0.9, "{critic:?}: the updates point elsewhere: {cosine}");
        }
        assert!(cosine(&ours.value_head().params, &theirs.value_head().params) > 0.99);
    }
}

#[test]
fn a_resumed_run_goes_on_to_the_bit() {
    let Some(device) = Emulated::open("a_resumed_run_goes_on_to_the_bit") else { return };
    let ((rollouts, rewards), base) = (rollouts(6), start());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let trainer = || {
        let config = config(CriticKind::Model);
        PpoTrainer::on_engine(engine(&device, &base), &base, Some(&base), config).unwrap()
    };
    let mut whole = trainer();
    whole.update(&rollouts, &rewards, 1.0, 0, 1).unwrap();
    whole.save_state(&path).unwrap();
    let mut resumed = trainer();
    resumed.restore(whole.policy().unwrap().into_owned(), &path).unwrap();
    for trainer in [&mut whole, &mut resumed] {
        trainer.update(&rollouts, &rewards, 1.0, 1, 2).unwrap();
    }
    assert!(whole.policy().unwrap().params == resumed.policy().unwrap().params);
    let critic = |trainer: &PpoTrainer| trainer.critic_model().unwrap().unwrap().into_owned().params;
    assert!(critic(&whole) == critic(&resumed));
    assert_eq!(whole.value_head(), resumed.value_head());
}

#[test]
fn gradients_that_are_no_numbers_change_nothing() {
    let Some(device) = Emulated::open("gradients_that_are_no_numbers_change_nothing") else { return };
    let ((rollouts, mut rewards), base) = (rollouts(6), start());
    rewards[1] = Some(f32::NAN.into());
    let config = config(CriticKind::Model);
    let mut trainer = PpoTrainer::on_engine(engine(&device, &base), &base, None, config).unwrap();
    let metrics = trainer.update(&rollouts, &rewards, 1.0, 0, 7).unwrap();
    assert!(metrics["policy/grad_norm"].is_nan() && metrics["value/grad_norm"].is_nan());
    assert!(trainer.policy().unwrap().params == base.params);
    assert!(trainer.critic_model().unwrap().unwrap().params == base.params);
    // What was broken is forgotten.
    rewards[1] = None;
    let metrics = trainer.update(&rollouts, &rewards, 1.0, 1, 7).unwrap();
    assert!(metrics.values().all(|value| value.is_finite()), "{metrics:?}");
}

#[test]
fn what_the_policy_learns_it_writes() {
    const WANTED: u32 = 5;
    let Some(device) = Emulated::open("what_the_policy_learns_it_writes") else { return };
    let base = start();
    let config = PpoConfig {
        learning_rate: 3e-3,
        value_learning_rate: 1e-2,
        kl_coef: 0.0,
        mini_batch: 0,
        ..config(CriticKind::Head)
    };
    let mut trainer = PpoTrainer::on_engine(engine(&device, &base), &base, None, config).unwrap();
    let prompts: Vec<Vec<u32>> = (0..24).map(|i| vec![1 + i % 4, 2]).collect();
    let mut means = Vec::new();
    for step in 0..8 {
        let sampling = Sampling { max_new_tokens: 2, seed: step as u64, batch: 24, ..Sampling::default() };
        let go_on = |_: usize, _: &[u32]| ControlFlow::Continue(());
        let written = trainer.writer().generate(&prompts, &sampling, go_on, |_, _| ()).unwrap();
        // Half of the written answers are replaced by what is wanted, so that there is something to learn from at once.
        let rollout = |(i, (prompt, g)): (usize, (&Vec<u32>, crate::Generated))| Rollout {
            prompt: prompt.clone(),
            response: if i % 2 == 0 { vec![WANTED; 2] } else { g.ids },
        };
        let rollouts: Vec<Rollout> = prompts.iter().zip(written).enumerate().map(rollout).collect();
        let score = |r: &Rollout| r.response.iter().filter(|&&t| t == WANTED).count() as f32 / 2.0;
        means.push(rollouts.iter().skip(1).step_by(2).map(score).sum::<f32>() / 12.0);
        let rewards: Vec<Option<Reward>> = rollouts.iter().map(|r| Some(score(r).into())).collect();
        trainer.update(&rollouts, &rewards, 1.0, step, step as u64).unwrap();
    }
    assert!(means[0] < 0.2 && means[7] > 0.6, "{means:?}");
}

#[test]
fn supervised_losses_fall_as_on_the_cpu() {
    let Some(device) = Emulated::open("supervised_losses_fall_as_on_the_cpu") else { return };
    let example = |r: Rollout| Example { prompt_len: r.prompt.len(), ids: [r.prompt, r.response].concat() };
    let examples: Vec<Example> = rollouts(8).0.into_iter().map(example).collect();
    let examples: Vec<&Example> = examples.iter().collect();
    let config =
        SftConfig { learning_rate: 3e-3, micro_batch_tokens: 20, warmup_steps: 1, ..SftConfig::default() };
    let losses = |mut trainer: SftTrainer| -> Vec<f32> {
        (0..12).map(|_| trainer.step(&examples).unwrap().loss).collect()
    };
    let ours = losses(SftTrainer::on_engine(engine(&device, &start()), config.clone(), 12).unwrap());
    let theirs = losses(SftTrainer::new(start(), config, 12));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < 0.03 * (1.0 + theirs), "{ours}, not {theirs}");
    }
    assert!(ours[11] < 0.5 * ours[0], "{ours:?}");
}

#[test]
fn recomputing_is_refused_with_what_to_set() {
    let Some(device) = Emulated::open("recomputing_is_refused_with_what_to_set") else { return };
    let config = PpoConfig { recompute: true, ..PpoConfig::default() };
    let error = PpoTrainer::on_engine(engine(&device, &start()), &start(), None, config).unwrap_err();
    assert!(error.to_string().contains("ppo.recompute = false"), "{error}");
}
