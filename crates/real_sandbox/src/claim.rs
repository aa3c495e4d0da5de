//! What a job says about itself, read with suspicion.
//!
//! The result pipe carries the letter `R`, written by the runner just before the program under study gets control, and then one
//! JSON document, written by the runner just after. Whoever finds the pipe can write to it, so the rules leave nothing to gain:
//!
//! - No `R`: the program has never run. What the pipe holds is a failure of ours, and nothing that a program does can fake it.
//! - Anything but exactly one well-formed document after it, or an exit status other than 0: there is no claim, and the way the
//!   process ended is what counts. `R{"returned":1}{"returned":2}` with status 0 is an exit before the report.
//! - A well-formed claim says what was returned or raised. A program that forges one might as well have returned that value.

use serde::Deserialize;

use crate::{Ending, Resource, Value};

/// The most that a result pipe may carry, bytes.
pub(crate) const MAX_CLAIM: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Claim {
    Returned(Value),
    Finished,
    Raised { types: Vec<String>, message: String, at_import: bool },
    SyntaxError(String),
    EntryPointMissing,
}

/// How the job ended, from what it said and how its process ended. `Err` is a failure that came before the program.
pub(crate) fn ending(said: &[u8], wait_status: i32) -> Result<Ending, String> {
    let Some(claim) = said.strip_prefix(b"R") else {
        return Err(format!(
            "the job failed before its program ran (wait status {wait_status}): {}",
            String::from_utf8_lossy(said)
        ));
    };
    if libc::WIFSIGNALED(wait_status) {
        return Ok(Ending::Signaled(libc::WTERMSIG(wait_status)));
    }
    let code = libc::WEXITSTATUS(wait_status);
    if code != 0 {
        return Ok(Ending::Exited(code));
    }
    Ok(serde_json::from_slice::<Claim>(claim).map_or(Ending::Exited(0), Claim::into_ending))
}

impl Claim {
    fn into_ending(self) -> Ending {
        match self {
            Self::Returned(value) => Ending::Returned(value),
            Self::Finished => Ending::Finished,
            Self::Raised { types, .. } if types.first().is_some_and(|name| name == "MemoryError") => {
                Ending::Exceeded(Resource::Memory)
            }
            Self::Raised { types, message, at_import } => Ending::Raised { types, message, at_import },
            Self::SyntaxError(message) => Ending::SyntaxError { message },
            Self::EntryPointMissing => Ending::EntryPointMissing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ending;
    use crate::{Ending, Resource, Value};

    const KILLED: i32 = 9;
    const EXITED_3: i32 = 3 << 8;

    #[track_caller]
    fn check(said: &str, wait_status: i32, expected: &Ending) {
        assert_eq!(ending(said.as_bytes(), wait_status).as_ref(), Ok(expected), "{said}");
    }

    #[test]
    fn only_one_whole_claim_and_a_clean_exit_count() {
        let one = Ending::Returned(Value::Int("1".to_owned()));
        check(r#"R{"returned":1}"#, 0, &one);
        check(r#"R{"returned":1}"#, KILLED, &Ending::Signaled(9));
        check(r#"R{"returned":1}"#, EXITED_3, &Ending::Exited(3));
        check(r#"R{"returned":1}{"returned":2}"#, 0, &Ending::Exited(0));
        check(r#"RR{"returned":1}"#, 0, &Ending::Exited(0));
        check(r#"R{"returned":{"$int":"x"}}"#, 0, &Ending::Exited(0));
        check(r#"R{"returned":1e999}"#, 0, &Ending::Exited(0));
        check(r#"R{"passed":true}"#, 0, &Ending::Exited(0));
        check("R", 0, &Ending::Exited(0));
        check(&format!("R{}", "[".repeat(100_000)), 0, &Ending::Exited(0));
        check(
            r#"R{"raised":{"types":["MemoryError"],"message":"","at_import":true}}"#,
            0,
            &Ending::Exceeded(Resource::Memory),
        );
    }

    #[test]
    fn before_the_program_it_is_our_failure() {
        assert!(ending(b"OSError: no space", EXITED_3).is_err());
        assert!(ending(b"", KILLED).is_err());
    }
}
