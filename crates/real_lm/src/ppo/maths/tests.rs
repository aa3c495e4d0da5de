//! Values worked out by hand, and slopes.

use super::*;
use proptest::prelude::*;

const CLIP: Clip = Clip { low: 0.2, high: 0.28, dual: 3.0 };

#[track_caller]
fn near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (x, y) in found.iter().zip(expected) {
        assert!((x - y).abs() < 1e-5, "{found:?} is not {expected:?}");
    }
}

#[test]
fn gae_with_lambda_1_is_return_minus_value() {
    let advantages = gae(&[0.0, 0.5, 1.0], &[0.3, 0.2, 0.1], 1.0, 1.0);
    for (got, want) in advantages.iter().zip([1.5 - 0.3, 1.5 - 0.2, 1.0 - 0.1]) {
        assert!((got - want).abs() < 1e-6);
    }
}

#[test]
fn gae_with_lambda_0_is_the_temporal_difference() {
    let advantages = gae(&[0.0, 0.5, 1.0], &[0.3, 0.2, 0.1], 0.9, 0.0);
    for (got, want) in advantages.iter().zip([0.9 * 0.2 - 0.3, 0.5 + 0.9 * 0.1 - 0.2, 1.0 - 0.1]) {
        assert!((got - want).abs() < 1e-6);
    }
}

#[test]
fn leave_one_out_is_the_distance_from_the_others() {
    let group = [1.0, 0.0, 0.5];
    assert!((leave_one_out(1.0, &group) - 0.75).abs() < 1e-6);
    assert!((leave_one_out(0.5, &group) - 0.0).abs() < 1e-6);
    assert!(leave_one_out(0.7, &[0.7]).abs() < 1e-6);
}

#[test]
fn the_score_lands_on_the_last_token() {
    near(&token_rewards(1.0, &[], &[0.5, 0.0], 0.1), &[-0.05, 1.0]);
    assert!(token_rewards(1.0, &[], &[], 0.1).is_empty());
}

#[test]
fn blame_moves_from_the_last_token_to_those_that_earned_it() {
    let blame = [Blame { tokens: 1..3, cost: 0.6 }, Blame { tokens: 2..2, cost: 9.0 }];
    let rewards = token_rewards(0.4, &blame, &[0.0; 4], 0.1);
    near(&rewards, &[0.0, -0.3, -0.3, 1.0]);
    near(&gae(&rewards, &[0.0; 4], 1.0, 1.0), &[0.4, 0.4, 0.7, 1.0]);
    near(&paid_before(&blame, 4), &[0.0, 0.0, 0.3, 0.6]);
    near(&paid_before(&[Blame { tokens: 3..4, cost: 0.6 }], 4), &[0.0; 4]);
}

#[test]
fn groups_are_centred_and_scaled() {
    // Mean 0.5, unbiased variance (0.25 + 0.25 + 0 + 0) / 3.
    let group = [1.0, 0.0, 0.5, 0.5];
    near(&group.map(|own| centred(own, &group)), &[0.5, -0.5, 0.0, 0.0]);
    near(&group.map(|own| standardised(own, &group)), &[1.224_742, -1.224_742, 0.0, 0.0]);
    near(&[standardised(0.7, &[0.7]), standardised(0.7, &[0.7; 3]), centred(0.7, &[0.7])], &[0.0; 3]);
    assert!(has_spread(&group) && !has_spread(&[0.5; 3]) && !has_spread(&[0.5]));
}

#[test]
fn kl_estimates_and_their_slopes() {
    let (logprob, reference) = (-1.0, -1.5);
    for (estimator, value, slope) in [
        (KlEstimator::K1, 0.5, 1.0),
        (KlEstimator::K2, 0.125, 0.5),
        (KlEstimator::K3, (-0.5_f32).exp() - 1.0 + 0.5, 1.0 - (-0.5_f32).exp()),
    ] {
        let found = kl(estimator, logprob, reference);
        near(&[found.0, found.1], &[value, slope]);
        near(&[kl(estimator, -2.0, -2.0).0], &[0.0]);
    }
    assert!(kl(KlEstimator::K3, -90.0, -1.0).0.is_finite());
}

