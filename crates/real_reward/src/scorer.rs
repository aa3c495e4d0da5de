//! Judges completions in batches.
//!
//! ```text
//!  items ─ extract ─ seen before? ─┬─ security, then tests and audit ── a thread per core ─┬─ aggregate ─ scores, in order
//!                                  └─ type check ── one process per 64 programs ───────────┘
//! ```
//!
//! Every item is answered, in order, and each on its own: an item that makes a judge fail costs nobody else. Where a judge fails
//! for our reasons the item gets an [`infra_error`](crate::Score::infra_error) and no reward.
//!
//! What a program got once is remembered in memory for the life of the scorer, which has one configuration and one set of
//! tools; the key is the program and all of the task. Timeouts are not remembered, since a loaded machine may be to blame, and
//! neither are failures of ours.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use real_sandbox::{Action, Ending, Job, Protection, Strictness};

use crate::aggregate::{Judgement, aggregate};
use crate::judge::security::Security;
use crate::judge::tests::{Files, TestRun};
use crate::judge::types::{Checked, TypeChecker, forgive};
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
    runner: Runner,
    checker: TypeChecker,
    hasher: RandomState,
    cache: Mutex<HashMap<(u64, String), Score>>,
    /// Files that a task's script has built, by the script.
    built: Mutex<HashMap<String, Arc<Files>>>,
}

/// A program on its way through the judges.
struct Pending<'a> {
    task: &'a Task,
    program: &'a str,
    security: Result<Security, String>,
    security_ms: f64,
}

/// What the sandboxed judges say.
struct Executed {
    run: TestRun,
    audit: Vec<TypeError>,
    ms: f64,
}

impl Scorer {
    /// Starts the sandbox and checks the configuration.
    pub fn new(config: RewardConfig, tools: &Tools) -> Result<Self, Error> {
        config.validate()?;
        let strictness = if config.allow_weak_sandbox { Strictness::Degrade } else { Strictness::Strict };
        let runner = Runner::new(tools, strictness)?;
        let checker = TypeChecker::new(config.checker, config.hardened_types, tools);
        Ok(Self {
            config,
            runner,
            checker,
            hasher: RandomState::new(),
            cache: Mutex::default(),
            built: Mutex::default(),
        })
    }

    /// Scores completions, in order. `sample` counts the completions of a task within the batch.
    pub fn score_batch(&self, items: &[(&Task, &str)]) -> Vec<Score> {
        self.score(items, extract)
    }

    /// Scores texts that are programs already, such as references.
    pub fn score_programs(&self, items: &[(&Task, &str)]) -> Vec<Score> {
        self.score(items, extract_raw)
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

    fn score(&self, items: &[(&Task, &str)], extract: fn(&str) -> Extraction) -> Vec<Score> {
        let extractions: Vec<Extraction> = items.iter().map(|(_, completion)| extract(completion)).collect();
        let keys: Vec<Option<(u64, String)>> = items
            .iter()
            .zip(&extractions)
            .map(|((task, _), extraction)| Some((self.hasher.hash_one(json(task)), extraction.code.clone()?)))
            .collect();
        let known: Vec<Option<Score>> = {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            keys.iter().map(|key| cache.get(key.as_ref()?).cloned()).collect()
        };
        let fresh: Vec<(&Task, &str)> = items
            .iter()
            .zip(&extractions)
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .filter_map(|((item, extraction), _)| Some((item.0, extraction.code.as_deref()?)))
            .collect();
        let mut judged = self.judge(&fresh).into_iter();
        let mut samples: HashMap<&str, u64> = HashMap::new();
        let mut scores = Vec::with_capacity(items.len());
        for (index, (task, _)) in items.iter().enumerate() {
            let mut score = match (&known[index], &keys[index]) {
                (Some(score), _) => score.clone(),
                (None, Some(key)) => {
                    let score = judged.next().expect("each program that is not known was judged");
                    self.remember(key, &score);
                    score
                }
                (None, None) => self.without_program(task),
            };
            let mut flags: BTreeSet<String> = score.flags.drain(..).collect();
            flags.extend(flags::of_extraction(&extractions[index]));
            score.flags = flags.into_iter().collect();
            let sample = samples.entry(&task.id).or_default();
            score.sample = *sample;
            *sample += 1;
            scores.push(score);
        }
        scores
    }

    fn remember(&self, key: &(u64, String), score: &Score) {
        let timeout = |case: &CaseReport| case.verdict == CaseVerdict::Timeout;
        if score.infra_error.is_some() || score.tests.cases.iter().any(timeout) {
            return;
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE {
            cache.clear();
        }
        cache.insert(key.clone(), score.clone());
    }

    /// Scores of programs, in order.
    fn judge(&self, programs: &[(&Task, &str)]) -> Vec<Score> {
        let pending: Vec<Pending<'_>> = self.runner.parallel(programs, |(task, program)| {
            let start = Instant::now();
            let security = security::judge(&self.config, task, program);
            Pending { task, program, security, security_ms: milliseconds(start) }
        });
        let typed: Vec<usize> = (0..pending.len())
            .filter(|index| {
                let Pending { task, security, .. } = &pending[*index];
                self.config.judges_types(task) && security.as_ref().is_ok_and(|security| security.parsed)
            })
            .collect();
        let (executed, checked, types_ms) = std::thread::scope(|scope| {
            let types = scope.spawn(|| {
                let start = Instant::now();
                let programs: Vec<_> =
                    typed.iter().map(|index| (pending[*index].task, pending[*index].program)).collect();
                let checked = self.checker.check(&programs);
                (checked, milliseconds(start) / typed.len().max(1) as f64)
            });
            let executed = self.runner.parallel(&pending, |pending| self.execute(pending));
            let (checked, ms) = types.join().expect("the type check does not panic");
            (executed, checked, ms)
        });
        let mut types: HashMap<usize, Checked> = typed.into_iter().zip(checked).collect();
        pending
            .into_iter()
            .zip(executed)
            .enumerate()
            .map(|(index, (pending, executed))| {
                let types = types.remove(&index);
                let types_ms = if types.is_some() { types_ms } else { 0.0 };
                self.combine(pending, executed, types, types_ms)
            })
            .collect()
    }

