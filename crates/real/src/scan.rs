//! `real scan`: findings in Python code.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use real_analysis::{Analysis, Finding, FlowStep, Library, Mode, Options, Returned, ThreatModel, analyze};
use serde_json::{Value, json};

use crate::Status;

mod sarif;

/// Arguments of `real scan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and folders; `-` is standard input. Folders are walked, with respect for `.gitignore`.
    #[arg(required_unless_present = "records", conflicts_with = "records")]
    paths: Vec<PathBuf>,
    /// How to print findings.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Hide findings below this confidence. The default hides code that is only suspicious because it cannot be read.
    #[arg(long, default_value_t = 0.35)]
    min_confidence: f32,
    /// Show findings that a comment `# real: ignore` or `# real: ignore[rule]` in their line hides.
    #[arg(long)]
    show_suppressed: bool,
    /// What to believe without proof.
    #[arg(long, value_enum, default_value = "precise")]
    mode: ModeArg,
    /// Who the attacker is; by default each file's imports and entry points decide.
    #[arg(long, value_enum)]
    threat_model: Option<ThreatModelArg>,
    /// What is known of the program's task: JSON with `entry_point`, `returns`, `prelude` and `trusted_params`, each optional.
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Descriptions of further libraries, which go before the built-in ones; the notation is that of `resources/library`.
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// Scan the programs in a file of JSON lines instead, one output line per record.
    #[arg(long, value_name = "FILE.jsonl")]
    records: Option<PathBuf>,
    /// The field of a record that holds the program.
    #[arg(long, default_value = "code", requires = "records")]
    field: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Jsonl,
    Sarif,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ModeArg {
    /// Annotations, names of unknown functions and callers are believed.
    Precise,
    /// Whatever is not known to be harmless is hostile.
    Sound,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ThreatModelArg {
    Web,
    Program,
    Library,
}

/// What a task says of its program.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Contract {
    entry_point: Option<String>,
    returns: Option<Returned>,
    prelude: Option<String>,
    trusted_params: Vec<String>,
}

/// How programs are judged, and what is shown.
struct Judge {
    options: Options,
    min_confidence: f32,
    show_suppressed: bool,
}

impl Judge {
    fn new(args: &Args) -> Result<Self> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let contract = match &args.contract {
            Some(path) => serde_json::from_str(&read(path)?)
                .with_context(|| format!("{} is no contract", path.display()))?,
            None => Contract::default(),
        };
        let library = match &args.library {
            Some(path) => {
                Some(Library::parse(&read(path)?).with_context(|| path.display().to_string())?.into())
            }
            None => None,
        };
        let options = Options {
            threat_model: args.threat_model.map(|model| match model {
                ThreatModelArg::Web => ThreatModel::Web,
                ThreatModelArg::Program => ThreatModel::Program,
                ThreatModelArg::Library => ThreatModel::Library,
            }),
            prelude: contract.prelude,
            entry_point: contract.entry_point,
            returns: contract.returns,
            mode: match args.mode {
                ModeArg::Precise => Mode::Precise,
                ModeArg::Sound => Mode::Sound,
            },
            trusted_params: contract.trusted_params,
            library,
        };
        Ok(Self { options, min_confidence: args.min_confidence, show_suppressed: args.show_suppressed })
    }

    fn judge(&self, source: &str) -> Analysis {
        let mut analysis = analyze(source, &self.options);
        analysis.findings.retain(|finding| {
            finding.confidence >= self.min_confidence && (self.show_suppressed || !finding.suppressed)
        });
        analysis
    }
}

/// One scanned file.
struct Scanned {
    path: String,
    source: String,
    analysis: Analysis,
}

pub(crate) fn run(args: &Args) -> Result<Status> {
    let judge = Judge::new(args)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let found = match &args.records {
        Some(file) => scan_records(file, &args.field, &judge, &mut out)?,
        None => scan_paths(args, &judge, &mut out)?,
    };
    out.flush()?;
    Ok(if found { Status::Found } else { Status::Clean })
}

fn scan_paths(args: &Args, judge: &Judge, out: &mut impl Write) -> Result<bool> {
    let files = collect(&args.paths)?;
    let scanned: Vec<Result<Scanned>> = files.par_iter().map(|path| scan_file(path, judge)).collect();
    let mut readable = Vec::with_capacity(scanned.len());
    let mut unreadable = 0;
    for file in scanned {
        match file {
            Ok(file) => readable.push(file),
            Err(error) => {
                eprintln!("error: {error:#}");
                unreadable += 1;
            }
        }
    }
    print(args.format, &readable, out)?;
    warn(&readable);
    if unreadable > 0 {
        out.flush()?;
        bail!("{unreadable} of {} files could not be read", files.len());
    }
    Ok(readable.iter().any(|file| !file.analysis.findings.is_empty()))
}

/// The Python files among and below `paths`, in order.
fn collect(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" || path.is_file() {
            files.push(path.clone());
        } else if path.is_dir() {
            let mut below = Vec::new();
            for entry in ignore::WalkBuilder::new(path).build() {
                let entry = entry.with_context(|| format!("while walking {}", path.display()))?;
                let is_python = entry.path().extension().is_some_and(|e| e == "py" || e == "pyi");
                if is_python && entry.file_type().is_some_and(|t| t.is_file()) {
                    below.push(entry.into_path());
                }
            }
            below.sort();
            files.extend(below);
        } else {
            bail!("{}: no such file or folder", path.display());
        }
    }
    Ok(files)
}

