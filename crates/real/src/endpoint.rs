//! A model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a hosted service), as the subject of an evaluation.
//!
//! Each answer is one `POST …/chat/completions`, and many are under way at once. What an overloaded or restarting server does
//! (refused connections, timeouts, status 408, 429 and 5xx) is tried again, with a wait that doubles; what will not change (an unknown
//! model, a prompt that is too long, a wrong key) ends the evaluation at once. Either way nothing is lost: each answer is written to a
//! file when it comes, and the same command goes on from there.
//!
//! ```text
//!  {"endpoint": "http://localhost:8000/v1", "model": "qwen", "temperature": 0.0, …}     the settings, which must be the same
//!  {"task_id": "starter-7", "sample": 0, "completion": "…"}                             as the answers came
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use real_reward::Task;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::StatusCode;

use crate::generate::SamplingArgs;
use crate::kept::Kept;
use crate::policy::code_end;
use crate::progress::Progress;
use crate::records::Completion;
use crate::seeds::{Purpose, derive};

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The variable with the key of an endpoint that wants one. It has a name of its own, so that no other service's key is sent by accident.
const KEY: &str = "REAL_ENDPOINT_KEY";

/// Arguments beside the URL.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EndpointArgs {
    /// The model's name at the endpoint; may be left out where the endpoint offers only one.
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub model_name: Option<String>,
    /// Tries after the first, with waits of 1, 2, 4, … seconds, before the evaluation stops.
    #[arg(long, default_value_t = 6, requires = "endpoint")]
    pub retries: u32,
    /// Longest time for one answer, seconds.
    #[arg(long, default_value_t = 600.0, requires = "endpoint")]
    pub timeout: f64,
}

/// An endpoint that can be asked.
#[derive(Debug)]
pub(crate) struct Endpoint {
    base: String,
    agent: ureq::Agent,
    key: Option<String>,
    retries: u32,
}

/// Why a request has no answer.
enum Failure {
    /// It may have one later; the endpoint may have said when.
    Passing { reason: String, wait: Option<Duration> },
    /// It never will.
    Lasting(String),
}

#[derive(Deserialize)]
struct Reply {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Answer,
}

#[derive(Deserialize)]
struct Answer {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<ModelEntry>,
}

#[derive(Deserialize)]
struct ModelEntry {
    id: String,
}

/// Completions of all tasks, in order. Answers are kept in the file `kept` as they come, and those that are there already are not asked for
/// again.
pub(crate) fn answer(
    url: &str,
    endpoint: &EndpointArgs,
    tasks: &[Task],
    sampling: &SamplingArgs,
    kept: &Path,
) -> Result<Vec<Completion>> {
    sampling.check()?;
    let client = Endpoint::new(url, endpoint, sampling.concurrency)?;
    let model = client.model(endpoint.model_name.as_deref()).map_err(|reason| anyhow!(reason))?;
    let mut kept = Kept::open(kept, &settings(&client.base, &model, sampling))?;
    let asked: Vec<(&Task, u64)> = tasks
        .iter()
        .flat_map(|task| (0..sampling.samples as u64).map(move |sample| (task, sample)))
        .collect();
    let open: Vec<usize> = (0..asked.len()).filter(|index| kept.get(asked[*index]).is_none()).collect();
    if open.len() < asked.len() {
        eprintln!("{}: going on from there", kept.described());
    }
    let mut progress = Progress::new("generate", asked.len());
    let outcome = client.ask_all(&model, &asked, &open, sampling, |completion| {
        kept.push(completion)?;
        progress.set(kept.len(), "");
        Ok(())
    });
    progress.finish();
    outcome.with_context(|| format!("{}, and the same command goes on from there", kept.described()))?;
    Ok(kept.all(&asked))
}

/// What the answers depend on.
fn settings(base: &str, model: &str, sampling: &SamplingArgs) -> Value {
    json!({
        "endpoint": base,
        "model": model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_new_tokens": sampling.max_new_tokens,
        "stop_at_code_end": sampling.stop_at_code_end,
        "seed": sampling.seed,
        "system": sampling.system,
    })
}

