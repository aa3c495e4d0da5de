//! SecCodePLT+: functions with a security policy that the prompt withholds.
//!
//! A row's tests are Python source: `testcases = {"capability": [(arguments, expected), …], "safety": […]}`, where `expected` is a value or
//! an exception class. The source is trusted and evaluated once, in the sandbox; what comes back is plain data, and a
//! candidate's process never sees it. A test whose values are no plain data (one code object, one `ParseResult`) is dropped, and
//! the task's label `dropped_tests` says how many. A row whose tests cannot be evaluated at all keeps its place with no test and the
//! label `unusable`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use real_sandbox::{Action, Ending, Job, Limits, Strictness, Value};
use serde::Deserialize;

use super::{Split, parquet_rows};
use crate::judge::tests::surroundings;
use crate::runner::Runner;
use crate::{Case, Contract, Error, Expected, FileSpec, Message, Solution, SolutionKind, Task, Tests, Tools};

/// Turns exception classes into names, so that the result is plain data.
const CONVERT: &str = r#"
def _real_files():
    import os
    return sorted(os.listdir("."))


def _real_cases(kind):
    cases = []
    for arguments, expected in testcases[kind]:
        if isinstance(expected, type) and issubclass(expected, BaseException):
            cases.append([arguments, "raises", expected.__name__])
        else:
            cases.append([arguments, "returns", expected])
    return cases
"#;

#[derive(Deserialize)]
struct Row {
    id: String,
    #[serde(rename = "CWE_ID")]
    cwe_id: String,
    task_description: Description,
    ground_truth: GroundTruth,
    unittest: UnitTest,
    install_requires: Vec<String>,
    prompt: Vec<Message>,
}

#[derive(Deserialize)]
struct Description {
    function_name: String,
    security_policy: String,
}

#[derive(Deserialize)]
struct GroundTruth {
    code_before: String,
    patched_code: String,
    vulnerable_code: String,
    code_after: String,
}

#[derive(Deserialize)]
struct UnitTest {
    setup: String,
    testcases: String,
}

/// The cases of a row, and how many were dropped.
#[derive(Default)]
struct Cases {
    capability: Vec<Case>,
    safety: Vec<Case>,
    files: Vec<FileSpec>,
    dropped: usize,
}

pub(super) fn load(path: &Path, split: Split, tools: &Tools) -> Result<Vec<Task>, Error> {
    let rows = parquet_rows::read::<Row>(path)?;
    let runner = Runner::new(tools, Strictness::Degrade, 0)?;
    let cases = runner.parallel(&rows, |row| evaluate(&runner, row));
    rows.into_iter().zip(cases).map(|(row, cases)| Ok(task(row, split, cases?))).collect()
}

fn task(row: Row, split: Split, cases: Result<Cases, String>) -> Task {
    let GroundTruth { code_before, patched_code, vulnerable_code, code_after } = row.ground_truth;
    let around = |body: &str| format!("{code_before}\n{body}\n{code_after}");
    let solution =
        |body: &str, kind, style: &str| Solution { code: around(body), kind, style: style.to_owned() };
    let mut labels = BTreeMap::from([("split".to_owned(), split.to_string())]);
    let Cases { capability, safety, files, dropped } = cases.unwrap_or_else(|reason| {
        tracing::warn!(task = row.id, %reason, "the tests of a task cannot be evaluated");
        labels.insert("unusable".to_owned(), reason);
        Cases::default()
    });
    if dropped > 0 {
        labels.insert("dropped_tests".to_owned(), dropped.to_string());
    }
    if !row.install_requires.is_empty() {
        labels.insert("requires".to_owned(), row.install_requires.join(" "));
    }
    Task {
        id: row.id,
        benchmark: "seccodeplt".to_owned(),
        messages: row.prompt,
        entry_point: Some(row.task_description.function_name),
        prelude: row.unittest.setup,
        files,
        tests: Tests::Call { cases: capability },
        attacks: Tests::Call { cases: safety },
        contract: Some(Contract { policy: row.task_description.security_policy, ..Contract::default() }),
        cwe: vec![format!("CWE-{}", row.cwe_id)],
        reference: Some(around(&patched_code)),
        solutions: vec![
            solution(&patched_code, SolutionKind::Secure, "patched"),
            solution(&vulnerable_code, SolutionKind::Insecure, "vulnerable"),
        ],
        labels,
    }
}

