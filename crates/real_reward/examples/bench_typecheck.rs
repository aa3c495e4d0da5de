//! zuban beside mypy on the references of APPS+: `cargo xtask bench typecheck` builds and runs this.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use real_reward::{Benchmark, Split, Task, Tools, load};

/// Errors beyond this many are the same to the reward, which takes half of the quality for each.
const CAP: usize = 2;

fn main() -> anyhow::Result<()> {
    let data = std::env::args().nth(1).map(PathBuf::from);
    let data = data.ok_or_else(|| anyhow::anyhow!("the folder of the data sets is expected"))?;
    let tools = Tools::install(&mut |line| eprintln!("{line}"))?;
    let tasks = load(Benchmark::Apps, &data, Split::Test, &tools)?;
    let folder = tempfile::tempdir()?;
    for (index, task) in tasks.iter().enumerate() {
        std::fs::write(folder.path().join(name(index)), source(task))?;
    }
    let (mypy, cold) = check(&tools, &tools.mypy(), folder.path(), tasks.len())?;
    let (_, warm) = check(&tools, &tools.mypy(), folder.path(), tasks.len())?;
    let (zuban, time) = check(&tools, &tools.zuban(), folder.path(), tasks.len())?;
    let each = |time: Duration| time.as_secs_f64() * 1e3 / tasks.len() as f64;
    println!("| checker | {} programs in one call | ms a program |\n|---|---|---|", tasks.len());
    println!("| mypy, cold | {cold:.2?} | {:.2} |", each(cold));
    println!("| mypy, warm | {warm:.2?} | {:.2} |", each(warm));
    println!("| zuban | {time:.2?} | {:.2} |", each(time));
    let agree = |same: &dyn Fn(usize, usize) -> bool| {
        (0..tasks.len()).filter(|index| same(count(&mypy, *index), count(&zuban, *index))).count()
    };
    println!("\nof {} programs the two agree", tasks.len());
    println!("- on whether there is an error: {}", agree(&|a, b| (a == 0) == (b == 0)));
    println!("- on the number of errors, up to {CAP}: {}", agree(&|a, b| a.min(CAP) == b.min(CAP)));
    println!("- on the number of errors: {}", agree(&|a, b| a == b));
    for (index, task) in tasks.iter().enumerate() {
        let (a, b) = (count(&mypy, index), count(&zuban, index));
        if (a == 0) != (b == 0) {
            println!("  {}: mypy {a}, zuban {b}", task.id);
        }
    }
    Ok(())
}

fn name(index: usize) -> String {
    format!("program_{index}.py")
}

fn source(task: &Task) -> String {
    format!("{}\n{}", task.prelude, task.reference.as_deref().unwrap_or(""))
}

fn count(errors: &BTreeMap<String, usize>, index: usize) -> usize {
    errors.get(&name(index)).copied().unwrap_or(0)
}

/// Errors of each file, and the time that it took.
fn check(
    tools: &Tools,
    checker: &Path,
    folder: &Path,
    programs: usize,
) -> anyhow::Result<(BTreeMap<String, usize>, Duration)> {
    let mut command = Command::new(checker);
    if checker == tools.zuban() {
        command.arg("mypy");
    }
    command
        .args(["--strict", "--no-error-summary", "--no-pretty", "--python-executable"])
        .arg(tools.python());
    if checker == tools.mypy() {
        command.args(["--cache-dir", "cache"]);
    }
    let start = Instant::now();
    let output = command.args((0..programs).map(name)).current_dir(folder).output()?;
    let time = start.elapsed();
    let mut errors = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(": error: ")) {
        if let Some((file, _)) = line.split_once(':') {
            *errors.entry(file.to_owned()).or_default() += 1;
        }
    }
    anyhow::ensure!(
        output.status.code().is_some_and(|code| code < 2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((errors, time))
}
