//! Every template's promises, checked by running its solutions in Python.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::*;
use crate::SolutionKind;

/// What `check.py` found out about a solution.
#[derive(Debug, Deserialize)]
struct Verdict {
    task: String,
    style: String,
    kind: SolutionKind,
    tests: Vec<String>,
    attacks: Vec<String>,
}

/// Two tasks of every template.
fn sample() -> Vec<Task> {
    let templates = |held_out| TEMPLATES.iter().filter(|template| template.held_out == held_out).count();
    let mut sample = tasks(Split::Train, 1, templates(false));
    sample.extend(tasks(Split::Test, 2, templates(false)));
    sample.extend(tasks(Split::HeldOut, 3, 2 * templates(true)));
    sample
}

fn run(tasks: &[Task]) -> Vec<Verdict> {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    script.write_all(include_bytes!("check.py")).unwrap();
    let mut input = tempfile::tempfile().unwrap();
    for task in tasks {
        writeln!(input, "{}", serde_json::to_string(task).unwrap()).unwrap();
    }
    std::io::Seek::rewind(&mut input).unwrap();
    let output =
        Command::new("python3").arg(script.path()).stdin(input).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn solutions_are_what_they_claim() {
    let sample = sample();
    let verdicts = run(&sample);
    assert_eq!(verdicts.len(), sample.iter().map(|task| task.solutions.len()).sum::<usize>());
    let broken: Vec<_> = verdicts
        .iter()
        .filter(|verdict| match verdict.kind {
            SolutionKind::Secure | SolutionKind::Untyped => {
                !verdict.tests.is_empty() || !verdict.attacks.is_empty()
            }
            SolutionKind::Insecure => !verdict.tests.is_empty() || verdict.attacks.is_empty(),
            SolutionKind::Wrong => verdict.tests.is_empty(),
        })
        .map(|verdict| {
            format!(
                "{} {:?} {}\n  tests {:?}\n  attacks {:?}",
                verdict.task, verdict.kind, verdict.style, verdict.tests, verdict.attacks
            )
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_template_has_enough_of_everything() {
    for task in sample() {
        let count = |kind| task.solutions.iter().filter(|solution| solution.kind == kind).count();
        let cases = |tests: &Tests| match tests {
            Tests::Call { cases } => cases.len(),
            Tests::Stdio { cases } => cases.len(),
        };
        assert!(count(SolutionKind::Secure) >= 2, "{}", task.id);
        assert!(count(SolutionKind::Insecure) >= 2, "{}", task.id);
        assert!(count(SolutionKind::Wrong) >= 2, "{}", task.id);
        assert!(count(SolutionKind::Untyped) >= 1, "{}", task.id);
        assert!(cases(&task.tests) >= 3 && cases(&task.attacks) >= 2, "{}", task.id);
        let text = serde_json::to_string(&task).unwrap();
        assert!(!text.contains("{{"), "a slot is not filled in {text}");
        assert_eq!(task.solutions[0].kind, SolutionKind::Secure, "{}: the reference is secure", task.id);
    }
}

#[test]
fn splits_share_no_task_and_seeds_agree_on_a_task() {
    let ids = |tasks: &[Task]| tasks.iter().map(|task| task.id.clone()).collect::<BTreeSet<_>>();
    let train = tasks(Split::Train, 1, 3000);
    let test = tasks(Split::Test, 1, 1000);
    assert_eq!((ids(&train).len(), ids(&test).len()), (3000, 1000), "no task comes twice");
    assert!(ids(&train).is_disjoint(&ids(&test)));
    let prompts = |tasks: &[Task]| tasks.iter().map(|task| task.messages[0].content.clone()).collect();
    let (seen, unseen): (BTreeSet<_>, BTreeSet<_>) = (prompts(&train), prompts(&test));
    assert!(seen.is_disjoint(&unseen), "no prompt is in both");

    let by_id: BTreeMap<_, _> = train.iter().map(|task| (&task.id, task)).collect();
    let again = tasks(Split::Train, 2, 3000);
    let shared: Vec<_> = again.iter().filter(|task| by_id.contains_key(&task.id)).collect();
    assert!(!shared.is_empty());
    assert!(shared.iter().all(|task| *by_id[&task.id] == **task));
}

#[test]
fn the_shuffle_deals_every_number_once() {
    let mut numbers: Vec<_> = shuffled(1000, ChaCha8Rng::seed_from_u64(5)).collect();
    assert_ne!(numbers, (0..1000).collect::<Vec<_>>());
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}