    fn execute(&self, pending: &Pending<'_>) -> Result<Executed, String> {
        let Pending { task, program, .. } = pending;
        if task.tests.is_empty() {
            return Err(format!("the task {} has no functional tests", task.id));
        }
        let start = Instant::now();
        let files = self.files(task).map_err(|error| error.to_string())?;
        let run = tests::judge(&self.runner, &self.config, task, &files, program)
            .map_err(|error| error.to_string())?;
        let audited =
            self.config.hardened_types && self.config.judges_types(task) && run.not_runnable.is_none();
        let audit = if audited {
            audit::judge(&self.runner, &self.config, task, program).map_err(|error| error.to_string())?
        } else {
            Vec::new()
        };
        Ok(Executed { run, audit, ms: milliseconds(start) })
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
        pending: Pending<'_>,
        executed: Result<Executed, String>,
        types: Option<Checked>,
        types_ms: f64,
    ) -> Score {
        let Pending { task, program, security, security_ms } = pending;
        let mut score = Score::blank(&task.id);
        let (security, executed, types) = match (security, executed, types.transpose()) {
            (Ok(security), Ok(executed), Ok(types)) => (security, executed, types),
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
                tracing::warn!(task = task.id, %error, "no reward: the judging failed");
                score.infra_error = Some(error);
                return score;
            }
        };
        let Executed { run, audit, ms } = executed;
        score.ms = Timing { analysis: security_ms, types: types_ms, tests: ms };
        score.parsed = security.parsed && run.not_runnable != Some(CaseVerdict::SyntaxError);
        let mut errors = types.unwrap_or_default();
        errors.extend(audit);
        errors.sort_by_key(|error| (error.line, error.column));
        score.type_errors =
            if self.config.hardened_types { forgive(errors, self.config.any_allowance) } else { errors };
        let injected = noise::injects(&self.config, task, program, &security);
        score.flags = flags::of_program(program)
            .chain(injected.then(|| "injected-finding".to_owned()))
            .chain(flags::of_answers(task, program, &run.answers))
            .chain(run.not_runnable.map(|_| "not-runnable".to_owned()))
            .collect();
        let counted = security.counted() + usize::from(injected);
        self.reward(task, &security, counted, run, &mut score);
        score.findings = security.findings;
        score
    }

    fn reward(&self, task: &Task, security: &Security, counted: usize, run: TestRun, score: &mut Score) {
        score.tests = TestReport::new(run.cases);
        let TestReport { passed, total, .. } = score.tests;
        score.passed = passed == total;
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

fn json(task: &Task) -> String {
    serde_json::to_string(task).expect("a task is plain data")
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
