//! What to run, and what happened.

use std::time::Duration;

use serde::Serialize;

use crate::Value;

/// What to run, once, in a process of its own.
#[derive(Debug, Clone)]
pub struct Job {
    /// Trusted set-up, executed first in the globals that the program will see. Empty for none. If it fails, so does the job, as an
    /// outage of ours.
    pub prelude: String,
    /// The program under study, compiled as a unit of its own.
    pub program: String,
    /// Files placed in the (private, empty) working directory: name and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// What to do with the program.
    pub action: Action,
    /// Names of files in the working directory to hand back afterwards, where they exist.
    pub collect: Vec<String>,
    /// Hard limits.
    pub limits: Limits,
}

/// What to do with a program.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Execute the module, then call `entry_point` (`function` or `Class.method`; a class is instantiated without arguments).
    Call {
        /// Dotted name of the function.
        entry_point: String,
        /// Positional arguments.
        args: Vec<Value>,
        /// Keyword arguments.
        kwargs: Vec<(String, Value)>,
    },
    /// Execute the module as `__main__` with this standard input.
    Script {
        /// Bytes of standard input.
        #[serde(skip)]
        stdin: Vec<u8>,
    },
    /// Execute the module, then evaluate an expression in its globals. For trusted code only (test files of a data set).
    Evaluate {
        /// A Python expression.
        expression: String,
    },
}

/// Hard limits of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time.
    pub wall: Duration,
    /// CPU time.
    pub cpu: Duration,
    /// Address space that the program may add to what the warm interpreter holds, bytes. Per process.
    pub memory: u64,
    /// Processes and threads, the main one included.
    pub processes: u32,
    /// Bytes a file may have, and all files that the program adds to the working directory together.
    pub file_size: u64,
    /// Bytes of standard output and of standard error, each.
    pub output: usize,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How the job ended.
    pub ending: Ending,
    /// Standard output, at most `limits.output` bytes.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
    /// The files asked for by `collect` that exist.
    pub files: Vec<(String, Vec<u8>)>,
    /// Wall-clock time.
    pub wall: Duration,
    /// CPU time.
    pub cpu: Duration,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The call or the expression returned this value.
    Returned(Value),
    /// The script ran to its end, or left with `sys.exit(0)`.
    Finished,
    /// The call or the script raised; `types` is the exception's class and its bases, by name.
    Raised {
        /// Class names, most specific first (`["KeyError", "LookupError", "Exception", …]`), without their modules.
        types: Vec<String>,
        /// `str(exception)`, shortened.
        message: String,
        /// Raised while the module was being executed, before any call.
        at_import: bool,
    },
    /// The program is not valid Python.
    SyntaxError {
        /// The interpreter's message.
        message: String,
    },
    /// The entry point does not exist or is not callable.
    EntryPointMissing,
    /// The process ended by itself before it reported, with this status. `sys.exit` inside of a call or at import is one of these.
    Exited(i32),
    /// The process was killed by this signal, by no limit of ours.
    Signaled(i32),
    /// A limit was exceeded.
    Exceeded(Resource),
}

/// A limited resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Wall-clock or CPU time.
    Time,
    /// Memory.
    Memory,
    /// Output.
    Output,
}

impl Default for Limits {
    /// What a small test needs, with room to spare.
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(5),
            memory: 512 << 20,
            processes: 16,
            file_size: 16 << 20,
            output: 1 << 20,
        }
    }
}
