//! Load on a running server, with real programs: `cargo run --release -p real_server --example load -- URL CLIENTS SECONDS`.
//!
//! Every client asks for programs that only it has sent, half of them wrong, and checks each answer: an answer that is lost, crossed or comes
//! twice ends the run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    outages: AtomicUsize,
    refusals: AtomicUsize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, clients, seconds] = arguments.as_slice() else {
        eprintln!("usage: load URL CLIENTS SECONDS, such as http://127.0.0.1:8700 200 120");
        std::process::exit(2);
    };
    let clients: usize = clients.parse().expect("CLIENTS is a number");
    let seconds: u64 = seconds.parse().expect("SECONDS is a number");
    let url = format!("{url}/v1/score");
    let seen = Seen::default();
    let start = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let run = |client: usize| {
            let (url, seen) = (&url, &seen);
            scope.spawn(move || client_loop(url, client, start + Duration::from_secs(seconds), seen))
        };
        let threads: Vec<_> = (0..clients).map(run).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client found a wrong answer")).collect()
    });
    times.sort_unstable();
    let answers = seen.answers.into_inner();
    println!(
        "{answers} answers, all of them right, in {:.1} s: {:.1} a second; {} outages, {} refusals; times: median {:.2?}, 95 % {:.2?}, longest {:.2?}",
        start.elapsed().as_secs_f64(),
        answers as f64 / start.elapsed().as_secs_f64(),
        seen.outages.into_inner(),
        seen.refusals.into_inner(),
        times[times.len() / 2],
        times[times.len() * 95 / 100],
        times[times.len() - 1],
    );
}

/// Asks until the end; the time of each answer.
fn client_loop(url: &str, client: usize, end: Instant, seen: &Seen) -> Vec<Duration> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut times = Vec::new();
    for round in 0.. {
        if Instant::now() >= end {
            break;
        }
        let begin = Instant::now();
        if ask(&agent, url, client, round, seen) {
            times.push(begin.elapsed());
        }
    }
    times
}

/// One request; whether it was accepted.
fn ask(agent: &ureq::Agent, url: &str, client: usize, round: usize, seen: &Seen) -> bool {
    let id = format!("load-{client}-{round}");
    let number = client * 1_000_000 + round;
    let case = json!({"args": [1], "expect": {"returns": number + 1}});
    let task = json!({"id": id, "benchmark": "own", "messages": [], "entry_point": "f", "tests": {"kind": "call", "cases": [case]}});
    let right = |sample: usize| (round + sample).is_multiple_of(2);
    let program = |sample: usize| {
        let wrong = usize::from(!right(sample));
        format!("```python\ndef f(x: int) -> int:\n    return x + {}\n```", number + wrong)
    };
    let completions: Vec<Value> = (0..2)
        .map(|sample| json!({"task_id": id, "sample": sample, "completion": program(sample)}))
        .collect();
    let request = json!({"tasks": [task], "completions": completions});
    let mut response = agent.post(url).send_json(&request).expect("the server answers");
    match response.status().as_u16() {
        200 => {}
        429 | 503 => {
            seen.refusals.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(200));
            return false;
        }
        status => panic!("status {status}: {}", response.body_mut().read_to_string().unwrap_or_default()),
    }
    let answer: Value = response.body_mut().read_json().expect("the answer is JSON");
    let scores = answer["scores"].as_array().expect("there are scores");
    assert_eq!(scores.len(), 2, "{answer}");
    for (sample, score) in scores.iter().enumerate() {
        assert_eq!((&score["task_id"], &score["sample"]), (&json!(id), &json!(sample)), "{answer}");
        if score["infra_error"].is_null() {
            assert_eq!(score["passed"], right(sample), "{answer}");
            seen.answers.fetch_add(1, Ordering::Relaxed);
        } else {
            seen.outages.fetch_add(1, Ordering::Relaxed);
        }
    }
    true
}
