//! How judgements become a number.

use serde::{Deserialize, Serialize};

use crate::{Error, Task};

/// The hybrid reward r = α·`r_quality` + (1−α)·`r_function` and what its parts are made of (the paper's equation 2).
///
/// The defaults are the paper's text: binary quality, the fraction of passed tests as function, −1 for what cannot run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// Weight of quality, in [0, 1]; the paper's α. It used 0.5 for SecCodePLT+ and APPS+, and 0.1 (0.5B, 7B) or 0.3 (3B) for SafeSQL.
    pub alpha: f64,
    /// The judges that quality is made of.
    pub judges: Judges,
    /// How findings and type errors become a number; the paper's `r_quality`.
    pub quality: Quality,
    /// How test results become a number; the paper's `r_function`.
    pub function: Function,
    /// How the two parts become one.
    pub aggregation: Aggregation,
    /// With `aggregation = "gated"`: quality counts only where function is at least this, in (0, 1].
    pub gate: f64,
    /// The reward of a completion that cannot run: no closed code block, a syntax error, no entry point, an exception at import. In [−1, 0].
    pub not_runnable: f64,
    /// Findings below this confidence don't lower quality, in [0, 1].
    pub min_confidence: f32,
    /// Which findings lower quality.
    pub scope: Scope,
    /// For experiments with an unreliable detector: the fraction, in [0, 1], of programs without a counted finding that are judged as if they
    /// had one. Which ones follows from the text of the program, as a rule that errs does so on every copy.
    pub false_positives: f64,
    /// The type checker.
    pub checker: Checker,
    /// Count what silences a type checker as an error: suppressing comments, `no_type_check`, code hidden behind `TYPE_CHECKING` or a
    /// version, `exec`, an entry point that is no `def`, explicit `Any`, casts. Without it the check is the paper's plain `--strict`.
    pub hardened_types: bool,
    /// Lines with an explicit `Any` or a cast that the hardened check forgives; each beyond is an error.
    pub any_allowance: u32,
    /// Functional tests of a program that are run; 0 for all of them. The paper's code draws 5.
    pub tests: u32,
    /// Seed of the draw, which is the same for every answer to a task.
    pub test_seed: u64,
    /// Share of the programs that also get a test which nobody can pass, in [0, 1]. One that passes it has deceived the judges: it gets −1,
    /// and the flag `canary-passed`.
    pub canary_rate: f64,
    /// Seed of string hashes (the order of sets), `random` and `numpy.random` in the tests.
    pub seed: u32,
    /// Run the tests under attack too. They are reported and never part of the reward.
    pub run_attacks: bool,
    /// CPU time of one test, seconds.
    pub cpu_seconds: f64,
    /// Wall-clock time of one test, seconds.
    pub wall_seconds: f64,
    /// Address space of one test, MiB.
    pub memory_mib: u64,
    /// After this many tests that exceed a limit, the rest of a program's tests count as failed without being run; at least 1.
    pub patience: u32,
    /// Go on where the machine lacks a layer of the sandbox's protection, instead of refusing to start. Programs are then less confined.
    pub allow_weak_sandbox: bool,
}

/// The judges of quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judges {
    /// As the paper has it: `security` for SafeSQL and SecCodePLT+, `types` for APPS+, and both for everything else.
    Auto,
    /// The taint analyzer.
    Security,
    /// The type checker.
    Types,
    /// Both; quality is the product, so that with binary quality both must be content.
    Both,
    /// The tests under attack in place of the analyzer: 1 where every attack is withstood, or with graded quality the fraction. A task without
    /// such tests has quality 1.
    Attacks,
}

/// From counts to quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// 1 without a finding or a type error, else 0 (the paper's text).
    Binary,
    /// max(0, 1 − 0.3·findings) and max(0, 1 − 0.5·type errors) (the paper's code).
    Graded,
}

/// From passed tests to function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Passed tests over all tests. A program that gives all of them the same answer, and some a wrong one, passes none.
    Fraction,
    /// 1 where every test passes, else 0.
    AllOrNothing,
}

