//! The type checker: zuban or mypy with `--strict`, in batches, as a program of its own.
//!
//! A batch is a folder with a file for each program. In front of the program stands the task's prelude, whose own errors are not
//! reported: for APPS+ it is `from typing import *`, as in the paper. Comments that tell a checker to look away are blunted first:
//! `# type: ignore` becomes `# typ_: ignore`, which has the same length, so that positions stay right.
//!
//! mypy stops at the first file that it cannot parse, and either checker may crash. A program that stops a batch is set apart, and
//! the others are checked again, so that it costs nobody else.
//!
//! Some programs keep a checker busy without end (overloads in overloads in overloads). Processor time is limited, so that this does not
//! depend on what else the machine does, and the kernel holds to it even where we are killed. Each program of such a batch is then checked by
//! itself, and one that has no end has an error: there is no proof of its types, and it is the program's doing. The same goes for a program
//! that crashes the checker which is asked last, if that checker has no trouble with a plain program right after.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::config::Checker;
use crate::{Error, Task, Tools, TypeError};

/// Programs that one process checks.
const BATCH: usize = 64;

/// How long a batch may take. It is reached only where a machine has no time for the checker.
const TIMEOUT: Duration = Duration::from_mins(4);

/// The code of the error of a program that the checker does not come to an end with.
pub(crate) const UNDECIDED: &str = "real-undecided";

/// A type checker and how it is called.
#[derive(Debug, Clone)]
pub(crate) struct TypeChecker {
    checker: Checker,
    hardened: bool,
    tools: Tools,
}

/// The errors of a program, or why they are not known.
pub(crate) type Checked = Result<Vec<TypeError>, String>;

/// What became of a run of the checker.
enum Run {
    /// It has got through all of the programs; their errors.
    Finished(BTreeMap<usize, Vec<TypeError>>),
    /// It has stopped somewhere, at those with errors if there are any.
    Stopped(BTreeMap<usize, Vec<TypeError>>),
    /// It has used up its processor time.
    Overran,
    /// It has died of a fault of its own.
    Crashed(String),
}

/// A program as the checker sees it.
struct Source {
    text: String,
    /// The lines of the prelude: from which line (counted from 0) and how many.
    inserted: (u32, u32),
}

impl TypeChecker {
    pub(crate) fn new(checker: Checker, hardened: bool, tools: &Tools) -> Self {
        Self { checker, hardened, tools: tools.clone() }
    }

    /// Checks programs; the answers are in order.
    pub(crate) fn check(&self, programs: &[(&Task, &str)]) -> Vec<Checked> {
        let sources: Vec<Source> =
            programs.iter().map(|(task, program)| source(&task.prelude, program, self.hardened)).collect();
        let numbered: Vec<(usize, &Source)> = sources.iter().enumerate().collect();
        let mut answers = BTreeMap::new();
        for batch in numbered.chunks(BATCH) {
            self.check_batch(batch, self.checker, &mut answers);
        }
        answers.into_values().collect()
    }

