//! Evaluations, experiments and their pages, from the command line to a browser.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

mod support;

fn real(arguments: &[&str], folder: &Path) -> Output {
    let output = support::real(arguments, folder);
    assert!(output.status.success(), "real {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn eval(solutions: &str, out: &str, more: &[&str], folder: &Path) -> String {
    let arguments =
        ["eval", "--benchmark", "starter", "--limit", "14", "--solutions", solutions, "--out", out];
    String::from_utf8(real(&[&arguments, more].concat(), folder).stdout).unwrap()
}

fn json_file(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn an_evaluation_tells_rates_weaknesses_and_causes() {
    let folder = tempfile::tempdir().unwrap();
    eval("insecure", "bad", &[], folder.path());
    let printed = eval("secure", "good", &["--baseline", "bad"], folder.path());
    assert!(printed.contains("baseline") && printed.contains("Under attack"), "{printed}");
    let (good, bad) = (
        json_file(&folder.path().join("good/metrics.json")),
        json_file(&folder.path().join("bad/metrics.json")),
    );
    assert_eq!(good["all"]["joint"]["value"], 1.0);
    assert_eq!(good["weaknesses"], json!({}));
    assert_eq!(good["baseline_weaknesses"], bad["weaknesses"]);
    assert_eq!((&bad["all"]["function"]["value"], &good["failures"]), (&json!(1.0), &json!([])));
    assert!(bad["all"]["withstood"]["value"].as_f64().unwrap() < 0.5, "{}", bad["all"]);
    assert!(bad["failures"][0]["cause"].as_str().unwrap().starts_with("weakness"), "{}", bad["failures"]);
    assert!(good["pass_at_k"].as_array().unwrap().len() > 1, "tasks have several solutions");

    // Judged once: the same command finds every score in its file.
    let judged = std::fs::read_to_string(folder.path().join("bad/judged.jsonl")).unwrap();
    eval("insecure", "bad", &[], folder.path());
    assert_eq!(std::fs::read_to_string(folder.path().join("bad/judged.jsonl")).unwrap(), judged);
    eval("insecure", "paper", &["--profile", "paper"], folder.path());
}

#[test]
fn a_profile_decides_what_no_answer_is_worth() {
    let folder = tempfile::tempdir().unwrap();
    let Some(data) = shared("data") else { return };
    let file = folder.path().join("none.jsonl");
    let tasks = real(
        &["tasks", "--benchmark", "safesql", "--data", data.to_str().unwrap(), "--limit", "2"],
        folder.path(),
    );
    let answers = tasks.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| {
        let task: Value = serde_json::from_slice(line).unwrap();
        json!({"task_id": task["id"], "sample": 0, "completion": "I will not."}).to_string() + "\n"
    });
    std::fs::write(&file, answers.collect::<String>()).unwrap();
    let quality = |profile: &str| {
        let arguments = ["eval", "--benchmark", "safesql", "--limit", "2", "--completions", "none.jsonl"];
        let more = ["--data", data.to_str().unwrap(), "--out", profile, "--profile", profile];
        real(&[&arguments[..], &more].concat(), folder.path());
        json_file(&folder.path().join(profile).join("metrics.json"))["all"]["quality"]["value"].clone()
    };
    assert_eq!((quality("honest"), quality("paper")), (json!(0.0), json!(1.0)));
}

/// Files beside the repository that not everyone has.
fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("REAL_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from)
        .join(name);
    if !folder.exists() {
        eprintln!("skipped: there is no {}", folder.display());
        return None;
    }
    Some(folder.canonicalize().unwrap())
}

const EXPERIMENT: &str = r#"
question = "Do the <judges> tell good from bad?"
seeds = [1, 2]
setting = [
    { name = "good ones", eval = ["--benchmark", "starter", "--limit", "6", "--solutions", "secure"] },
    { name = "bad ones", eval = ["--benchmark", "starter", "--limit", "6", "--solutions", "insecure"] },
]
"#;

#[test]
fn an_experiment_runs_its_grid_once_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::write(here.join("judges.toml"), EXPERIMENT).unwrap();
    let planned = real(&["experiment", "judges.toml", "--dry-run"], here).stdout;
    assert_eq!(String::from_utf8(planned).unwrap().lines().count(), 4);
    real(&["experiment", "judges.toml"], here);
    let page = std::fs::read_to_string(here.join("runs/judges/report.html")).unwrap();
    assert!(page.contains("Do the &lt;judges&gt; tell good from bad?"));
    assert!(page.contains("“good ones” has the most right and good programs"));
    assert!(
        page.contains("good-ones/seed-1/report.html")
            && here.join("runs/judges/good-ones/seed-1/report.html").exists()
    );
    let left = real(&["experiment", "judges.toml", "--dry-run"], here).stdout;
    assert!(left.is_empty(), "what is finished is not run again: {}", String::from_utf8_lossy(&left));
    check_in_browser(&here.join("runs/judges/report.html"), here);
}

