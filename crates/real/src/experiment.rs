//! `real experiment`: a grid of runs, settings × seeds, described by one file.
//!
//! ```toml
//! question = "What does the weight of quality do?"
//! base = "base.toml"                     # a configuration of `real train`, beside this file
//! seeds = [1, 2, 3]
//!
//! [[setting]]
//! name = "tests only"
//! set = ["reward.alpha=0"]               # as with `real train --set`
//!
//! [[setting]]
//! name = "the solutions themselves"
//! eval = ["--benchmark", "starter", "--solutions", "secure"]   # a run of `real eval` instead
//! ```
//!
//! Each run is a process of its own and has a folder of its own, `OUT/SETTING/seed-N`, so that any of them can be looked at, repeated by hand, or
//! run on another machine. What is finished is not run again, what was interrupted goes on. Runs that differ only in what comes after supervised
//! fine-tuning share its result, and runs of one configuration, such as the usual one that several experiments compare with, share everything: what
//! is shared lies beside `OUT`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Data};
use crate::interrupt::Interrupt;
use crate::{Status, report, sft};

/// The description of an experiment inside its folder.
pub(crate) const DESCRIPTION: &str = "experiment.toml";

/// Exit status of a run that was interrupted.
const INTERRUPTED: i32 = 1;

/// Arguments of `real experiment`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The experiment.
    file: PathBuf,
    /// The folder for its runs; `runs/` and the name of the file without it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Change a value of every run's configuration, such as `--set train.steps=4`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Other seeds than those of the file.
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    seeds: Vec<u64>,
    /// Print the commands of the runs that are still to do, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Experiment {
    /// What it is to find out.
    pub question: String,
    /// The configuration that settings change, relative to the file of the experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// Each setting is run with each seed.
    pub seeds: Vec<u64>,
    /// Changes of the base for all settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// What is compared. The first is what the others are measured against.
    pub setting: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setting {
    /// What reports call it.
    pub name: String,
    /// Changes of the base configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// Arguments of `real eval`, for a setting that trains nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eval: Vec<String>,
}

impl Experiment {
    /// Reads a description.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read the experiment {}", file.display()))?;
        let experiment: Self = toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        experiment.check().with_context(|| format!("in {}", file.display()))?;
        Ok(experiment)
    }

    fn check(&self) -> Result<()> {
        if self.setting.is_empty() || self.seeds.is_empty() {
            bail!("an experiment needs at least one [[setting]] and one seed");
        }
        for (index, setting) in self.setting.iter().enumerate() {
            let name = folder_name(&setting.name);
            if name.is_empty() || self.setting[..index].iter().any(|other| folder_name(&other.name) == name) {
                bail!("the settings need names of letters or digits that differ: `{}`", setting.name);
            }
            if setting.eval.is_empty() && self.base.is_none() {
                bail!("the setting `{}` needs a `base` to change, or `eval`", setting.name);
            }
        }
        Ok(())
    }
}

/// The folder of a run.
pub(crate) fn run_folder(out: &Path, setting: &Setting, seed: u64) -> PathBuf {
    out.join(folder_name(&setting.name)).join(format!("seed-{seed}"))
}

/// A name as a folder: letters and digits, the rest as single hyphens.
fn folder_name(name: &str) -> String {
    let words: Vec<&str> =
        name.split(|c: char| !c.is_alphanumeric() && c != '.').filter(|word| !word.is_empty()).collect();
    words.join("-").to_lowercase()
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let experiment = args.resolve()?;
    let out = args.out.clone().unwrap_or_else(|| {
        Path::new("runs").join(args.file.file_stem().unwrap_or_else(|| "experiment".as_ref()))
    });
    let here = args.file.parent().unwrap_or(Path::new(""));
    let base = match &experiment.base {
        Some(base) => fs::read_to_string(here.join(base))
            .with_context(|| format!("cannot read the base {}", here.join(base).display()))?,
        None => String::new(),
    };
    // Every configuration is read before the first run starts: a mistake in the last setting shows now.
    let jobs = experiment
        .seeds
        .iter()
        .flat_map(|seed| experiment.setting.iter().map(move |setting| (setting, *seed)))
        .map(|(setting, seed)| Job::new(&experiment, setting, seed, &base, &out))
        .collect::<Result<Vec<Job>>>()?;
    if args.dry_run {
        let mut out = std::io::stdout().lock();
        for job in jobs.iter().filter(|job| !job.is_finished()) {
            writeln!(out, "{}", job.shown())?;
        }
        return Ok(Status::Clean);
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    fs::write(out.join(DESCRIPTION), toml::to_string(&experiment)?)
        .with_context(|| format!("cannot write into {}", out.display()))?;
    go(&jobs, &out)
}

impl Args {
    /// The experiment with the changes of the command line.
    fn resolve(&self) -> Result<Experiment> {
        let mut experiment = Experiment::read(&self.file)?;
        if !self.seeds.is_empty() {
            experiment.seeds.clone_from(&self.seeds);
        }
        experiment.set.extend(self.set.iter().cloned());
        Ok(experiment)
    }
}

fn go(jobs: &[Job], out: &Path) -> Result<Status> {
    let interrupt = Interrupt::install()?;
    let mut failed = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        if job.is_finished() {
            continue;
        }
        eprintln!("\nrun {} of {}: {}", index + 1, jobs.len(), job.shown());
        let status = job.go()?;
        if interrupt.is_set() || status == Some(INTERRUPTED) {
            eprintln!("interrupted; the same command goes on from here");
            return Ok(Status::Found);
        }
        if status != Some(0) {
            failed.push(job.folder.display().to_string());
        }
        report::refresh(&job.folder);
        report::refresh(out);
    }
    report::refresh(out);
    println!("{}", out.join("report.html").display());
    if !failed.is_empty() {
        bail!("{} of {} runs failed: {}", failed.len(), jobs.len(), failed.join(", "));
    }
    Ok(Status::Clean)
}

