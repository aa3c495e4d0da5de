//! PPO and SFT as a whole: how a step is split does not change it, and what has no score takes no part.

use std::ops::ControlFlow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use real_lm::{
    Advantage, Architecture, Example, Model, ModelConfig, PpoConfig, PpoTrainer, Rollout, Sampling,
    SftConfig, SftTrainer, generate,
};

fn tiny() -> Model {
    let config = ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 13,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
    };
    Model::random(config, 0.02, &mut ChaCha8Rng::seed_from_u64(3))
}

fn rollouts(count: usize) -> Vec<Rollout> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut tokens = |n: usize| (0..n).map(|_| rng.random_range(0..13)).collect::<Vec<u32>>();
    (0..count).map(|i| Rollout { prompt: tokens(2 + i % 3), response: tokens(1 + i % 4) }).collect()
}

fn scores(count: usize) -> Vec<Option<f32>> {
    (0..count).map(|i| Some((i % 5) as f32 / 4.0)).collect()
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
fn after_two_steps(config: PpoConfig, rollouts: &[Rollout], scores: &[Option<f32>]) -> (Vec<f32>, Vec<f32>) {
    let mut trainer = PpoTrainer::new(tiny(), Some(tiny()), config);
    for step in 0..2 {
        let metrics = trainer.update(rollouts, scores, 1.0, step, 7);
        assert!(metrics.values().all(|v| v.is_finite()), "{metrics:?}");
    }
    (trainer.policy.params, trainer.value_head.params)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn one_batch_of_eight_is_eight_of_one() {
    let (rollouts, scores) = (rollouts(8), scores(8));
    let whole = after_two_steps(config(), &rollouts, &scores);
    let split = after_two_steps(PpoConfig { micro_batch_tokens: 1, ..config() }, &rollouts, &scores);
    let side_by_side = after_two_steps(PpoConfig { lanes: 3, ..config() }, &rollouts, &scores);
    for other in [split, side_by_side] {
        // AdamW divides by the root of the second moment: where a gradient is all rounding, so is its update.
        assert!(largest_difference(&whole.0, &other.0) < 1e-4);
        assert!(largest_difference(&whole.1, &other.1) < 1e-4);
    }
    assert!(largest_difference(&whole.0, &tiny().params) > 1e-3, "the policy has learned");
}

#[test]
fn a_step_is_the_same_to_the_bit_when_repeated() {
    let (rollouts, scores) = (rollouts(8), scores(8));
    for lanes in [1, 2] {
        let config = PpoConfig { mini_batch: 3, lanes, ..config() };
        let steps = || after_two_steps(config.clone(), &rollouts, &scores);
        let first = steps();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(first, pool.install(steps), "{lanes} lanes on {threads} threads");
        }
    }
}

#[test]
fn what_has_no_score_takes_no_part() {
    let (all, mut some) = (rollouts(6), scores(6));
    some[1] = None;
    some[4] = None;
    let keep = |i: &usize| ![1, 4].contains(i);
    let (left, left_scores): (Vec<Rollout>, Vec<Option<f32>>) =
        (0..6).filter(keep).map(|i| (all[i].clone(), some[i])).unzip();
    assert_eq!(after_two_steps(config(), &all, &some), after_two_steps(config(), &left, &left_scores));

    let mut trainer = PpoTrainer::new(tiny(), Some(tiny()), config());
    trainer.update(&all, &[None; 6], 1.0, 0, 7);
    assert_eq!(trainer.policy.params, tiny().params, "a step without any score changes nothing");
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
        let losses: Vec<f32> = (0..30).map(|_| trainer.step(&examples).loss).collect();
        (losses, trainer.model.params)
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
    let (rollouts, scores) = (rollouts(6), scores(6));
    let mut whole = PpoTrainer::new(tiny(), Some(tiny()), config());
    whole.update(&rollouts, &scores, 1.0, 0, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    whole.save_state(&path).unwrap();
    let mut resumed = PpoTrainer::new(whole.policy.clone(), Some(tiny()), config());
    resumed.load_state(&path).unwrap();
    for trainer in [&mut whole, &mut resumed] {
        trainer.update(&rollouts, &scores, 1.0, 1, 2);
    }
    assert_eq!(whole.policy.params, resumed.policy.params);
    assert_eq!(whole.value_head.params, resumed.value_head.params);

    std::fs::write(&path, b"not a safetensors file").unwrap();
    assert!(resumed.load_state(&path).unwrap_err().to_string().contains("state.safetensors"));
}

/// The whole of reinforcement learning at its smallest: the policy is rewarded for writing one token, and learns to.
#[test]
fn a_policy_learns_what_is_rewarded() {
    for advantage in [Advantage::Gae, Advantage::Rloo] {
        let means = mean_scores(advantage);
        assert!(means[0] < 0.2, "a random policy writes the token now and then: {means:?}");
        assert!(means[24] > 0.9, "a trained one nearly always: {advantage:?} {means:?}");
    }
}

/// The mean score of each step of training.
fn mean_scores(advantage: Advantage) -> Vec<f32> {
    const WANTED: u32 = 5;
    let config = PpoConfig {
        advantage,
        learning_rate: 3e-3,
        value_learning_rate: 1e-2,
        kl_coef: 0.01,
        epochs: 2,
        mini_batch: 32,
        ..PpoConfig::default()
    };
    let mut trainer = PpoTrainer::new(tiny(), Some(tiny()), config);
    let prompts: Vec<Vec<u32>> = (0..64).map(|i| vec![1 + i % 4, 2]).collect();
    let mut means = Vec::new();
    for step in 0..25 {
        let sampling = Sampling { max_new_tokens: 6, seed: step as u64, batch: 64, ..Sampling::default() };
        let sampled =
            generate(&trainer.policy, &prompts, &sampling, |_, _| ControlFlow::Continue(()), |_, _| ());
        let rollouts: Vec<Rollout> = prompts
            .iter()
            .zip(sampled)
            .map(|(prompt, g)| Rollout { prompt: prompt.clone(), response: g.ids })
            .collect();
        let score = |r: &Rollout| r.response.iter().filter(|&&t| t == WANTED).count() as f32 / 6.0;
        let scores: Vec<Option<f32>> = rollouts.iter().map(|r| Some(score(r))).collect();
        means.push(scores.iter().flatten().sum::<f32>() / 64.0);
        trainer.update(&rollouts, &scores, 1.0, step, step as u64);
    }
    means
}
