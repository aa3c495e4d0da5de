//! Bodies in, and refusals out.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::app::Shared;

/// A request that gets no answer of the kind that it asks for.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    reason: String,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), retry_after: None }
    }

    /// The client has made a mistake.
    pub(crate) fn mistake(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// The client should come again.
    pub(crate) fn later(status: StatusCode, reason: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(status, reason) }
    }

    /// The same with another status, for a client that comes again only after that one.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn is_mistake(&self) -> bool {
        self.retry_after.is_none()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Reply(json!({ "error": self.reason })).into_response();
        *response.status_mut() = self.status;
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON body.
pub(crate) struct Reply<T>(pub T);

impl<T: serde::Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self.0).expect("replies are plain data");
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// A JSON body of a request, read within the limits of size and time.
///
/// Its content type must say that it is JSON: a page of another site, in a browser on this machine, cannot send that without asking first.
pub(crate) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refusal> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "a body of the type application/json is expected",
            ));
        }
        let body = tokio::time::timeout(app.config.patience, read(request.into_body(), app.config.max_body));
        let bytes = body
            .await
            .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))??;
        let parsed = serde_json::from_slice(&bytes);
        Ok(Self(parsed.map_err(|error| Refusal::mistake(format!("not what is expected: {error}")))?))
    }
}

async fn read(body: Body, limit: usize) -> Result<axum::body::Bytes, Refusal> {
    to_bytes(body, limit).await.map_err(|error| {
        let reason = format!("the body cannot be read, or is larger than {limit} bytes: {error}");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    })
}
