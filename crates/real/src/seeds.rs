//! Every random number of a run follows from one seed: each use derives its own.

/// What a derived seed is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Weights of a new model.
    Weights,
    /// Generated tasks.
    Tasks,
    /// Choice of supervised answers.
    Answers,
    /// Order of the supervised examples.
    SftOrder,
    /// Order of the prompts.
    PromptOrder,
    /// Sampling of responses.
    Sampling,
    /// Order of the mini-batches.
    MiniBatches,
    /// Sampling at evaluations.
    Evaluation,
}

/// The increment of `SplitMix64`: 2⁶⁴ over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The seed for use number `index` of a purpose (the finaliser of `SplitMix64` over all three).
pub(crate) fn derive(seed: u64, purpose: Purpose, index: u64) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let with_purpose = mix(seed.wrapping_add(STEP.wrapping_mul(purpose as u64 + 1)));
    mix(with_purpose.wrapping_add(STEP.wrapping_mul(index + 1)))
}
