//! SandboxFusion's `POST /run_code`, as verl calls it (`reward.sandbox_fusion.url=http://…/run_code`): runs a program and judges nothing.
//!
//! verl compares the output itself, and tries again only where the status is 504. So that is what an outage is here, and the waiting in line that has
//! lasted too long.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use real_sandbox::{Action, Ending, Job, Limits, Outcome, Resource};
use serde::{Deserialize, Serialize};

use crate::app::Shared;
use crate::request::{Json, Refusal, Reply};

/// The longest time that a program may ask for.
const LONGEST: Duration = Duration::from_mins(1);

#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    code: String,
    #[serde(default)]
    stdin: Option<String>,
    #[serde(default = "python")]
    language: String,
    /// Seconds.
    #[serde(default = "ten")]
    run_timeout: f64,
    /// Below zero: as much as we allow.
    #[serde(default = "unlimited", rename = "memory_limit_MB")]
    memory_limit_mb: i64,
    /// Content in base64, by name.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Names of files to send back.
    #[serde(default)]
    fetch_files: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// `Success`, or `Failed` where the program did not end well.
    status: &'static str,
    message: String,
    compile_result: Option<()>,
    run_result: RunResult,
    executor_pod_name: Option<()>,
    files: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct RunResult {
    /// `Finished`, `Error` or `TimeLimitExceeded`.
    status: &'static str,
    /// Seconds.
    execution_time: f64,
    return_code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn python() -> String {
    "python".to_owned()
}

fn ten() -> f64 {
    10.0
}

fn unlimited() -> i64 {
    -1
}

pub(crate) async fn run_code(
    State(app): State<Shared>,
    Json(request): Json<Request>,
) -> Result<Reply<Answer>, Refusal> {
    if request.language != "python" {
        return Err(Refusal::mistake(format!(
            "the language `{}` is not spoken here; `python` is",
            request.language
        )));
    }
    let job = job(request)?;
    let outcome = app.work(app.deadline(), move |judges| judges.run(&job)).await;
    let outcome = outcome.map_err(|outage| outage.with_status(StatusCode::GATEWAY_TIMEOUT))?;
    Ok(Reply(answer(&outcome)))
}

fn job(request: Request) -> Result<Job, Refusal> {
    let file = |(name, content): (String, String)| {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(Refusal::mistake(format!("files: `{name}` is not a plain file name")));
        }
        let content =
            BASE64.decode(content).map_err(|error| Refusal::mistake(format!("files: {name}: {error}")))?;
        Ok((name, content))
    };
    let wall = Duration::try_from_secs_f64(request.run_timeout)
        .map_err(|error| Refusal::mistake(format!("run_timeout: {error}")))?
        .min(LONGEST);
    let most = 1 << 30;
    Ok(Job {
        prelude: String::new(),
        program: request.code,
        files: request.files.into_iter().map(file).collect::<Result<_, _>>()?,
        action: Action::Script { stdin: request.stdin.unwrap_or_default().into_bytes() },
        collect: request.fetch_files,
        limits: Limits {
            wall,
            cpu: wall,
            memory: u64::try_from(request.memory_limit_mb).map_or(most, |mb| (mb << 20).min(most)),
            ..Limits::default()
        },
    })
}

fn answer(outcome: &Outcome) -> Answer {
    let mut stderr = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let (status, return_code) = match &outcome.ending {
        Ending::Finished | Ending::Returned(_) => ("Finished", Some(0)),
        Ending::Exited(status) => ("Finished", Some(*status)),
        Ending::Raised { .. } => ("Finished", Some(1)),
        Ending::SyntaxError { message } => {
            stderr.push_str("SyntaxError: ");
            stderr.push_str(message);
            ("Finished", Some(1))
        }
        Ending::Signaled(signal) => ("Finished", Some(-signal)),
        Ending::Exceeded(Resource::Time) => ("TimeLimitExceeded", None),
        Ending::Exceeded(Resource::Memory) => {
            stderr.push_str("MemoryError");
            ("Finished", Some(1))
        }
        Ending::Exceeded(Resource::Output) => ("Error", None),
        Ending::EntryPointMissing => unreachable!("a script has no entry point"),
    };
    Answer {
        status: if return_code == Some(0) { "Success" } else { "Failed" },
        message: String::new(),
        compile_result: None,
        run_result: RunResult {
            status,
            execution_time: outcome.wall.as_secs_f64(),
            return_code,
            stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
            stderr,
        },
        executor_pod_name: None,
        files: outcome.files.iter().map(|(name, content)| (name.clone(), BASE64.encode(content))).collect(),
    }
}
