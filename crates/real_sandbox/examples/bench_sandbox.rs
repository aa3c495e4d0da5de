//! What a call job costs: `cargo run --release -p real_sandbox --example bench_sandbox [-- JOBS [SITE_PACKAGES]]`.
//!
//! One worker, one caller: the latency of a job, which on a busy machine is also the inverse of a processor's throughput. With a
//! `site-packages` folder that holds `numpy`, that profile is measured too.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use real_sandbox::{Action, Config, Ending, Job, Limits, Profile, Sandbox, Value};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let jobs = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let plain = Config { workers: NonZeroUsize::MIN, ..Config::default() };
    measure("plain", plain.clone(), "def f(a):\n    return a + 1\n", jobs)?;
    if let Some(folder) = arguments.next() {
        let config = Config { profile: Profile::Numpy, site_packages: vec![PathBuf::from(folder)], ..plain };
        let program = "import numpy as np\ndef f(a):\n    return np.full(2, a).sum() - a + 1\n";
        measure("numpy", config, program, jobs)?;
    }
    Ok(())
}

fn measure(name: &str, config: Config, program: &str, jobs: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    let sandbox = Sandbox::start(config)?;
    let start = started.elapsed();
    let action =
        Action::Call { entry_point: "f".to_owned(), args: vec![Value::Int("1".to_owned())], kwargs: vec![] };
    let job = Job {
        prelude: String::new(),
        program: program.to_owned(),
        files: vec![],
        action,
        collect: vec![],
        limits: Limits::default(),
    };
    let mut times = Vec::with_capacity(jobs);
    let mut cpu = Duration::ZERO;
    for _ in 0..jobs {
        let started = Instant::now();
        let outcome = sandbox.run(&job)?;
        times.push(started.elapsed());
        cpu += outcome.cpu;
        anyhow::ensure!(
            outcome.ending == Ending::Returned(Value::Int("2".to_owned())),
            "{:?}",
            outcome.ending
        );
    }
    times.sort_unstable();
    println!(
        "{name}: start {start:.1?}; a job: median {:.2?}, 90 % {:.2?}, best {:.2?}; CPU in the job, mean {:.2?}",
        times[jobs / 2],
        times[jobs * 9 / 10],
        times[0],
        cpu / jobs as u32
    );
    Ok(())
}
