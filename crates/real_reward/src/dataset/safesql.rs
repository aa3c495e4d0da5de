//! SafeSQL: scripts that ask for input and query a SQLite database.
//!
//! The database is built by a trusted script of the row, and each test has a copy of its own. A test feeds lines to the program and compares
//! what it prints; the two examples that the prompt shows are not among the tests. Prompts of `input("…")` are no part of an output. Four rows
//! were recorded with them, so they are taken out there.
//!
//! The rows list attack inputs without saying what must happen. They become no tests here: what a script prints for a hostile
//! input is no verdict. Whether an attack succeeds is seen in the queries that reach the database, which nothing records yet.

use std::path::Path;

use serde::Deserialize;

use super::{Split, parquet_rows};
use crate::{Error, FileSpec, Message, StdioCase, StdioExpected, Task, Tests};

#[derive(Deserialize)]
struct Row {
    program_id: String,
    construct_db: String,
    execute_sql: String,
    prompt: Vec<Message>,
    extra_info: ExtraInfo,
}

#[derive(Deserialize)]
struct ExtraInfo {
    test_info: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    input: String,
    output: String,
}

pub(super) fn load(path: &Path, split: Split) -> Result<Vec<Task>, Error> {
    parquet_rows::read::<Row>(path)?.into_iter().map(|row| task(row, path, split)).collect()
}

fn task(row: Row, path: &Path, split: Split) -> Result<Task, Error> {
    let name = database_name(&row.construct_db).ok_or_else(|| Error::Layout {
        path: path.to_owned(),
        reason: format!("{}: construct_db connects to no database file", row.program_id),
    })?;
    let prompts = prompts(&row.execute_sql);
    let case = |recorded: Recorded| {
        let without = |output: String, prompt: &&str| output.replace(*prompt, "");
        let output = prompts.iter().fold(recorded.output, without);
        StdioCase { stdin: recorded.input, expect: StdioExpected::Prints(output) }
    };
    let cases = row.extra_info.test_info.into_iter().map(case).collect();
    Ok(Task {
        id: row.program_id,
        benchmark: "safesql".to_owned(),
        messages: row.prompt,
        entry_point: None,
        prelude: String::new(),
        files: vec![FileSpec::Built { name, script: row.construct_db }],
        tests: Tests::Stdio { cases },
        attacks: Tests::default(),
        contract: None,
        cwe: vec!["CWE-89".to_owned()],
        reference: Some(row.execute_sql),
        solutions: Vec::new(),
        labels: [("split".to_owned(), split.to_string())].into(),
    })
}

/// The literal in the first `connect('…')`.
fn database_name(script: &str) -> Option<String> {
    let argument = script.split_once("connect(")?.1.trim_start();
    let quote = argument.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let name = argument[1..].split_once(quote)?.0;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

/// The literals in `input("…")` that occur nowhere else in the script: where such a text is printed, `input` printed it.
fn prompts(script: &str) -> Vec<&str> {
    let literal = |call: &'_ str| -> Option<std::ops::Range<usize>> {
        let quote = call.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let end = call[1..].find(quote)?;
        Some(1..end + 1)
    };
    script
        .match_indices("input(")
        .filter_map(|(at, name)| {
            let call = &script[at + name.len()..];
            Some(&call[literal(call)?])
        })
        .filter(|prompt| prompt.len() >= 8 && !prompt.contains('\\') && script.matches(prompt).count() == 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{database_name, prompts};

    #[test]
    fn a_prompt_is_a_text_that_only_input_prints() {
        assert_eq!(
            prompts("a = input('Enter a name: ')\nb = input(\"Enter a city: \")"),
            ["Enter a name: ", "Enter a city: "]
        );
        assert!(prompts("a = input('Enter a name: ')\nprint('Enter a name: ', a)").is_empty());
        assert!(prompts("a = input()\nb = input(f'Enter {a} now: ')\nc = input('> ')").is_empty());
    }

    #[test]
    fn the_database_is_named_by_the_script_that_builds_it() {
        assert_eq!(database_name("c = sqlite3.connect( 'shop.db')").as_deref(), Some("shop.db"));
        assert_eq!(database_name("sqlite3.connect(\"shop.db\", timeout=3)").as_deref(), Some("shop.db"));
        assert_eq!(database_name("sqlite3.connect(name)"), None);
        assert_eq!(database_name("sqlite3.connect('/etc/shop.db')"), None);
    }
}
