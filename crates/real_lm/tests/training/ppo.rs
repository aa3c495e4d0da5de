//! PPO and SFT as a whole: how a step is split does not change it, and what has no score takes no part.

use std::ops::ControlFlow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use real_lm::ppo::{KlEstimator, KlPlace};
use real_lm::{
    Advantage, Aggregation, CriticKind, Example, Model, PpoConfig, PpoTrainer, Reward, RewardPart, Rollout,
    Sampling, SftConfig, SftTrainer,
};

fn tiny() -> Model {
    crate::random(0.02)
}

fn rollouts(count: usize) -> Vec<Rollout> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut tokens = |n: usize| (0..n).map(|_| rng.random_range(0..13)).collect::<Vec<u32>>();
    (0..count).map(|i| Rollout { prompt: tokens(2 + i % 3), response: tokens(1 + i % 4) }).collect()
}

fn rewards(count: usize) -> Vec<Option<Reward>> {
    (0..count).map(|i| Some(((i % 5) as f32 / 4.0).into())).collect()
}

fn config() -> PpoConfig {
    PpoConfig {
        learning_rate: 1e-3,
        value_learning_rate: 1e-2,
        kl_coef: 0.05,
        epochs: 2,
        ..PpoConfig::default()
    }
}

/// The parameters of policy and value head after two steps on the same rollouts.
fn after_two_steps(
    config: PpoConfig,
    rollouts: &[Rollout],
    rewards: &[Option<Reward>],
) -> (Vec<f32>, Vec<f32>) {
    let reference = tiny();
    let mut trainer = PpoTrainer::new(tiny(), Some(&reference), config);
    for step in 0..2 {
        let metrics = trainer.update(rollouts, rewards, 1.0, step, 7).expect("the CPU computes");
        assert!(metrics.values().all(|v| v.is_finite()), "{metrics:?}");
    }
    (params(&trainer), critic_params(&trainer))
}

fn params(trainer: &PpoTrainer) -> Vec<f32> {
    trainer.policy().expect("it lies here").params.clone()
}

/// Those of the value head, and those of the critic's own model behind them.
fn critic_params(trainer: &PpoTrainer) -> Vec<f32> {
    let own = trainer.critic_model().expect("it lies here").map(|model| model.params.clone());
    [&trainer.value_head().params[..], &own.unwrap_or_default()].concat()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn one_batch_of_eight_is_eight_of_one() {
    let (rollouts, rewards) = (rollouts(8), rewards(8));
    let own_model =
        PpoConfig { critic: CriticKind::Model, aggregation: Aggregation::SequenceMean, ..config() };
    for config in [config(), own_model] {
        let whole = after_two_steps(config.clone(), &rollouts, &rewards);
        let split =
            after_two_steps(PpoConfig { micro_batch_tokens: 1, ..config.clone() }, &rollouts, &rewards);
        let side_by_side = after_two_steps(PpoConfig { lanes: 3, ..config }, &rollouts, &rewards);
        for other in [split, side_by_side] {
            // AdamW divides by the root of the second moment: where a gradient is all rounding, so is its update.
            assert!(largest_difference(&whole.0, &other.0) < 1e-4);
            assert!(largest_difference(&whole.1, &other.1) < 1e-3);
        }
        assert!(largest_difference(&whole.0, &tiny().params) > 1e-3, "the policy has learned");
    }
}

#[test]
fn a_step_is_the_same_to_the_bit_when_repeated() {
    let (rollouts, rewards) = (rollouts(8), rewards(8));
    for lanes in [1, 2] {
        let config = PpoConfig { mini_batch: 3, lanes, ..config() };
        let steps = || after_two_steps(config.clone(), &rollouts, &rewards);
        let first = steps();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(first, pool.install(steps), "{lanes} lanes on {threads} threads");
        }
    }
}

