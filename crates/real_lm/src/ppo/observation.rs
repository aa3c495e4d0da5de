//! What policy, critic and reference say of the rollouts of a step before any of them learns.

use std::ops::Range;

use super::PpoTrainer;
use super::rollout::{Reward, Rollout, TokenBatch, Trajectory, input_len};
use crate::Error;
use crate::backend::Passes;

impl PpoTrainer<'_> {
    /// Log-probabilities of policy and reference, and values.
    pub(super) fn observe<'r>(
        &mut self,
        scored: &[(&'r Rollout, &'r Reward)],
        temperature: f32,
    ) -> Result<Vec<Trajectory<'r>>, Error> {
        let Self { policy, critic, config, lanes, reference, .. } = self;
        let (head, tokens) = (&critic.head, config.micro_batch_tokens);
        let lengths: Vec<usize> = scored.iter().map(|(rollout, _)| input_len(rollout)).collect();
        let forward = |range: Range<usize>, passes: &mut dyn Passes| {
            let batch = TokenBatch::new(scored[range].iter().map(|(rollout, _)| *rollout));
            passes.forward(&batch.packed)?;
            Ok::<_, Error>(batch)
        };
        let logprobs = |range: Range<usize>, passes: &mut dyn Passes| {
            let batch = forward(range, passes)?;
            let logprobs = passes.score(batch.scored(temperature))?.logprobs;
            Ok(batch.by_rollout(&logprobs).collect::<Vec<_>>())
        };
        let values = |range: Range<usize>, passes: &mut dyn Passes| {
            let batch = forward(range, passes)?;
            let values = passes.values(head, &batch.rows)?;
            Ok(batch.by_rollout(&values).collect::<Vec<_>>())
        };
        let both = |range: Range<usize>, passes: &mut dyn Passes| {
            let batch = forward(range, passes)?;
            let logprobs = passes.score(batch.scored(temperature))?.logprobs;
            let values = passes.values(head, &batch.rows)?;
            Ok(batch.by_rollout(&logprobs).zip(batch.by_rollout(&values)).collect::<Vec<_>>())
        };

        let seen = policy.looking(lanes).each(&lengths, tokens, both)?;
        let (old_logprobs, mut old_values): (Vec<_>, Vec<_>) = seen.into_iter().flatten().unzip();
        if let Some(trunk) = &mut critic.trunk {
            old_values = trunk.looking(lanes).each(&lengths, tokens, values)?.into_iter().flatten().collect();
        }
        let ref_logprobs = match reference.as_mut().filter(|_| config.kl_coef > 0.0) {
            Some(reference) => {
                reference.looking(lanes).each(&lengths, tokens, logprobs)?.into_iter().flatten().collect()
            }
            None => old_logprobs.clone(),
        };
        let numbers = old_logprobs.into_iter().zip(ref_logprobs).zip(old_values);
        let trajectories = scored
            .iter()
            .zip(numbers)
            .map(|(&scored, ((old, reference), values))| Trajectory::new(scored, [old, reference, values]));
        Ok(trajectories.collect())
    }
}
