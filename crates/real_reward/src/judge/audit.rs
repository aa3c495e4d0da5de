//! What silences or deceives a type checker, as errors of its own.
//!
//! A checker believes the program: a suppressing comment, `@no_type_check`, code under `if not TYPE_CHECKING:`, a function made by `exec`
//! or put into `globals()` are all fine with it. A trusted script looks for these in the syntax tree. It runs in the sandbox, as parsing
//! a hostile program may exhaust the interpreter's stack; that ends the job, and the programs of that job are then looked at one by one.

use real_sandbox::{Action, Ending, Job, Value};

use super::tests::limits;
use crate::runner::Runner;
use crate::{Error, RewardConfig, Task, TypeError};

/// What is hidden from the type checker, for each program.
pub(crate) fn judge(
    runner: &Runner,
    config: &RewardConfig,
    programs: &[(&Task, &str)],
) -> Vec<Result<Vec<TypeError>, Error>> {
    match (run(runner, config, programs), programs) {
        (_, []) => Vec::new(),
        (Err(error), [_]) => vec![Err(error)],
        (Ok(Ok(errors)), _) => errors.into_iter().map(Ok).collect(),
        (Ok(Err(ending)), [_]) => vec![Ok(vec![unreadable(&ending)])],
        _ => programs.iter().flat_map(|one| judge(runner, config, std::slice::from_ref(one))).collect(),
    }
}

/// One job for all of the programs; the inner error is how it ended without an answer.
fn run(
    runner: &Runner,
    config: &RewardConfig,
    programs: &[(&Task, &str)],
) -> Result<Result<Vec<Vec<TypeError>>, Ending>, Error> {
    let names: Vec<String> = (0..programs.len()).map(|index| format!("program_{index}.py")).collect();
    let entry = |(name, (task, _)): (&String, &(&Task, &str))| {
        let entry_point = task.entry_point.clone().unwrap_or_default();
        Value::List(vec![Value::Str(name.clone()), Value::Str(entry_point)])
    };
    let file = |(name, (_, program)): (&String, &(&Task, &str))| (name.clone(), program.as_bytes().to_vec());
    let job = Job {
        prelude: String::new(),
        program: "from _real_audit import audit_all\n".to_owned(),
        files: names.iter().zip(programs).map(file).collect(),
        action: Action::Call {
            entry_point: "audit_all".to_owned(),
            args: vec![Value::List(names.iter().zip(programs).map(entry).collect())],
            kwargs: Vec::new(),
        },
        collect: Vec::new(),
        limits: limits(config),
    };
    Ok(match runner.run(&job)?.ending {
        Ending::Returned(Value::List(answers)) if answers.len() == programs.len() => {
            Ok(answers.into_iter().map(errors).collect())
        }
        ending => Err(ending),
    })
}

fn errors(answer: Value) -> Vec<TypeError> {
    let Value::List(rows) = answer else { return Vec::new() };
    rows.into_iter().filter_map(error).collect()
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

fn unreadable(ending: &Ending) -> TypeError {
    TypeError {
        line: 1,
        column: 1,
        code: "real-unreadable".to_owned(),
        message: format!("the program could not be examined: {ending:?}"),
    }
}
