//! Programs to change, and changes.

use std::path::Path;

/// Every Python block of the specification.
pub(crate) fn programs() -> Vec<String> {
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

/// What a random change does to a program, at a place between 0 and 1.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    /// Leaves a line out.
    DropLine,
    /// Writes a line twice.
    RepeatLine,
    /// Exchanges two lines.
    SwapLines,
    /// Drops everything after the place.
    Truncate,
    /// Puts a fragment between two characters.
    Insert(&'static str),
    /// Moves a line to the margin.
    Outdent,
}

/// Texts that make a parser's life hard.
pub(crate) const FRAGMENTS: &[&str] = &[
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

/// The program, changed at a place that a number of any size names.
pub(crate) fn mutate(program: &str, mutation: &Mutation, place: usize) -> String {
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
