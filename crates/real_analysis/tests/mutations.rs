//! The programs of the specification, changed: by what must not matter, and at random.

use std::path::Path;

use proptest::prelude::*;
use real_analysis::{Options, analyze};

/// Every Python block of the specification.
fn programs() -> Vec<String> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/mdtest")];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                texts.push((path.clone(), std::fs::read_to_string(path).expect("a page is text")));
            }
        }
    }
    texts.sort();
    let blocks = texts.iter().flat_map(|(_, text)| text.split("```python").skip(1));
    let code = blocks.filter_map(|block| Some(block.split_once('\n')?.1.split_once("\n```")?.0.to_owned()));
    code.collect()
}

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

/// What a random change does to a program, at a place between 0 and 1.
#[derive(Debug, Clone)]
enum Mutation {
    DropLine,
    RepeatLine,
    SwapLines,
    Truncate,
    Insert(&'static str),
    Outdent,
}

const FRAGMENTS: &[&str] = &[
    "(",
    "\"\"\"",
    " else ",
    "lambda:",
    "*",
    "[",
    "\n    return\n",
    "yield ",
    "async ",
    "{",
    ":=",
    "\\",
    "\u{e9}",
    "\0",
    "@",
];

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

fn mutate(program: &str, mutation: &Mutation, place: usize) -> String {
    let mut lines: Vec<&str> = program.lines().collect();
    if lines.is_empty() {
        return program.to_owned();
    }
    let at = place % lines.len();
    match mutation {
        Mutation::DropLine => drop(lines.remove(at)),
        Mutation::RepeatLine => lines.insert(at, lines[at]),
        Mutation::SwapLines => lines.swap(at, place / 7 % program.lines().count()),
        Mutation::Outdent => lines[at] = lines[at].trim_start(),
        Mutation::Truncate | Mutation::Insert(_) => {
            let mut end = place % (program.len() + 1);
            while !program.is_char_boundary(end) {
                end -= 1;
            }
            return match mutation {
                Mutation::Insert(fragment) => format!("{}{fragment}{}", &program[..end], &program[end..]),
                _ => program[..end].to_owned(),
            };
        }
    }
    lines.join("\n")
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
