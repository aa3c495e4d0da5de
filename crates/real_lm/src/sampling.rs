//! How the next token is drawn from logits.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::ops::simd::{exp, kernel, max, sum_of};

/// How completions are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// The logits are divided by it; 0 takes the most probable token.
    pub temperature: f32,
    /// Only the most probable tokens that together have this probability are drawn; 1 for all.
    pub top_p: f32,
    /// Only this many most probable tokens are drawn; `None` for all.
    pub top_k: Option<usize>,
    /// A completion ends after this many tokens.
    pub max_new_tokens: usize,
    /// A completion ends with any of these.
    pub stop_tokens: Vec<u32>,
    /// Each sequence draws from its own stream of this seed.
    pub seed: u64,
    /// Sequences decoded at once.
    pub batch: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            max_new_tokens: 512,
            stop_tokens: Vec::new(),
            seed: 0,
            batch: 32,
        }
    }
}

/// Draws a token from its logits, which it overwrites. The log-probability is that of the whole distribution at the
/// temperature (at 1 for greedy choice), whatever top-p and top-k leave of it.
pub(crate) fn sample(logits: &mut [f32], sampling: &Sampling, rng: &mut ChaCha8Rng) -> (u32, f32) {
    let greedy = sampling.temperature <= 0.0;
    let total = weights(logits, if greedy { 1.0 } else { sampling.temperature.recip() });
    let weights = logits;
    let token = if greedy {
        most_probable(weights)
    } else if sampling.top_p < 1.0 || sampling.top_k.is_some() {
        draw_truncated(weights, total, sampling, rng)
    } else {
        draw(weights, rng.random::<f32>() * total)
    };
    // A token whose weight underflows has a log-probability below -87; it is never drawn.
    (token as u32, (weights[token] / total).ln())
}

/// The first of the largest.
fn most_probable(weights: &[f32]) -> usize {
    let top = largest(weights);
    weights.iter().position(|&w| w >= top).expect("the largest is one of them")
}

/// The token at which the running sum of weights passes `mark`.
fn draw(weights: &[f32], mut mark: f32) -> usize {
    const CHUNK: usize = 256;
    let mut last = 0;
    for (index, chunk) in weights.chunks(CHUNK).enumerate() {
        let sum = total(chunk);
        if mark < sum {
            for (i, &weight) in chunk.iter().enumerate() {
                if weight > 0.0 {
                    last = index * CHUNK + i;
                    if mark < weight {
                        return last;
                    }
                }
                mark -= weight;
            }
            // Rounding left a crumb behind the last weight of the chunk.
            return last;
        }
        mark -= sum;
        last = index * CHUNK + most_probable(chunk);
    }
    last
}

/// Draws among the most probable tokens that top-p and top-k leave.
fn draw_truncated(weights: &[f32], total: f32, sampling: &Sampling, rng: &mut ChaCha8Rng) -> usize {
    // All weights under this together are less than 1 - top_p, so none of them is needed.
    let floor = (1.0 - sampling.top_p).max(0.0) * total / weights.len() as f32;
    let mut kept: Vec<(f32, usize)> = weights.iter().copied().zip(0..).filter(|&(w, _)| w >= floor).collect();
    kept.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    kept.truncate(sampling.top_k.unwrap_or(usize::MAX).max(1));
    let (mut sum, mut count) = (0.0, 0);
    for &(weight, _) in &kept {
        count += 1;
        sum += weight;
        if sum >= sampling.top_p * total {
            break;
        }
    }
    let kept_weights: Vec<f32> = kept[..count].iter().map(|pair| pair.0).collect();
    kept[draw(&kept_weights, rng.random::<f32>() * sum)].1
}

kernel! {
    /// Logits to `e^((z - top) / temperature)`; returns their sum.
    fn weights(logits: &mut [f32], inverse_temperature: f32) -> f32 {
        let top = max(logits);
        for z in logits.iter_mut() {
            *z = exp((*z - top) * inverse_temperature);
        }
        sum_of(logits, |w| w)
    }

    fn total(weights: &[f32]) -> f32 {
        sum_of(weights, |w| w)
    }

    fn largest(weights: &[f32]) -> f32 {
        max(weights)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// How often each token comes in 20,000 draws.
    fn frequencies(sampling: &Sampling) -> [f32; 4] {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            counts[sample(&mut logits(), sampling, &mut rng).0 as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        for (x, y) in found.iter().zip(expected) {
            assert!((x - y).abs() < 0.015 && (*y > 0.0 || *x == 0.0), "{found:?} is not {expected:?}");
        }
    }

    /// Logits of these probabilities.
    fn logits() -> Vec<f32> {
        [0.2f32, 0.5, 0.1, 0.2].map(f32::ln).to_vec()
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let sampling = Sampling::default();
        assert_near(&frequencies(&sampling), &[0.2, 0.5, 0.1, 0.2]);
        // Squared and normalised at half the temperature.
        assert_near(&frequencies(&Sampling { temperature: 0.5, ..sampling }), &[0.118, 0.735, 0.029, 0.118]);
    }

    #[test]
    fn truncation_keeps_the_most_probable() {
        let sampling = Sampling::default();
        assert_near(&frequencies(&Sampling { top_p: 0.45, ..sampling.clone() }), &[0.0, 1.0, 0.0, 0.0]);
        assert_near(&frequencies(&Sampling { top_p: 0.65, ..sampling.clone() }), &[0.286, 0.714, 0.0, 0.0]);
        assert_near(&frequencies(&Sampling { top_p: 0.85, ..sampling.clone() }), &[0.222, 0.556, 0.0, 0.222]);
        assert_near(&frequencies(&Sampling { top_k: Some(2), ..sampling }), &[0.286, 0.714, 0.0, 0.0]);
    }

    #[test]
    fn logprobs_are_those_of_the_whole_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (temperature, expected) in [(0.0, 0.5f32), (1.0, 0.5), (0.5, 0.25 / 0.34)] {
            let sampling = Sampling { temperature, top_p: 0.4, ..Sampling::default() };
            let (token, logprob) = sample(&mut logits(), &sampling, &mut rng);
            assert_eq!(token, 1);
            assert!((logprob - expected.ln()).abs() < 1e-5, "{logprob}");
        }
    }

    #[test]
    fn the_last_tokens_of_a_large_vocabulary_are_drawn_too() {
        let mut logits = vec![f32::NEG_INFINITY; 1000];
        logits[999] = 3.0;
        assert_eq!(sample(&mut logits, &Sampling::default(), &mut ChaCha8Rng::seed_from_u64(3)).0, 999);
    }
}