/// A run folder as training leaves it, with known bad programs before and known good ones after.
fn run_folder(here: &Path) -> PathBuf {
    eval("insecure", "before", &[], here);
    eval("secure", "after", &[], here);
    let run = here.join("run");
    std::fs::create_dir_all(run.join("samples")).unwrap();
    let samples = |name: &str| std::fs::read_to_string(here.join(name).join("samples.jsonl")).unwrap();
    std::fs::write(run.join("samples/eval-000000.jsonl"), samples("before")).unwrap();
    std::fs::write(run.join("samples/eval-000004.jsonl"), samples("after")).unwrap();
    let first = samples("before").lines().take(3).flat_map(|line| [line, "\n"]).collect::<String>();
    std::fs::write(run.join("samples/step-000001.jsonl"), &first).unwrap();
    std::fs::write(run.join("samples/watch-000002.jsonl"), &first).unwrap();
    let config = "seed = 1\n[run]\ndir = \"run\"\n[model]\npath = \"m<1>\"\n[data]\nbenchmark = \"starter\"\n[train]\nsteps = 4\n";
    std::fs::write(run.join("config.toml"), config).unwrap();
    let metrics = (0..=4).map(|step| {
        let part = f64::from(step) / 4.0;
        let row = json!({
            "step": step, "reward/mean": part, "reward/function": 1.0, "reward/quality": part, "reward/joint": part,
            "objective/kl": part, "policy/entropy": 1.0 - part, "response/length": 40.0 + part, "response/truncated": 0.0,
            "reward/infra_errors": 0.0, "time/rollout": 1.0, "time/reward": 2.0, "time/update": 3.0,
        });
        row.to_string() + "\n"
    });
    std::fs::write(run.join("metrics.jsonl"), metrics.collect::<String>()).unwrap();
    run
}

#[test]
fn the_page_of_a_run_stands_alone_and_every_number_leads_to_programs() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_folder(folder.path());
    real(&["report", "run", "--out", "page.html"], folder.path());
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(
        page.contains("It worked. Right and good programs rose from 0\u{202f}% to 100\u{202f}%."),
        "the verdict"
    );
    assert!(page.contains("class=\"bad\"") && page.contains("class=\"step\""), "findings and their flow");
    assert!(page.contains("m&lt;1&gt;") && !page.contains("m<1>"), "what is not ours is escaped");
    for remote in ["href=\"http", "src=\"", "@import", "url(", "fetch("] {
        assert!(!page.contains(remote), "the page asks for something: {remote}");
    }
    for section in
        ["summary", "curves", "balance", "weaknesses", "life", "failures", "hacking", "cost", "programs"]
    {
        assert!(page.contains(&format!("<section id=\"{section}\">")), "{section}");
    }
    let words: std::collections::BTreeSet<&str> =
        attributes(&page, "data-words").flat_map(|words| words.split(' ')).collect();
    let asked: Vec<&str> = attributes(&page, "data-query")
        .flat_map(|query| query.split(' '))
        .map(|word| word.trim_start_matches('-'))
        .filter(|word| !word.is_empty())
        .collect();
    assert!(asked.len() > 50);
    // Words of outcomes that nothing here has: a query for them rightly shows nothing.
    let absent = ["after:hit", "flagged", "before:both", "before:quality", "split:held-out"];
    let unknown: Vec<&&str> = asked
        .iter()
        .filter(|word| !words.contains(*word) && !absent.contains(word) && !word.contains(":cause-"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    check_in_browser(&folder.path().join("page.html"), folder.path());
    assert!(!run.join("report.html").exists(), "--out was given");
}

fn attributes<'a>(page: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("{name}=\"");
    let page = &page[..page.find("<script>").unwrap()];
    page.split(&start).skip(1).map(|rest| &rest[..rest.find('"').unwrap()]).collect::<Vec<_>>().into_iter()
}

/// Added to the page: reports errors, and what sticks out on the right.
const PROBE: &str = r#"<script>
const [width, theme] = location.hash.slice(1).split("-");
document.documentElement.dataset.theme = theme;
for (const details of document.querySelectorAll("details")) details.open = true;
addEventListener("load", () => {
  const root = document.documentElement;
  const clipped = (element) => element.closest(".scroll, .strip, pre, nav, svg, summary") !== null;
  const wide = [...document.querySelectorAll("body *")]
    .filter((element) => element.getBoundingClientRect().right > root.clientWidth + 1 && !clipped(element))
    .map((element) => element.tagName + "." + element.className);
  const overflow = root.scrollWidth - root.clientWidth;
  parent.postMessage(`${innerWidth} ${theme} overflow ${overflow} wide [${wide.slice(0, 5)}]`, "*");
});
</script>"#;

/// In a real browser, at three widths and in both themes: no error on the console, nothing that sticks out.
fn check_in_browser(page: &Path, folder: &Path) {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    }) else {
        eprintln!("skipped: there is no Chromium to look at {} with", page.display());
        return;
    };
    let html = std::fs::read_to_string(page).unwrap();
    std::fs::write(folder.join("probed.html"), html.replace("<script>", &format!("{PROBE}<script>")))
        .unwrap();
    let views = [360, 768, 1440].iter().flat_map(|width| ["light", "dark"].map(|theme| (*width, theme)));
    let frames: Vec<String> = views
        .map(|(width, theme)| {
            format!(
                "<iframe src=\"probed.html#{width}-{theme}\" style=\"width:{width}px;height:900px\"></iframe>"
            )
        })
        .collect();
    let frames = frames.concat();
    let listen = "<script>addEventListener('message', (e) => { document.body.append('SE' + 'EN ' + e.data + ' END') })</script>";
    std::fs::write(folder.join("views.html"), format!("<!doctype html><body>{listen}{frames}</body>"))
        .unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
        ])
        .arg("--dump-dom")
        .arg(format!("file://{}", folder.join("views.html").display()))
        .output()
        .unwrap();
    let (seen, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let views: Vec<&str> =
        seen.split("SEEN ").skip(1).map(|rest| rest.split(" END").next().unwrap()).collect();
    assert_eq!(views.len(), 6, "{seen:.2000}\n{log}");
    for view in views {
        assert!(view.ends_with("overflow 0 wide []"), "{view}");
    }
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(errors.is_empty(), "{errors:?}");
}
