//! Learning rates over time.

use serde::{Deserialize, Serialize};

/// How the learning rate goes from its peak to the end of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It stays at the peak.
    Constant,
    /// Half a cosine from the peak down to a tenth of it.
    Cosine,
}

/// The learning rate of step `step` (from 0) of `total`: linear over the first `warmup` steps, then as `decay` says.
pub fn learning_rate(peak: f32, decay: Decay, warmup: usize, step: usize, total: usize) -> f32 {
    if step < warmup {
        return peak * (step + 1) as f32 / warmup as f32;
    }
    match decay {
        Decay::Constant => peak,
        Decay::Cosine => {
            let progress = (step - warmup) as f32 / (total - warmup).max(1) as f32;
            let cosine = 0.5 * (1.0 + (std::f32::consts::PI * progress.min(1.0)).cos());
            peak * (0.1 + 0.9 * cosine)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_decay() {
        let rate = |step| learning_rate(1.0, Decay::Cosine, 4, step, 104);
        assert!((rate(0) - 0.25).abs() < 1e-6);
        assert!((rate(3) - 1.0).abs() < 1e-6);
        assert!((rate(4) - 1.0).abs() < 1e-6);
        assert!((rate(54) - 0.55).abs() < 1e-6);
        assert!((rate(104) - 0.1).abs() < 1e-6);
        assert!((learning_rate(0.5, Decay::Constant, 0, 7, 9) - 0.5).abs() < 1e-6);
    }
}