/// From two parts to one reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// α·quality + (1−α)·function.
    Additive,
    /// The same, with quality 0 where function is below `gate`: an empty body earns nothing for being harmless.
    Gated,
    /// quality · function; α plays no part.
    Product,
}

/// Which findings count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every finding.
    All,
    /// Findings of a weakness that the task names; all of them where it names none.
    Task,
}

/// A type checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checker {
    /// zuban, which speaks mypy's dialect at a hundredth of the time.
    Zuban,
    /// mypy, the reference.
    Mypy,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            alpha: 0.5,
            judges: Judges::Auto,
            quality: Quality::Binary,
            function: Function::Fraction,
            aggregation: Aggregation::Additive,
            gate: 1.0,
            not_runnable: -1.0,
            min_confidence: 0.5,
            scope: Scope::All,
            false_positives: 0.0,
            checker: Checker::Zuban,
            hardened_types: true,
            any_allowance: 0,
            tests: 0,
            test_seed: 0,
            canary_rate: 0.01,
            seed: 0,
            run_attacks: true,
            cpu_seconds: 4.0,
            wall_seconds: 10.0,
            memory_mib: 1024,
            patience: 2,
            allow_weak_sandbox: false,
        }
    }
}

impl RewardConfig {
    /// Refuses what is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let unit = 0.0..=1.0;
        check(unit.contains(&self.alpha), "alpha", "a number in [0, 1]")?;
        check(self.gate > 0.0 && self.gate <= 1.0, "gate", "a number in (0, 1]")?;
        check((-1.0..=0.0).contains(&self.not_runnable), "not_runnable", "a number in [-1, 0]")?;
        check((0.0..=1.0).contains(&self.min_confidence), "min_confidence", "a number in [0, 1]")?;
        check(unit.contains(&self.false_positives), "false_positives", "a number in [0, 1]")?;
        check(
            self.run_attacks || self.judges != Judges::Attacks,
            "run_attacks",
            "true, where `attacks` judge,",
        )?;
        check((0.0..=1.0).contains(&self.canary_rate), "canary_rate", "a number in [0, 1]")?;
        check(self.cpu_seconds > 0.0 && self.cpu_seconds <= 3600.0, "cpu_seconds", "in (0, 3600]")?;
        check(self.wall_seconds > 0.0 && self.wall_seconds <= 3600.0, "wall_seconds", "in (0, 3600]")?;
        check(self.memory_mib >= 64, "memory_mib", "at least 64")?;
        check(self.patience >= 1, "patience", "at least 1")
    }

    /// Whether the taint analyzer is part of this task's quality.
    pub(crate) fn judges_security(&self, task: &Task) -> bool {
        match self.judges {
            Judges::Auto => task.benchmark != "apps",
            Judges::Security | Judges::Both => true,
            Judges::Types | Judges::Attacks => false,
        }
    }

    /// Whether the type checker is part of this task's quality.
    pub(crate) fn judges_types(&self, task: &Task) -> bool {
        match self.judges {
            Judges::Auto => !matches!(task.benchmark.as_str(), "safesql" | "seccodeplt"),
            Judges::Types | Judges::Both => true,
            Judges::Security | Judges::Attacks => false,
        }
    }
}

fn check(holds: bool, field: &'static str, allowed: &str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config { field, reason: format!("{allowed} is expected") }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_values_out_of_range_are_refused() {
        assert!(serde_json::from_str::<RewardConfig>(r#"{"alfa": 0.5}"#).is_err());
        let config: RewardConfig = serde_json::from_str(r#"{"alpha": 1.5}"#).unwrap();
        assert!(config.validate().unwrap_err().to_string().contains("reward.alpha"));
        let not_a_number = RewardConfig { alpha: f64::NAN, ..RewardConfig::default() };
        assert!(not_a_number.validate().is_err());
        assert!(RewardConfig::default().validate().is_ok());
    }
}
