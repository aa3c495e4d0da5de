//! OpenRLHF's remote reward model (`--reward.remote_url http://…/openrlhf`, `--data.label_key` with the task).
//!
//! It sends whole texts, prompt and response with all special tokens. An HTTP error, after five tries, leaves it with a reward of `None`, and what the
//! batch then does depends on its first sample. So an outage is a number here, 0, beside `infra_error: 1` in `extra_logs`, and
//! requests wait for room in the queue.

use axum::extract::State;
use real_reward::{Item, Score};
use serde::{Deserialize, Serialize};

use crate::app::{Full, Shared};
use crate::engines::without_special_tokens;
use crate::request::{Json, Refusal, Reply};

#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    query: Vec<String>,
    prompts: Vec<String>,
    labels: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    rewards: Vec<f64>,
    /// In [0, 1], for dynamic filtering.
    scores: Vec<f64>,
    extra_logs: ExtraLogs,
}

#[derive(Debug, Serialize)]
struct ExtraLogs {
    function: Vec<f64>,
    quality: Vec<f64>,
    passed: Vec<f64>,
    infra_error: Vec<f64>,
}

pub(crate) async fn reward(
    State(app): State<Shared>,
    Json(request): Json<Request>,
) -> Result<Reply<Answer>, Refusal> {
    let Request { query, prompts, labels } = request;
    if query.len() != prompts.len() || query.len() != labels.len() {
        return Err(Refusal::mistake("query, prompts and labels are not equally long"));
    }
    let deadline = app.deadline();
    let mut items = Vec::with_capacity(query.len());
    for ((query, prompt), label) in query.iter().zip(&prompts).zip(&labels) {
        let response = query.strip_prefix(prompt.as_str()).unwrap_or(query);
        let completion = without_special_tokens(response).to_owned();
        items.push(Item { task: app.task(label)?, sample: 0, completion });
    }
    let scores = match app.score(items, deadline, Full::Wait).await {
        Ok(scores) => scores,
        Err(refusal) if refusal.is_mistake() => return Err(refusal),
        Err(_) => (0..labels.len()).map(|_| Score::outage("", 0, "refused")).collect(),
    };
    let each = |number: fn(&Score) -> f64| scores.iter().map(number).collect::<Vec<f64>>();
    Ok(Reply(Answer {
        rewards: each(|score| score.reward.unwrap_or(0.0)),
        scores: each(|score| score.reward.unwrap_or(0.0).clamp(0.0, 1.0)),
        extra_logs: ExtraLogs {
            function: each(|score| score.function.unwrap_or(0.0)),
            quality: each(|score| score.quality.unwrap_or(0.0)),
            passed: each(|score| f64::from(u8::from(score.passed))),
            infra_error: each(|score| f64::from(u8::from(score.infra_error.is_some()))),
        },
    }))
}
