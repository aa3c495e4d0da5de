//! `cargo xtask bench scan`: how fast the analyzer is and how much it says about code that is in use, beside ruff (rules `S`)
//! and bandit in the same run.
//!
//! Every tool runs as a process with one thread, and its time is processor time, which other programs on the machine disturb least.
//! "Programs" are the distinct ones of the `seccodeplt` suite, one file each; "one file" is the mean time of a process that judges a
//! single small program, start-up included. Lines are all lines of a file. ruff and bandit come from a virtual environment in the cache folder; without them their columns are missing,
//! and the run says so.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Processes whose mean is the time of one file.
const REPEATS: usize = 50;
/// Ticks of the kernel's clock for processor time in a second: a constant of Linux on all machines that we know.
const TICKS: f64 = 100.0;
const RUFF: &str = "ruff==0.17.6";
const BANDIT: &str = "bandit==1.9.4";

/// Arguments of `cargo xtask bench scan`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folder with the labelled suites.
    #[arg(long, value_name = "DIR")]
    suites: Option<PathBuf>,
    /// The interpreter whose standard library and packages are scanned.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Measure this `real` instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// What to scan; everything by default.
    #[arg(value_enum)]
    corpora: Vec<CorpusName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CorpusName {
    Programs,
    Stdlib,
    Packages,
}

/// A scanner as a process.
struct Tool {
    name: &'static str,
    program: PathBuf,
    /// Arguments before the path.
    arguments: &'static [&'static str],
    /// Number of findings in its output.
    count: fn(&str) -> usize,
}

/// Python files below some paths.
struct Corpus {
    name: &'static str,
    paths: Vec<PathBuf>,
    files: usize,
    lines: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is inside of the workspace")?;
    let program = match &args.binary {
        Some(binary) => binary.clone(),
        None => build(root)?,
    };
    let mut tools = vec![Tool {
        name: "real",
        program,
        arguments: &["scan", "--format", "jsonl"],
        count: |output| output.lines().filter(|line| line.starts_with('{')).count(),
    }];
    tools.extend(others(&args.python));

    let programs = tempfile::tempdir()?;
    let suites = args.suites.clone().unwrap_or_else(|| suites(root));
    let wanted = |name| args.corpora.is_empty() || args.corpora.contains(&name);
    let mut corpora = Vec::new();
    if wanted(CorpusName::Programs) {
        match write_programs(&suites.join("seccodeplt.jsonl"), programs.path()) {
            Ok(()) => corpora.push(Corpus::new("programs", vec![programs.path().to_owned()])?),
            Err(error) => eprintln!("skipped: programs: {error:#}"),
        }
    }
    if wanted(CorpusName::Stdlib) {
        corpora.push(Corpus::new("standard library", standard_library(&args.python)?)?);
    }
    if wanted(CorpusName::Packages) {
        corpora.push(Corpus::new("site-packages", vec![python_path(&args.python, "purelib")?])?);
    }
    for corpus in &corpora {
        println!("\n{}: {} files, {:.1} kLOC", corpus.name, corpus.files, corpus.lines as f64 / 1000.0);
        println!(
            "| tool | ms a file | kLOC/s | findings a kLOC | budget hits | panics |\n|---|---|---|---|---|---|"
        );
        for tool in &tools {
            println!("{}", tool.row(corpus)?);
        }
    }
    let small = programs.path().join("small.py");
    std::fs::write(&small, SMALL)?;
    println!("\none file of {} lines\n| tool | ms |\n|---|---|", SMALL.lines().count());
    for tool in &tools {
        println!("| {} | {:.1} |", tool.name, 1000.0 * tool.mean_time(&small)?);
    }
    Ok(())
}

const SMALL: &str = "import sqlite3\n\n\ndef find(name):\n    db = sqlite3.connect('shop.db')\n    \
    rows = db.execute(f\"SELECT * FROM users WHERE name = '{name}'\")\n    return rows.fetchall()\n";

impl Tool {
    /// What the tool prints, and the seconds of processor time that it took.
    fn scan(&self, paths: &[PathBuf]) -> Result<(Output, f64)> {
        let before = children_seconds()?;
        let output = Command::new(&self.program)
            .args(self.arguments)
            .args(paths)
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok((output, children_seconds()? - before))
    }

