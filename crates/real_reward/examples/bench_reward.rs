//! What judging costs, on one core: `cargo xtask bench reward` builds and runs this.
//!
//! Processor time is that of this process and of everything below it, so that what else the machine does counts little; the bounds
//! are for one core. Latency is of one call at a time and needs an idle machine to mean anything.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use real_reward::{Benchmark, Judges, RewardConfig, Scorer, SolutionKind, Split, Task, Tests, Tools, load};
use real_sandbox::{Action, Ending, Job, Limits, Value};

struct Options {
    data: Option<PathBuf>,
    /// Programs of the last part.
    programs: usize,
    /// Where the completions of the SecCodePLT+ part go, for another grader to judge.
    write: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    let tools = Tools::install(&mut |line| eprintln!("{line}"))?;
    println!("| what | processor time | bound | median latency |\n|---|---|---|---|");
    let plain = "def f(a):\n    return a + 1\n";
    call(&tools, "a call", plain)?;
    let numpy = "import numpy as np\ndef f(a):\n    return int(np.full(2, a).sum()) - a + 1\n";
    call(&tools, "a call that uses numpy", numpy)?;
    if let Some(data) = &options.data {
        safesql(&tools, data)?;
        seccodeplt(&tools, data, options.write.as_ref())?;
    } else {
        eprintln!("skipped: SafeSQL and SecCodePLT+: there is no --data");
    }
    many(&tools, options.programs)
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options { data: None, programs: 2000, write: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| anyhow::anyhow!("{name} needs a value"))?;
        match name.as_str() {
            "--data" => options.data = Some(PathBuf::from(value)),
            "--programs" => options.programs = value.parse()?,
            "--write" => options.write = Some(PathBuf::from(value)),
            _ => anyhow::bail!("{name} is no option: --data, --programs and --write are"),
        }
    }
    Ok(options)
}

fn config() -> RewardConfig {
    RewardConfig { allow_weak_sandbox: true, canary_rate: 0.0, ..RewardConfig::default() }
}

/// A sandboxed call test, without the judges around it.
fn call(tools: &Tools, name: &str, program: &str) -> anyhow::Result<()> {
    const JOBS: usize = 500;
    let scorer = Scorer::new(config(), tools)?;
    let one = Value::Int("1".to_owned());
    let job = Job {
        prelude: String::new(),
        program: program.to_owned(),
        files: vec![],
        action: Action::Call { entry_point: "f".to_owned(), args: vec![one], kwargs: vec![] },
        collect: vec![],
        limits: Limits::default(),
    };
    let mut latencies = Vec::new();
    scorer.run(&job)?;
    let before = processor_time();
    for _ in 0..JOBS {
        let start = Instant::now();
        let ending = scorer.run(&job)?.ending;
        anyhow::ensure!(ending == Ending::Returned(Value::Int("2".to_owned())), "{ending:?}");
        latencies.push(start.elapsed());
    }
    row(name, processor_time_since(before) / JOBS as u32, "3 ms", Some(median(&mut latencies)));
    Ok(())
}

/// Programs of SafeSQL with five cases each, one after the other.
fn safesql(tools: &Tools, data: &std::path::Path) -> anyhow::Result<()> {
    let mut tasks = load(Benchmark::SafeSql, data, Split::Test, tools)?;
    for task in &mut tasks {
        if let Tests::Stdio { cases } = &mut task.tests {
            cases.truncate(5);
        }
        task.attacks = Tests::default();
    }
    let scorer = Scorer::new(config(), tools)?;
    let reference = |task: &Task| task.reference.clone().unwrap_or_default();
    // Once to build the databases.
    for task in &tasks {
        scorer.score_programs(&[(task, &reference(task))]);
    }
    let mut latencies = Vec::new();
    let before = processor_time();
    for task in &tasks {
        let program = format!("{}\n# again\n", reference(task));
        let start = Instant::now();
        let score = scorer.score_programs(&[(task, &program)]).remove(0);
        latencies.push(start.elapsed());
        anyhow::ensure!(score.passed, "{score:?}");
    }
    let cost = processor_time_since(before) / tasks.len() as u32;
    row("SafeSQL, a program with 5 cases", cost, "12 ms", Some(median(&mut latencies)));
    Ok(())
}