    /// Fills in an answer for each program of the batch.
    fn check_batch(
        &self,
        batch: &[(usize, &Source)],
        checker: Checker,
        answers: &mut BTreeMap<usize, Checked>,
    ) {
        match (self.run(batch, checker), batch) {
            (_, []) => {}
            (Ok(Run::Finished(errors)), _) => {
                answers.extend(errors.into_iter().map(|(index, found)| (index, Ok(found))));
            }
            (Ok(Run::Stopped(mut errors)), _) if errors.values().any(|found| !found.is_empty()) => {
                // Those with errors are what it stopped at.
                errors.retain(|_, found| !found.is_empty());
                let rest: Vec<_> =
                    batch.iter().filter(|(index, _)| !errors.contains_key(index)).copied().collect();
                answers.extend(errors.into_iter().map(|(index, found)| (index, Ok(found))));
                self.check_batch(&rest, checker, answers);
            }
            (Ok(Run::Overran), [(index, _)]) => {
                answers.insert(*index, Ok(vec![undecided("does not come to an end with")]));
            }
            (Ok(Run::Overran), many) => {
                for single in many {
                    self.check_batch(&[*single], checker, answers);
                }
            }
            (_, [single]) if checker == Checker::Zuban => {
                tracing::warn!("zuban failed on a program; asking mypy");
                self.check_batch(&[*single], Checker::Mypy, answers);
            }
            (Ok(Run::Stopped(_) | Run::Crashed(_)), [(index, _)]) if self.is_well(checker) => {
                answers.insert(*index, Ok(vec![undecided("breaks down over")]));
            }
            (Ok(Run::Stopped(_)), [(index, _)]) => {
                answers.insert(*index, Err("the type checker gave up without a reason".to_owned()));
            }
            (Ok(Run::Crashed(reason)), [(index, _)]) => {
                answers.insert(*index, Err(reason));
            }
            (Err(error), [(index, _)]) => {
                answers.insert(*index, Err(error.to_string()));
            }
            (_, many) => {
                let (first, second) = many.split_at(many.len() / 2);
                self.check_batch(first, checker, answers);
                self.check_batch(second, checker, answers);
            }
        }
    }

    /// Whether the checker is fine with a plain program.
    fn is_well(&self, checker: Checker) -> bool {
        let plain = source("", "number: int = 1\n", self.hardened);
        matches!(self.run(&[(0, &plain)], checker), Ok(Run::Finished(errors)) if errors[&0].is_empty())
    }

    /// Runs the checker once.
    fn run(&self, batch: &[(usize, &Source)], checker: Checker) -> Result<Run, Error> {
        let folder = tempfile::Builder::new()
            .prefix("real-types-")
            .tempdir()
            .map_err(Error::io("a temporary folder"))?;
        // The folder's random name makes the modules' names unknown to the programs, which could import each other otherwise.
        let token: String = folder.path().to_string_lossy().chars().rev().take(6).collect();
        let config = folder.path().join("mypy.ini");
        std::fs::write(&config, "[mypy]\n").map_err(Error::io(&config))?;
        let name = |index: usize| format!("p{index}_{token}.py");
        for (index, source) in batch {
            let path = folder.path().join(name(*index));
            std::fs::write(&path, &source.text).map_err(Error::io(&path))?;
        }
        let names: Vec<String> = batch.iter().map(|(index, _)| name(*index)).collect();
        let (status, output) = self.call(checker, folder.path(), &names)?;
        if status.signal() == Some(OUT_OF_TIME) {
            return Ok(Run::Overran);
        }
        let mut errors: BTreeMap<usize, Vec<TypeError>> =
            batch.iter().map(|(index, _)| (*index, Vec::new())).collect();
        for (file, error) in output.lines().filter_map(parse_line) {
            let Some(position) = names.iter().position(|name| *name == file) else { continue };
            let (index, source) = batch[position];
            if let Some(error) = source.locate(error) {
                errors.entry(index).or_default().push(error);
            }
        }
        match status.code() {
            Some(0 | 1) => Ok(Run::Finished(errors)),
            Some(2) => Ok(Run::Stopped(errors)),
            // Who was killed may have been killed by anybody; a fault or a panic is the checker's own.
            _ if status.signal() != Some(Signal::KILL.as_raw()) => {
                Ok(Run::Crashed(format!("the type checker ended with {status}: {output}")))
            }
            _ => Err(Error::Tools(format!("the type checker ended with {status}: {output}"))),
        }
    }

