//! What a step learns from: responses sampled from the policy, each judged while others are still being written.
//!
//! With dynamic sampling (Yu et al. 2025) prompts whose responses all got the same reward are dropped, because a comparison of equals
//! teaches nothing, and further prompts take their places, for at most `rollout.refill_rounds` more rounds. The prompts of a round
//! follow from the numbers of step and round, so a resumed run asks what the uninterrupted one would have asked.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use real_lm::ppo::maths::has_spread;
use real_lm::{BlockModel, PpoTrainer, Writer};
use real_reward::{Score, Task};

use super::Run;
use crate::config::RolloutWeights;
use crate::interrupt::Interrupt;
use crate::policy::{Response, Sampler};
use crate::progress::Progress;
use crate::seeds::{Purpose, derive};

/// Programs that are judged together, at least, and parts that the programs of a round are judged in, at most: a start of the type
/// checker is shared by all of them.
const JUDGED_TOGETHER: usize = 32;
const PARTS: usize = 4;

/// Responses and their verdicts, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Experience<'a> {
    pub(super) tasks: Vec<&'a Task>,
    pub(super) responses: Vec<Response>,
    pub(super) scores: Vec<Score>,
    /// Places of what is learned from; the others were dropped by dynamic sampling.
    pub(super) kept: Vec<usize>,
    /// How long the last verdicts took when every response was written.
    pub(super) waited_for_judges: Duration,
}

/// Where the step is, in its run and for the user.
struct Place<'a> {
    step: usize,
    round: usize,
    progress: &'a mut Progress,
    interrupt: &'a Interrupt,
}

impl<'a> Run<'a> {
    /// Samples and judges the rollouts of one step. An interrupt ends it early, with responses that were cut off.
    pub(super) fn gather(
        &self,
        trainer: &mut PpoTrainer,
        step: usize,
        progress: &mut Progress,
        interrupt: &Interrupt,
    ) -> Result<Experience<'a>> {
        let rollout = &self.config.rollout;
        let rounded = match rollout.weights {
            RolloutWeights::F32 => None,
            RolloutWeights::Int8 => Some(BlockModel::rounded(&*trainer.policy()?).context(
                "rollout.weights = \"int8\" needs a model whose widths are multiples of 32: set it to \"f32\"",
            )?),
        };
        let mut writer = rounded.as_ref().map_or_else(|| trainer.writer(), Writer::from);
        let rounds = rollout.refill_rounds + 1;
        let mut all = Experience::default();
        for round in 0..rounds {
            let tasks = self.prompts(step * rounds + round);
            let place = Place { step, round, progress: &mut *progress, interrupt };
            let (responses, scores, waited) = self.sample_and_judge(&mut writer, &tasks, place)?;
            all.waited_for_judges += waited;
            let first = all.tasks.len();
            let places = (first..first + tasks.len()).collect::<Vec<_>>();
            all.tasks.extend(tasks);
            all.responses.extend(responses);
            all.scores.extend(scores);
            let groups =
                places.chunks(rollout.samples).filter(|group| rounds == 1 || differ(group, &all.scores));
            let wanted = groups.flatten().copied().collect::<Vec<_>>();
            all.kept.extend(wanted.into_iter().take(rollout.batch - all.kept.len()));
            if all.kept.len() == rollout.batch || interrupt.is_set() {
                break;
            }
        }
        Ok(all)
    }

    /// The tasks of one round: passes over all prompts, each in an order of its own.
    fn prompts(&self, round: usize) -> Vec<&'a Task> {
        let samples = self.config.rollout.samples;
        let per_round = self.config.rollout.batch / samples;
        let mut order: Option<(usize, Vec<usize>)> = None;
        (round * per_round..(round + 1) * per_round)
            .flat_map(|position| {
                let (pass, place) = (position / self.prompts.len(), position % self.prompts.len());
                if order.as_ref().is_none_or(|(of, _)| *of != pass) {
                    let mut indices: Vec<usize> = (0..self.prompts.len()).collect();
                    let seed = derive(self.config.seed, Purpose::PromptOrder, pass as u64);
                    indices.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                    order = Some((pass, indices));
                }
                let index = order.as_ref().map_or(place, |(_, indices)| indices[place]);
                std::iter::repeat_n(&self.prompts[index], samples)
            })
            .collect()
    }

    fn sample_and_judge(
        &self,
        writer: &mut Writer,
        tasks: &[&Task],
        Place { step, round, progress, interrupt }: Place,
    ) -> Result<(Vec<Response>, Vec<Score>, Duration)> {
        let rollout = &self.config.rollout;
        let first = derive(self.config.seed, Purpose::Sampling, step as u64);
        let sampler = Sampler {
            temperature: rollout.temperature,
            top_p: rollout.top_p,
            max_new_tokens: rollout.max_new_tokens,
            concurrency: rollout.concurrency,
            stop_at_code_end: rollout.stop_at_code_end,
            seed: if round == 0 { first } else { derive(first, Purpose::Sampling, round as u64) },
        };
        thread::scope(|scope| {
            let (to_judge, waiting) = mpsc::channel::<(usize, String)>();
            let judge = scope.spawn(move || self.judge(tasks, &waiting));
            let mut ended = 0;
            let stop = || interrupt.is_set();
            let responses = sampler.sample(writer, self.base, tasks, stop, |place, response| {
                ended += 1;
                progress.set(step, &format!("step {}: {ended} of {} responses", step + 1, tasks.len()));
                // The judge ends only when this end of the channel is gone.
                let _ = to_judge.send((place, response.text.clone()));
            });
            drop(to_judge);
            progress.set(step, &format!("step {}: judging", step + 1));
            let written = Instant::now();
            let scores = judge.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((responses?, scores, written.elapsed()))
        })
    }

    /// Judges what comes, some together, until nothing comes any more. The scores are in the order of the tasks.
    fn judge(&self, tasks: &[&Task], waiting: &mpsc::Receiver<(usize, String)>) -> Vec<Score> {
        let mut scores: Vec<Option<Score>> = vec![None; tasks.len()];
        let mut batch = Vec::new();
        let enough = tasks.len().div_ceil(PARTS).max(JUDGED_TOGETHER);
        loop {
            let next = waiting.recv();
            let done = next.is_err();
            batch.extend(next);
            batch.extend(waiting.try_iter());
            if batch.len() >= enough || done {
                let items: Vec<(&Task, &str)> =
                    batch.iter().map(|(place, text)| (tasks[*place], text.as_str())).collect();
                for ((place, _), score) in batch.iter().zip(self.scorer.score_batch(&items)) {
                    scores[*place] = Some(score);
                }
                batch.clear();
            }
            if done {
                let unjudged = |task: &&Task| Score::outage(&task.id, 0, "the response was never finished");
                return scores
                    .into_iter()
                    .zip(tasks)
                    .map(|(score, task)| score.unwrap_or_else(|| unjudged(task)))
                    .collect();
            }
        }
    }
}

/// Whether the rewards at these places differ.
fn differ(places: &[usize], scores: &[Score]) -> bool {
    let rewards: Vec<f32> =
        places.iter().filter_map(|&place| scores[place].reward.map(|r| r as f32)).collect();
    has_spread(&rewards)
}
