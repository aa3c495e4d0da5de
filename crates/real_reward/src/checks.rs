//! Bare tests of a program, outside of any task: assertions, and inputs with their outputs, as other engines send them.
//!
//! An assertion such as `assert add(1, 2) == 3` holds the secret that a program must not see. It is taken apart first, by a trusted job of
//! its own (`checks/split.py`): `add(1, 2)` is evaluated beside the program, and the value that comes back is compared with `3` here. What has no
//! literal to compare with (`assert isclose(f(1), g(2))`) is evaluated as a whole beside the program, which a hostile one can forge.
//!
//! Equality is that of tests from JSON: `2` and `2.0` are equal, and so are `[1]` and `(1,)`.

use std::time::Duration;

use real_sandbox::{Action, Ending, Job, Limits, Outcome, Value};

use crate::compare::{Origin, equal};
use crate::judge::tests::{lines, surroundings};
use crate::{Error, Scorer};

/// The result of one bare test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// It holds.
    pub passed: bool,
    /// Wall-clock time.
    pub wall: Duration,
}

impl Scorer {
    /// Runs a job in the sandbox, waiting for a worker first. May be called from many threads at once.
    pub fn run(&self, job: &Job) -> Result<Outcome, Error> {
        self.runner().run(job)
    }

    /// Whether each of the assertions holds for the program, each in a process of its own.
    pub fn check_assertions(
        &self,
        program: &str,
        assertions: &[String],
        limits: &Limits,
    ) -> Result<Vec<Check>, Error> {
        let claims = self.split(assertions)?;
        let check = |(expression, expected): &(String, Value)| {
            let action = Action::Evaluate { expression: expression.clone() };
            let outcome = self.run(&bare(program, action, limits))?;
            let passed = match &outcome.ending {
                Ending::Returned(value) => equal(expected, value, Origin::Json),
                _ => false,
            };
            Ok(Check { passed, wall: outcome.wall })
        };
        self.runner().parallel(&claims, check).into_iter().collect()
    }

    /// Whether the program, as a script, prints each output for its input; blanks at the ends of lines don't matter.
    pub fn check_outputs(
        &self,
        program: &str,
        cases: &[(String, String)],
        limits: &Limits,
    ) -> Result<Vec<Check>, Error> {
        let check = |(input, output): &(String, String)| {
            let action = Action::Script { stdin: input.clone().into_bytes() };
            let outcome = self.run(&bare(program, action, limits))?;
            let ended = matches!(outcome.ending, Ending::Finished | Ending::Exited(_));
            let passed = ended && lines(output) == lines(&String::from_utf8_lossy(&outcome.stdout));
            Ok(Check { passed, wall: outcome.wall })
        };
        self.runner().parallel(cases, check).into_iter().collect()
    }

    /// The expression of each assertion, and the value that it must have.
    fn split(&self, assertions: &[String]) -> Result<Vec<(String, Value)>, Error> {
        let texts = assertions.iter().map(|text| Value::Str(text.clone())).collect();
        let action = Action::Call {
            entry_point: "split".to_owned(),
            args: vec![Value::List(texts)],
            kwargs: Vec::new(),
        };
        let broken = |what: String| Error::Sandbox(format!("assertions could not be read: {what}"));
        match self.run(&bare("from _real_split import split\n", action, &Limits::default()))?.ending {
            Ending::Returned(Value::List(claims)) if claims.len() == assertions.len() => claims
                .into_iter()
                .map(|claim| match claim {
                    Value::Tuple(parts) => match <[Value; 2]>::try_from(parts) {
                        Ok([Value::Str(expression), expected]) => Ok((expression, expected)),
                        other => Err(broken(format!("{other:?}"))),
                    },
                    other => Err(broken(format!("{other:?}"))),
                })
                .collect(),
            other => Err(broken(format!("{other:?}"))),
        }
    }
}

fn bare(program: &str, action: Action, limits: &Limits) -> Job {
    Job {
        prelude: surroundings("", &action, ""),
        program: program.to_owned(),
        files: Vec::new(),
        action,
        collect: Vec::new(),
        limits: limits.clone(),
    }
}
