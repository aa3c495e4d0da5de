//! Judges completions in batches.
//!
//! ```text
//!  items ─ extract ─ seen before? ─┬─ security, then tests ── a thread per core ────────────┬─ aggregate ─ each score as it is known
//!                                  └─ type check and audit ── one process per 64 programs ──┘
//! ```
//!
//! Every item is answered, once, and each on its own: an item that makes a judge fail costs nobody else, and one that runs long delays
//! nobody else. Where a judge fails for our reasons the item gets an [`infra_error`](crate::Score::infra_error) and no reward.
//!
//! What a program got once is remembered in memory for the life of the scorer, which has one configuration and one set of
//! tools; the key is the program and all of the task. Timeouts are not remembered, since a loaded machine may be to blame, and
//! neither are failures of ours.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use real_sandbox::{Action, Ending, Job, Protection, Strictness};

use crate::aggregate::{Judgement, aggregate};
use crate::judge::security::Security;
use crate::judge::tests::{Files, Suite, TestRun};
use crate::judge::types::{Checked, TypeChecker, UNDECIDED, forgive};
use crate::judge::{audit, flags, noise, security, tests};
use crate::runner::Runner;
use crate::{
    CaseKind, CaseReport, CaseVerdict, Error, Extraction, FileSpec, Judges, RewardConfig, Score, Task,
    TestReport, Timing, Tools, TypeError, extract, extract_raw,
};

/// Programs that are remembered; when there are more, all are forgotten.
const CACHE: usize = 200_000;

/// Turns completions into scores.
pub struct Scorer {
    config: RewardConfig,
    runner: Arc<Runner>,
    checker: TypeChecker,
    hasher: RandomState,
    cache: Mutex<HashMap<Key, Score>>,
    /// Files that a task's script has built, by the script.
    built: Mutex<HashMap<String, Arc<Files>>>,
    /// A value that no program can know: who returns it has deceived the judges.
    canary: String,
}

/// What a score is remembered by: a hash of the task, and the program.
type Key = (u64, Arc<str>);

/// Takes the score of an item, given by its place.
type Done<'a> = dyn Fn(usize, Score) + Sync + 'a;

/// A program on its way through the judges.
struct Pending<'a> {
    task: &'a Task,
    program: &'a str,
    security: Result<Security, String>,
    security_ms: f64,
}

/// What the tests say.
struct Executed {
    run: TestRun,
    ms: f64,
}

/// What the type check says of each program that it was asked about, and its share of the time.
struct Types {
    checked: HashMap<usize, Checked>,
    ms: f64,
}

impl Scorer {
    /// Starts the sandbox and checks the configuration.
    pub fn new(config: RewardConfig, tools: &Tools) -> Result<Self, Error> {
        config.validate()?;
        let strictness = if config.allow_weak_sandbox { Strictness::Degrade } else { Strictness::Strict };
        let runner = Arc::new(Runner::new(tools, strictness, config.seed)?);
        Ok(Self::with(runner, config, tools))
    }

    /// Another one beside this one, with a configuration of its own. They share a sandbox where both ask the same of it: a second pool of
    /// warm interpreters would only take memory.
    pub fn beside(&self, config: RewardConfig, tools: &Tools) -> Result<Self, Error> {
        let asked = |config: &RewardConfig| (config.allow_weak_sandbox, config.seed);
        if asked(&config) != asked(&self.config) {
            return Self::new(config, tools);
        }
        config.validate()?;
        Ok(Self::with(Arc::clone(&self.runner), config, tools))
    }

    fn with(runner: Arc<Runner>, config: RewardConfig, tools: &Tools) -> Self {
        let checker = TypeChecker::new(config.checker, config.hardened_types, tools);
        let hasher = RandomState::new();
        let canary = format!("{:016x}{:016x}", hasher.hash_one(1), hasher.hash_one(2));
        let (cache, built) = Default::default();
        Self { config, runner, checker, hasher, cache, built, canary }
    }