#[test]
fn beta_follows_the_divergence() {
    // Twice the target is an error of 1, held to 0.2; 256 rollouts of a horizon of 1024 are a quarter of it.
    near(&[adapted_kl_coef(0.1, 0.02, 0.01, 1024.0, 256)], &[0.105]);
    near(&[adapted_kl_coef(0.1, 0.011, 0.01, 1024.0, 1024)], &[0.11]);
    near(&[adapted_kl_coef(0.1, 0.0, 0.01, 1024.0, 256)], &[0.095]);
}

#[test]
fn length_costs_only_at_the_end() {
    let penalty = |tokens| overlong_penalty(tokens, 1024, 256, 0.5);
    near(&[penalty(768), penalty(896), penalty(1024), penalty(2000)], &[0.0, -0.25, -0.5, -0.5]);
    near(&[overlong_penalty(1024, 1024, 0, 0.5)], &[0.0]);
}

#[test]
fn tokens_weigh_by_the_aggregation() {
    // Responses of 1 and 3 tokens.
    let weight =
        |aggregation, length| token_weight(aggregation, MiniBatch { sequences: 2, tokens: 4 }, length, 8);
    near(&[weight(Aggregation::TokenMean, 1), weight(Aggregation::TokenMean, 3)], &[0.25, 0.25]);
    near(&[weight(Aggregation::SequenceMean, 1), weight(Aggregation::SequenceMean, 3)], &[0.5, 1.0 / 6.0]);
    near(&[weight(Aggregation::Constant, 1), weight(Aggregation::Constant, 3)], &[1.0 / 16.0; 2]);
}

#[test]
fn likelihood_pulls_every_token_up() {
    let loss = likelihood_loss(-2.0);
    near(&[loss.loss, loss.derivative], &[2.0, -1.0]);
}

#[test]
fn the_clip_holds_on_the_sides_it_should() {
    // A ratio above the clip moves nothing when the advantage is positive, and everything when it is negative.
    assert!(policy_loss(0.5, 0.0, 1.0, CLIP).clipped);
    assert!(!policy_loss(0.5, 0.0, -1.0, CLIP).clipped);
    assert!(policy_loss(-0.5, 0.0, -1.0, CLIP).clipped);
    assert!(!policy_loss(-0.5, 0.0, 1.0, CLIP).clipped);
    // The dual clip: ratio e² > 3 with a negative advantage.
    let dual = policy_loss(2.0, 0.0, -1.0, CLIP);
    assert!(dual.clipped && (dual.loss - 3.0).abs() < 1e-6);
}

proptest! {
    #[test]
    fn policy_loss_derivative_is_the_slope(logprob in -3.0_f32..0.0, old in -3.0_f32..0.0, advantage in -2.0_f32..2.0) {
        let at = |x: f32| policy_loss(x, old, advantage, CLIP);
        let (below, here, above) = (at(logprob - 1e-3), at(logprob), at(logprob + 1e-3));
        prop_assume!(below.clipped == above.clipped);
        let slope = (above.loss - below.loss) / 2e-3;
        prop_assert!((slope - here.derivative).abs() < 2e-2 * (1.0 + here.derivative.abs()));
    }

    #[test]
    fn value_loss_derivative_is_the_slope(value in -2.0_f32..2.0, old in -2.0_f32..2.0, target in -2.0_f32..2.0) {
        let at = |x: f32| value_loss(x, old, target, 0.5);
        let (below, here, above) = (at(value - 1e-3), at(value), at(value + 1e-3));
        prop_assume!(below.clipped == above.clipped);
        let slope = (above.loss - below.loss) / 2e-3;
        prop_assert!((slope - here.derivative).abs() < 1e-2);
    }

    #[test]
    fn whitened_values_have_mean_0_and_variance_1(mut values in prop::collection::vec(-5.0_f32..5.0, 2..50)) {
        prop_assume!(mean_and_variance(&values).1 > 1e-3);
        whiten(&mut values);
        let (mean, variance) = mean_and_variance(&values);
        prop_assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3);
    }
}
