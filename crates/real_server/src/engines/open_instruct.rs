//! open-instruct's code verifier (`--code_api_url http://…/test_program`, or `/test_program_stdio`).
//!
//! It takes the share of results that are 1 for a score, and any failure of the request for 0. An outage is a status 503 all the
//! same, and is never in the results; requests wait in line for a worker rather than be refused.

use std::time::Duration;

use axum::extract::State;
use real_reward::Check;
use real_sandbox::Limits;
use serde::{Deserialize, Serialize};

use crate::app::Shared;
use crate::request::{Json, Refusal, Reply};

#[derive(Debug, Deserialize)]
pub(crate) struct Assertions {
    program: String,
    tests: Vec<String>,
    #[serde(default = "second")]
    max_execution_time: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Outputs {
    program: String,
    tests: Vec<StdioTest>,
    #[serde(default = "second")]
    max_execution_time: f64,
}

#[derive(Debug, Deserialize)]
struct StdioTest {
    input: String,
    output: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    results: Vec<u8>,
    /// Seconds.
    runtimes: Vec<f64>,
}

fn second() -> f64 {
    1.0
}

pub(crate) async fn test_program(
    State(app): State<Shared>,
    Json(request): Json<Assertions>,
) -> Result<Reply<Answer>, Refusal> {
    let Assertions { program, tests, max_execution_time } = request;
    let limits = limits(max_execution_time)?;
    let work = move |judges: &dyn crate::Judges| judges.assertions(&program, &tests, &limits);
    Ok(Reply(answer(&app.work(app.deadline(), work).await?)))
}

pub(crate) async fn test_program_stdio(
    State(app): State<Shared>,
    Json(request): Json<Outputs>,
) -> Result<Reply<Answer>, Refusal> {
    let Outputs { program, tests, max_execution_time } = request;
    let limits = limits(max_execution_time)?;
    let cases: Vec<(String, String)> = tests.into_iter().map(|test| (test.input, test.output)).collect();
    let work = move |judges: &dyn crate::Judges| judges.outputs(&program, &cases, &limits);
    Ok(Reply(answer(&app.work(app.deadline(), work).await?)))
}

fn answer(checks: &[Check]) -> Answer {
    Answer {
        results: checks.iter().map(|check| u8::from(check.passed)).collect(),
        runtimes: checks.iter().map(|check| check.wall.as_secs_f64()).collect(),
    }
}

fn limits(seconds: f64) -> Result<Limits, Refusal> {
    let most = Limits::default();
    let wall = Duration::try_from_secs_f64(seconds).map_err(|error| Refusal::mistake(error.to_string()))?;
    Ok(Limits { wall: wall.min(most.wall), ..most })
}
