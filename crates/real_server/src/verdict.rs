//! The kinds of scores that metrics and the page tell apart.

use real_reward::Score;

/// What a score says, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All tests pass, and no judge of quality objects.
    Good,
    /// All tests pass, and a judge of quality objects.
    RightOnly,
    /// Some test fails, and no judge of quality objects.
    CleanOnly,
    /// Some test fails, and a judge of quality objects.
    Bad,
    /// There is no program, or it cannot run.
    NotRunnable,
    /// We failed to judge it.
    InfraError,
}

impl Verdict {
    pub(crate) const ALL: [Self; 6] =
        [Self::Good, Self::RightOnly, Self::CleanOnly, Self::Bad, Self::NotRunnable, Self::InfraError];

    pub(crate) fn of(score: &Score) -> Self {
        if score.infra_error.is_some() {
            return Self::InfraError;
        }
        if score.tests.cases.is_empty() || score.flags.iter().any(|flag| flag == "not-runnable") {
            return Self::NotRunnable;
        }
        match (score.passed, score.quality.is_some_and(|quality| quality >= 1.0)) {
            (true, true) => Self::Good,
            (true, false) => Self::RightOnly,
            (false, true) => Self::CleanOnly,
            (false, false) => Self::Bad,
        }
    }

    /// As metrics name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::RightOnly => "right_only",
            Self::CleanOnly => "clean_only",
            Self::Bad => "bad",
            Self::NotRunnable => "not_runnable",
            Self::InfraError => "infra_error",
        }
    }
}
