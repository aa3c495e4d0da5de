//! What goes wrong around the judges: every item is answered once, in order, with a score or an `infra_error`, and never with a score for
//! a failure of ours. One test after the other, since they kill processes and fill disks.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use real_reward::{CaseVerdict, RewardConfig, Score, Scorer, Task, Tools};
use tempfile::TempDir;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

static TOOLS: LazyLock<Tools> =
    LazyLock::new(|| Tools::install(&mut |line| eprintln!("{line}")).expect("Python for the judges"));

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config() -> RewardConfig {
    RewardConfig { allow_weak_sandbox: true, ..RewardConfig::default() }
}

/// Adds; typed, so that both the type checker and the tests are asked.
fn task() -> Task {
    let cases: Vec<String> =
        (0..3).map(|n| format!(r#"{{"args": [{n}, 2], "expect": {{"returns": {}}}}}"#, n + 2)).collect();
    let json = format!(
        r#"{{"id": "add", "benchmark": "own", "messages": [], "entry_point": "add", "tests": {{"kind": "call", "cases": [{}]}}}}"#,
        cases.join(",")
    );
    serde_json::from_str(&json).unwrap()
}

/// Each program is another one, so that no score is remembered. Every third is wrong.
fn completions(count: usize) -> Vec<String> {
    let wrong = |n: usize| if n.is_multiple_of(3) { " + 1" } else { "" };
    (0..count)
        .map(|n| {
            format!("```python\ndef add(a: int, b: int) -> int:\n    return a + b{}  # {n}\n```", wrong(n))
        })
        .collect()
}

/// Scores, and whether each is right or an outage; the number of outages.
fn score(scorer: &Scorer, count: usize) -> usize {
    let task = task();
    let texts = completions(count);
    let items: Vec<(&Task, &str)> = texts.iter().map(|text| (&task, text.as_str())).collect();
    let scores = scorer.score_batch(&items);
    assert_eq!(scores.len(), count);
    for (n, score) in scores.iter().enumerate() {
        assert_eq!(score.sample, n as u64, "in order");
        assert_eq!(score.reward.is_none(), score.infra_error.is_some(), "{score:?}");
        let right = if n.is_multiple_of(3) { 0.5 } else { 1.0 };
        assert!(score.reward.is_none_or(|reward| (reward - right).abs() < 1e-9), "{score:#?}");
    }
    scores.iter().filter(|score| score.infra_error.is_some()).count()
}

/// Our own descendants, by the command that they run.
fn descendants(command: &str) -> Vec<u32> {
    let mut found = BTreeSet::from([std::process::id()]);
    let stat = |process: u32| -> Option<(u32, u32)> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        Some((process, text.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?))
    };
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect();
    loop {
        let before = found.len();
        found.extend(
            all.iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(process, _)| *process)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            break;
        }
    }
    found.remove(&std::process::id());
    let runs = |process: &u32| {
        fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.starts_with(command))
    };
    found.into_iter().filter(runs).collect()
}

#[test]
fn workers_killed_at_random() {
    let _guard = alone();
    let scorer = Scorer::new(config(), &TOOLS).unwrap();
    let over = AtomicBool::new(false);
    let outages = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0;
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(700));
                let workers = descendants("python");
                if let Some(victim) = workers.get(turn * 7 % workers.len().max(1)) {
                    let _ = Command::new("kill").args(["-9", &victim.to_string()]).output();
                }
                turn += 1;
            }
        });
        let outages = score(&scorer, 120);
        over.store(true, Ordering::Relaxed);
        outages
    });
    eprintln!("{outages} of 120 items were outages");
    assert_eq!(score(&scorer, 9), 0, "afterwards all is well");
    drop(scorer);
    assert_eq!(descendants("python"), Vec::<u32>::new(), "nothing is left behind");
}

