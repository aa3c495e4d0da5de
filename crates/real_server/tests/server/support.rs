//! A server on a thread, its judges, and a client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use real_reward::{CaseKind, CaseReport, CaseVerdict, Check, Score, Task};
use real_sandbox::{Action, Ending, Job, Limits, Outcome};
use real_server::{Judges, ServeConfig, Server};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A task of our own, as JSON.
pub(crate) fn task(id: &str) -> Value {
    let case = json!({"args": [], "expect": {"returns": 1}});
    json!({"id": id, "benchmark": "own", "messages": [], "entry_point": "f", "tests": {"kind": "call", "cases": [case]}})
}

/// The same, parsed.
pub(crate) fn shared_task(id: &str) -> Arc<Task> {
    Arc::new(serde_json::from_value(task(id)).unwrap())
}

/// Judges that do as the completion says: `right`, `outage`, or anything else, which is wrong.
#[derive(Default)]
pub(crate) struct Fake {
    /// Where there is one, each batch waits for a word.
    go: Option<Mutex<mpsc::Receiver<()>>>,
    judged: Arc<AtomicUsize>,
}

impl Fake {
    /// Judges that wait for a word before each batch. Without a sender they wait no more.
    pub(crate) fn on_command() -> (Self, mpsc::Sender<()>) {
        let (sender, go) = mpsc::channel();
        (Self { go: Some(Mutex::new(go)), judged: Arc::default() }, sender)
    }
}

fn score(task: &Task, completion: &str) -> Score {
    let mut score = Score::outage(&task.id, 0, "out of order");
    if completion == "outage" {
        return score;
    }
    let right = completion == "right";
    score.infra_error = None;
    score.passed = right;
    score.quality = Some(1.0);
    score.function = Some(f64::from(u8::from(right)));
    score.reward = Some(if right { 1.0 } else { 0.5 });
    let verdict = if right { CaseVerdict::Pass } else { CaseVerdict::Wrong };
    score.tests.cases = vec![CaseReport { kind: CaseKind::Function, verdict, detail: String::new() }];
    score
}

fn outage() -> real_reward::Error {
    real_reward::Error::Sandbox("out of order".to_owned())
}

fn checks<T>(program: &str, tests: &[T]) -> Result<Vec<Check>, real_reward::Error> {
    if program == "outage" {
        return Err(outage());
    }
    let check = Check { passed: program == "right", wall: Duration::from_millis(250) };
    Ok(tests.iter().map(|_| check).collect())
}

impl Judges for Fake {
    fn score(&self, items: &[(&Task, &str)], done: &(dyn Fn(usize, Score) + Sync)) {
        if let Some(go) = &self.go {
            // Nobody is left to give the word once the test is over.
            let _ = go.lock().unwrap().recv();
        }
        self.judged.fetch_add(items.len(), Ordering::Relaxed);
        for (place, (task, completion)) in items.iter().enumerate() {
            done(place, score(task, completion));
        }
    }

    fn run(&self, job: &Job) -> Result<Outcome, real_reward::Error> {
        if job.program == "outage" {
            return Err(outage());
        }
        let Action::Script { stdin } = &job.action else { panic!("a script is expected") };
        Ok(Outcome {
            ending: Ending::Finished,
            stdout: stdin.clone(),
            stderr: Vec::new(),
            files: job.files.iter().filter(|(name, _)| job.collect.contains(name)).cloned().collect(),
            wall: Duration::from_millis(250),
            cpu: Duration::from_millis(200),
        })
    }

    fn assertions(
        &self,
        program: &str,
        assertions: &[String],
        _: &Limits,
    ) -> Result<Vec<Check>, real_reward::Error> {
        checks(program, assertions)
    }

    fn outputs(
        &self,
        program: &str,
        cases: &[(String, String)],
        _: &Limits,
    ) -> Result<Vec<Check>, real_reward::Error> {
        checks(program, cases)
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    judged: Arc<AtomicUsize>,
    shut_down: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(judges: Fake, config: ServeConfig) -> Self {
        let judged = Arc::clone(&judges.judged);
        let config = ServeConfig { addr: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
        let (shut_down, asked) = oneshot::channel::<()>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(judges, config).await.unwrap();
                tell.send(server.addr()).unwrap();
                server.serve(async { drop(asked.await) }).await;
            });
        });
        Self { addr: told.recv().unwrap(), judged, shut_down: Some(shut_down), thread: Some(thread) }
    }

    /// Items that the judges have seen.
    pub(crate) fn judged(&self) -> usize {
        self.judged.load(Ordering::Relaxed)
    }

    pub(crate) fn shut_down(&mut self) {
        drop(self.shut_down.take());
    }

    /// Waits for the end of a server that was told to shut down.
    pub(crate) fn ended(&mut self, limit: Duration) {
        let thread = self.thread.take().unwrap();
        let deadline = Instant::now() + limit;
        while !thread.is_finished() {
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        thread.join().unwrap();
    }

    /// Waits until what the page shows is as it should be.
    pub(crate) fn until(&self, condition: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition(&self.get("/v1/live").1) {
            assert!(Instant::now() < deadline, "nothing happens");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        post(self.addr, path, body)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.get_text(path);
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) fn get_text(&self, path: &str) -> (u16, String) {
        let mut response = agent().get(format!("http://{}{path}", self.addr)).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    /// Sends these bytes; everything that comes back until the server closes.
    pub(crate) fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shut_down();
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

/// A client that takes every status for an answer.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_mins(1))).build().into()
}

pub(crate) fn post(addr: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let mut response = agent().post(format!("http://{addr}{path}")).send_json(body).unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().unwrap())
}
