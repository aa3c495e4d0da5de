//! Every path, and what happens around each request.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::json;

use crate::app::Shared;
use crate::engines::{nemo_gym, open_instruct, openrlhf, sandbox_fusion, slime};
use crate::request::{Refusal, Reply};
use crate::{access, live, page, score};

/// Paths in the order of `openapi.json`.
fn table() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/v1/score", post(score::score)),
        ("/v1/live", get(live::live)),
        ("/openrlhf", post(openrlhf::reward)),
        ("/slime", post(slime::reward)),
        ("/verify", post(nemo_gym::verify)),
        ("/seed_session", post(nemo_gym::seed_session)),
        ("/aggregate_metrics", post(nemo_gym::aggregate_metrics)),
        ("/run_code", post(sandbox_fusion::run_code)),
        ("/test_program", post(open_instruct::test_program)),
        ("/test_program_stdio", post(open_instruct::test_program_stdio)),
        ("/health", get(health)),
        ("/metrics", get(metrics)),
        ("/openapi.json", get(page::openapi)),
        ("/", get(page::html)),
        ("/page.css", get(page::css)),
        ("/page.js", get(page::js)),
    ]
}

pub(crate) fn router(app: &Shared) -> Router {
    let paths = table().into_iter().fold(Router::new(), |router, (path, method)| router.route(path, method));
    paths
        .fallback(|| async {
            Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; see /openapi.json")
        })
        .layer(from_fn_with_state(Arc::clone(app), access::check))
        .layer(from_fn_with_state(Arc::clone(app), admit))
        .with_state(Arc::clone(app))
}

/// Bounds the requests that are under way, and counts and times them.
async fn admit(
    State(app): State<Shared>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let path = path.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", path);
    let response = match app.requests.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => app.busy("too many requests are under way").into_response(),
    };
    let (status, time) = (response.status(), start.elapsed());
    app.metrics.request(&path, status.as_u16(), time);
    if status.is_success() && request_is_judged(&path) {
        app.live.request(time);
    }
    span.in_scope(|| tracing::debug!(status = status.as_u16(), ?time, "answered"));
    response
}

/// Whether requests of this path wait for judges or for a worker.
fn request_is_judged(path: &str) -> bool {
    matches!(
        path,
        "/v1/score"
            | "/openrlhf"
            | "/slime"
            | "/verify"
            | "/run_code"
            | "/test_program"
            | "/test_program_stdio"
    )
}

async fn health(State(app): State<Shared>) -> Response {
    let status = if app.is_draining() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let text = if app.is_draining() { "draining" } else { "ok" };
    (status, Reply(json!({ "status": text, "version": env!("CARGO_PKG_VERSION") }))).into_response()
}

async fn metrics(State(app): State<Shared>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render(&app)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_path() {
        let document: serde_json::Value = serde_json::from_str(page::OPENAPI).unwrap();
        let mut described: Vec<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut served: Vec<&str> = table().into_iter().map(|(path, _)| path).collect();
        served.retain(|path| !matches!(*path, "/" | "/page.css" | "/page.js" | "/openapi.json"));
        described.sort_unstable();
        served.sort_unstable();
        assert_eq!(described, served);
    }

    #[test]
    fn the_document_describes_every_field_of_a_score() {
        let document: serde_json::Value = serde_json::from_str(page::OPENAPI).unwrap();
        let schema = document["components"]["schemas"]["Score"]["properties"].as_object().unwrap();
        let score = serde_json::to_value(real_reward::Score::outage("a", 0, "b")).unwrap();
        let names = |object: &serde_json::Map<String, serde_json::Value>| {
            let mut names: Vec<String> = object.keys().cloned().collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(schema), names(score.as_object().unwrap()));
    }
}
