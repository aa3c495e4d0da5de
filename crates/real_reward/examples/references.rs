//! Judges the reference solutions of the data sets, and says which don't pass their own tests.
//!
//! `cargo run --release -p real_reward --example references -- DATA [safesql|seccodeplt|apps|starter]… [--list]`

use std::path::PathBuf;
use std::time::Instant;

use real_reward::{Benchmark, CaseKind, CaseVerdict, RewardConfig, Score, Scorer, Split, Task, Tools, load};

fn main() -> Result<(), real_reward::Error> {
    let (options, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let list = options.iter().any(|option| option == "--list");
    let mut names = names.into_iter();
    let data = PathBuf::from(names.next().unwrap_or_else(|| "../shared/data".to_owned()));
    let mut benchmarks: Vec<Benchmark> = names.map(|name| name.parse()).collect::<Result<_, _>>()?;
    if benchmarks.is_empty() {
        benchmarks = vec![Benchmark::SafeSql, Benchmark::SecCodePlt, Benchmark::Apps];
    }
    let tools = Tools::install(&mut |line| eprintln!("{line}"))?;
    let config = RewardConfig { allow_weak_sandbox: true, ..RewardConfig::default() };
    let scorer = Scorer::new(config, &tools)?;
    eprintln!("{:?}", scorer.protection());
    for benchmark in benchmarks {
        for split in [Split::Train, Split::Test] {
            if benchmark == Benchmark::Apps && split == Split::Train {
                continue;
            }
            let start = Instant::now();
            let tasks = load(benchmark, &data, split, &tools)?;
            println!("\n{benchmark} {split}: {} tasks, loaded in {:?}", tasks.len(), start.elapsed());
            report(&scorer, &tasks, list);
        }
    }
    Ok(())
}

fn report(scorer: &Scorer, tasks: &[Task], list: bool) {
    let items: Vec<(&Task, &str)> =
        tasks.iter().filter_map(|task| Some((task, task.reference.as_deref()?))).collect();
    let start = Instant::now();
    let scores = scorer.score_programs(&items);
    let seconds = start.elapsed().as_secs_f64();
    let count = |holds: &dyn Fn(&Score) -> bool| scores.iter().filter(|score| holds(score)).count();
    let cases: usize = scores.iter().map(|score| score.tests.cases.len()).sum();
    println!(
        "function {} of {}, quality {}, both {}, failures of ours {}",
        count(&|score| score.passed),
        scores.len(),
        count(&|score| score.quality == Some(1.0)),
        count(&|score| score.passed && score.quality == Some(1.0)),
        count(&|score| score.infra_error.is_some()),
    );
    let attacks: Vec<_> = scores.iter().filter_map(|score| score.tests.by_kind.get("attack")).collect();
    println!(
        "attacks withstood {} of {}, programs that withstand all {} of {}",
        attacks.iter().map(|count| count.passed).sum::<u32>(),
        attacks.iter().map(|count| count.total).sum::<u32>(),
        attacks.iter().filter(|count| count.passed == count.total).count(),
        attacks.len(),
    );
    let share = |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / scores.len() as f64;
    println!(
        "{seconds:.1} s, {:.1} ms a program, {:.2} ms a test; of a thread: analysis {:.2} ms, types {:.2} ms, tests {:.1} ms",
        1e3 * seconds / scores.len() as f64,
        1e3 * seconds / cases as f64,
        share(|score| score.ms.analysis),
        share(|score| score.ms.types),
        share(|score| score.ms.tests),
    );
    for score in scores.iter().filter(|score| !score.passed) {
        let failed = score
            .tests
            .cases
            .iter()
            .find(|case| case.kind == CaseKind::Function && case.verdict != CaseVerdict::Pass);
        let labels =
            tasks.iter().find(|task| task.id == score.task_id).and_then(|task| task.labels.get("unusable"));
        println!("  {} {:?} {:?} {:?}", score.task_id, score.infra_error, failed, labels);
        if list {
            for (index, case) in score.tests.cases.iter().enumerate() {
                if case.verdict != CaseVerdict::Pass {
                    println!("    test {index}: {case:?}");
                }
            }
        }
    }
}