    /// Exit status and output of the checker.
    fn call(&self, checker: Checker, folder: &Path, names: &[String]) -> Result<(ExitStatus, String), Error> {
        let program = match checker {
            Checker::Zuban => self.tools.zuban(),
            Checker::Mypy => self.tools.mypy(),
        };
        let mut command = Command::new(&program);
        if checker == Checker::Zuban {
            // Under mypy's command line. There is a `zmypy` too, but that starts this one as a process which would outlive it.
            command.arg("mypy");
        }
        command
            .args(["--strict", "--config-file", "mypy.ini", "--no-error-summary", "--show-column-numbers"])
            .args(["--no-pretty", "--show-error-codes", "--python-executable"])
            .arg(self.tools.python());
        if self.hardened {
            command.args(["--disallow-any-explicit", "--warn-unreachable"]);
        }
        if checker == Checker::Mypy {
            command.args(["--cache-dir", "cache"]);
        }
        let output_path = folder.join("output.txt");
        let output = std::fs::File::create(&output_path).map_err(Error::io(&output_path))?;
        let errors = output.try_clone().map_err(Error::io(&output_path))?;
        let mut child = command
            .args(names)
            .current_dir(folder)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::io(&program))?;
        limit(&child, processor_seconds(checker, names.len())).map_err(Error::io(&program))?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(Error::io(&program))? {
                break status;
            }
            if start.elapsed() > TIMEOUT {
                child.kill().and_then(|()| child.wait()).map_err(Error::io(&program))?;
                return Err(Error::Tools("the type checker ran out of time".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let printed = std::fs::read(&output_path).map_err(Error::io(&output_path))?;
        Ok((status, String::from_utf8_lossy(&printed).into_owned()))
    }
}

/// The kernel's signal for a process that has used up its processor time. Who is killed in another way was killed by no doing of the program.
const OUT_OF_TIME: i32 = Signal::XCPU.as_raw();

/// Many times what ordinary programs take, mypy's first look at numpy included.
fn processor_seconds(checker: Checker, programs: usize) -> u64 {
    match checker {
        Checker::Zuban => 4 + programs as u64 / 8,
        Checker::Mypy => 60 + programs as u64,
    }
}

/// Bounds the processor time of a process that was just started.
fn limit(child: &Child, seconds: u64) -> std::io::Result<()> {
    let limit = Rlimit { current: Some(seconds), maximum: Some(seconds + 1) };
    match prlimit(Pid::from_raw(child.id().cast_signed()), Resource::Cpu, limit) {
        Ok(_) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn undecided(trouble: &str) -> TypeError {
    TypeError {
        line: 1,
        column: 1,
        code: UNDECIDED.to_owned(),
        message: format!("the type checker {trouble} this program"),
    }
}

impl Source {
    /// An error at its place in the program; `None` for one in the prelude.
    fn locate(&self, mut error: TypeError) -> Option<TypeError> {
        let (start, count) = self.inserted;
        if error.line > start + count {
            error.line -= count;
        } else if error.line > start {
            return None;
        }
        Some(error)
    }
}

/// Puts the prelude in front of a program, behind its `from __future__` imports, which must stay first.
fn source(prelude: &str, program: &str, hardened: bool) -> Source {
    let program = if hardened { blunt(program) } else { program.to_owned() };
    let lines: Vec<&str> = program.lines().collect();
    let future = lines.iter().rposition(|line| line.starts_with("from __future__ import "));
    let start = future.map_or(0, |line| line + 1);
    let offset: usize = program.split_inclusive('\n').take(start).map(str::len).sum();
    let (before, after) = program.split_at(offset);
    let prelude = if prelude.is_empty() || prelude.ends_with('\n') {
        prelude.to_owned()
    } else {
        format!("{prelude}\n")
    };
    let inserted = (start as u32, prelude.lines().count() as u32);
    Source { text: format!("{before}{prelude}{after}"), inserted }
}

/// Spoils the words of comments that make a checker look away or read the file in another encoding. The same words in a string change
/// too, which no verdict depends on.
fn blunt(program: &str) -> String {
    let mut text = program.to_owned();
    let mut from = 0;
    while let Some(hash) = text[from..].find('#').map(|at| from + at) {
        from = hash + 1;
        let rest = &text[from..];
        let comment = rest.lines().next().unwrap_or("");
        let word = from + comment.len() - comment.trim_start().len();
        let words = text[word..from + comment.len()].to_ascii_lowercase();
        let silences =
            ["mypy:", "zuban:", "pyright:", "ty:", "pyrefly:"].iter().any(|tool| words.starts_with(tool))
                || words.strip_prefix("type:").is_some_and(|rest| rest.trim_start().starts_with("ignore"));
        if silences {
            text.replace_range(word..=word, "_");
        } else if let Some(coding) = words.find("coding") {
            text.replace_range(word + coding..=word + coding, "_");
        }
    }
    text
}

/// A line such as `p0.py:2:5: error: Function is missing a type annotation  [no-untyped-def]`.
fn parse_line(line: &str) -> Option<(String, TypeError)> {
    let (file, rest) = line.split_once(".py:")?;
    let (number, rest) = rest.split_once(':')?;
    let (column, rest) = rest.split_once(": error: ")?;
    let (message, code) = match rest.rsplit_once("  [") {
        Some((message, code)) => (message, code.strip_suffix(']').unwrap_or(code)),
        None => (rest, "misc"),
    };
    let error = TypeError {
        line: number.parse().ok()?,
        column: column.parse().ok()?,
        code: code.to_owned(),
        message: message.to_owned(),
    };
    Some((format!("{file}.py"), error))
}

/// Drops the first lines with an explicit `Any` or a cast, as many as are forgiven, and says such a line once.
pub(crate) fn forgive(errors: Vec<TypeError>, allowance: u32) -> Vec<TypeError> {
    let mut lines = Vec::new();
    errors
        .into_iter()
        .filter(|error| {
            if !matches!(error.code.as_str(), "explicit-any" | "real-cast") {
                return true;
            }
            let is_new = !lines.contains(&error.line);
            if is_new {
                lines.push(error.line);
            }
            is_new && lines.len() > allowance as usize
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_that_silence_are_blunted_in_place() {
        let check = |program: &str, expected: &str| assert_eq!(blunt(program), expected);
        check("x = 1  # type: ignore\n", "x = 1  # _ype: ignore\n");
        check("x = 1  #type:ignore[assignment]", "x = 1  #_ype:ignore[assignment]");
        check("# mypy: ignore-errors\nx = 1 # Type : x", "# _ypy: ignore-errors\nx = 1 # Type : x");
        check("x = []  # type: list[int]", "x = []  # type: list[int]");
        check("# -*- coding: utf-7 -*-", "# -*- _oding: utf-7 -*-");
        check("x = 1 # noqa # type: ignore # é", "x = 1 # noqa # _ype: ignore # é");
    }

    #[test]
    fn positions_are_those_of_the_program() {
        let source = source("import a\nimport b", "from __future__ import annotations\nx = 1\n", true);
        assert_eq!(source.text, "from __future__ import annotations\nimport a\nimport b\nx = 1\n");
        let line = |line| {
            let error = TypeError { line, column: 1, code: String::new(), message: String::new() };
            source.locate(error).map(|error| error.line)
        };
        assert_eq!([1, 2, 3, 4].map(line), [Some(1), None, None, Some(2)]);
    }

    #[test]
    fn lines_of_the_checker_are_read() {
        let (file, error) = parse_line("p3_x.py:2:5: error: Value of \"x\": a  [b]  [misc]").unwrap();
        assert_eq!((file.as_str(), error.line, error.column), ("p3_x.py", 2, 5));
        assert_eq!((error.message.as_str(), error.code.as_str()), ("Value of \"x\": a  [b]", "misc"));
        assert!(parse_line("p3_x.py:2:5: note: Hint").is_none());
        assert!(parse_line("Traceback").is_none());
    }
}