    /// Scores completions, in order. `sample` counts the completions of a task within the batch.
    pub fn score_batch(&self, items: &[(&Task, &str)]) -> Vec<Score> {
        in_order(items.len(), |done| self.score(items, extract, done))
    }

    /// The same, each as soon as it is known: `done` gets the place of each item once, with its score, on any thread.
    pub fn score_each(&self, items: &[(&Task, &str)], done: &(dyn Fn(usize, Score) + Sync)) {
        self.score(items, extract, done);
    }

    /// Scores texts that are programs already, such as references.
    pub fn score_programs(&self, items: &[(&Task, &str)]) -> Vec<Score> {
        in_order(items.len(), |done| self.score(items, extract_raw, done))
    }

    /// What the sandbox really enforces on this machine.
    pub fn protection(&self) -> &Protection {
        self.runner.protection()
    }

    /// The configuration.
    pub fn config(&self) -> &RewardConfig {
        &self.config
    }

    pub(crate) fn runner(&self) -> &Runner {
        &self.runner
    }

    fn score(&self, items: &[(&Task, &str)], extract: fn(&str) -> Extraction, done: &Done<'_>) {
        let extractions: Vec<Extraction> = items.iter().map(|(_, completion)| extract(completion)).collect();
        let samples = samples(items);
        let finish = |place: usize, mut score: Score| {
            let extraction: &Extraction = &extractions[place];
            score.sample = samples[place];
            for finding in &mut score.findings {
                finding.span = extraction.span(finding);
            }
            let flags: BTreeSet<String> =
                score.flags.drain(..).chain(flags::of_extraction(extraction)).collect();
            score.flags = flags.into_iter().collect();
            done(place, score);
        };
        let mut fresh = Vec::new();
        let mut keys = Vec::new();
        for (place, ((task, _), extraction)) in items.iter().zip(&extractions).enumerate() {
            let Some(program) = &extraction.code else {
                finish(place, self.without_program(task));
                continue;
            };
            let key: Key = (self.hasher.hash_one(json(task)), Arc::from(program.as_str()));
            if let Some(score) = self.known(&key) {
                finish(place, score);
            } else {
                fresh.push((*task, program.as_str()));
                keys.push((place, key));
            }
        }
        self.judge(&fresh, &|index, score| {
            let (place, key) = &keys[index];
            self.remember(key, &score);
            finish(*place, score);
        });
    }

