//! The commands as a script sees them: arguments in; files, output and exit status out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};

mod support;

use support::{SMALLEST, metrics, real};

const VULNERABLE: &str = "import os\n\nname = input()\nos.system('ls ' + name)\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn scan_tells_by_its_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("code")).unwrap();
    std::fs::write(folder.path().join("code/clean.py"), "print('hello')\n").unwrap();
    let clean = real(&["scan", "code"], folder.path());
    assert_eq!(clean.status.code(), Some(0), "{}", text(&clean.stderr));

    std::fs::write(folder.path().join("code/bad.py"), VULNERABLE).unwrap();
    let found = real(&["scan", "--format", "jsonl", "code"], folder.path());
    assert_eq!(found.status.code(), Some(1));
    let findings = lines(&found.stdout);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0]["path"], "code/bad.py");
    assert_eq!((&findings[0]["line"], &findings[0]["cwe"][0]), (&json!(4), &json!("CWE-78")));
    assert!(!findings[0]["flow"].as_array().unwrap().is_empty());

    let sarif = real(&["scan", "--format", "sarif", "code"], folder.path());
    let log: Value = serde_json::from_slice(&sarif.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(log["runs"][0]["results"][0]["ruleId"], findings[0]["rule"]);
    let human = text(&real(&["scan", "code"], folder.path()).stdout);
    assert!(human.contains("code/bad.py:4") && human.contains("CWE-78"), "{human}");

    let missing = real(&["scan", "nowhere"], folder.path());
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("nowhere: no such file or folder"));
}

