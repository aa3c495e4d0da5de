//! `POST /v1/score`: completions in, the scores that `real score` writes out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use real_reward::{Item, Score, Task};
use serde::{Deserialize, Serialize};

use crate::app::{Full, Shared};
use crate::request::{Json, Refusal, Reply};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// The tasks that the completions name, beside those that the server knows.
    #[serde(default)]
    tasks: Vec<Task>,
    completions: Vec<Completion>,
    /// Seconds until the answer is wanted.
    deadline_seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the record format names the field `completion`")]
struct Completion {
    task_id: String,
    #[serde(default)]
    sample: u64,
    completion: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    scores: Vec<Score>,
}

pub(crate) async fn score(
    State(app): State<Shared>,
    Json(request): Json<Request>,
) -> Result<Reply<Answer>, Refusal> {
    let deadline = deadline(app.config.deadline, request.deadline_seconds)?;
    let own: HashMap<String, Arc<Task>> =
        request.tasks.into_iter().map(|task| (task.id.clone(), Arc::new(task))).collect();
    let item = |completion: Completion| {
        let Completion { task_id, sample, completion } = completion;
        let task = own.get(&task_id).or_else(|| app.config.tasks.get(&task_id));
        let task = task.ok_or_else(|| Refusal::mistake(format!("no task has the id `{task_id}`")))?;
        Ok(Item { task: Arc::clone(task), sample, completion })
    };
    let items = request.completions.into_iter().map(item).collect::<Result<Vec<Item>, Refusal>>()?;
    Ok(Reply(Answer { scores: app.score(items, deadline, Full::Refuse).await? }))
}

fn deadline(longest: Duration, wanted: Option<f64>) -> Result<Instant, Refusal> {
    let wanted = match wanted {
        None => longest,
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| Refusal::mistake("deadline_seconds: a number of seconds is expected"))?,
    };
    Ok(Instant::now() + wanted.min(longest))
}
