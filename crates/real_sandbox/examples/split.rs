//! What a job costs, and who pays: `cargo run --release -p real_sandbox --example split -- [PYTHON [SITE_PACKAGES]]`.
//!
//! Processor time and page faults of a job of one line, in this process, in the worker and in the job itself; beside it, what a fork costs that does
//! nothing. With a folder that holds numpy the same for a worker that has imported it.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use real_sandbox::{Action, Config, Ending, Job, Limits, Profile, Sandbox, Strictness, Value};

const JOBS: u32 = 300;

const ADD: &str = "def f(a):\n    return a + 1\n";
/// Forks from inside of a job, which is a process like the worker.
const FORK: &str = "\
import os, resource
def f(a):
    for _ in range(300):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) / 300 * 1000
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let python = arguments.next().unwrap_or_else(|| "python3".into());
    let site_packages: Vec<PathBuf> = arguments.collect();
    println!(
        "| worker | fork alone, ms | here, ms | worker, ms | job, ms | all, ms | faults of worker, job |"
    );
    println!("|---|---|---|---|---|---|---|");
    for profile in [Profile::Light, Profile::Plain, Profile::Numpy] {
        if profile == Profile::Numpy && site_packages.is_empty() {
            continue;
        }
        let config = Config {
            python: python.clone(),
            profile,
            site_packages: site_packages.clone(),
            workers: NonZeroUsize::MIN,
            strictness: Strictness::Degrade,
            ..Config::default()
        };
        measure(&Sandbox::start(config)?, profile)?;
    }
    Ok(())
}

fn measure(sandbox: &Sandbox, profile: Profile) -> Result<(), Box<dyn std::error::Error>> {
    let add = job(ADD);
    sandbox.run(&add)?;
    let before = Usage::now();
    for _ in 0..JOBS {
        let ending = sandbox.run(&add)?.ending;
        assert_eq!(ending, Ending::Returned(Value::Int("2".to_owned())), "a job that adds");
    }
    let used = Usage::now().since(&before);
    let fork = match sandbox.run(&job(FORK))?.ending {
        Ending::Returned(Value::Float(milliseconds)) => milliseconds,
        other => return Err(format!("the forks ended with {other:?}").into()),
    };
    let [here, worker, jobs, worker_faults, job_faults] = used.map(|total| total / f64::from(JOBS));
    println!(
        "| {profile:?} | {fork:.2} | {here:.2} | {worker:.2} | {jobs:.2} | {:.2} | {worker_faults:.0}, {job_faults:.0} |",
        here + worker + jobs
    );
    Ok(())
}

fn job(program: &str) -> Job {
    let args = vec![Value::Int("1".to_owned())];
    Job {
        prelude: String::new(),
        program: program.to_owned(),
        files: vec![],
        action: Action::Call { entry_point: "f".to_owned(), args, kwargs: vec![] },
        collect: vec![],
        limits: Limits::default(),
    }
}

/// Milliseconds of this process, of its descendants and of what these have waited for; page faults of the latter two.
struct Usage([f64; 5]);

impl Usage {
    fn now() -> Self {
        let mut family = vec![std::process::id()];
        let mut next = 0;
        while let Some(process) = family.get(next) {
            let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
            let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
            let children: String = children.collect();
            family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            next += 1;
        }
        let mut total = [0.0; 5];
        for (place, process) in family.iter().enumerate() {
            let clock = fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
            let nanoseconds: f64 =
                clock.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or_default();
            total[usize::from(place > 0)] += nanoseconds / 1e6;
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let fields: Vec<f64> = stat.rsplit(") ").next().unwrap_or("").split(' ').map(number).collect();
            if let (true, Some(&[faults, faults_of_children])) = (place > 0, fields.get(7..9)) {
                total[2] += 10.0 * fields[13..15].iter().sum::<f64>();
                total[3] += faults;
                total[4] += faults_of_children;
            }
        }
        Self(total)
    }

    fn since(&self, before: &Self) -> [f64; 5] {
        std::array::from_fn(|place| self.0[place] - before.0[place])
    }
}

fn number(field: &str) -> f64 {
    field.parse().unwrap_or_default()
}