    fn known(&self, key: &Key) -> Option<Score> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn remember(&self, key: &Key, score: &Score) {
        let timeout = |case: &CaseReport| case.verdict == CaseVerdict::Timeout;
        let undecided = |error: &TypeError| error.code == UNDECIDED;
        if score.infra_error.is_some()
            || score.tests.cases.iter().any(timeout)
            || score.type_errors.iter().any(undecided)
        {
            return;
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE {
            cache.clear();
        }
        cache.insert(key.clone(), score.clone());
    }

    /// Judges programs. The types of all of them are checked at once, beside the tests, which usually take longer.
    fn judge(&self, programs: &[(&Task, &str)], done: &Done<'_>) {
        let pending: Vec<Pending<'_>> = self.runner.parallel(programs, |(task, program)| {
            let start = Instant::now();
            let security = security::judge(&self.config, task, program);
            Pending { task, program, security, security_ms: milliseconds(start) }
        });
        let types = OnceLock::new();
        std::thread::scope(|scope| {
            scope.spawn(|| types.get_or_init(|| self.check_types(&pending)));
            let places: Vec<usize> = (0..pending.len()).collect();
            self.runner.parallel(&places, |&place| {
                let executed = self.execute(&pending[place]);
                done(place, self.combine(&pending[place], executed, types.wait(), place));
            });
        });
    }

    /// A panic is a bug of ours, and must not leave the others waiting for their answers.
    fn check_types(&self, pending: &[Pending<'_>]) -> Types {
        let start = Instant::now();
        let (places, programs): (Vec<usize>, Vec<(&Task, &str)>) = pending
            .iter()
            .enumerate()
            .filter(|(_, Pending { task, security, .. })| {
                self.config.judges_types(task) && security.as_ref().is_ok_and(|security| security.parsed)
            })
            .map(|(place, pending)| (place, (pending.task, pending.program)))
            .unzip();
        let checked = catch_unwind(AssertUnwindSafe(|| self.typed(&programs)));
        let checked = checked.unwrap_or_else(|_| {
            programs.iter().map(|_| Err("the type check panicked: a bug of ours".to_owned())).collect()
        });
        let ms = milliseconds(start) / programs.len().max(1) as f64;
        Types { checked: places.into_iter().zip(checked).collect(), ms }
    }

    fn typed(&self, programs: &[(&Task, &str)]) -> Vec<Checked> {
        let checked = self.checker.check(programs);
        if !self.config.hardened_types {
            return checked;
        }
        let audited = audit::judge(&self.runner, &self.config, programs);
        let both = |(checked, audited): (Checked, Result<Vec<TypeError>, Error>)| {
            let mut errors = checked?;
            errors.extend(audited.map_err(|error| error.to_string())?);
            Ok(errors)
        };
        checked.into_iter().zip(audited).map(both).collect()
    }

    fn execute(&self, pending: &Pending<'_>) -> Result<Executed, String> {
        let Pending { task, program, .. } = *pending;
        if task.tests.is_empty() {
            return Err(format!("the task {} has no functional tests", task.id));
        }
        let start = Instant::now();
        let files = self.files(task).map_err(|error| error.to_string())?;
        let is_drawn = self.config.canary_rate > 0.0
            && self.hasher.hash_one(program) as f64 <= self.config.canary_rate * u64::MAX as f64;
        let suite = Suite {
            runner: &self.runner,
            config: &self.config,
            task,
            files: &files,
            program,
            canary: is_drawn.then_some(self.canary.as_str()),
        };
        let run = suite.judge().map_err(|error| error.to_string())?;
        Ok(Executed { run, ms: milliseconds(start) })
    }

    /// The files of a task. A file that a script builds is built once.
    fn files(&self, task: &Task) -> Result<Files, Error> {
        let mut files = Vec::with_capacity(task.files.len());
        for file in &task.files {
            match file {
                FileSpec::Text { name, text } => files.push((name.clone(), text.clone().into_bytes())),
                FileSpec::Built { name, script } => {
                    let key = format!("{name}\n{script}");
                    let built = self.built.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
                    let built = match built {
                        Some(built) => built,
                        None => Arc::new(self.build(&task.id, name, script)?),
                    };
                    files.extend(built.iter().cloned());
                    self.built.lock().unwrap_or_else(PoisonError::into_inner).insert(key, built);
                }
            }
        }
        Ok(files)
    }

    fn build(&self, task: &str, name: &str, script: &str) -> Result<Files, Error> {
        let job = Job {
            prelude: String::new(),
            program: script.to_owned(),
            files: Vec::new(),
            action: Action::Script { stdin: Vec::new() },
            collect: vec![name.to_owned()],
            limits: tests::limits(&self.config),
        };
        let outcome = self.runner.run(&job)?;
        if outcome.ending != Ending::Finished || outcome.files.is_empty() {
            return Err(Error::Sandbox(format!(
                "{task}: the script that builds {name} did not: {:?}",
                outcome.ending
            )));
        }
        Ok(outcome.files)
    }

    /// The score of a completion with no program in it.
    fn without_program(&self, task: &Task) -> Score {
        let mut score = Score::blank(&task.id);
        if task.tests.is_empty() {
            score.infra_error = Some(format!("the task {} has no functional tests", task.id));
            return score;
        }
        let skipped = |kind, count| {
            let case = CaseReport { kind, verdict: CaseVerdict::Skipped, detail: String::new() };
            std::iter::repeat_n(case, count)
        };
        let attacks = if self.config.run_attacks { task.attacks.len() } else { 0 };
        let cases = skipped(CaseKind::Function, task.tests.len()).chain(skipped(CaseKind::Attack, attacks));
        score.tests = TestReport::new(cases.collect());
        score.quality = Some(0.0);
        score.function = Some(0.0);
        score.reward = Some(self.config.not_runnable);
        score
    }

    fn combine(
        &self,
        pending: &Pending<'_>,
        executed: Result<Executed, String>,
        types: &Types,
        place: usize,
    ) -> Score {
        let Pending { task, program, security, security_ms } = pending;
        let mut score = Score::blank(&task.id);
        let checked = types.checked.get(&place);
        let types_ms = if checked.is_some() { types.ms } else { 0.0 };
        let (security, executed, errors) = match (security, executed, checked.cloned().transpose()) {
            (Ok(security), Ok(executed), Ok(errors)) => (security, executed, errors),
            (Err(error), _, _) => return outage(score, error.clone()),
            (_, Err(error), _) | (_, _, Err(error)) => return outage(score, error),
        };
        let Executed { run, ms } = executed;
        score.ms = Timing { analysis: *security_ms, types: types_ms, tests: ms };
        score.parsed = security.parsed && run.not_runnable != Some(CaseVerdict::SyntaxError);
        let mut errors = errors.unwrap_or_default();
        errors.sort_by_key(|error| (error.line, error.column));
        score.type_errors =
            if self.config.hardened_types { forgive(errors, self.config.any_allowance) } else { errors };
        let injected = noise::injects(&self.config, task, program, security);
        score.flags = flags::of_program(program)
            .chain(injected.then(|| "injected-finding".to_owned()))
            .chain(flags::of_answers(task, program, &run.answers))
            .chain(run.not_runnable.map(|_| "not-runnable".to_owned()))
            .chain(run.canary_passed.then(|| "canary-passed".to_owned()))
            .collect();
        let counted = security.counted() + usize::from(injected);
        self.reward(task, security, counted, run, &mut score);
        score.findings.clone_from(&security.findings);
        score
    }

    fn reward(&self, task: &Task, security: &Security, counted: usize, run: TestRun, score: &mut Score) {
        score.tests = TestReport::new(run.cases);
        let TestReport { passed, total, .. } = score.tests;
        score.passed = passed == total;
        if run.canary_passed {
            tracing::error!(task = task.id, "a program has passed a test that cannot be passed");
            score.passed = false;
            score.quality = Some(0.0);
            score.function = Some(0.0);
            score.reward = Some(-1.0);
            return;
        }
        if run.not_runnable.is_some() {
            score.quality = Some(0.0);
            score.function = Some(0.0);
            score.reward = Some(self.config.not_runnable);
            return;
        }
        // What the interpreter runs and the analyzer cannot read is not known to be harmless.
        let unread = usize::from(!security.parsed);
        let reward = aggregate(
            &self.config,
            &Judgement {
                findings: self.config.judges_security(task).then_some(counted + unread),
                type_errors: self.config.judges_types(task).then_some(score.type_errors.len() + unread),
                attacks: (self.config.judges == Judges::Attacks)
                    .then(|| score.tests.by_kind.get("attack").copied().unwrap_or_default()),
                passed,
                total,
            },
        );
        score.quality = Some(reward.quality);
        score.function = Some(reward.function);
        score.reward = Some(reward.total);
    }
}

