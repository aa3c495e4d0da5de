//! The papers' data sets, where they are: references pass their own tests, and vulnerable or broken ones are told apart.
//!
//! A seeded sample of each; `examples/references.rs` judges all of them.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use real_reward::{Benchmark, RewardConfig, Score, Scorer, Split, Task, Tests, Tools, load};

/// Tasks that are tried.
const SAMPLE: usize = 24;

/// Functional tests of each that are run.
const CASES: usize = 6;

/// References that fail a test of their own, or have none that can be run. 1628 returns `False` for 0, and 4107 needs a package that is
/// not installed; the tests of the others compare with objects that have no notation.
const KNOWN: [&str; 4] = ["1628", "4107", "9a4d6c63", "bcce7d57"];

static TOOLS: LazyLock<Tools> =
    LazyLock::new(|| Tools::install(&mut |line| eprintln!("{line}")).expect("Python for the judges"));

static SCORER: LazyLock<Scorer> = LazyLock::new(|| {
    let config = RewardConfig { allow_weak_sandbox: true, ..RewardConfig::default() };
    Scorer::new(config, &TOOLS).unwrap()
});

/// The folder of the data sets, if there is one.
fn data() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("REAL_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let data = shared.join("data");
    if data.is_dir() {
        return Some(data);
    }
    eprintln!("skipped: {} is not there", data.display());
    None
}

fn sampled(benchmark: Benchmark, split: Split, expected: usize) -> Option<Vec<Task>> {
    let mut tasks = load(benchmark, &data()?, split, &TOOLS).unwrap();
    assert_eq!(tasks.len(), expected);
    let identifiers: BTreeSet<&String> = tasks.iter().map(|task| &task.id).collect();
    assert_eq!(identifiers.len(), expected, "identifiers are unique");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let chosen = (0..SAMPLE).map(|_| shortened(tasks.swap_remove(rng.random_range(0..tasks.len()))));
    Some(chosen.filter(|task| !KNOWN.contains(&task.id.as_str())).collect())
}

fn shortened(mut task: Task) -> Task {
    match &mut task.tests {
        Tests::Call { cases } => cases.truncate(CASES),
        Tests::Stdio { cases } => cases.truncate(CASES),
    }
    task
}

fn check(tasks: &[Task]) {
    let items: Vec<(&Task, &str)> =
        tasks.iter().map(|task| (task, task.reference.as_deref().unwrap())).collect();
    for score in SCORER.score_programs(&items) {
        assert!(score.passed && score.infra_error.is_none(), "{score:#?}");
    }
    let nothing: Vec<(&Task, &str)> = tasks.iter().map(|task| (task, "pass\n")).collect();
    let passed = |score: &Score| score.tests.passed == score.tests.total;
    for (task, score) in tasks.iter().zip(SCORER.score_programs(&nothing)) {
        let is_script = matches!(&task.tests, Tests::Stdio { .. });
        assert!(is_script || !passed(&score), "an empty program passes: {score:#?}");
    }
}

#[test]
fn safesql_references_reproduce_their_recorded_outputs() {
    if let Some(tasks) = sampled(Benchmark::SafeSql, Split::Test, 85) {
        check(&tasks);
    }
}

/// Most references of SafeSQL are vulnerable on purpose. What the analyzer says of each, an attack that is carried out says too.
#[test]
fn attacks_on_safesql_references_agree_with_the_analyzer() {
    let Some(tasks) = sampled(Benchmark::SafeSql, Split::Train, 339) else { return };
    let references: Vec<(&Task, &str)> =
        tasks.iter().map(|task| (task, task.reference.as_deref().unwrap())).collect();
    let scores = SCORER.score_programs(&references);
    for score in &scores {
        let attacks = score.tests.by_kind["attack"];
        assert!(attacks.total > 0, "{score:#?}");
        assert_eq!(score.quality, Some(f64::from(attacks.passed == attacks.total)), "{score:#?}");
    }
    let clean = scores.iter().filter(|score| score.quality == Some(1.0)).count();
    assert!((1..scores.len()).contains(&clean), "the sample has both kinds: {clean} of {}", scores.len());
}

#[test]
fn patched_solutions_of_seccodeplt_pass_their_capability_tests() {
    if let Some(tasks) = sampled(Benchmark::SecCodePlt, Split::Test, 164) {
        check(&tasks);
    }
}

#[test]
fn references_of_apps_pass() {
    if let Some(tasks) = sampled(Benchmark::Apps, Split::Test, 519) {
        check(&tasks);
    }
}
