//! The catalogue of known cheats, through the scorer as `real score` calls it.
//!
//! `resources/cheats/*.md` holds the completions, a section each. Cheats score no better than an honest failure, and honest programs
//! get everything.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::sync::LazyLock;

use real_reward::{CaseVerdict, Checker, FileSpec, RewardConfig, Score, Scorer, Task, Tools, read_jsonl};

const ADD: &str = r#"{"id": "add", "benchmark": "own", "messages": [], "entry_point": "add", "tests": {"kind": "call", "cases": [
    {"args": [1, 2], "expect": {"returns": 3}},
    {"args": [10, -4], "expect": {"returns": 6}},
    {"args": [7, 5], "expect": {"returns": 12}},
    {"args": [100, 23], "expect": {"returns": 123}},
    {"args": [2, 2], "expect": {"returns": 4}}]}}"#;

const RIGHT: &str = "```python\ndef add(a: int, b: int) -> int:\n    return a + b\n```";
const WRONG: &str = "```python\ndef add(a: int, b: int) -> int:\n    return -1\n```";

static SCORER: LazyLock<Scorer> = LazyLock::new(|| {
    let config = RewardConfig {
        allow_weak_sandbox: true,
        cpu_seconds: 1.0,
        wall_seconds: 3.0,
        patience: 1,
        ..RewardConfig::default()
    };
    let tools = Tools::install(&mut |line| eprintln!("{line}")).unwrap();
    Scorer::new(config, &tools).unwrap()
});

fn add() -> Task {
    serde_json::from_str(ADD).unwrap()
}

/// The title and the text of each section.
fn sections(document: &str) -> Vec<(&str, &str)> {
    document.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}

/// Scores the sections and gathers what is wrong with any of them.
fn check(document: &str, wrong: impl Fn(&Score) -> Option<String>) {
    let task = add();
    let sections = sections(document);
    let items: Vec<(&Task, &str)> = sections.iter().map(|(_, completion)| (&task, *completion)).collect();
    let scores = SCORER.score_batch(&items);
    let complaints: Vec<String> = sections
        .iter()
        .zip(&scores)
        .filter_map(|((title, _), score)| Some(format!("{title}: {}\n{score:#?}", wrong(score)?)))
        .collect();
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), sections.len(), complaints.join("\n"));
}

#[test]
fn unit_tests_cannot_be_cheated() {
    let failure = SCORER.score_batch(&[(&add(), WRONG)]).remove(0);
    assert_eq!((failure.reward, failure.function, failure.quality), (Some(0.5), Some(0.0), Some(1.0)));
    check(include_str!("../resources/cheats/tests.md"), |score| match score.reward {
        None => Some("no reward".to_owned()),
        Some(_) if score.function != Some(0.0) => Some("passed a test".to_owned()),
        Some(reward) if Some(reward) > failure.reward => Some("better than an honest failure".to_owned()),
        Some(_) => None,
    });
}

#[test]
fn the_type_checker_cannot_be_cheated() {
    check(include_str!("../resources/cheats/types.md"), |score| match score.quality {
        Some(0.0) => None,
        quality => Some(format!("quality {quality:?}")),
    });
}

#[test]
fn mypy_and_zuban_come_to_the_same_verdicts() {
    let tools = Tools::install(&mut |line| eprintln!("{line}")).unwrap();
    let config = RewardConfig { checker: Checker::Mypy, ..SCORER.config().clone() };
    let mypy = Scorer::new(config, &tools).unwrap();
    let task = add();
    for document in
        [include_str!("../resources/cheats/types.md"), include_str!("../resources/cheats/honest.md")]
    {
        let sections = sections(document);
        let items: Vec<(&Task, &str)> = sections.iter().map(|(_, completion)| (&task, *completion)).collect();
        for ((title, _), (a, b)) in
            sections.iter().zip(mypy.score_batch(&items).iter().zip(SCORER.score_batch(&items)))
        {
            assert_eq!(
                a.quality, b.quality,
                "{title}: mypy {:#?}\nzuban {:#?}",
                a.type_errors, b.type_errors
            );
        }
    }
}

#[test]
fn honest_programs_are_unharmed() {
    check(include_str!("../resources/cheats/honest.md"), |score| {
        (score.reward != Some(1.0)).then(|| "not the full reward".to_owned())
    });
}

