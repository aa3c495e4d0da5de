//! One sandbox for all the tests of a binary, and endings in words.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::num::NonZeroUsize;
use std::sync::LazyLock;

use real_sandbox::{
    Action, Config, Ending, Error, Job, Layer, Limits, Outcome, Resource, Sandbox, Strictness, Value,
};

/// Two workers, strict where the machine allows it. Not dropped: when the test process ends, so do the workers.
static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| start(2));

pub(crate) fn sandbox() -> &'static Sandbox {
    &SANDBOX
}

pub(crate) fn start(workers: usize) -> Sandbox {
    let workers = NonZeroUsize::new(workers).unwrap();
    let config = Config { workers, ..Config::default() };
    match Sandbox::start(config.clone()) {
        Err(Error::Unprotected { layer, reason }) => {
            eprintln!("degraded: this machine does not offer `{layer}`: {reason}");
            Sandbox::start(Config { strictness: Strictness::Degrade, ..config }).unwrap()
        }
        Err(error @ Error::Interpreter { .. }) => panic!("these tests need python3 3.10+ on PATH: {error}"),
        other => other.unwrap(),
    }
}

/// Whether a layer is there; says so loudly where a test is skipped for want of it.
#[allow(dead_code, reason = "each test binary uses its part of this module")]
pub(crate) fn offers(layer: Layer, test: &str) -> bool {
    let there = sandbox().protection().has(layer);
    if !there {
        eprintln!("skipped: {test}: this machine does not offer `{layer}`");
    }
    there
}

pub(crate) fn call(program: &str, args: Vec<Value>) -> Job {
    let action = Action::Call { entry_point: "f".to_owned(), args, kwargs: vec![] };
    job(program, action)
}

#[allow(dead_code, reason = "each test binary uses its part of this module")]
pub(crate) fn script(program: &str, stdin: &str) -> Job {
    job(program, Action::Script { stdin: stdin.as_bytes().to_vec() })
}

pub(crate) fn job(program: &str, action: Action) -> Job {
    Job {
        prelude: String::new(),
        program: program.to_owned(),
        files: vec![],
        action,
        collect: vec![],
        limits: Limits::default(),
    }
}

#[track_caller]
pub(crate) fn run(job: &Job) -> Outcome {
    sandbox().run(job).unwrap()
}

/// An ending in words: `returned [1, 2]`, `raised KeyError`, `raised KeyError at import`, `exited 3`, `exceeded time`, …
pub(crate) fn describe(ending: &Ending) -> String {
    match ending {
        Ending::Returned(value) => format!("returned {}", serde_json::to_string(value).unwrap()),
        Ending::Finished => "finished".to_owned(),
        Ending::Raised { types, at_import: false, .. } => format!("raised {}", types[0]),
        Ending::Raised { types, .. } => format!("raised {} at import", types[0]),
        Ending::SyntaxError { .. } => "syntax error".to_owned(),
        Ending::EntryPointMissing => "entry point missing".to_owned(),
        Ending::Exited(code) => format!("exited {code}"),
        Ending::Signaled(signal) => format!("signaled {signal}"),
        Ending::Exceeded(Resource::Time) => "exceeded time".to_owned(),
        Ending::Exceeded(Resource::Memory) => "exceeded memory".to_owned(),
        Ending::Exceeded(Resource::Output) => "exceeded output".to_owned(),
    }
}
