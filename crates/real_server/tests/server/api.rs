//! The server as its clients see it, over real sockets, in front of judges that answer at once, on command, or never.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use real_reward::QueueConfig;
use real_server::{Error, ServeConfig};
use serde_json::{Value, json};

use crate::support::{self, Fake, Running, shared_task, task};

fn completions(id: &str, texts: &[&str]) -> Value {
    let completion =
        |(sample, text): (usize, &&str)| json!({"task_id": id, "sample": sample, "completion": text});
    json!({
        "tasks": [task(id)],
        "completions": texts.iter().enumerate().map(completion).collect::<Vec<_>>(),
    })
}

#[test]
fn scores_come_back_in_order() {
    let server = Running::start(Fake::default(), ServeConfig::default());
    let (status, body) = server.post("/v1/score", &completions("t", &["right", "wrong", "outage"]));
    assert_eq!(status, 200);
    let scores = body["scores"].as_array().unwrap();
    let field = |name: &str| scores.iter().map(|score| score[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("reward"), [json!(1.0), json!(0.5), Value::Null]);
    assert_eq!(field("sample"), [0, 1, 2]);
    assert!(scores[2]["infra_error"].is_string());

    let (status, body) = server.post("/v1/score", &json!({"completions": []}));
    assert_eq!((status, body), (200, json!({"scores": []})));
}

#[test]
fn mistakes_are_named() {
    let config = ServeConfig { max_body: 2000, max_items: 3, ..ServeConfig::default() };
    let server = Running::start(Fake::default(), config);
    let check = |body: &Value, status: u16, advice: &str| {
        let (answered, body) = server.post("/v1/score", body);
        assert_eq!(answered, status, "{body}");
        assert!(body["error"].as_str().unwrap().contains(advice), "{advice}: {body}");
    };
    check(
        &json!({"completions": [{"task_id": "nobody", "completion": ""}]}),
        400,
        "no task has the id `nobody`",
    );
    check(&json!({"completion": []}), 400, "completion");
    check(&completions("t", &["a"; 4]), 413, "at most 3");
    check(&completions("t", &[&"a".repeat(3000)]), 413, "2000 bytes");
    let (status, _) = server.get("/nowhere");
    assert_eq!(status, 404);
    let (status, _) = server.get("/v1/score");
    assert_eq!(status, 405);
    let plain = server.raw("POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
    assert!(plain.starts_with("HTTP/1.1 415"), "{plain}");
}

#[test]
fn without_a_token_only_this_machine_is_served() {
    let config = ServeConfig { addr: SocketAddr::from(([0, 0, 0, 0], 0)), ..ServeConfig::default() };
    assert!(matches!(config.validate(), Err(Error::Unprotected(_))));
    let server = Running::start(Fake::default(), ServeConfig::default());
    let rebound = server.raw("GET /health HTTP/1.1\r\nhost: attacker.example\r\nconnection: close\r\n\r\n");
    assert!(rebound.starts_with("HTTP/1.1 421"), "{rebound}");
}

#[test]
fn a_token_opens_what_is_not_public() {
    let config = ServeConfig { token: Some("s3cret".to_owned()), ..ServeConfig::default() };
    let server = Running::start(Fake::default(), config);
    for (path, open) in
        [("/health", true), ("/", true), ("/openapi.json", true), ("/metrics", false), ("/v1/live", false)]
    {
        let (status, _) = server.get(path);
        assert_eq!(status, if open { 200 } else { 401 }, "{path}");
    }
    let ask = |authorization: &str| {
        let head = format!("GET /v1/live HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\n\r\n");
        server.raw(&head)[9..12].to_owned()
    };
    assert_eq!(ask("authorization: Bearer s3cret\r\n"), "200");
    assert_eq!(ask("authorization: Bearer s3cre\r\n"), "401");
    assert_eq!(ask("authorization: Basic s3cret\r\n"), "401");
    assert_eq!(ask(""), "401");
}

/// A server whose judge waits for a word for each item.
fn slow(capacity: usize, config: ServeConfig) -> (Running, std::sync::mpsc::Sender<()>) {
    let (fake, go) = Fake::on_command();
    let queue = QueueConfig { capacity, batch: 1, graders: 1 };
    (Running::start(fake, ServeConfig { queue, ..config }), go)
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let (server, go) = slow(2, ServeConfig::default());
    let server = &server;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.post("/v1/score", &completions("a", &["right"])));
        server.until(|live| live["judging"] == 1);
        let second = scope.spawn(|| server.post("/v1/score", &completions("b", &["right", "wrong"])));
        server.until(|live| live["waiting"] == 2);
        let body = completions("c", &["right"]).to_string();
        let refused = server.raw(&format!(
            "POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: "), "{refused}");
        // An engine that takes an error for a reward waits in line.
        let label = task("d").to_string();
        let patient = scope.spawn(move || {
            server.post("/openrlhf", &json!({"query": ["pright"], "prompts": ["p"], "labels": [label]}))
        });
        for _ in 0..4 {
            go.send(()).unwrap();
        }
        assert_eq!(first.join().unwrap().1["scores"].as_array().unwrap().len(), 1);
        assert_eq!(second.join().unwrap().1["scores"].as_array().unwrap().len(), 2);
        assert_eq!(patient.join().unwrap().1["rewards"], json!([1.0]));
    });
}