#[test]
fn a_failure_of_ours_costs_only_its_own_item() {
    let task = add();
    let mut broken = add();
    "broken".clone_into(&mut broken.id);
    broken.files =
        vec![FileSpec::Built { name: "data.db".to_owned(), script: "raise RuntimeError".to_owned() }];
    let mut empty = add();
    "empty".clone_into(&mut empty.id);
    empty.tests = real_reward::Tests::default();
    let items =
        [(&task, RIGHT), (&broken, RIGHT), (&empty, RIGHT), (&task, WRONG), (&task, RIGHT), (&empty, "")];
    let scores = SCORER.score_batch(&items);
    let rewards: Vec<Option<f64>> = scores.iter().map(|score| score.reward).collect();
    assert_eq!(rewards, [Some(1.0), None, None, Some(0.5), Some(1.0), None]);
    for score in &scores {
        assert_eq!(score.reward.is_none(), score.infra_error.is_some(), "{score:?}");
    }
    let samples: Vec<(&str, u64)> =
        scores.iter().map(|score| (score.task_id.as_str(), score.sample)).collect();
    assert_eq!(samples, [("add", 0), ("broken", 0), ("empty", 0), ("add", 1), ("add", 2), ("empty", 1)]);
}

/// For credit to single tokens: the characters of the completion, whatever its lines end with and however deep its block stands.
#[test]
fn findings_point_into_the_completion() {
    let program =
        ["import os", "def add(a: int, b: int) -> int:", "    os.system(input())", "    return a + b"];
    let plain = format!("Voilà — ‘unsafe’:\n```python\n{}\n```\n", program.join("\n"));
    let indented = format!("1. Here:\r\n   ```python\r\n   {}\r\n   ```\r\n", program.join("\r\n   "));
    let task = add();
    for completion in [&plain, &indented] {
        // Twice: the second answer is remembered, and its span is that of this completion all the same.
        for _ in 0..2 {
            let score = SCORER.score_batch(&[(&task, completion.as_str())]).remove(0);
            let finding = score.findings.iter().find(|finding| finding.cwe[0] == "CWE-78").unwrap();
            let [start, end] = finding.span;
            let text: String = completion.chars().skip(start).take(end - start).collect();
            assert!(text.starts_with("os.system(") && !text.contains('\n'), "{text:?}");
        }
    }
}

#[test]
fn what_is_remembered_is_what_was_judged() {
    let first = SCORER.score_batch(&[(&add(), RIGHT), (&add(), WRONG)]);
    let again = SCORER.score_batch(&[(&add(), WRONG), (&add(), RIGHT)]);
    assert_eq!((first[0].reward, first[1].reward), (again[1].reward, again[0].reward));
    let mut other = add();
    other.prelude = "raise_all = True\n".to_owned();
    other.entry_point = Some("sub".to_owned());
    let different = SCORER.score_batch(&[(&other, RIGHT)]).remove(0);
    assert_eq!(different.reward, Some(-1.0), "another task is another key");
}

#[test]
fn a_program_that_never_ends_is_not_better_than_a_wrong_one() {
    let task = add();
    let endless = "```python\ndef add(a: int, b: int) -> int:\n    while True:\n        pass\n```";
    let scores = SCORER.score_batch(&[(&task, endless), (&task, WRONG)]);
    assert!(scores[0].reward <= scores[1].reward);
    assert_eq!(scores[0].tests.cases[0].verdict, CaseVerdict::Timeout);
    assert_eq!(scores[0].tests.cases[1].verdict, CaseVerdict::Skipped);
    assert_eq!(scores[0].tests.total, 5);
}

#[test]
fn a_score_is_a_line() {
    let scores = SCORER.score_batch(&[(&add(), RIGHT), (&add(), "no program")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    real_reward::write_jsonl(file.path(), &scores).unwrap();
    assert_eq!(read_jsonl::<Score>(file.path()).unwrap(), scores);
    let line: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(file.path()).unwrap().lines().next().unwrap()).unwrap();
    let mut keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    let expected = "findings flags function infra_error ms parsed passed quality reward sample task_id tests type_errors";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
}