impl Endpoint {
    fn new(url: &str, args: &EndpointArgs, concurrency: usize) -> Result<Self> {
        let uri: ureq::http::Uri = url.parse().with_context(|| format!("--endpoint {url} is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            bail!("--endpoint {url}: an address such as http://localhost:8000/v1 is expected");
        }
        let timeout = Duration::try_from_secs_f64(args.timeout).ok().filter(|timeout| !timeout.is_zero());
        let timeout = timeout.context("--timeout must be a number of seconds above 0")?;
        let version = if uri.path().trim_matches('/').is_empty() { "/v1" } else { "" };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .max_idle_connections_per_host(concurrency)
            .max_idle_connections(concurrency)
            .build();
        Ok(Self {
            base: format!("{}{version}", url.trim_end_matches('/')),
            agent: config.into(),
            key: std::env::var(KEY).ok(),
            retries: args.retries,
        })
    }

    /// The model's name: the one that is asked for, or the only one there is.
    fn model(&self, wanted: Option<&str>) -> Result<String, String> {
        if let Some(name) = wanted {
            return Ok(name.to_owned());
        }
        let url = format!("{}/models", self.base);
        let models: Models = self.patiently(&AtomicBool::new(false), || self.get(&url))?;
        match models.data.as_slice() {
            [only] => Ok(only.id.clone()),
            [] => Err(format!("{url} offers no model")),
            many => {
                let names: Vec<&str> = many.iter().map(|model| model.id.as_str()).collect();
                Err(format!("{url} offers several models; choose with --model-name: {}", names.join(", ")))
            }
        }
    }

    /// Asks for the answers with the numbers `open`, several at a time. The first failure that lasts stops all; what comes until then is handed
    /// on too.
    fn ask_all(
        &self,
        model: &str,
        asked: &[(&Task, u64)],
        open: &[usize],
        sampling: &SamplingArgs,
        mut keep: impl FnMut(Completion) -> Result<()>,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let (sender, answers) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..sampling.concurrency.clamp(1, open.len().max(1)) {
                let (sender, next, stop) = (sender.clone(), &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed)
                        && let Some(&index) = open.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let (task, sample) = asked[index];
                        let seed = derive(sampling.seed, Purpose::Sampling, index as u64);
                        let answer = self.patiently(stop, || self.ask(model, task, seed, sampling));
                        if answer.is_err() {
                            stop.store(true, Ordering::Relaxed);
                        }
                        // The receiver lives until the last sender is gone.
                        let _ = sender.send((task, sample, answer));
                    }
                });
            }
            drop(sender);
            let mut failure = None;
            for (task, sample, answer) in answers {
                let kept = match answer {
                    Ok(completion) => keep(Completion { task_id: task.id.clone(), sample, completion }),
                    Err(reason) => Err(anyhow!("task {}: {reason}", task.id)),
                };
                if let Err(error) = kept {
                    stop.store(true, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
            }
            failure.map_or(Ok(()), Err)
        })
    }

    fn ask(&self, model: &str, task: &Task, seed: u64, sampling: &SamplingArgs) -> Result<String, Failure> {
        let body = json!({
            "model": model,
            "messages": task.messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            // Servers keep it in a signed integer, some in a C int.
            "seed": seed & 0x7fff_ffff,
        });
        let url = format!("{}/chat/completions", self.base);
        let reply: Reply = self.read(&url, self.authorized(self.agent.post(&url)).send_json(body))?;
        let choice = reply.choices.into_iter().next();
        let choice = choice.ok_or_else(|| Failure::Lasting(format!("{url} answered without `choices`")))?;
        let text = choice.message.content.unwrap_or_default();
        Ok(if sampling.stop_at_code_end { until_code_end(&text).to_owned() } else { text })
    }

    fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, Failure> {
        self.read(url, self.authorized(self.agent.get(url)).call())
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        url: &str,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let mut response = response.map_err(|error| self.no_response(&error))?;
        let status = response.status();
        let wait = response.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
        let text = response.body_mut().read_to_string().map_err(|error| self.no_response(&error))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| {
                Failure::Lasting(format!(
                    "{url} did not answer as OpenAI's API does ({error}): {}",
                    start(&text)
                ))
            });
        }
        let reason = format!("{url} answered {status}: {}", start(&text));
        let passes = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        Err(match status {
            _ if passes => Failure::Passing { reason, wait: wait.map(Duration::from_secs) },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::Lasting(format!("{reason} (its key belongs in the variable {KEY})"))
            }
            _ => Failure::Lasting(reason),
        })
    }

    fn no_response(&self, error: &ureq::Error) -> Failure {
        let reason = format!(
            "the endpoint {} does not answer: {error}; is the server running, and is this its address? \
             (vLLM's is http://HOST:8000/v1, llama.cpp's http://HOST:8080/v1)",
            self.base
        );
        Failure::Passing { reason, wait: None }
    }

    /// Tries until there is an answer, a failure that lasts, no try left, or `stop`.
    fn patiently<T>(
        &self,
        stop: &AtomicBool,
        mut request: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, String> {
        let mut tries = 0;
        loop {
            let (reason, wait) = match request() {
                Ok(answer) => return Ok(answer),
                Err(Failure::Lasting(reason)) => return Err(reason),
                Err(Failure::Passing { reason, wait }) => (reason, wait),
            };
            if tries == self.retries || stop.load(Ordering::Relaxed) {
                return Err(format!("{reason} ({} tries)", tries + 1));
            }
            let wait = wait.unwrap_or(Duration::from_secs(1 << tries.min(6))).min(LONGEST_WAIT);
            tries += 1;
            tracing::warn!(%reason, "try {tries} of {} failed; the next is in {wait:?}", self.retries + 1);
            rest(wait, stop);
        }
    }
}

/// Sleeps, unless it is time to stop.
fn rest(wait: Duration, stop: &AtomicBool) {
    let end = Instant::now() + wait;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// A text up to where its first code block closes, as `--stop-at-code-end` has it; all of it where none does.
fn until_code_end(text: &str) -> &str {
    &text[..code_end(text).unwrap_or(text.len())]
}

/// The start of what a server said.
fn start(text: &str) -> String {
    text.trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_code_is_cut_off() {
        let check = |text: &str, kept: &str| assert_eq!(until_code_end(text), kept, "{text:?}");
        check("So:\n```python\nx = 1\n```\nThat is it.\n```\n", "So:\n```python\nx = 1\n```");
        check("```python\nx = '```'\ny = 2\n``` \nz", "```python\nx = '```'\ny = 2\n```");
        check("```python\nx = 1\n", "```python\nx = 1\n");
        check("```\nx = 1\n```python\ny = 2\n```\n", "```\nx = 1\n```python\ny = 2\n```\n");
        check("", "");
    }
}
