//! Micro-batches side by side: data parallelism inside one process.
//!
//! The products of a model of a few million parameters are too small to split over threads: most of the time goes to waiting
//! for each other. Such a model trains faster when every thread takes whole micro-batches. A *lane* is what one of them needs
//! for that: a share of the threads, activations, and gradients. Micro-batch `i` always runs on lane `i mod lanes`, and the
//! gradients are added in the order of the lanes, so that the result depends on the number of lanes, which the
//! configuration sets, and never on the number of threads or on which lane is done first.

use std::ops::Range;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::ops::simd::add;
use crate::{Keep, Workspace};

/// What a micro-batch works with.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Activations of the micro-batch under way.
    pub(crate) workspace: Workspace,
    /// The sum of the gradients of the lane's micro-batches.
    pub(crate) grads: Vec<f32>,
}

/// All lanes of a trainer.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    /// A pool for each lane with its share of the threads. A single lane uses the global pool.
    pools: Vec<ThreadPool>,
}

impl Lanes {
    /// `count` lanes with gradients of `parameters` numbers each.
    pub(crate) fn new(count: usize, parameters: usize, keep: Keep) -> Self {
        let count = count.max(1);
        let lane = || Lane { workspace: Workspace::new(keep), grads: vec![0.0; parameters] };
        let threads = (rayon::current_num_threads() / count).max(1);
        let pool =
            || ThreadPoolBuilder::new().num_threads(threads).build().expect("the system starts a thread");
        Self {
            lanes: (0..count).map(|_| lane()).collect(),
            pools: if count == 1 { Vec::new() } else { (0..count).map(|_| pool()).collect() },
        }
    }

    /// For a trainer that computes elsewhere.
    pub(crate) fn none() -> Self {
        Self { lanes: Vec::new(), pools: Vec::new() }
    }

    /// Forgets the gradients of all lanes.
    pub(crate) fn zero_gradients(&mut self) {
        for lane in &mut self.lanes {
            lane.grads.fill(0.0);
        }
    }

    /// Adds the gradients of all lanes to those of the first, in their order, and returns the sum.
    pub(crate) fn sum_gradients(&mut self) -> &mut Vec<f32> {
        let (first, others) = self.lanes.split_first_mut().expect("there is a lane");
        for other in others {
            add(&mut first.grads, &other.grads);
            other.grads.fill(0.0);
        }
        &mut first.grads
    }

    /// Runs `pass` on every micro-batch of sequences of these lengths and returns its results in order.
    pub(crate) fn run<T: Send>(
        &mut self,
        lengths: &[usize],
        max_tokens: usize,
        pass: impl Fn(Range<usize>, &mut Lane) -> T + Sync,
    ) -> Vec<T> {
        let count = self.lanes.len();
        let ranges = micro_batches(lengths, max_tokens, count);
        let work = |index: usize, lane: &mut Lane| -> Vec<T> {
            ranges.iter().skip(index).step_by(count).map(|range| pass(range.clone(), lane)).collect()
        };
        if let [lane] = &mut self.lanes[..] {
            return work(0, lane);
        }
        let results: Vec<Vec<T>> = std::thread::scope(|scope| {
            let lanes = self.lanes.iter_mut().zip(&self.pools).enumerate();
            let work = &work;
            let running: Vec<_> = lanes
                .map(|(index, (lane, pool))| scope.spawn(move || pool.install(|| work(index, lane))))
                .collect();
            running.into_iter().map(|thread| thread.join().expect("a pass does not panic")).collect()
        });
        let mut results: Vec<_> = results.into_iter().map(Vec::into_iter).collect();
        (0..ranges.len()).filter_map(|index| results[index % count].next()).collect()
    }
}

/// Splits sequences of these lengths, in order, into runs of about the same number of tokens: at most `max_tokens` (a longer
/// sequence alone), and as many runs as the lanes share evenly.
pub(crate) fn micro_batches(lengths: &[usize], max_tokens: usize, lanes: usize) -> Vec<Range<usize>> {
    let total: usize = lengths.iter().sum();
    let mut count = total.div_ceil(max_tokens.max(1)).next_multiple_of(lanes);
    loop {
        let ranges = split(lengths, total, count);
        let fits = |range: &Range<usize>| {
            range.len() <= 1 || lengths[range.clone()].iter().sum::<usize>() <= max_tokens
        };
        if ranges.iter().all(fits) {
            return ranges;
        }
        count += lanes;
    }
}

/// Cuts where the tokens so far pass a multiple of `total / count`; runs without a sequence are left out.
fn split(lengths: &[usize], total: usize, count: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::with_capacity(count);
    let (mut start, mut tokens) = (0, 0);
    for (index, &length) in lengths.iter().enumerate() {
        tokens += length;
        let wanted = (ranges.len() + 1) * total;
        // Cut behind this sequence where that is nearer to the even share than cutting behind the next one.
        let next = lengths.get(index + 1).copied().unwrap_or(0);
        if index + 1 == lengths.len() || (2 * tokens + next) * count > 2 * wanted {
            ranges.push(start..index + 1);
            start = index + 1;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_cover_everything_once() {
        assert_eq!(micro_batches(&[3, 3, 3, 9, 1, 1], 6, 1), [0..2, 2..3, 3..4, 4..6]);
        assert!(micro_batches(&[], 6, 2).is_empty());
        assert_eq!(micro_batches(&[10, 10], 6, 1), [0..1, 1..2]);
    }

    #[test]
    fn lanes_get_even_shares() {
        assert_eq!(micro_batches(&[5; 8], 1000, 2), [0..4, 4..8]);
        assert_eq!(micro_batches(&[7, 1, 1, 1, 7, 1, 1, 1], 1000, 2), [0..4, 4..8]);
        assert_eq!(micro_batches(&[5, 5], 1000, 4), [0..1, 1..2]);
    }
}
