//! Findings that are not there, for experiments on what an unreliable detector does to training.
//!
//! With `false_positives = 0.3` three in ten of the programs that have no counted finding are judged as if they had one. The choice is a hash
//! of the task and the program: the same program always gets the same verdict, here as with a rule that is wrong.

use super::security::Security;
use crate::{RewardConfig, Task};

/// Whether this program is judged as if it had a finding more.
pub(crate) fn injects(config: &RewardConfig, task: &Task, program: &str, security: &Security) -> bool {
    let innocent = config.judges_security(task) && security.counted() == 0;
    innocent && fraction(&task.id, program) < config.false_positives
}

/// A number in [0, 1) that follows from both texts: FNV-1a, finished as in `SplitMix64` so that the high bits depend on every byte.
fn fraction(task: &str, program: &str) -> f64 {
    let bytes = task.bytes().chain([0]).chain(program.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_is_uniform_and_repeatable() {
        let below =
            |limit: f64| (0..4000).filter(|n| fraction("task", &format!("x = {n}\n")) < limit).count();
        assert_eq!(below(0.0), 0);
        // 1200 expected, with a standard deviation of 29.
        assert!((1084..1316).contains(&below(0.3)), "{} of 4000 below 0.3", below(0.3));
        assert!((fraction("a", "x") - fraction("a", "x")).abs() < f64::EPSILON);
        assert!((fraction("a", "x") - fraction("b", "x")).abs() > f64::EPSILON);
    }
}