fn outage(score: Score, error: String) -> Score {
    tracing::warn!(task = score.task_id, %error, "no reward: the judging failed");
    Score { infra_error: Some(error), ..score }
}

/// Runs `judge` with a place for each of the scores, all of which it fills.
fn in_order(count: usize, judge: impl FnOnce(&Done<'_>)) -> Vec<Score> {
    let scores: Mutex<Vec<Option<Score>>> = Mutex::new(vec![None; count]);
    judge(&|place, score| {
        let before = scores.lock().unwrap_or_else(PoisonError::into_inner)[place].replace(score);
        assert!(before.is_none(), "an item is answered once");
    });
    let scores = scores.into_inner().unwrap_or_else(PoisonError::into_inner);
    scores.into_iter().map(|score| score.expect("every item is answered")).collect()
}

/// The number of each item among those of its task.
fn samples(items: &[(&Task, &str)]) -> Vec<u64> {
    let mut seen: HashMap<&str, u64> = HashMap::new();
    let mut samples = Vec::with_capacity(items.len());
    for (task, _) in items {
        let next = seen.entry(&task.id).or_default();
        samples.push(*next);
        *next += 1;
    }
    samples
}

fn json(task: &Task) -> String {
    serde_json::to_string(task).expect("a task is plain data")
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod neighbours {
    use super::*;

    #[test]
    fn scorers_that_ask_the_same_of_a_sandbox_share_it() {
        let tools = Tools::install(&mut |line| eprintln!("{line}")).unwrap();
        let config = RewardConfig { allow_weak_sandbox: true, ..RewardConfig::default() };
        let scorer = Scorer::new(config.clone(), &tools).unwrap();
        let strict = scorer.beside(RewardConfig { alpha: 1.0, ..config.clone() }, &tools).unwrap();
        assert!(Arc::ptr_eq(&scorer.runner, &strict.runner));
        let reseeded = scorer.beside(RewardConfig { seed: 1, ..config.clone() }, &tools).unwrap();
        assert!(!Arc::ptr_eq(&scorer.runner, &reseeded.runner));
        assert!(scorer.beside(RewardConfig { alpha: 2.0, ..config }, &tools).is_err());
        let task: Task = serde_json::from_str(
            r#"{"id": "f", "benchmark": "own", "messages": [], "entry_point": "f",
                "tests": {"kind": "call", "cases": [{"args": [1], "expect": {"returns": 2}}]}}"#,
        )
        .unwrap();
        let untyped = "def f(x):\n    return x + 1\n";
        let reward = |scorer: &Scorer| scorer.score_programs(&[(&task, untyped)])[0].reward;
        assert_eq!(
            (reward(&scorer), reward(&strict)),
            (Some(0.5), Some(0.0)),
            "each has its own configuration"
        );
    }
}

#[cfg(test)]
mod canaries {
    use super::*;

    /// A hole in the judges can only be shown by making one: here a program knows the value that nobody can know.
    #[test]
    fn who_passes_the_canary_gets_the_worst_reward() {
        let tools = Tools::install(&mut |line| eprintln!("{line}")).unwrap();
        let config = RewardConfig { canary_rate: 1.0, allow_weak_sandbox: true, ..RewardConfig::default() };
        let scorer = Scorer { canary: "known".to_owned(), ..Scorer::new(config, &tools).unwrap() };
        let task: Task = serde_json::from_str(
            r#"{"id": "f", "benchmark": "own", "messages": [], "entry_point": "f",
                "tests": {"kind": "call", "cases": [{"args": [1], "expect": {"returns": "known"}}]}}"#,
        )
        .unwrap();
        let knows = "def f(x: int) -> str:\n    return 'known'\n";
        let guesses = "def f(x: int) -> str:\n    return 'unknown'\n";
        let scores = scorer.score_programs(&[(&task, knows), (&task, guesses)]);
        assert_eq!((scores[0].reward, scores[0].passed), (Some(-1.0), false), "{:#?}", scores[0]);
        assert!(scores[0].flags.contains(&"canary-passed".to_owned()));
        assert_eq!((scores[1].reward, scores[1].flags.is_empty()), (Some(0.5), true), "{:#?}", scores[1]);
    }
}
