//! The programs of the specification, changed: by what must not matter, and at random.

#[path = "support/mutate.rs"]
mod support;

use proptest::prelude::*;
use real_analysis::{Options, analyze};
use support::{FRAGMENTS, Mutation, mutate, programs};

fn rules(source: &str) -> Vec<&'static str> {
    let mut rules: Vec<_> =
        analyze(source, &Options::default()).findings.iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules
}

fn check(change: impl Fn(&str) -> String) {
    for program in programs() {
        let changed = change(&program);
        assert_eq!(rules(&program), rules(&changed), "{changed}");
    }
}

#[test]
fn comments_do_not_matter() {
    check(|program| {
        let lines = program.lines().map(|line| line.split("  # ").next().unwrap_or_default());
        lines.collect::<Vec<_>>().join("\n")
    });
    check(|program| format!("# validate, escape, sanitize, allowed_hosts, csrf\n{program}\n# safe"));
}

#[test]
fn code_beside_it_does_not_matter() {
    check(|program| format!("import unrelated\n\n{program}\n\n\nclass Other:\n    size = 3\n"));
    check(|program| format!("{program}\n\n\ndef beside(number: int) -> int:\n    return number + 1\n"));
}

#[test]
fn windows_line_ends_do_not_matter() {
    check(|program| program.replace('\n', "\r\n"));
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        Just(Mutation::DropLine),
        Just(Mutation::RepeatLine),
        Just(Mutation::SwapLines),
        Just(Mutation::Truncate),
        Just(Mutation::Outdent),
        prop::sample::select(FRAGMENTS).prop_map(Mutation::Insert),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Nothing panics, the SSA form verifies, and no program exhausts its budget.
    #[test]
    fn changed_programs_are_analysed(
        index in 0usize..1000,
        changes in prop::collection::vec((mutation(), 0usize..100_000), 1..6),
    ) {
        thread_local!(static PROGRAMS: Vec<String> = programs());
        let mut program = PROGRAMS.with(|programs| programs[index % programs.len()].clone());
        for (mutation, place) in &changes {
            program = mutate(&program, mutation, *place);
        }
        prop_assert!(!analyze(&program, &Options::default()).budget_hit, "{program}");
    }
}
