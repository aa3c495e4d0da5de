//! From rewards to advantages, for all rollouts of a step.
//!
//! With the critic every token has an advantage of its own. The other estimators compare the rollouts of one prompt: each gets one
//! number for all its tokens. For scores `[1, 0, 0.5, 0.5]` of four answers to one prompt:
//!
//! | estimator | advantages |
//! |---|---|
//! | `rloo` | 0.667, −0.667, 0, 0 |
//! | `dr_grpo` | 0.5, −0.5, 0, 0 |
//! | `grpo` | 1.22, −1.22, 0, 0 |

use std::collections::BTreeMap;

use super::config::{Advantage, KlPlace, PpoConfig};
use super::maths;
use super::rollout::{Trajectory, joined};

/// Fills in advantages, and with a critic returns. Returns the trajectories that are to be learned from.
pub(super) fn estimate<'a>(
    mut trajectories: Vec<Trajectory<'a>>,
    config: &PpoConfig,
    kl_coef: f32,
) -> Vec<Trajectory<'a>> {
    let reward_kl = if config.kl_place == KlPlace::Reward { kl_coef } else { 0.0 };
    match config.advantage {
        Advantage::Gae => trajectories.iter_mut().for_each(|t| generalised(t, config, reward_kl)),
        Advantage::Rloo => grouped(&mut trajectories, config, reward_kl, maths::leave_one_out),
        Advantage::Grpo => grouped(&mut trajectories, config, reward_kl, maths::standardised),
        Advantage::DrGrpo => grouped(&mut trajectories, config, reward_kl, maths::centred),
        Advantage::Gdpo => by_parts(&mut trajectories),
        Advantage::Rejection => trajectories.retain(|t| t.reward.total >= config.accept),
    }
    if config.whiten && config.advantage != Advantage::Rejection {
        whiten_all(&mut trajectories);
    }
    trajectories
}

fn generalised(trajectory: &mut Trajectory, config: &PpoConfig, kl_coef: f32) {
    let t = trajectory;
    let rewards =
        maths::token_rewards(t.reward.total, &t.reward.blame, &t.token_kl(config.kl_estimator), kl_coef);
    t.advantages = maths::gae(&rewards, &t.old_values, config.gamma, config.lambda);
    t.returns = t.advantages.iter().zip(&t.old_values).map(|(a, v)| a + v).collect();
}

/// Compares the returns of each group. Behind tokens that are blamed, the return-to-go is higher by what they cost.
fn grouped(
    trajectories: &mut [Trajectory],
    config: &PpoConfig,
    kl_coef: f32,
    compare: fn(f32, &[f32]) -> f32,
) {
    let of = |t: &Trajectory| t.reward.total - kl_coef * t.token_kl(config.kl_estimator).iter().sum::<f32>();
    let groups = groups(trajectories, of);
    for t in trajectories {
        let (own, group) = (of(t), &groups[&t.rollout.prompt[..]]);
        t.advantages = if group.len() < 2 || t.reward.blame.is_empty() {
            vec![compare(own, group); t.len()]
        } else {
            let paid = maths::paid_before(&t.reward.blame, t.len());
            paid.into_iter().map(|paid| compare(own, group) + paid).collect()
        };
    }
}

/// Compares each part of the reward by itself, and adds up by weight.
fn by_parts(trajectories: &mut [Trajectory]) {
    for t in &mut *trajectories {
        t.advantages.fill(0.0);
    }
    let parts = trajectories.iter().map(|t| t.reward.parts.len()).max().unwrap_or(0);
    for index in 0..parts {
        let of = |t: &Trajectory| t.reward.parts[index].value;
        let groups = groups(trajectories, of);
        for t in &mut *trajectories {
            let part = t.reward.parts[index];
            let advantage = part.weight * maths::standardised(part.value, &groups[&t.rollout.prompt[..]]);
            t.advantages.iter_mut().for_each(|a| *a += advantage);
        }
    }
}