/// 512 completions of SecCodePLT+, every test, all three judges. They are the patched solutions: some of the vulnerable ones are regular
/// expressions that run into the limit of processor time, which says nothing about the grader.
fn seccodeplt(tools: &Tools, data: &std::path::Path, write: Option<&PathBuf>) -> anyhow::Result<()> {
    const COMPLETIONS: usize = 512;
    let mut tasks = load(Benchmark::SecCodePlt, data, Split::Test, tools)?;
    tasks.extend(load(Benchmark::SecCodePlt, data, Split::Train, tools)?);
    tasks.retain(|task| !task.tests.is_empty());
    let completion = |task: &Task| {
        let secure = task.solutions.iter().find(|solution| solution.kind == SolutionKind::Secure);
        secure.map(|solution| format!("```python\n{}\n```", solution.code)).unwrap_or_default()
    };
    let texts: Vec<String> = tasks.iter().take(COMPLETIONS).map(completion).collect();
    let items: Vec<(&Task, &str)> =
        tasks.iter().zip(&texts).map(|(task, text)| (task, text.as_str())).collect();
    if let Some(path) = write {
        let line = |(task, text): &(&Task, &str)| {
            serde_json::json!({ "task_id": task.id, "completion": text }).to_string()
        };
        fs::write(path, items.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    }
    let scorer = Scorer::new(RewardConfig { judges: Judges::Both, ..config() }, tools)?;
    // The interpreter with numpy is started by the first program that wants it.
    scorer.score_programs(&[(&tasks[0], "import numpy\n")]);
    let (before, start) = (processor_time(), Instant::now());
    let scores = scorer.score_batch(&items);
    let (cost, wall) = (processor_time_since(before), start.elapsed());
    let tests: usize = scores.iter().map(|score| score.tests.cases.len()).sum();
    row(&format!("SecCodePLT+, {} completions, {tests} tests", scores.len()), cost, "5 s", None);
    let outages = scores.iter().filter(|score| score.infra_error.is_some()).count();
    println!("\nSecCodePLT+: {wall:.1?} on all cores, {outages} failures of ours");
    Ok(())
}

/// Many programs, one like the other: memory, processes, descriptors and temporary files before and after.
fn many(tools: &Tools, programs: usize) -> anyhow::Result<()> {
    const BATCH: usize = 64;
    let outside = Usage::now();
    let task: Task = serde_json::from_str(
        r#"{"id": "f", "benchmark": "own", "messages": [], "entry_point": "f",
            "tests": {"kind": "call", "cases": [{"args": [1], "expect": {"returns": 2}}]}}"#,
    )?;
    let scorer = Scorer::new(config(), tools)?;
    let batch = |from: usize| -> anyhow::Result<()> {
        let program = |n: usize| format!("```python\ndef f(a: int) -> int:\n    return a + 1  # {n}\n```");
        let texts: Vec<String> = (from..(from + BATCH).min(programs)).map(program).collect();
        let items: Vec<(&Task, &str)> = texts.iter().map(|text| (&task, text.as_str())).collect();
        for score in scorer.score_batch(&items) {
            anyhow::ensure!(score.reward == Some(1.0), "{score:?}");
        }
        Ok(())
    };
    println!(
        "\n| programs | memory, MiB | processes | descriptors | temporary files |\n|---|---|---|---|---|"
    );
    let show = |judged: &str, usage: &Usage| {
        let Usage { memory, processes, descriptors, temporary } = usage;
        println!(
            "| {judged} | {:.1} | {processes} | {descriptors} | {temporary} |",
            *memory as f64 / 1_048_576.0
        );
    };
    for from in (0..programs).step_by(BATCH) {
        batch(from)?;
        if (from / BATCH).is_multiple_of((programs / BATCH / 8).max(1)) {
            show(&(from + BATCH).min(programs).to_string(), &Usage::now());
        }
    }
    drop(scorer);
    let after = Usage::now();
    show("closed", &after);
    let same = (after.processes, after.descriptors, after.temporary)
        == (outside.processes, outside.descriptors, outside.temporary);
    anyhow::ensure!(same, "something is left behind: {outside:?} before, {after:?} after");
    Ok(())
}

fn row(name: &str, cost: Duration, bound: &str, latency: Option<Duration>) {
    let latency = latency.map(|latency| format!("{latency:.2?}")).unwrap_or_default();
    println!("| {name} | {cost:.2?} | {bound} | {latency} |");
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What this process and those below it hold.
#[derive(Debug)]
struct Usage {
    /// Resident bytes of this process and its workers.
    memory: u64,
    processes: usize,
    descriptors: usize,
    temporary: usize,
}

impl Usage {
    fn now() -> Self {
        let processes = family();
        let resident = |process: &u32| {
            let statm = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
            statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
        };
        // `cargo xtask bench reward` gives us a folder of our own; without it, the files of others count too.
        let ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("real-");
        Self {
            memory: processes.iter().map(resident).sum(),
            processes: processes.len(),
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            temporary: fs::read_dir(std::env::temp_dir())
                .map_or(0, |entries| entries.flatten().filter(ours).count()),
        }
    }
}

/// Processor time of this process and of all below it, those that have ended included.
fn processor_time() -> Duration {
    let ticks = |process: &u32| -> u64 {
        let fields = stat(*process);
        // User and system time, own and of children that were waited for.
        fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
    };
    Duration::from_millis(10 * family().iter().map(ticks).sum::<u64>())
}

fn processor_time_since(before: Duration) -> Duration {
    processor_time().saturating_sub(before)
}

/// This process and all below it.
fn family() -> BTreeSet<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, stat(process).get(1)?.parse().ok()?)))
        .collect();
    let mut found = BTreeSet::from([std::process::id()]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(process, parent)| found.contains(parent) && !found.contains(process))
            .map(|(process, _)| *process)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// The fields of /proc/…/stat behind the name.
fn stat(process: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    text.rsplit(") ").next().unwrap_or("").split(' ').map(str::to_owned).collect()
}
