//! slime's `--rm-type remote_rm --rm-url http://…/slime`: one sample a request, and the whole body of the answer is the reward.
//!
//! It tries a failed request ten times, so that an outage is a status 503 and never a number.

use axum::extract::State;
use real_reward::Item;
use serde::Deserialize;

use crate::app::{Full, Shared};
use crate::engines::without_special_tokens;
use crate::request::{Json, Refusal, Reply};

/// The prompt, which it sends too, is not needed: the task has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    response: String,
    label: String,
}

pub(crate) async fn reward(
    State(app): State<Shared>,
    Json(request): Json<Request>,
) -> Result<Reply<Option<f64>>, Refusal> {
    let completion = without_special_tokens(&request.response).to_owned();
    let item = Item { task: app.task(&request.label)?, sample: 0, completion };
    let scores = app.judged(app.score(vec![item], app.deadline(), Full::Wait).await?)?;
    Ok(Reply(scores[0].reward))
}
