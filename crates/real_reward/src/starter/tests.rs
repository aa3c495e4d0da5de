//! Every template's promises, checked by running its solutions.

use std::collections::{BTreeMap, BTreeSet};

use real_sandbox::{Action, Config, Ending, Job, Limits, Outcome, Sandbox, Strictness};

use super::*;
use crate::compare::{Origin, equal};
use crate::{Case, Expected, FileSpec, Solution, SolutionKind};

/// A training and a test task of every template, or a held-out one.
fn sample() -> Vec<Task> {
    let templates = |held_out| TEMPLATES.iter().filter(|template| template.held_out == held_out).count();
    let mut sample = tasks(Part::Train, 1, templates(false));
    sample.extend(tasks(Part::Test, 2, templates(false)));
    sample.extend(tasks(Part::HeldOut, 3, templates(true)));
    sample
}

fn cases(tests: &Tests) -> &[Case] {
    match tests {
        Tests::Call { cases } => cases,
        Tests::Stdio { .. } => panic!("starter has no scripts"),
    }
}

/// A job without a program.
fn job(action: Action) -> Job {
    Job {
        prelude: String::new(),
        program: String::new(),
        files: Vec::new(),
        action,
        collect: Vec::new(),
        limits: Limits::default(),
    }
}

/// The task's files by name.
fn build(sandbox: &Sandbox, task: &Task) -> Vec<(String, Vec<u8>)> {
    let built = |file: &FileSpec| match file {
        FileSpec::Text { name, text } => vec![(name.clone(), text.clone().into_bytes())],
        FileSpec::Built { name, script } => {
            let action = Action::Script { stdin: Vec::new() };
            let job = Job { program: script.clone(), collect: vec![name.clone()], ..job(action) };
            sandbox.run(&job).unwrap().files
        }
    };
    task.files.iter().flat_map(built).collect()
}

fn is_met(expected: &Expected, outcome: &Outcome) -> bool {
    match (expected, &outcome.ending) {
        (Expected::Returns(expected), Ending::Returned(actual)) => equal(expected, actual, Origin::Python),
        (Expected::Raises(class), Ending::Raised { types, at_import: false, .. }) => types.contains(class),
        (Expected::Returns(_) | Expected::Raises(_), _) => false,
        (Expected::Withholds(canary), ending) => {
            let returned = match ending {
                Ending::Returned(value) => serde_json::to_string(value).unwrap(),
                _ => String::new(),
            };
            let output = String::from_utf8_lossy(&outcome.stdout);
            // JSON writes a quote with a backslash before it.
            !returned.replace("\\\"", "\"").contains(canary) && !output.contains(canary)
        }
    }
}

/// The cases that the solution fails.
fn failures(
    sandbox: &Sandbox,
    task: &Task,
    files: &[(String, Vec<u8>)],
    solution: &Solution,
    tests: &Tests,
) -> Vec<String> {
    let failure = |case: &Case| {
        let entry_point = task.entry_point.clone().unwrap();
        let action = Action::Call { entry_point, args: case.args.clone(), kwargs: Vec::new() };
        let job = Job {
            prelude: task.prelude.clone(),
            program: solution.code.clone(),
            files: files.to_vec(),
            ..job(action)
        };
        let outcome = sandbox.run(&job).unwrap();
        (!is_met(&case.expect, &outcome))
            .then(|| format!("{:?}: {:?}, not {:?}", case.args, outcome.ending, case.expect))
    };
    cases(tests).iter().filter_map(failure).collect()
}

#[test]
fn solutions_are_what_they_claim() {
    let sandbox = Sandbox::start(Config { strictness: Strictness::Degrade, ..Config::default() }).unwrap();
    let mut broken = Vec::new();
    for task in sample() {
        let files = build(&sandbox, &task);
        for solution in &task.solutions {
            let tests = failures(&sandbox, &task, &files, solution, &task.tests);
            let attacks = failures(&sandbox, &task, &files, solution, &task.attacks);
            let holds = match solution.kind {
                SolutionKind::Secure | SolutionKind::Untyped => tests.is_empty() && attacks.is_empty(),
                SolutionKind::Insecure => tests.is_empty() && !attacks.is_empty(),
                SolutionKind::Wrong => !tests.is_empty(),
            };
            if !holds {
                let Solution { kind, style, .. } = solution;
                broken.push(format!("{} {kind:?} {style}\n  {tests:?}\n  {attacks:?}", task.id));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_template_has_enough_of_everything() {
    for task in sample() {
        let count = |kind| task.solutions.iter().filter(|solution| solution.kind == kind).count();
        assert!(count(SolutionKind::Secure) >= 2, "{}", task.id);
        assert!(count(SolutionKind::Insecure) >= 2, "{}", task.id);
        assert!(count(SolutionKind::Wrong) >= 2, "{}", task.id);
        assert!(count(SolutionKind::Untyped) >= 1, "{}", task.id);
        assert!(cases(&task.tests).len() >= 3 && cases(&task.attacks).len() >= 2, "{}", task.id);
        let text = serde_json::to_string(&task).unwrap();
        assert!(!text.contains("{{"), "a slot is not filled in {text}");
        assert_eq!(task.solutions[0].kind, SolutionKind::Secure, "{}: the reference is secure", task.id);
    }
}

#[test]
fn every_template_has_hundreds_of_instances() {
    for template in &*TEMPLATES {
        let parts: &[_] = if template.held_out { &[Part::HeldOut] } else { &[Part::Train, Part::Test] };
        for part in parts {
            let instances = instances(template, *part, 1).take(150).count();
            assert_eq!(instances, 150, "{} has {instances} in {part:?}", template.name);
        }
    }
}

#[test]
fn no_word_of_a_prompt_is_in_two_pools() {
    let slots = TEMPLATES.iter().flat_map(|template| &template.slots);
    let pools: BTreeSet<&str> = slots.map(|slot| slot.pool.as_str()).collect();
    let mut pool_of = BTreeMap::new();
    for pool in pools {
        for word in lexicon::pool(pool) {
            let other = pool_of.insert(word, pool);
            assert_eq!(other, None, "{word:?} is in {pool} too");
        }
    }
}

#[test]
fn splits_share_no_task_and_seeds_agree_on_a_task() {
    let ids = |tasks: &[Task]| tasks.iter().map(|task| task.id.clone()).collect::<BTreeSet<_>>();
    let train = tasks(Part::Train, 1, 3000);
    let test = tasks(Part::Test, 1, 1000);
    assert_eq!((ids(&train).len(), ids(&test).len()), (3000, 1000), "no task comes twice");
    assert!(ids(&train).is_disjoint(&ids(&test)));
    let prompts = |tasks: &[Task]| tasks.iter().map(|task| task.messages[0].content.clone()).collect();
    let (seen, unseen): (BTreeSet<_>, BTreeSet<_>) = (prompts(&train), prompts(&test));
    assert!(seen.is_disjoint(&unseen), "no prompt is in both");

    let by_id: BTreeMap<_, _> = train.iter().map(|task| (&task.id, task)).collect();
    let again = tasks(Part::Train, 2, 3000);
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