fn scan_file(path: &Path, judge: &Judge) -> Result<Scanned> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        bytes
    } else {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    let source = String::from_utf8_lossy(&bytes).into_owned();
    let analysis = judge.judge(&source);
    let path = if path.as_os_str() == "-" { "<stdin>".to_owned() } else { path.display().to_string() };
    Ok(Scanned { path, source, analysis })
}

/// `{id, findings, parsed}` for each record, in order.
fn scan_records(file: &Path, field: &str, judge: &Judge, out: &mut impl Write) -> Result<bool> {
    let reader = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut found = false;
    let mut lines = BufReader::new(reader).lines().enumerate();
    loop {
        let chunk = lines.by_ref().take(1024).collect::<Vec<_>>();
        if chunk.is_empty() {
            return Ok(found);
        }
        let judged: Vec<Result<Option<Value>>> = chunk
            .into_par_iter()
            .map(|(index, line)| {
                let line = line?;
                if line.trim().is_empty() {
                    return Ok(None);
                }
                scan_record(&line, index, field, judge)
                    .with_context(|| format!("{} line {}", file.display(), index + 1))
                    .map(Some)
            })
            .collect();
        for record in judged {
            let Some(record) = record? else { continue };
            found |= record["findings"].as_array().is_some_and(|f| !f.is_empty());
            writeln!(out, "{record}")?;
        }
    }
}

fn scan_record(line: &str, index: usize, field: &str, judge: &Judge) -> Result<Value> {
    let record: Value = serde_json::from_str(line).context("not JSON")?;
    let code = record
        .get(field)
        .and_then(Value::as_str)
        .with_context(|| format!("no text in the field `{field}`"))?;
    let analysis = judge.judge(code);
    let id = record.get("id").cloned().unwrap_or_else(|| json!(index));
    Ok(json!({
        "id": id,
        "findings": analysis.findings,
        "parsed": analysis.parsed,
        "threat_model": analysis.threat_model,
        "budget_hit": analysis.budget_hit,
    }))
}

fn print(format: Format, files: &[Scanned], out: &mut impl Write) -> Result<()> {
    match format {
        Format::Text => print_text(files, out),
        Format::Json => {
            let all: Vec<Value> =
                files.iter().flat_map(|file| file.analysis.findings.iter().map(|f| row(file, f))).collect();
            Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?)
        }
        Format::Jsonl => {
            for file in files {
                for finding in &file.analysis.findings {
                    writeln!(out, "{}", row(file, finding))?;
                }
            }
            Ok(())
        }
        Format::Sarif => {
            let results =
                files.iter().flat_map(|file| file.analysis.findings.iter().map(|f| (file.path.as_str(), f)));
            Ok(writeln!(out, "{}", serde_json::to_string_pretty(&sarif::log(results))?)?)
        }
    }
}

/// Says which files could not be judged in full.
fn warn(files: &[Scanned]) {
    for file in files {
        if !file.analysis.parsed {
            eprintln!("warning: {}: not valid Python; what could be read of it was scanned", file.path);
        }
        if file.analysis.budget_hit {
            eprintln!("warning: {}: too complex to be analysed in full; findings may be missing", file.path);
        }
    }
}

/// A finding as a JSON object with the path of its file and the attacker that the file was judged against.
fn row(file: &Scanned, finding: &Finding) -> Value {
    let mut row = json!(finding);
    row["path"] = file.path.as_str().into();
    row["threat_model"] = json!(file.analysis.threat_model);
    row
}

fn print_text(files: &[Scanned], out: &mut impl Write) -> Result<()> {
    let renderer = if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut count = 0;
    for file in files {
        for finding in &file.analysis.findings {
            writeln!(out, "{}\n", renderer.render(&[report(file, finding)]))?;
            count += 1;
        }
    }
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    eprintln!("{} in {}", plural(count, "finding"), plural(files.len(), "file"));
    Ok(())
}

/// The steps that are drawn beside the sink. Of `request`, `request.args` and `request.args["name"]`, which begin in one place and say the
/// same, only the longest.
fn shown_steps(finding: &Finding) -> impl Iterator<Item = &FlowStep> {
    let contains = |outer: &FlowStep, inner: &FlowStep| {
        outer.span.start == inner.span.start
            && outer.span.end > inner.span.end
            && outer.message == inner.message
    };
    let flow = &finding.flow;
    flow.iter()
        .filter(|step| step.span != finding.span)
        .filter(move |step| !flow.iter().any(|other| contains(other, step)))
}

/// The finding in the manner of a compiler's message: the sink, and the steps that lead to it.
fn report<'a>(file: &'a Scanned, finding: &'a Finding) -> annotate_snippets::Group<'a> {
    let cwe = finding.cwe.iter().map(|n| format!("CWE-{n}")).collect::<Vec<_>>().join(", ");
    let sink = finding.span.start as usize..finding.span.end as usize;
    let snippet = Snippet::source(file.source.as_str())
        .path(file.path.as_str())
        .annotation(AnnotationKind::Primary.span(sink.clone()).label("here"))
        .annotations(shown_steps(finding).map(|step| {
            AnnotationKind::Context
                .span(step.span.start as usize..step.span.end as usize)
                .label(step.message.as_str())
        }));
    let group = Level::WARNING
        .primary_title(finding.message.as_str())
        .id(finding.rule)
        .element(snippet)
        .element(Level::NOTE.message(format!("{cwe}, confidence {:.2}", finding.confidence)));
    match &finding.guard {
        Some(guard) => group.element(Level::NOTE.message(guard.as_str())),
        None => group,
    }
}