#[test]
fn what_has_no_score_takes_no_part() {
    let (all, mut some) = (rollouts(6), rewards(6));
    some[1] = None;
    some[4] = None;
    let keep = |i: &usize| ![1, 4].contains(i);
    let (left, left_rewards): (Vec<Rollout>, Vec<Option<Reward>>) =
        (0..6).filter(keep).map(|i| (all[i].clone(), some[i].clone())).unzip();
    assert_eq!(after_two_steps(config(), &all, &some), after_two_steps(config(), &left, &left_rewards));

    let mut trainer = PpoTrainer::new(tiny(), None, config());
    trainer.update(&all, &vec![None; 6], 1.0, 0, 7).unwrap();
    assert_eq!(params(&trainer), tiny().params, "a step without any score changes nothing");
}

#[test]
fn supervised_micro_batches_do_not_change_the_step() {
    let examples: Vec<Example> = rollouts(8)
        .into_iter()
        .map(|r| Example { prompt_len: r.prompt.len(), ids: [r.prompt, r.response].concat() })
        .collect();
    let examples: Vec<&Example> = examples.iter().collect();
    let run = |micro_batch_tokens, lanes| {
        let config = SftConfig {
            learning_rate: 1e-2,
            prompt_weight: 0.3,
            micro_batch_tokens,
            lanes,
            ..SftConfig::default()
        };
        let mut trainer = SftTrainer::new(tiny(), config, 30);
        let losses: Vec<f32> = (0..30).map(|_| trainer.step(&examples).unwrap().loss).collect();
        (losses, trainer.model().unwrap().params.clone())
    };
    let whole = run(1000, 1);
    for split in [run(1, 1), run(1000, 2)] {
        assert!((whole.0[0] - split.0[0]).abs() < 1e-5);
        assert!(largest_difference(&whole.1, &split.1) < 2e-3);
    }
    assert!(whole.0[29] < 0.5 * whole.0[0], "the loss falls: {:?}", whole.0);
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one_to_the_bit() {
    let (rollouts, rewards) = (rollouts(6), rewards(6));
    let (reference, folder) = (tiny(), tempfile::tempdir().unwrap());
    let path = folder.path().join("state.safetensors");
    let adaptive = PpoConfig { critic: CriticKind::Model, kl_target: 0.01, kl_horizon: 30.0, ..config() };
    for config in [config(), adaptive] {
        let mut whole = PpoTrainer::new(tiny(), Some(&reference), config.clone());
        whole.update(&rollouts, &rewards, 1.0, 0, 1).unwrap();
        whole.save_state(&path).unwrap();
        let mut resumed = PpoTrainer::new(tiny(), Some(&reference), config);
        resumed.restore(whole.policy().unwrap().into_owned(), &path).unwrap();
        for trainer in [&mut whole, &mut resumed] {
            trainer.update(&rollouts, &rewards, 1.0, 1, 2).unwrap();
        }
        assert_eq!(params(&whole), params(&resumed));
        assert_eq!(critic_params(&whole), critic_params(&resumed));
        assert_eq!(whole.kl_coef.to_bits(), resumed.kl_coef.to_bits());
    }
    let mut resumed = PpoTrainer::new(tiny(), None, config());
    std::fs::write(&path, b"not a safetensors file").unwrap();
    assert!(resumed.restore(tiny(), &path).unwrap_err().to_string().contains("state.safetensors"));
}

#[test]
fn steps_for_the_critic_leave_the_policy_alone() {
    let (rollouts, rewards) = (rollouts(8), rewards(8));
    for critic in [CriticKind::Head, CriticKind::Model] {
        let config = PpoConfig { critic, value_pretraining_steps: 2, value_coef: 0.5, ..config() };
        let (policy, values) = after_two_steps(config, &rollouts, &rewards);
        assert_eq!(policy, tiny().params);
        assert!(values[..17].iter().any(|&w| w != 0.0), "the head has learned");
        assert!(critic == CriticKind::Head || largest_difference(&values[17..], &tiny().params) > 1e-3);
    }
}

#[test]
fn gradients_that_are_no_numbers_change_nothing() {
    let (rollouts, mut rewards) = (rollouts(4), rewards(4));
    rewards[1] = Some(f32::NAN.into());
    let mut trainer = PpoTrainer::new(tiny(), None, config());
    let metrics = trainer.update(&rollouts, &rewards, 1.0, 0, 7).unwrap();
    assert!(metrics["policy/grad_norm"].is_nan() && metrics["value/grad_norm"].is_nan());
    assert_eq!(params(&trainer), tiny().params);
}

#[test]
fn divergence_in_the_loss_holds_the_policy_back() {
    for kl_estimator in [KlEstimator::K2, KlEstimator::K3] {
        let means = mean_scores(PpoConfig {
            kl_coef: 5.0,
            kl_place: KlPlace::Loss,
            kl_estimator,
            advantage: Advantage::Rloo,
            ..learning()
        });
        assert!(means[24] < 0.4, "the policy stays near its reference: {kl_estimator:?} {means:?}");
    }
}

/// The whole of reinforcement learning at its smallest: the policy is rewarded for writing one token, and learns to.
#[test]
fn a_policy_learns_what_is_rewarded() {
    let of = |advantage| PpoConfig { advantage, ..learning() };
    let scores_alone = |advantage| PpoConfig { kl_coef: 0.0, ..of(advantage) };
    let constant =
        PpoConfig { aggregation: Aggregation::Constant, constant_length: 6, ..of(Advantage::DrGrpo) };
    for config in [
        of(Advantage::Gae),
        PpoConfig {
            critic: CriticKind::Model,
            value_learning_rate: 3e-3,
            value_pretraining_steps: 2,
            ..learning()
        },
        of(Advantage::Rloo),
        PpoConfig {
            whiten: false,
            kl_place: KlPlace::Loss,
            kl_estimator: KlEstimator::K3,
            ..of(Advantage::Grpo)
        },
        PpoConfig { whiten: false, ..constant },
        scores_alone(Advantage::Gdpo),
        PpoConfig { accept: 0.33, ..scores_alone(Advantage::Rejection) },
    ] {
        let means = mean_scores(config.clone());
        assert!(means[0] < 0.2, "a random policy writes the token now and then: {means:?}");
        // Rejection sampling is content with what it accepts.
        let enough = if config.advantage == Advantage::Rejection { 0.6 } else { 0.9 };
        assert!(means[24] > enough, "a trained one nearly always: {:?} {means:?}", config.advantage);
    }
}

fn learning() -> PpoConfig {
    PpoConfig {
        learning_rate: 3e-3,
        value_learning_rate: 1e-2,
        kl_coef: 0.01,
        epochs: 2,
        mini_batch: 32,
        ..PpoConfig::default()
    }
}

/// The mean score of each step of training.
fn mean_scores(config: PpoConfig) -> Vec<f32> {
    const WANTED: u32 = 5;
    let reference = tiny();
    let mut trainer = PpoTrainer::new(tiny(), Some(&reference), config);
    let prompts: Vec<Vec<u32>> = (0..64).map(|i| vec![1 + i % 4, 2]).collect();
    let mut means = Vec::new();
    for step in 0..25 {
        let sampling = Sampling { max_new_tokens: 6, seed: step as u64, batch: 64, ..Sampling::default() };
        let sampled =
            trainer.writer().generate(&prompts, &sampling, |_, _| ControlFlow::Continue(()), |_, _| ());
        let rollouts: Vec<Rollout> = prompts
            .iter()
            .zip(sampled.expect("the CPU computes"))
            .map(|(prompt, g)| Rollout { prompt: prompt.clone(), response: g.ids })
            .collect();
        let score = |r: &Rollout| r.response.iter().filter(|&&t| t == WANTED).count() as f32 / 6.0;
        let reward = |r: &Rollout| Reward {
            total: score(r),
            parts: vec![RewardPart { value: score(r), weight: 1.0 }],
            blame: Vec::new(),
        };
        let rewards: Vec<Option<Reward>> = rollouts.iter().map(|r| Some(reward(r))).collect();
        means.push(rollouts.iter().map(score).sum::<f32>() / 64.0);
        trainer.update(&rollouts, &rewards, 1.0, step, step as u64).expect("the CPU computes");
    }
    means
}
