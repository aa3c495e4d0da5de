//! A run that is killed again and again ends where the uninterrupted one does, to the bit.
//!
//! `REAL_KILLS=10 cargo test -p real --test resume` kills more often than the two times of a usual test run.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

mod support;

use support::{SMALLEST, metrics};

const SIGKILL: i32 = 9;

/// What makes a checkpoint hold more than the smallest run needs.
const CHANGES: &[&str] = &[
    "sft.epochs=4",
    "rollout.samples=2",
    "rollout.max_new_tokens=48",
    "rollout.refill_rounds=1",
    "rollout.token_credit=true",
    "ppo.learning_rate=1e-3",
    "ppo.critic=model",
    "ppo.kl_target=0.01",
    "lora.rank=4",
    "lora.alpha=8.0",
    "train.steps=5",
    "eval.at_ends=false",
];

#[test]
fn an_interrupted_run_ends_where_the_uninterrupted_one_does() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("run.toml"), SMALLEST).unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let started = Instant::now();
    finish(start(folder.path(), &whole));
    let duration = started.elapsed();

    // Ctrl-C first, in both stages: it saves what there is.
    for (sign, stage) in [("sft/tensorboard", "supervised"), ("checkpoints/step-000001", "checkpoints")] {
        let said = interrupt(start(folder.path(), &broken), &broken.join(sign));
        assert!(said.contains("interrupted: saved") && said.contains(stage), "{said}");
    }

    let kills = std::env::var("REAL_KILLS").map_or(2, |count| count.parse().unwrap());
    let mut done = 0;
    while done < kills {
        let mut child = start(folder.path(), &broken);
        // Somewhere between its start and its end.
        let moment = duration.mul_f64(RandomState::new().hash_one(done) as f64 / u64::MAX as f64);
        sleep(moment);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.signal() == Some(SIGKILL) {
            eprintln!("killed after {moment:?}");
        } else {
            assert_eq!(status.code(), Some(0));
            eprintln!("it was done after {moment:?}; from the start again");
            std::fs::remove_dir_all(&broken).unwrap();
        }
        done += 1;
    }
    finish(start(folder.path(), &broken));

    assert_eq!(metrics(&broken), metrics(&whole));
    for file in ["model.safetensors", "trainer.safetensors"] {
        let bytes = |run: &Path| std::fs::read(run.join("checkpoints/step-000005").join(file)).unwrap();
        assert!(bytes(&broken) == bytes(&whole), "{file} differs");
    }
}

/// Presses Ctrl-C as soon as a file or folder is there; what the run said then.
fn interrupt(mut child: Child, sign: &Path) -> String {
    while !sign.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before there was {}", sign.display());
        sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts the run, or goes on with it.
fn start(folder: &Path, run: &Path) -> Child {
    let dir = format!("run.dir={}", run.display());
    let mut arguments = vec!["train", "run.toml", "--set", &dir];
    arguments.extend(CHANGES.iter().flat_map(|change| ["--set", change]));
    if run.join("config.toml").exists() {
        arguments.push("--resume");
    }
    Command::new(env!("CARGO_BIN_EXE_real"))
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