/// A figure of the rollouts of each prompt.
fn groups<'a>(
    trajectories: &[Trajectory<'a>],
    of: impl Fn(&Trajectory) -> f32,
) -> BTreeMap<&'a [u32], Vec<f32>> {
    let mut groups: BTreeMap<&[u32], Vec<f32>> = BTreeMap::new();
    for t in trajectories {
        groups.entry(&t.rollout.prompt).or_default().push(of(t));
    }
    groups
}

/// Whitens the advantages over all tokens of the step.
fn whiten_all(trajectories: &mut [Trajectory]) {
    let mut all = joined(trajectories.iter().map(|t| &t.advantages));
    maths::whiten(&mut all);
    let mut whitened = all.into_iter();
    for trajectory in trajectories {
        for (advantage, value) in trajectory.advantages.iter_mut().zip(&mut whitened) {
            *advantage = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rollout::{Blame, Reward, RewardPart, Rollout};
    use super::*;

    /// The advantages of two-token responses to one prompt with these rewards.
    fn advantages(advantage: Advantage, rewards: &[Reward]) -> Vec<Vec<f32>> {
        let config = PpoConfig { advantage, whiten: false, kl_coef: 0.0, ..PpoConfig::default() };
        let rollout = Rollout { prompt: vec![1], response: vec![2, 3] };
        let trajectories = rewards
            .iter()
            .map(|reward| Trajectory::new((&rollout, reward), [vec![-1.0; 2], vec![-1.0; 2], vec![0.25; 2]]))
            .collect();
        estimate(trajectories, &config, 0.0).into_iter().map(|t| t.advantages).collect()
    }

    fn check(advantage: Advantage, rewards: &[Reward], expected: &[[f32; 2]]) {
        let found = advantages(advantage, rewards);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-5, "{advantage:?}: {found} is not {expected}");
        }
    }

    #[test]
    fn each_estimator_by_hand() {
        let rewards = [1.0, 0.0, 0.5, 0.5].map(Reward::from);
        check(Advantage::Gae, &rewards, &[[0.75; 2], [-0.25; 2], [0.25; 2], [0.25; 2]]);
        check(Advantage::Rloo, &rewards, &[[2.0 / 3.0; 2], [-2.0 / 3.0; 2], [0.0; 2], [0.0; 2]]);
        check(Advantage::DrGrpo, &rewards, &[[0.5; 2], [-0.5; 2], [0.0; 2], [0.0; 2]]);
        check(Advantage::Grpo, &rewards, &[[1.224_742; 2], [-1.224_742; 2], [0.0; 2], [0.0; 2]]);
        assert_eq!(advantages(Advantage::Rejection, &rewards).len(), 1, "only the first reaches 1");
    }

    #[test]
    fn a_part_of_small_spread_counts_as_much_as_its_weight() {
        let reward = |quality, function| Reward {
            parts: vec![
                RewardPart { value: quality, weight: 0.9 },
                RewardPart { value: function, weight: 0.1 },
            ],
            ..Reward::default()
        };
        let rewards = [reward(0.02, 0.0), reward(0.01, 1.0), reward(0.01, 0.0), reward(0.02, 1.0)];
        let unit = 0.866_025; // half the spread in unbiased standard deviations of four values
        let expected = [0.8, -0.8, -1.0, 1.0].map(|a| [a * unit; 2]);
        let found = advantages(Advantage::Gdpo, &rewards);
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
        }
    }

    #[test]
    fn tokens_behind_a_finding_are_not_blamed_for_it() {
        let blamed =
            Reward { total: 0.5, blame: vec![Blame { tokens: 0..1, cost: 0.5 }], ..Reward::default() };
        let rewards = [blamed, 1.0.into()];
        check(Advantage::DrGrpo, &rewards, &[[-0.25, 0.25], [0.25, 0.25]]);
        check(Advantage::Gae, &rewards, &[[0.25, 0.75], [0.75, 0.75]]);
    }
}
