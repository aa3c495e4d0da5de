//! The extension module `real._real`, under the Python files in `python/real`.
//!
//! Text crosses the border: a task comes as its JSON, and a score leaves as the line that `real score` would write. So the bytes are the
//! same through every door, Python parses them with its own fast parser, and a change of a record needs no change here.
//!
//! The interpreter's lock is released while programs are judged. Engines ask from many threads, for one completion at a time; all of them
//! meet in one [`Queue`](real_reward::Queue) and are judged in batches.
//!
//! A process that forks (a data loader, a Ray worker) has the parent's scorer in its memory, without the threads that drive it and
//! with the parent's workers at the other end. Such a copy refuses to work and is never dropped; `python/real/__init__.py` makes a new one.

use pyo3::prelude::*;

/// What Python sees; documented in `python/real/_real.pyi`.
#[pymodule]
mod _real {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use pyo3::exceptions::{PyRuntimeError, PyValueError};
    use pyo3::prelude::*;
    use real_analysis::Options;
    use real_reward::{Benchmark, Item, Queue, QueueConfig, Split, Task, Tools};
    use serde::Serialize;
    use serde_json::json;

    /// How often a thread that waits looks for a Ctrl-C.
    const LOOK_UP: Duration = Duration::from_millis(100);

    /// Finds weaknesses in a program: the JSON of `{findings, parsed, threat_model}`.
    #[pyfunction]
    fn scan(py: Python<'_>, code: &str, min_confidence: f32, entry_point: Option<String>) -> String {
        py.detach(|| {
            let options = Options { entry_point, ..Options::default() };
            let mut analysis = real_analysis::analyze(code, &options);
            analysis.findings.retain(|finding| finding.confidence >= min_confidence);
            let (parsed, threat_model) = (analysis.parsed, analysis.threat_model);
            json!({ "findings": analysis.findings, "parsed": parsed, "threat_model": threat_model })
                .to_string()
        })
    }

    /// The tasks of a benchmark, one JSON object a line.
    #[pyfunction]
    fn tasks(
        py: Python<'_>,
        benchmark: &str,
        data: Option<String>,
        split: &str,
        limit: usize,
    ) -> PyResult<String> {
        let tasks = py.detach(|| read(benchmark, data, split, limit)).map_err(PyValueError::new_err)?;
        Ok(tasks.iter().map(|task| json_text(task) + "\n").collect())
    }

    fn read(benchmark: &str, data: Option<String>, split: &str, limit: usize) -> Result<Vec<Task>, String> {
        let words = |error: real_reward::Error| error.to_string();
        let benchmark: Benchmark = benchmark.parse().map_err(words)?;
        let split: Split = split.parse().map_err(words)?;
        if benchmark != Benchmark::Starter && data.is_none() {
            return Err(format!("{benchmark} needs `data`, the folder of its files"));
        }
        let tools = Tools::install(&mut |_| ()).map_err(words)?;
        let folder = data.unwrap_or_default();
        let mut tasks = real_reward::load(benchmark, folder.as_ref(), split, &tools).map_err(words)?;
        tasks.truncate(limit);
        Ok(tasks)
    }

    /// The judges, ready. May be used from many threads at once.
    #[pyclass(frozen)]
    struct Scorer {
        queue: Option<Queue>,
        process: u32,
    }

    #[pymethods]
    impl Scorer {
        /// `config` is the JSON of a reward's configuration.
        #[new]
        fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
            let config = serde_json::from_str(config)
                .map_err(|error| PyValueError::new_err(format!("config: {error}")))?;
            let scorer = py.detach(|| {
                let tools = Tools::install(&mut |_| ())?;
                real_reward::Scorer::new(config, &tools)
            });
            let scorer = scorer.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            // Whoever has to wait is a thread that waits already: the queue needs no bound.
            let limits = QueueConfig { capacity: usize::MAX, ..QueueConfig::default() };
            let queue = Queue::start(move |items, done| scorer.score_each(items, done), limits);
            Ok(Self { queue: Some(queue), process: std::process::id() })
        }

        /// The scores of items (the JSON of a task, the number of the sample, the completion), in order, as a JSON array.
        fn score(
            &self,
            py: Python<'_>,
            items: Vec<(String, u64, String)>,
            deadline: f64,
        ) -> PyResult<String> {
            let queue = match &self.queue {
                Some(queue) if self.process == std::process::id() => queue,
                _ => return Err(PyRuntimeError::new_err("this scorer belongs to another process")),
            };
            let end = Duration::try_from_secs_f64(deadline)
                .ok()
                .and_then(|deadline| Instant::now().checked_add(deadline))
                .ok_or_else(|| PyValueError::new_err("deadline: a number of seconds is expected"))?;
            let items = py.detach(|| parse(items)).map_err(PyValueError::new_err)?;
            let ticket =
                queue.submit(items, || ()).map_err(|refused| PyRuntimeError::new_err(refused.to_string()))?;
            while Instant::now() < end {
                if py.detach(|| ticket.wait(end.min(Instant::now() + LOOK_UP))) {
                    break;
                }
                py.check_signals()?;
            }
            Ok(py.detach(|| json_text(ticket.finish("the deadline has passed").as_slice())))
        }
    }

    fn parse(items: Vec<(String, u64, String)>) -> Result<Vec<Item>, String> {
        let item = |(index, (task, sample, completion)): (usize, (String, u64, String))| {
            let task =
                serde_json::from_str(&task).map_err(|error| format!("item {index}: no task: {error}"))?;
            Ok(Item { task: Arc::new(task), sample, completion })
        };
        items.into_iter().enumerate().map(item).collect()
    }

    fn json_text<T: Serialize + ?Sized>(records: &T) -> String {
        serde_json::to_string(records).expect("records are plain data")
    }

    impl Drop for Scorer {
        fn drop(&mut self) {
            if self.process != std::process::id() {
                // The threads and the workers behind it are the parent's.
                std::mem::forget(self.queue.take());
            }
        }
    }
}