#[test]
fn at_the_deadline_the_rest_is_an_outage() {
    let (server, go) = slow(10, ServeConfig::default());
    go.send(()).unwrap();
    let mut request = completions("a", &["right", "right"]);
    request["deadline_seconds"] = json!(0.3);
    let (status, body) = server.post("/v1/score", &request);
    assert_eq!((status, &body["scores"][0]["reward"]), (200, &json!(1.0)));
    assert_eq!(body["scores"][1]["reward"], Value::Null);
    assert!(body["scores"][1]["infra_error"].as_str().unwrap().contains("deadline"));
    let (_, metrics) = server.get_text("/metrics");
    assert!(metrics.contains("real_items_total{verdict=\"infra_error\"} 1\n"), "{metrics}");
    go.send(()).unwrap();
}

#[test]
fn what_a_client_that_has_gone_wanted_is_not_judged() {
    let (server, go) = slow(10, ServeConfig::default());
    let body = completions("a", &["right", "right", "right"]).to_string();
    let mut stream = TcpStream::connect(server.addr).unwrap();
    write!(stream, "POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    server.until(|live| live["judging"] == 1 && live["waiting"] == 2);
    drop(stream);
    std::thread::sleep(Duration::from_millis(200));
    go.send(()).unwrap();
    server.until(|live| live["judging"] == 0 && live["waiting"] == 0);
    assert_eq!(server.judged(), 1);
}

#[test]
fn shutting_down_answers_what_was_accepted() {
    let (mut server, go) = slow(10, ServeConfig::default());
    std::thread::scope(|scope| {
        let addr = server.addr;
        let client =
            scope.spawn(move || support::post(addr, "/v1/score", &completions("a", &["right", "wrong"])));
        server.until(|live| live["waiting"] == 1);
        // A connection that is kept open, and idle, must not hold the server.
        let mut idle = TcpStream::connect(addr).unwrap();
        write!(idle, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        idle.read_exact(&mut [0; 12]).unwrap();
        server.shut_down();
        std::thread::sleep(Duration::from_millis(100));
        assert!(TcpStream::connect(addr).is_err(), "no new connection");
        go.send(()).unwrap();
        go.send(()).unwrap();
        let (status, body) = client.join().unwrap();
        assert_eq!((status, body["scores"].as_array().unwrap().len()), (200, 2));
        assert_eq!(body["scores"][1]["reward"], 0.5);
        server.ended(Duration::from_secs(10));
    });
}

#[test]
fn shutting_down_ends_even_where_judging_does_not() {
    let (mut server, go) =
        slow(10, ServeConfig { drain: Duration::from_millis(300), ..ServeConfig::default() });
    std::thread::scope(|scope| {
        let addr = server.addr;
        let client =
            scope.spawn(move || support::post(addr, "/v1/score", &completions("a", &["right", "wrong"])));
        server.until(|live| live["waiting"] == 1);
        server.shut_down();
        let (status, body) = client.join().unwrap();
        assert_eq!(status, 200);
        for score in body["scores"].as_array().unwrap() {
            assert_eq!(
                (&score["reward"], &score["infra_error"]),
                (&Value::Null, &json!("the server was shut down"))
            );
        }
        go.send(()).unwrap();
        server.ended(Duration::from_secs(10));
    });
}

#[test]
fn a_slow_sender_is_not_waited_for() {
    let server = Running::start(
        Fake::default(),
        ServeConfig { patience: Duration::from_millis(300), ..ServeConfig::default() },
    );
    let start = Instant::now();
    let cut = server.raw("POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{");
    assert!(cut.starts_with("HTTP/1.1 408"), "{cut}");
    let silent = server.raw("GET /hea");
    assert!(!silent.contains("200"), "{silent}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn engines_are_answered_in_their_own_words() {
    let tasks = HashMap::from([("known".to_owned(), shared_task("known"))]);
    let server = Running::start(Fake::default(), ServeConfig { tasks, ..ServeConfig::default() });
    let label = task("t").to_string();
    let check = |path: &str, request: Value, status: u16, expected: &Value| {
        let (answered, body) = server.post(path, &request);
        assert_eq!((answered, &body), (status, expected), "{path} {request}");
    };

    let query = ["<|user|>q<|assistant|>right<|im_end|>", "qwrong", "qoutage"];
    let request = json!({"query": query, "prompts": ["<|user|>q<|assistant|>", "q", "q"], "labels": [label, "known", label]});
    let rewards = json!({
        "rewards": [1.0, 0.5, 0.0],
        "scores": [1.0, 0.5, 0.0],
        "extra_logs": {
            "function": [1.0, 0.0, 0.0], "quality": [1.0, 1.0, 0.0], "passed": [1.0, 0.0, 0.0], "infra_error": [0.0, 0.0, 1.0]
        },
    });
    check("/openrlhf", request, 200, &rewards);
    let (status, body) =
        server.post("/openrlhf", &json!({"query": ["a"], "prompts": ["a"], "labels": ["nobody"]}));
    assert_eq!(status, 400, "{body}");

    check("/slime", json!({"prompt": "q", "response": "right", "label": "known"}), 200, &json!(1.0));
    let (status, body) =
        server.post("/slime", &json!({"prompt": "q", "response": "outage", "label": "known"}));
    assert_eq!(status, 503, "an outage is no number: {body}");

    let mut verified = json!({
        "responses_create_params": {"input": []},
        "response": {"output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "wrong"}]}
        ]},
        "verifier_metadata": {"task": task("t")},
    });
    let request = verified.clone();
    verified["reward"] = json!(0.5);
    verified["reward_components"] = json!({"function": 0.0, "quality": 1.0});
    check("/verify", request, 200, &verified);
    check("/seed_session", json!({}), 200, &json!({}));
    let responses = json!({"verify_responses": [{"reward": 1.0}, {"reward": 0.5}, {}]});
    check("/aggregate_metrics", responses, 200, &json!({"count": 2, "mean_reward": 0.75}));

    let request = json!({"program": "right", "tests": ["assert f() == 1", "assert f() == 2"], "max_execution_time": 2.0});
    check("/test_program", request, 200, &json!({"results": [1, 1], "runtimes": [0.25, 0.25]}));
    let request = json!({"program": "wrong", "tests": [{"input": "1", "output": "2"}]});
    check("/test_program_stdio", request, 200, &json!({"results": [0], "runtimes": [0.25]}));
    let (status, _) = server.post("/test_program", &json!({"program": "outage", "tests": ["assert 1"]}));
    assert_eq!(status, 503);

    let request = json!({
        "compile_timeout": 10, "run_timeout": 10, "code": "right", "stdin": "in", "memory_limit_MB": 1024, "language": "python",
        "files": {"a.txt": "YQ=="}, "fetch_files": ["a.txt"],
    });
    let result = json!({
        "status": "Success", "message": "", "compile_result": null, "executor_pod_name": null, "files": {"a.txt": "YQ=="},
        "run_result": {"status": "Finished", "execution_time": 0.25, "return_code": 0, "stdout": "in", "stderr": ""},
    });
    check("/run_code", request, 200, &result);
    let (status, _) = server.post("/run_code", &json!({"code": "outage", "language": "python"}));
    assert_eq!(status, 504, "verl tries again after this status only");
    let (status, body) = server.post("/run_code", &json!({"code": "x", "language": "cpp"}));
    assert_eq!(status, 400, "{body}");
}

#[test]
fn the_page_and_the_numbers_are_there() {
    let server = Running::start(Fake::default(), ServeConfig::default());
    server.post("/v1/score", &completions("t", &["right", "wrong", "right"]));
    let (status, page) = server.get_text("/");
    assert!(status == 200 && page.contains("<script src=\"page.js\""), "{page}");
    for part in ["/page.css", "/page.js", "/openapi.json"] {
        assert_eq!(server.get_text(part).0, 200, "{part}");
    }
    let (_, live) = server.get("/v1/live");
    assert_eq!(live["totals"], json!([2, 0, 1, 0, 0, 0]));
    assert_eq!(live["recent"].as_array().unwrap().len(), 3);
    assert!(live["request_seconds"]["p50"].is_number());
    let (_, metrics) = server.get_text("/metrics");
    for line in [
        "real_items_total{verdict=\"good\"} 2",
        "real_requests_total{path=\"/v1/score\",status=\"200\"} 1",
        "real_queue_items 0",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}\n{metrics}");
    }
    let bucket =
        metrics.lines().find(|line| line.starts_with("real_request_seconds_bucket{le=\"+Inf\"}")).unwrap();
    let count = metrics.lines().find(|line| line.starts_with("real_request_seconds_count")).unwrap();
    assert_eq!(bucket.rsplit(' ').next(), count.rsplit(' ').next());
}