/// A tools folder of which one may break a part.
fn breakable(folder: &Path, checker: Option<&str>) -> Tools {
    let real = TOOLS.python().parent().unwrap().parent().unwrap().to_owned();
    fs::create_dir_all(folder.join("bin")).unwrap();
    for name in ["lib", "pyvenv.cfg", "real-tools.json"] {
        symlink(real.join(name), folder.join(name)).unwrap();
    }
    symlink(fs::canonicalize(real.join("bin/python")).unwrap(), folder.join("bin/python")).unwrap();
    for name in ["zuban", "mypy"] {
        let path = folder.join("bin").join(name);
        match checker {
            Some(script) => {
                fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            None => symlink(real.join("bin").join(name), path).unwrap(),
        }
    }
    Tools::at(folder).unwrap()
}

#[test]
fn the_type_checker_crashes() {
    let _guard = alone();
    let folder = TempDir::new().unwrap();
    let tools = breakable(folder.path(), Some("kill -SEGV $$"));
    let scorer = Scorer::new(config(), &tools).unwrap();
    assert_eq!(score(&scorer, 6), 6, "no reward is known without the types");
    // Where types are no part of quality, nobody asks for them.
    let security =
        Scorer::new(RewardConfig { judges: real_reward::Judges::Security, ..config() }, &tools).unwrap();
    assert_eq!(score(&security, 6), 0);
}

/// Overloads in overloads keep zuban busy for ever; the limit is on processor time.
#[test]
fn types_without_end_cost_only_their_own_program() {
    let _guard = alone();
    let scorer = Scorer::new(config(), &TOOLS).unwrap();
    let nested = "max([a + b, ".repeat(24) + "0" + &"])".repeat(24);
    let endless = format!("```python\ndef add(a: int, b: int) -> int:\n    return {nested}\n```");
    let honest = completions(3);
    let task = task();
    let items = [(&task, honest[1].as_str()), (&task, endless.as_str()), (&task, honest[2].as_str())];
    let scores = scorer.score_batch(&items);
    let rewards: Vec<Option<f64>> = scores.iter().map(|score| score.reward).collect();
    assert_eq!(rewards, [Some(1.0), Some(0.5), Some(1.0)], "{scores:#?}");
    assert_eq!(scores[1].type_errors[0].code, "real-undecided");
}

#[test]
fn zuban_crashes_and_mypy_answers() {
    let _guard = alone();
    let folder = TempDir::new().unwrap();
    let tools = breakable(folder.path(), None);
    fs::remove_file(folder.path().join("bin/zuban")).unwrap();
    let scorer = Scorer::new(config(), &tools).unwrap();
    assert_eq!(score(&scorer, 2), 0);
}

/// A program that breaks both checkers has no proof of its types; it is no outage.
#[test]
fn a_program_crashes_both_checkers() {
    let _guard = alone();
    let folder = TempDir::new().unwrap();
    let real = TOOLS.python().parent().unwrap().to_owned();
    let tools = breakable(folder.path(), None);
    for name in ["zuban", "mypy"] {
        let path = folder.path().join("bin").join(name);
        fs::remove_file(&path).unwrap();
        let script = format!(
            "#!/bin/sh\nfor file; do case $file in *.py) grep -q breaks_checkers $file && kill -SEGV $$;; esac; done\nexec {} \"$@\"\n",
            real.join(name).display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let scorer = Scorer::new(config(), &tools).unwrap();
    let breaking = "```python\nbreaks_checkers = 1\ndef add(a: int, b: int) -> int:\n    return a + b\n```";
    let honest = completions(3);
    let task = task();
    let items = [(&task, honest[1].as_str()), (&task, breaking), (&task, honest[2].as_str())];
    let scores = scorer.score_batch(&items);
    let rewards: Vec<Option<f64>> = scores.iter().map(|score| score.reward).collect();
    assert_eq!(rewards, [Some(1.0), Some(0.5), Some(1.0)], "{scores:#?}");
    assert_eq!(scores[1].type_errors[0].code, "real-undecided");
}

#[test]
fn the_interpreter_is_missing() {
    let _guard = alone();
    let folder = TempDir::new().unwrap();
    let tools = breakable(folder.path(), None);
    let scorer = Scorer::new(config(), &tools).unwrap();
    assert_eq!(score(&scorer, 3), 0);
    // It goes while we run, and the workers with it.
    fs::remove_file(folder.path().join("bin/python")).unwrap();
    let workers = descendants("python");
    let _ = Command::new("kill").arg("-9").args(workers.iter().map(u32::to_string)).output();
    let task = task();
    let texts = completions(6);
    let items: Vec<(&Task, &str)> = texts.iter().map(|text| (&task, text.as_str())).collect();
    let scores: Vec<Score> = scorer.score_batch(&items);
    // What was scored before is remembered.
    let outages: Vec<bool> = scores.iter().map(|score| score.infra_error.is_some()).collect();
    assert_eq!(outages, [false, false, false, true, true, true]);
    let error = Scorer::new(config(), &tools).err().unwrap().to_string();
    assert!(error.contains("python"), "{error}");
}

/// The same test binary with a temporary folder that is full.
#[test]
fn the_disk_is_full() {
    const MARK: &str = "REAL_REWARD_FULL_DISK";
    if std::env::var_os(MARK).is_some() {
        let scorer = Scorer::new(config(), &TOOLS).unwrap();
        assert_eq!(score(&scorer, 6), 6);
        return;
    }
    let _guard = alone();
    LazyLock::force(&TOOLS);
    let folder = TempDir::new().unwrap();
    let script = "mount -t tmpfs -o size=4k none \"$TMPDIR\" && echo full > \"$TMPDIR/full\" && exec \"$0\" --exact the_disk_is_full";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(MARK, "1")
        .env("TMPDIR", folder.path())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: the_disk_is_full: there is no `unshare`");
        return;
    };
    let report = String::from_utf8_lossy(&output.stdout);
    if !report.contains("running 1 test") {
        eprintln!("skipped: the_disk_is_full: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Processors that are busy with something else: a program is measured by the time that it had.
#[test]
fn clock_limits_under_load() {
    let _guard = alone();
    let config = RewardConfig { cpu_seconds: 1.0, wall_seconds: 30.0, ..config() };
    let scorer = Scorer::new(config, &TOOLS).unwrap();
    let task = task();
    let slow = "```python\nimport time\n\n\ndef add(a: int, b: int) -> int:\n    while time.process_time() < 0.3:\n        pass\n    return a + b\n```";
    let endless = "```python\ndef add(a: int, b: int) -> int:\n    while True:\n        pass\n```";
    let over = AtomicBool::new(false);
    let scores = std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let scores = scorer.score_batch(&[(&task, slow), (&task, endless)]);
        over.store(true, Ordering::Relaxed);
        scores
    });
    assert_eq!(scores[0].reward, Some(1.0), "{:#?}", scores[0]);
    assert_eq!(scores[1].tests.cases[0].verdict, CaseVerdict::Timeout);
    assert_eq!(scores[1].function, Some(0.0));
}