/// One run of the grid.
#[derive(Debug)]
struct Job {
    folder: PathBuf,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// `real train`, with the configuration.
    Train {
        config: Box<Config>,
        /// Where the supervised stage is shared.
        stage: PathBuf,
        /// Where the whole run is shared.
        twin: PathBuf,
    },
    /// `real eval`, with these arguments.
    Eval(Vec<String>),
}

impl Job {
    fn new(experiment: &Experiment, setting: &Setting, seed: u64, base: &str, out: &Path) -> Result<Self> {
        let folder = run_folder(out, setting, seed);
        if !setting.eval.is_empty() {
            let seed = seed.to_string();
            let mut arguments = vec!["eval".to_owned()];
            arguments.extend(setting.eval.iter().cloned());
            arguments.extend(["--task-seed", &seed, "--seed", &seed, "--out"].map(str::to_owned));
            arguments.push(folder.display().to_string());
            return Ok(Self { folder, work: Work::Eval(arguments) });
        }
        let dir = toml::Value::String(folder.display().to_string());
        let own = [format!("seed={seed}"), format!("run.dir={dir}")];
        let changes: Vec<String> = experiment.set.iter().chain(&setting.set).chain(&own).cloned().collect();
        let config =
            Config::parse(base, &changes).with_context(|| format!("in the setting `{}`", setting.name))?;
        let beside = out.parent().unwrap_or(Path::new(""));
        let stage = beside.join("sft").join(supervised_key(&config)?);
        let mut anywhere = config.clone();
        anywhere.run.dir = PathBuf::new();
        let twin = beside.join("same").join(key(&anywhere)?);
        Ok(Self { folder, work: Work::Train { config: Box::new(config), stage, twin } })
    }

    fn is_finished(&self) -> bool {
        match &self.work {
            Work::Train { .. } => report::is_finished(&self.folder),
            Work::Eval(_) => self.folder.join("metrics.json").exists(),
        }
    }

    fn arguments(&self) -> Vec<String> {
        match &self.work {
            Work::Eval(arguments) => arguments.clone(),
            Work::Train { .. } => {
                let mut arguments = vec!["train".to_owned(), self.file().display().to_string()];
                if self.folder.join("config.toml").exists() {
                    arguments.push("--resume".to_owned());
                }
                arguments
            }
        }
    }

    /// The command, for people.
    fn shown(&self) -> String {
        format!("real {}", self.arguments().join(" "))
    }

    /// The configuration file of the run, beside its folder.
    fn file(&self) -> PathBuf {
        self.folder.with_extension("toml")
    }

    /// Runs to the end; the exit status, if there is one.
    fn go(&self) -> Result<Option<i32>> {
        if let Work::Train { config, stage, twin } = &self.work {
            if share(twin, &self.folder, report::is_finished)? {
                return Ok(Some(0));
            }
            let folder = self.folder.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            fs::write(self.file(), config.to_toml()?)
                .with_context(|| format!("cannot write {}", self.file().display()))?;
            share(stage, &sft::stage_folder(&self.folder), is_trained)?;
        }
        let program = std::env::current_exe().context("cannot find the program that runs")?;
        let status = Command::new(program).args(self.arguments()).status().context("cannot start a run")?;
        if let Work::Train { stage, twin, .. } = &self.work {
            share(&sft::stage_folder(&self.folder), stage, is_trained)?;
            share(&self.folder, twin, report::is_finished)?;
        }
        Ok(status.code())
    }
}