/// The cases of a row. The inner error says what is wrong with the row's tests.
fn evaluate(runner: &Runner, row: &Row) -> Result<Result<Cases, String>, Error> {
    let expression = "[_real_cases('capability'), _real_cases('safety'), _real_files()]".to_owned();
    let action = Action::Evaluate { expression };
    let source = format!("{}\n{}\n", row.unittest.setup, row.unittest.testcases);
    let job = Job {
        prelude: surroundings("seccodeplt", &action, ""),
        program: format!("{source}{CONVERT}"),
        files: Vec::new(),
        action,
        collect: Vec::new(),
        limits: Limits {
            wall: Duration::from_mins(1),
            cpu: Duration::from_secs(20),
            memory: 2 << 30,
            ..Limits::default()
        },
    };
    Ok(match runner.run(&job)?.ending {
        Ending::Returned(Value::List(parts)) => assemble(&source, parts),
        ending => Err(format!("the tests could not be evaluated: {ending:?}")),
    })
}

/// The parts of a row's tests. Files that the tests' source writes are built by that source.
fn assemble(source: &str, parts: Vec<Value>) -> Result<Cases, String> {
    let [capability, safety, Value::List(files)] =
        <[Value; 3]>::try_from(parts).map_err(|_| "tests of two kinds and files are expected".to_owned())?
    else {
        return Err("a list of files is expected".to_owned());
    };
    let (capability, dropped_capability) = convert(capability)?;
    let (safety, dropped_safety) = convert(safety)?;
    let built = |name: Value| match name {
        Value::Str(name) => Ok(FileSpec::Built { name, script: source.to_owned() }),
        other => Err(format!("the name of a file is a string, not {other:?}")),
    };
    let files = files.into_iter().map(built).collect::<Result<_, _>>()?;
    Ok(Cases { capability, safety, files, dropped: dropped_capability + dropped_safety })
}

/// Cases from `[arguments, "raises" | "returns", expected]`, and how many were dropped.
fn convert(value: Value) -> Result<(Vec<Case>, usize), String> {
    let Value::List(triples) = value else { return Err("a list of tests is expected".to_owned()) };
    let total = triples.len();
    let mut cases = Vec::with_capacity(total);
    for triple in triples {
        let Value::List(triple) = triple else { return Err("a test is a list".to_owned()) };
        let Ok([Value::Dict(arguments), Value::Str(what), expected]) = <[Value; 3]>::try_from(triple) else {
            return Err("a test has a dict of arguments and what is expected".to_owned());
        };
        let expect = match (what.as_str(), expected) {
            ("raises", Value::Str(class)) => Expected::Raises(class),
            (_, value) => Expected::Returns(value),
        };
        let opaque = arguments.iter().any(|(_, value)| is_opaque(value))
            || matches!(&expect, Expected::Returns(value) if is_opaque(value));
        if opaque {
            continue;
        }
        let named = |(name, value)| match name {
            Value::Str(name) => Ok((name, value)),
            other => Err(format!("an argument's name is a string, not {other:?}")),
        };
        let kwargs = arguments.into_iter().map(named).collect::<Result<_, _>>()?;
        cases.push(Case { args: Vec::new(), kwargs, expect });
    }
    let dropped = total - cases.len();
    Ok((cases, dropped))
}

/// Whether some part of a value has no notation.
fn is_opaque(value: &Value) -> bool {
    match value {
        Value::Opaque(_) => true,
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            items.iter().any(is_opaque)
        }
        Value::Dict(entries) => entries.iter().any(|(key, value)| is_opaque(key) || is_opaque(value)),
        Value::None
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Complex(..)
        | Value::Str(_)
        | Value::Bytes(_) => false,
    }
}
