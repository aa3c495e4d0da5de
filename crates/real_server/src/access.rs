//! Who may ask.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::app::Shared;
use crate::request::Refusal;

/// What holds no secret and changes nothing: the health of the server, and the page with its parts.
const PUBLIC: [&str; 5] = ["/health", "/", "/page.css", "/page.js", "/openapi.json"];

/// Lets through who has the token. Where there is none, the server is bound to loopback, and only its own names are answered: a page
/// in a browser could reach it under a name of its own that leads here.
pub(crate) async fn check(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let refusal = match &app.config.token {
        Some(token) if !PUBLIC.contains(&request.uri().path()) => (!bears(request.headers(), token))
            .then(|| Refusal::new(StatusCode::UNAUTHORIZED, "a bearer token is needed")),
        Some(_) => None,
        None => (!is_loopback(request.headers()))
            .then(|| Refusal::new(StatusCode::MISDIRECTED_REQUEST, "this server answers to localhost only")),
    };
    match refusal {
        Some(refusal) => ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response(),
        None => next.run(request).await,
    }
}

/// The token comes as `Bearer TOKEN`, or as the password of `Basic`: an engine that knows nothing of tokens sends that for a URL such as
/// `http://any:TOKEN@host:8700/openrlhf`.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let Some(sent) = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) else { return false };
    if let Some(sent) = sent.strip_prefix(b"Bearer ") {
        return same(sent, token.as_bytes());
    }
    let pair = sent.strip_prefix(b"Basic ").and_then(|pair| BASE64.decode(pair).ok()).unwrap_or_default();
    let password = pair.iter().position(|byte| *byte == b':').map(|colon| &pair[colon + 1..]);
    password.is_some_and(|password| same(password, token.as_bytes()))
}

/// Equality in a time that depends on the lengths alone: a caller cannot find out a token byte by byte.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    a.len() == b.len() && differences == 0
}

/// Without a `Host` header it is no browser.
fn is_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        for (sent, is_it) in
            [("secret", true), ("secre", false), ("secrets", false), ("Secret", false), ("", false)]
        {
            assert_eq!(same(sent.as_bytes(), b"secret"), is_it, "{sent}");
        }
    }

    #[test]
    fn a_token_may_come_in_a_url() {
        for (sent, is_it) in [
            ("Bearer secret", true),
            ("Basic dXNlcjpzZWNyZXQ=", true),  // user:secret
            ("Basic OnNlY3JldA==", true),      // :secret
            ("Basic c2VjcmV0", false),         // secret
            ("Basic c2VjcmV0OnVzZXI=", false), // secret:user
            ("Basic secret", false),
            ("secret", false),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, sent.parse().unwrap())]);
            assert_eq!(bears(&headers, "secret"), is_it, "{sent}");
        }
    }

    #[test]
    fn names_of_this_machine() {
        for (host, is_it) in [
            ("localhost", true),
            ("LOCALHOST:8700", true),
            ("127.0.0.1:8700", true),
            ("127.9.9.9", true),
            ("[::1]:8700", true),
            ("[::1]", true),
            ("example.com:8700", false),
            ("localhost.example.com", false),
            ("10.0.0.1:8700", false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
            assert_eq!(is_loopback(&headers), is_it, "{host}");
        }
    }
}
