//! Many clients at once: nothing is lost, nothing crossed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use real_reward::QueueConfig;
use real_server::ServeConfig;
use serde_json::{Value, json};

use crate::support::{Fake, Running, agent, task};

const CLIENTS: usize = 200;

#[test]
fn two_hundred_clients_get_their_own_answers() {
    let queue = QueueConfig { capacity: 500, batch: 16, graders: 4 };
    let server = Running::start(Fake::default(), ServeConfig { queue, ..ServeConfig::default() });
    let url = format!("http://{}/v1/score", server.addr);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (url, refused) = (&url, &refused);
            scope.spawn(move || {
                let agent = agent();
                for round in 0..10 {
                    ask(&agent, url, client, round, refused);
                }
            });
        }
    });
    let items: usize =
        (0..CLIENTS).map(|client| (0..10).map(|round| size(client, round)).sum::<usize>()).sum();
    assert_eq!(server.judged(), items, "each item is judged once");
    let (_, live) = server.get("/v1/live");
    let answered: u64 = live["totals"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(answered, items as u64);
    assert_eq!((&live["waiting"], &live["judging"]), (&json!(0), &json!(0)));
    eprintln!("{items} items, {} requests refused and sent again", refused.into_inner());
}

/// Completions of a request.
fn size(client: usize, round: usize) -> usize {
    1 + (client + round) % 5
}

/// One request, sent again as long as the queue is full, and its answer checked.
fn ask(agent: &ureq::Agent, url: &str, client: usize, round: usize, refused: &AtomicUsize) {
    let id = format!("{client}/{round}");
    let text = |sample: usize| if (client + round + sample).is_multiple_of(2) { "right" } else { "wrong" };
    let completion = |sample: usize| json!({"task_id": id, "sample": sample, "completion": text(sample)});
    let completions: Vec<Value> = (0..size(client, round)).map(completion).collect();
    let request = json!({"tasks": [task(&id)], "completions": completions});
    let scores = loop {
        let mut response = agent.post(url).send_json(&request).unwrap();
        match response.status().as_u16() {
            200 => break response.body_mut().read_json::<Value>().unwrap()["scores"].clone(),
            429 => {
                assert!(response.headers().contains_key("retry-after"));
                refused.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
            status => panic!("status {status}"),
        }
    };
    let scores = scores.as_array().unwrap();
    assert_eq!(scores.len(), size(client, round));
    for (sample, score) in scores.iter().enumerate() {
        assert_eq!((&score["task_id"], &score["sample"]), (&json!(id), &json!(sample)));
        assert_eq!(score["passed"], json!(text(sample) == "right"));
    }
}
