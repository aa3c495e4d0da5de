//! Which tests of a task can be trusted: its reference solution is run, again and again.
//!
//! A test that the reference fails every time is *impossible*, and would teach a model that right answers are wrong. One that it passes
//! some of the time is *nondeterministic*: the order of a set, a clock, a random number. Strings hash differently in each of the rounds, and
//! `random` has another seed. A task whose tests a program passes that does nothing is *vacuous*.

use serde::{Deserialize, Serialize};

use crate::{CaseKind, CaseVerdict, Error, RewardConfig, Score, Scorer, Task, Tests, Tools};

/// Seeds of the rounds. Expected values were recorded with any one of them.
const SEEDS: [u32; 3] = [0, 1, 2];

/// What is wrong with the tests of a task; nothing, where every list is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// The task's `id`.
    pub task_id: String,
    /// Functional tests.
    pub tests: usize,
    /// Tests that the reference never passes, by number from 0.
    pub impossible: Vec<usize>,
    /// Tests that it passes in some rounds only.
    pub nondeterministic: Vec<usize>,
    /// A program that does nothing passes them all.
    pub vacuous: bool,
    /// Why nothing can be said: no reference, no tests, or a failure of ours.
    pub unusable: Option<String>,
}

impl Validation {
    /// Whether every test can be trusted.
    pub fn is_sound(&self) -> bool {
        let Self { impossible, nondeterministic, vacuous, unusable, .. } = self;
        impossible.is_empty() && nondeterministic.is_empty() && !vacuous && unusable.is_none()
    }
}

/// Runs the references of tasks. One answer for each task, in order. Of `config` only the limits and the sandbox's strictness count.
pub fn validate(tasks: &[Task], config: &RewardConfig, tools: &Tools) -> Result<Vec<Validation>, Error> {
    let references: Vec<(&Task, &str)> =
        tasks.iter().map(|task| (task, task.reference.as_deref().unwrap_or(""))).collect();
    let idle: Vec<String> = tasks.iter().map(idle).collect();
    let idle: Vec<(&Task, &str)> =
        tasks.iter().zip(&idle).map(|(task, text)| (task, text.as_str())).collect();
    let mut rounds = Vec::new();
    let mut nothing = Vec::new();
    for seed in SEEDS {
        let config = RewardConfig {
            seed,
            tests: 0,
            run_attacks: false,
            canary_rate: 0.0,
            // A test out of time is a test that fails; the others are to be seen too.
            patience: u32::MAX,
            ..config.clone()
        };
        let scorer = Scorer::new(config, tools)?;
        rounds.push(scorer.score_programs(&references));
        if nothing.is_empty() {
            nothing = scorer.score_programs(&idle);
        }
    }
    let verdict = |(place, task): (usize, &Task)| {
        let scores: Vec<&Score> = rounds.iter().map(|round| &round[place]).collect();
        of(task, &scores, &nothing[place])
    };
    Ok(tasks.iter().enumerate().map(verdict).collect())
}

fn of(task: &Task, rounds: &[&Score], nothing: &Score) -> Validation {
    let blank = Validation { task_id: task.id.clone(), tests: task.tests.len(), ..Validation::default() };
    let outage = rounds.iter().copied().chain([nothing]).find_map(|score| score.infra_error.clone());
    let unusable = match (&task.reference, outage) {
        (None, _) => Some("there is no reference".to_owned()),
        (_, outage) => outage,
    };
    if unusable.is_some() {
        return Validation { unusable, ..blank };
    }
    let passes: Vec<usize> =
        (0..task.tests.len()).map(|case| rounds.iter().filter(|score| passes(score, case)).count()).collect();
    let those = |holds: &dyn Fn(usize) -> bool| {
        passes.iter().enumerate().filter(|(_, count)| holds(**count)).map(|(case, _)| case).collect()
    };
    Validation {
        impossible: those(&|count| count == 0),
        nondeterministic: those(&|count| count > 0 && count < rounds.len()),
        vacuous: nothing.passed,
        ..blank
    }
}

fn passes(score: &Score, case: usize) -> bool {
    let mut functional = score.tests.cases.iter().filter(|case| case.kind == CaseKind::Function);
    functional.nth(case).is_some_and(|case| case.verdict == CaseVerdict::Pass)
}

/// A program that runs and does nothing.
fn idle(task: &Task) -> String {
    match (&task.tests, task.entry_point.as_deref().unwrap_or("").split_once('.')) {
        (Tests::Stdio { .. }, _) => "pass\n".to_owned(),
        (_, Some((class, method))) => {
            format!("class {class}:\n    def {method}(self, *args, **kwargs):\n        return None\n")
        }
        (_, None) => {
            format!("def {}(*args, **kwargs):\n    return None\n", task.entry_point.as_deref().unwrap_or("f"))
        }
    }
}
