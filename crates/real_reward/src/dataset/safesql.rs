//! SafeSQL: scripts that ask for input and query a `SQLite` database.
//!
//! The database is built by a trusted script of the row, and each test has a copy of its own. A test feeds lines to the program and compares
//! what it prints; the two examples that the prompt shows are not among the tests.
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
    let case = |recorded: Recorded| StdioCase {
        stdin: recorded.input,
        expect: StdioExpected::Prints(recorded.output),
    };
    Ok(Task {
        id: row.program_id,
        benchmark: "safesql".to_owned(),
        messages: row.prompt,
        entry_point: None,
        prelude: String::new(),
        files: vec![FileSpec::Built { name, script: row.construct_db }],
        tests: Tests::Stdio { cases: row.extra_info.test_info.into_iter().map(case).collect() },
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

#[cfg(test)]
mod tests {
    use super::database_name;

    #[test]
    fn the_database_is_named_by_the_script_that_builds_it() {
        assert_eq!(database_name("c = sqlite3.connect( 'shop.db')").as_deref(), Some("shop.db"));
        assert_eq!(database_name("sqlite3.connect(\"shop.db\", timeout=3)").as_deref(), Some("shop.db"));
        assert_eq!(database_name("sqlite3.connect(name)"), None);
        assert_eq!(database_name("sqlite3.connect('/etc/shop.db')"), None);
    }
}
