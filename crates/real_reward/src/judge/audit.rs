//! What silences or deceives a type checker, as errors of its own.
//!
//! A checker believes the program: a suppressing comment, `@no_type_check`, code under `if not TYPE_CHECKING:`, a function made by `exec`
//! or put into `globals()` are all fine with it. A trusted script looks for these in the syntax tree. It runs in the sandbox, as parsing
//! a hostile program may exhaust the interpreter's stack.

use real_sandbox::{Action, Ending, Job, Value};

use super::tests::limits;
use crate::runner::Runner;
use crate::{Error, RewardConfig, Task, TypeError};

const SCRIPT: &str = include_str!("audit.py");
const FILE: &str = "program.py";

/// What is hidden from the type checker.
pub(crate) fn judge(
    runner: &Runner,
    config: &RewardConfig,
    task: &Task,
    program: &str,
) -> Result<Vec<TypeError>, Error> {
    let entry_point = task.entry_point.as_deref().unwrap_or("");
    let job = Job {
        prelude: String::new(),
        program: SCRIPT.to_owned(),
        files: vec![(FILE.to_owned(), program.as_bytes().to_vec())],
        action: Action::Evaluate { expression: format!("audit({FILE:?}, {entry_point:?})") },
        collect: Vec::new(),
        limits: limits(config),
    };
    Ok(match runner.run(&job)?.ending {
        Ending::Returned(Value::List(rows)) => rows.into_iter().filter_map(error).collect(),
        ending => vec![TypeError {
            line: 1,
            column: 1,
            code: "real-unreadable".to_owned(),
            message: format!("the program could not be examined: {ending:?}"),
        }],
    })
}

fn error(row: Value) -> Option<TypeError> {
    let Value::List(row) = row else { return None };
    let Ok([Value::Int(line), Value::Int(column), Value::Str(code), Value::Str(message)]) =
        <[Value; 4]>::try_from(row)
    else {
        return None;
    };
    Some(TypeError { line: line.parse().ok()?, column: column.parse().ok()?, code, message })
}