/// What the result of supervised fine-tuning depends on, as a name.
fn supervised_key(config: &Config) -> Result<String> {
    let data = Data { test_tasks: 0, ..config.data.clone() };
    key(&(config.seed, &config.model, &data, &config.sft))
}

/// A name that differs where the settings do.
fn key(settings: &impl Serialize) -> Result<String> {
    let hash = serde_json::to_string(settings)?.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(format!("{hash:016x}"))
}

/// Whether a supervised stage has come to its end.
fn is_trained(stage: &Path) -> bool {
    stage.join("checkpoint").exists()
}

/// Gives what is finished a second place, by hard links where the file system has them, and says whether it did: not where it is unfinished, or where there
/// is one already.
fn share(from: &Path, to: &Path, is_finished: impl Fn(&Path) -> bool) -> Result<bool> {
    if !is_finished(from) || is_finished(to) {
        return Ok(false);
    }
    link_tree(from, to).with_context(|| format!("cannot share {} as {}", from.display(), to.display()))?;
    Ok(true)
}

fn link_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link_tree(&source, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Experiment> {
        let experiment: Experiment = toml::from_str(text)?;
        experiment.check()?;
        Ok(experiment)
    }

    #[test]
    fn settings_have_folders_of_their_own() {
        assert_eq!(folder_name("alpha = 0.5"), "alpha-0.5");
        let text = |names: [&str; 2]| {
            let settings = names.map(|name| format!("[[setting]]\nname = \"{name}\"\neval = [\"x\"]\n"));
            format!("question = \"?\"\nseeds = [1]\n{}", settings.concat())
        };
        assert!(parse(&text(["a", "b"])).is_ok());
        let error = |names| parse(&text(names)).unwrap_err().to_string();
        assert!(error(["a", "A"]).contains("differ"));
        assert!(error(["a", "…"]).contains("differ"));
        assert!(
            parse("question = \"?\"\nseeds = [1]\n[[setting]]\nname = \"a\"").is_err(),
            "there is no base"
        );
    }

    /// The experiments of the repository are read, and each of their configurations is valid.
    #[test]
    fn every_experiment_of_the_repository_can_be_run() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let mut seen = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            let text = fs::read_to_string(&file).unwrap();
            if !text.contains("question =") {
                continue;
            }
            let experiment = Experiment::read(&file).unwrap_or_else(|error| panic!("{error:#}"));
            let base = experiment.base.as_ref().map(|base| fs::read_to_string(folder.join(base)).unwrap());
            for setting in &experiment.setting {
                Job::new(&experiment, setting, 1, base.as_deref().unwrap_or(""), Path::new("runs/x"))
                    .unwrap_or_else(|error| panic!("{}: {error:#}", file.display()));
            }
            seen += 1;
        }
        assert!(seen >= 8, "{seen} experiments in {}", folder.display());
    }

    #[test]
    fn runs_of_one_configuration_share_a_place() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let base = fs::read_to_string(folder.join("base.toml")).unwrap();
        let twin = |setting: &str, changes: &[&str], out: &str| {
            let set = changes.iter().map(ToString::to_string).collect();
            let setting = Setting { name: setting.to_owned(), set, eval: Vec::new() };
            let experiment = Experiment::read(&folder.join("alpha.toml")).unwrap();
            match Job::new(&experiment, &setting, 1, &base, Path::new(out)).unwrap().work {
                Work::Train { twin, .. } => twin,
                Work::Eval(_) => panic!("it trains"),
            }
        };
        let usual = twin("usual", &[], "runs/alpha");
        assert_eq!(usual, twin("as ever", &["reward.alpha=0.5"], "runs/noise"));
        assert_ne!(usual, twin("usual", &["reward.alpha=0.4"], "runs/alpha"));
        assert!(usual.starts_with("runs/same"));
    }

    #[test]
    fn a_supervised_stage_is_shared_once_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let (run, shared) = (folder.path().join("run/sft"), folder.path().join("sft/key"));
        fs::create_dir_all(&run).unwrap();
        share(&run, &shared, is_trained).unwrap();
        assert!(!shared.exists(), "there is no checkpoint yet");
        fs::create_dir_all(run.join("checkpoint")).unwrap();
        fs::write(run.join("checkpoint/model"), "weights").unwrap();
        share(&run, &shared, is_trained).unwrap();
        assert_eq!(fs::read_to_string(shared.join("checkpoint/model")).unwrap(), "weights");
    }
}
