//! Tests that cannot be trusted are found by running references.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use real_reward::{RewardConfig, Task, Tools, validate};

fn task(id: &str, reference: &str, cases: &str) -> Task {
    let reference = serde_json::to_string(reference).unwrap();
    serde_json::from_str(&format!(
        r#"{{"id": "{id}", "benchmark": "own", "messages": [], "entry_point": "f", "reference": {reference},
            "tests": {{"kind": "call", "cases": [{cases}]}}}}"#
    ))
    .unwrap()
}

#[test]
fn impossible_and_nondeterministic_tests_are_found() {
    let tools = Tools::install(&mut |line| eprintln!("{line}")).unwrap();
    let config = RewardConfig { allow_weak_sandbox: true, ..RewardConfig::default() };
    let case = |argument: &str, expected: &str| {
        format!(r#"{{"args": [{argument}], "expect": {{"returns": {expected}}}}}"#)
    };
    let first = "def f(names):\n    return next(iter(set(names)))\n";
    let letters = case(r#"["a", "b", "c", "d", "e", "f", "g", "h"]"#, r#""d""#);
    let mut orphan = task("orphan", "", &case("1", "1"));
    orphan.reference = None;
    let tasks = [
        task("sound", "def f(x):\n    return x + 1\n", &[case("1", "2"), case("2", "3")].join(",")),
        task("impossible", "def f(x):\n    return x + 1\n", &[case("1", "2"), case("2", "4")].join(",")),
        task("random", "import random\ndef f(x):\n    return random.random() < 0.8\n", &case("1", "true")),
        task("order of a set", first, &letters),
        task("vacuous", "def f(x):\n    return None\n", &case("1", "null")),
        orphan,
    ];
    let found = validate(&tasks, &config, &tools).unwrap();
    let names: Vec<&str> = found.iter().map(|one| one.task_id.as_str()).collect();
    assert_eq!(names, ["sound", "impossible", "random", "order of a set", "vacuous", "orphan"]);
    assert!(found[0].is_sound(), "{:?}", found[0]);
    assert_eq!((&found[1].impossible, &found[1].nondeterministic), (&vec![1], &vec![]));
    // 0.8444 with seed 0, 0.1343 with seed 1.
    assert_eq!((&found[2].impossible, &found[2].nondeterministic), (&vec![], &vec![0]));
    // Which letter comes first depends on the hashes; it is the expected one in some rounds at most.
    assert!(!found[3].is_sound() && found[3].unusable.is_none(), "{:?}", found[3]);
    assert!(found[4].vacuous && found[4].impossible.is_empty(), "{:?}", found[4]);
    assert!(found[5].unusable.as_deref().unwrap().contains("no reference"), "{:?}", found[5]);
}