    fn row(&self, corpus: &Corpus) -> Result<String> {
        let (output, seconds) = self.scan(&corpus.paths)?;
        if output.status.code().is_none_or(|code| code > 1) {
            bail!("{} failed: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
        let (found, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let lines_with = |words: &str| errors.lines().filter(|line| line.contains(words)).count();
        let lines = corpus.lines as f64;
        let mut row = String::new();
        write!(row, "| {} | {:.3} ", self.name, 1000.0 * seconds / corpus.files as f64)?;
        write!(
            row,
            "| {:.1} | {:.2} ",
            lines / seconds / 1000.0,
            1000.0 * (self.count)(&found) as f64 / lines
        )?;
        write!(row, "| {} | {} |", lines_with("too complex"), lines_with("panicked"))?;
        Ok(row)
    }

    fn mean_time(&self, file: &Path) -> Result<f64> {
        let file = [file.to_owned()];
        let times: Result<Vec<f64>> = (0..REPEATS).map(|_| Ok(self.scan(&file)?.1)).collect();
        Ok(times?.iter().sum::<f64>() / REPEATS as f64)
    }
}

/// Processor seconds of all children that have ended.
fn children_seconds() -> Result<f64> {
    let path = "/proc/self/stat";
    let stat = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    // The name in brackets may hold spaces; `cutime` and `cstime` are the 14th and 15th field after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields.get(13..15).with_context(|| format!("{path} is too short"))?;
    let ticks: f64 = ticks.iter().map(|field| field.parse::<f64>()).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS)
}

impl Corpus {
    fn new(name: &'static str, paths: Vec<PathBuf>) -> Result<Self> {
        let mut corpus = Self { name, paths, files: 0, lines: 0 };
        let mut pending = corpus.paths.clone();
        while let Some(path) = pending.pop() {
            if path.is_dir() && !path.is_symlink() {
                let entries =
                    std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
                for entry in entries {
                    pending.push(entry?.path());
                }
            } else if path.extension().is_some_and(|extension| extension == "py" || extension == "pyi") {
                corpus.files += 1;
                corpus.lines += String::from_utf8_lossy(&std::fs::read(&path)?).lines().count();
            }
        }
        Ok(corpus)
    }
}

fn build(root: &Path) -> Result<PathBuf> {
    cargo(&["build", "--release", "--package", "real"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join(format!("release/real{}", std::env::consts::EXE_SUFFIX)))
}

/// The folder of suites beside the repository.
fn suites(root: &Path) -> PathBuf {
    let shared = std::env::var_os("REAL_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    shared.join("data/suites")
}

/// The distinct programs of a suite, one file each.
fn write_programs(suite: &Path, folder: &Path) -> Result<()> {
    let text = std::fs::read_to_string(suite).with_context(|| format!("cannot read {}", suite.display()))?;
    let mut programs = BTreeSet::new();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line)?;
        programs.insert(record["code"].as_str().context("a record without code")?.to_owned());
    }
    for (index, program) in programs.iter().enumerate() {
        std::fs::write(folder.join(format!("program_{index:05}.py")), program)?;
    }
    Ok(())
}

/// ruff and bandit, where they can be had.
fn others(python: &str) -> Vec<Tool> {
    let bin = match environment(python) {
        Ok(bin) => bin,
        Err(error) => {
            eprintln!("skipped: ruff and bandit: {error:#}");
            return Vec::new();
        }
    };
    let ruff = Tool {
        name: "ruff",
        program: bin.join("ruff"),
        arguments: &[
            "check",
            "--isolated",
            "--no-cache",
            "--exit-zero",
            "--select",
            "S",
            "--output-format",
            "concise",
        ],
        count: |output| output.lines().filter(|line| line.contains(": S")).count(),
    };
    let bandit = Tool {
        name: "bandit",
        program: bin.join("bandit"),
        arguments: &[
            "--quiet",
            "--exit-zero",
            "--format",
            "custom",
            "--msg-template",
            "{test_id}",
            "--recursive",
        ],
        count: |output| output.lines().filter(|line| line.starts_with('B')).count(),
    };
    vec![ruff, bandit]
}

/// The programs of a virtual environment with both tools, made on first use.
fn environment(python: &str) -> Result<PathBuf> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME is set"),
    };
    let folder = cache.join("real/bench-scan");
    let bin = folder.join(if cfg!(windows) { "Scripts" } else { "bin" });
    if !bin.join("ruff").exists() || !bin.join("bandit").exists() {
        checked(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
        checked(Command::new(bin.join("python")).args(["-m", "pip", "install", "--quiet", RUFF, BANDIT]))?;
    }
    Ok(bin)
}

/// The modules and packages of the standard library; the installed packages stand in the same folder.
fn standard_library(python: &str) -> Result<Vec<PathBuf>> {
    let folder = python_path(python, "stdlib")?;
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| {
        let is_python = path.extension().is_some_and(|extension| extension == "py");
        is_python || (path.is_dir() && !path.ends_with("site-packages") && !path.ends_with("dist-packages"))
    });
    paths.sort();
    Ok(paths)
}

fn python_path(python: &str, key: &str) -> Result<PathBuf> {
    let code = format!("import sysconfig; print(sysconfig.get_paths()['{key}'])");
    let output = checked(Command::new(python).args(["-c", &code]))?;
    Ok(PathBuf::from(output.trim()))
}

/// What a command prints, when it succeeds.
fn checked(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