#[test]
fn scan_of_records_answers_each_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let records = [
        json!({"id": "a", "code": VULNERABLE}),
        json!({"id": "b", "code": "x = 1"}),
        json!({"id": "c", "code": "def f(:"}),
    ];
    let file = records.map(|r| r.to_string() + "\n").concat();
    std::fs::write(folder.path().join("records.jsonl"), file).unwrap();
    let output = real(&["scan", "--records", "records.jsonl"], folder.path());
    let answers = lines(&output.stdout);
    let ids: Vec<&str> = answers.iter().map(|a| a["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(answers[0]["findings"].as_array().unwrap().len(), 1);
    assert_eq!((&answers[1]["parsed"], &answers[2]["parsed"]), (&json!(true), &json!(false)));

    std::fs::write(folder.path().join("broken.jsonl"), "{\"code\": \"x\"}\nnot json\n").unwrap();
    let broken = real(&["scan", "--records", "broken.jsonl"], folder.path());
    assert_eq!(broken.status.code(), Some(2));
    assert!(text(&broken.stderr).contains("broken.jsonl line 2"), "{}", text(&broken.stderr));
}

/// Every solution of a task of every template, right and wrong, through the three judges.
#[test]
fn starter_solutions_get_the_scores_they_deserve() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = real(&["tasks", "--benchmark", "starter", "--limit", "28"], folder.path());
    std::fs::write(folder.path().join("tasks.jsonl"), &tasks.stdout).unwrap();
    let mut completions = Vec::new();
    let mut expected = Vec::new();
    for task in lines(&tasks.stdout) {
        // The analyzer has no rule yet for the weaknesses of these templates.
        let undetected = task["labels"]["detection"] == "optional";
        for (sample, solution) in task["solutions"].as_array().unwrap().iter().enumerate() {
            let completion = format!("```python\n{}\n```", solution["code"].as_str().unwrap());
            let record = json!({"task_id": task["id"], "sample": sample, "completion": completion});
            completions.push(record.to_string());
            expected.push((solution["kind"].clone(), undetected, completion));
        }
    }
    std::fs::write(folder.path().join("completions.jsonl"), completions.join("\n")).unwrap();
    let output =
        real(&["score", "--tasks", "tasks.jsonl", "--completions", "completions.jsonl"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let scores = lines(&output.stdout);
    assert_eq!(scores.len(), expected.len());
    let mut surprises = Vec::new();
    for (score, (kind, undetected, completion)) in scores.iter().zip(expected) {
        let attacks = &score["tests"]["by_kind"]["attack"];
        let holds = match kind.as_str().unwrap() {
            "secure" => score["reward"] == 1.0 && attacks["passed"] == attacks["total"],
            "insecure" => {
                score["passed"] == true
                    && attacks["passed"] != attacks["total"]
                    && (score["quality"] == 0.0 || undetected)
            }
            "untyped" => score["passed"] == true && score["quality"] == 0.0,
            "wrong" => score["passed"] == false,
            other => panic!("an unknown kind of solution: {other}"),
        };
        if !holds {
            surprises.push(format!("{kind}:\n{completion}\n{score}\n"));
        }
    }
    assert!(surprises.is_empty(), "{} surprises:\n{}", surprises.len(), surprises.join("\n"));
}

#[test]
fn mistakes_in_completions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = real(&["tasks", "--benchmark", "starter", "--limit", "1"], folder.path());
    std::fs::write(folder.path().join("tasks.jsonl"), &tasks.stdout).unwrap();
    std::fs::write(folder.path().join("c.jsonl"), "{\"task_id\": \"nobody\", \"completion\": \"\"}\n")
        .unwrap();
    let output = real(&["score", "--tasks", "tasks.jsonl", "--completions", "c.jsonl"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no task has the id `nobody`"));
}

#[test]
fn a_run_leaves_its_folder_and_resumes_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::write(here.join("smallest.toml"), SMALLEST).unwrap();
    let output = real(&["train", "smallest.toml"], here);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Func-Qual"));
    let whole = metrics(&here.join("run"));
    let steps: Vec<u64> = whole.iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 1, 2, 3]);
    for name in ["eval/function", "eval/quality", "eval/joint"] {
        assert!(whole[0][name].is_number() && whole[3][name].is_number(), "{name}");
    }
    assert!(whole[1]["reward/mean"].is_number() && whole[1]["policy/entropy"].is_number());
    assert!(std::fs::read_to_string(here.join("run/report.html")).unwrap().contains("id=\"curves\""));

    let again = real(&["train", "smallest.toml"], here);
    assert_eq!(again.status.code(), Some(2), "a run is not replaced without being asked");
    assert!(text(&again.stderr).contains("--resume"));

    // As if the run had been killed in its second step.
    for step in [2, 3] {
        std::fs::remove_dir_all(here.join(format!("run/checkpoints/step-{step:06}"))).unwrap();
    }
    let resumed = real(&["train", "smallest.toml", "--resume"], here);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    assert_eq!(metrics(&here.join("run")), whole);

    let other = real(&["train", "smallest.toml", "--resume", "--set", "seed=4"], here);
    assert!(text(&other.stderr).contains("not the configuration to resume with"), "{}", text(&other.stderr));

    let model = "run/checkpoints/step-000003";
    std::fs::write(
        here.join("tasks.jsonl"),
        real(&["tasks", "--benchmark", "starter", "--limit", "2"], here).stdout,
    )
    .unwrap();
    let arguments =
        ["generate", "--model", model, "--tasks", "tasks.jsonl", "--out", "c.jsonl", "--max-new-tokens", "8"];
    let generated = real(&arguments, here);
    assert_eq!(generated.status.code(), Some(0), "{}", text(&generated.stderr));
    assert_eq!(lines(&std::fs::read(here.join("c.jsonl")).unwrap()).len(), 2);
}

#[test]
fn a_bad_configuration_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("smallest.toml"), SMALLEST).unwrap();
    let output = real(&["train", "smallest.toml", "--set", "ppo.klcoef=1"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("klcoef"), "{}", text(&output.stderr));
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_model_that_is_not_there_costs_no_earlier_run() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let config = "seed = 1\n[run]\ndir = \"run\"\n[model]\npath = \"nowhere.gguf\"\n[data]\nbenchmark = \"starter\"\ntrain_tasks = 8\n[train]\nsteps = 1\n";
    std::fs::write(here.join("config.toml"), config).unwrap();
    std::fs::create_dir(here.join("run")).unwrap();
    std::fs::write(here.join("run/config.toml"), "").unwrap();
    std::fs::write(here.join("run/metrics.jsonl"), "{\"step\":0}\n").unwrap();
    let output = real(&["train", "config.toml", "--overwrite"], here);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("nowhere.gguf"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(here.join("run/metrics.jsonl")).unwrap(), "{\"step\":0}\n");
}
