//! `real eval --endpoint` against a small server of the same protocol, which can be told to misbehave.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

mod support;

use support::real;

/// What the server does with a request: its path and body in, status and body out.
type Handler = dyn Fn(&str, &Value) -> (u16, Value) + Send + Sync;

/// Serves until the process ends; the URL.
fn serve(handler: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let handler: Arc<Handler> = Arc::new(handler);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let handler = Arc::clone(&handler);
            std::thread::spawn(move || answer(&stream.unwrap(), &*handler));
        }
    });
    url
}

fn answer(mut stream: &TcpStream, handler: &Handler) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let (status, reply) = handler(lines[0].split(' ').nth(1).unwrap(), &body);
    let reply = reply.to_string();
    let length = reply.len();
    write!(stream, "HTTP/1.1 {status} x\r\nretry-after: 0\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{reply}")
        .unwrap();
}

fn eval(url: &str, more: &[&str], folder: &Path) -> (Option<i32>, String) {
    let arguments = ["eval", "--benchmark", "starter", "--limit", "4", "--out", "out", "--endpoint", url];
    let output = real(&[&arguments, more].concat(), folder);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The starter tasks that [`eval`] asks for: four, and one of a template that training does not have.
fn tasks(folder: &Path) -> Vec<Value> {
    let output = real(&["tasks", "--benchmark", "starter", "--limit", "4"], folder);
    output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn completion(text: &str) -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
}

/// The right answer to the task that a request is about.
fn reference(tasks: &[Value], request: &Value) -> Value {
    let task = tasks.iter().find(|task| task["messages"] == request["messages"]).unwrap();
    completion(&format!("```python\n{}\n```\nAs you asked.", task["reference"].as_str().unwrap()))
}

#[test]
fn a_model_behind_an_endpoint_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = tasks(folder.path());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let known = tasks.clone();
    let url = serve(move |path, body| {
        if path == "/v1/models" {
            return (200, json!({"object": "list", "data": [{"id": "tiny"}]}));
        }
        assert_eq!(path, "/v1/chat/completions");
        let mut seen = seen.lock().unwrap();
        seen.push(body.clone());
        // The first try of every task fails.
        let tries = seen.iter().filter(|request| request["messages"] == body["messages"]).count();
        if tries == 1 { (503, json!({"error": "warming up"})) } else { (200, reference(&known, body)) }
    });
    let (status, printed) = eval(&url, &["--stop-at-code-end", "--max-new-tokens", "77"], folder.path());
    assert_eq!(status, Some(0), "{printed}");

    let out = folder.path().join("out");
    let metrics: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("metrics.json")).unwrap()).unwrap();
    assert_eq!(
        (&metrics["all"]["total"], &metrics["all"]["joint"]["value"]),
        (&json!(tasks.len()), &json!(1.0))
    );
    let completions = std::fs::read_to_string(out.join("completions.jsonl")).unwrap();
    let completions: Vec<Value> =
        completions.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let order = |records: &[Value], key: &str| records.iter().map(|r| r[key].clone()).collect::<Vec<_>>();
    assert_eq!(order(&completions, "task_id"), order(&tasks, "id"));
    assert!(
        completions[0]["completion"].as_str().unwrap().ends_with("```"),
        "cut off at the end of the code"
    );
    assert!(!out.join("answers.partial.jsonl").exists());
    let requests = asked.lock().unwrap();
    assert_eq!(requests.len(), 2 * tasks.len());
    assert_eq!((&requests[0]["model"], &requests[0]["max_tokens"]), (&json!("tiny"), &json!(77)));
}

#[test]
fn answers_outlive_an_endpoint_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = tasks(folder.path());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let known = tasks.clone();
    let url = serve(move |_, body| {
        let mut seen = seen.lock().unwrap();
        seen.push(body["messages"].clone());
        // The third task is refused, once.
        let refused = body["messages"] == known[2]["messages"]
            && seen.iter().filter(|messages| **messages == body["messages"]).count() == 1;
        if refused { (400, json!({"error": "too long"})) } else { (200, reference(&known, body)) }
    });
    let (status, printed) = eval(&url, &["--model-name", "tiny", "--concurrency", "1"], folder.path());
    assert_eq!(status, Some(2), "{printed}");
    assert!(printed.contains("2 answers are kept in") && printed.contains("too long"), "{printed}");

    let (status, printed) = eval(&url, &["--model-name", "other"], folder.path());
    assert_eq!(status, Some(2));
    assert!(printed.contains("other settings"), "{printed}");

    let (status, printed) = eval(&url, &["--model-name", "tiny"], folder.path());
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("going on from there"), "{printed}");
    let asked = asked.lock().unwrap();
    let times = |task: &Value| asked.iter().filter(|messages| **messages == task["messages"]).count();
    assert_eq!(tasks.iter().map(times).collect::<Vec<_>>(), [1, 1, 2, 1, 1]);
}

#[test]
fn mistakes_are_answered_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let check = |url: &str, more: &[&str], advice: &str| {
        let (status, printed) = eval(url, &[&["--retries", "0"], more].concat(), folder.path());
        assert_eq!(status, Some(2), "{printed}");
        assert!(printed.contains(advice), "{advice}: {printed}");
    };
    check("http://127.0.0.1:9", &[], "is the server running, and is this its address?");
    check("127.0.0.1:9", &[], "an address such as http://localhost:8000/v1 is expected");
    let two = serve(|_, _| (200, json!({"data": [{"id": "small"}, {"id": "large"}]})));
    check(&two, &[], "choose with --model-name: small, large");
    let locked = serve(|_, _| (401, json!({"error": "no key"})));
    check(&locked, &[], "REAL_ENDPOINT_KEY");
    let page = serve(|_, _| (200, json!("<html>")));
    check(&page, &["--model-name", "x"], "did not answer as OpenAI's API does");
}
