//! NeMo-Gym's resources server: `POST /verify` gets the request and the response of a model in the form of OpenAI's Responses API, and answers
//! with the same object and a `reward`.
//!
//! The task is `verifier_metadata.task` (its JSON) or `verifier_metadata.task_id`. `reward` must be a number, so an outage is a
//! status 503, which its client raises; a 0 would poison the reward.

use axum::extract::State;
use real_reward::Item;
use serde_json::{Map, Value, json};

use crate::app::{Full, Shared};
use crate::engines::without_special_tokens;
use crate::request::{Json, Refusal, Reply};

pub(crate) async fn verify(
    State(app): State<Shared>,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<Reply<Map<String, Value>>, Refusal> {
    let metadata = &body.get("verifier_metadata").cloned().unwrap_or_default();
    let task = match (&metadata["task"], &metadata["task_id"]) {
        (Value::String(label), _) | (_, Value::String(label)) => app.task(label)?,
        (task @ Value::Object(_), _) => app.task(&task.to_string())?,
        _ => return Err(Refusal::mistake("verifier_metadata needs `task` or `task_id`")),
    };
    let text = output_text(body.get("response").unwrap_or(&Value::Null))?;
    let item = Item { task, sample: 0, completion: without_special_tokens(&text).to_owned() };
    let scores = app.judged(app.score(vec![item], app.deadline(), Full::Wait).await?)?;
    let score = &scores[0];
    body.insert("reward".to_owned(), json!(score.reward));
    let components = json!({ "function": score.function, "quality": score.quality });
    body.insert("reward_components".to_owned(), components);
    Ok(Reply(body))
}

/// No session has a state here.
pub(crate) async fn seed_session(Json(_): Json<Value>) -> Reply<Value> {
    Reply(json!({}))
}

/// The means of the rewards of verified responses.
pub(crate) async fn aggregate_metrics(Json(body): Json<Value>) -> Reply<Value> {
    let responses = body["verify_responses"].as_array().map_or(&[][..], Vec::as_slice);
    let rewards: Vec<f64> = responses.iter().filter_map(|response| response["reward"].as_f64()).collect();
    let mean = (!rewards.is_empty()).then(|| rewards.iter().sum::<f64>() / rewards.len() as f64);
    Reply(json!({ "count": rewards.len(), "mean_reward": mean }))
}

/// The text of the assistant's messages in a response, in order.
fn output_text(response: &Value) -> Result<String, Refusal> {
    let output = response["output"].as_array();
    let output = output.ok_or_else(|| Refusal::mistake("`response` has no `output`"))?;
    let messages = output.iter().filter(|item| item["type"] == "message");
    let parts = messages.flat_map(|message| message["content"].as_array().map_or(&[][..], Vec::as_slice));
    Ok(parts.filter(|part| part["type"] == "output_text").filter_map(|part| part["text"].as_str()).collect())
}
