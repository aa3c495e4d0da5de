//! Load on a server, with real programs: `cargo xtask bench load` builds and runs this. With a URL the server is one that runs already;
//! without one it is started here, with the real judges, and has to end well.
//!
//! Every client asks for programs that only it has sent, half of them wrong, and checks each answer: an answer that is lost, crossed or comes
//! twice ends the run.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use real_reward::{RewardConfig, Scorer, Tools};
use real_server::{ServeConfig, Server};
use serde_json::{Value, json};

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    outages: AtomicUsize,
    refusals: AtomicUsize,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |fallback| arguments.next().map_or(Ok(fallback), |text| text.parse::<u64>());
    let (clients, seconds) = (number(200)? as usize, number(120)?);
    if let Some(url) = arguments.next() {
        load(&url, clients, seconds);
        return Ok(());
    }
    let tools = Tools::install(&mut |line| eprintln!("{line}"))?;
    let scorer = Scorer::new(RewardConfig { allow_weak_sandbox: true, ..RewardConfig::default() }, &tools)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = ServeConfig { addr: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServeConfig::default() };
    let server = runtime.block_on(Server::bind(scorer, config))?;
    let url = format!("http://{}", server.addr());
    let (over, shutdown) = tokio::sync::oneshot::channel::<()>();
    let serving = runtime.spawn(server.serve(async move { shutdown.await.unwrap_or_default() }));
    load(&url, clients, seconds);
    drop(over);
    Ok(runtime.block_on(serving)?)
}

fn load(url: &str, clients: usize, seconds: u64) {
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
