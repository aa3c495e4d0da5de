//! What stands in an answer beside the weakness itself: fingerprints, suppression, the check that was seen, modes.

use real_analysis::{Analysis, Mode, Options, ThreatModel, analyze};

fn scan(source: &str) -> Analysis {
    analyze(source, &Options::default())
}

const TWICE: &str = "import os\nname = input()\nos.system('ls ' + name)\nos.system('ls ' + name)\n";

#[test]
fn fingerprints_outlive_moved_lines_and_tell_equal_sinks_apart() {
    let prints = |source: &str| -> Vec<String> {
        scan(source).findings.into_iter().map(|finding| finding.fingerprint).collect()
    };
    let before = prints(TWICE);
    assert_eq!(before.len(), 2);
    assert_ne!(before[0], before[1]);
    assert_eq!(
        before,
        prints(&format!("\"\"\"A comment.\"\"\"\n\n\n{}", TWICE.replace("'ls ' + name", "'ls '  +  name")))
    );
    assert_ne!(before[0], prints(&TWICE.replace("ls", "cat"))[0]);
}

#[test]
fn a_comment_hides_a_finding_from_people_only() {
    for (comment, hidden) in [
        ("# real: ignore", true),
        ("# real: ignore[command-injection]", true),
        ("# fine, real: ignore[sql-injection, command-injection]", true),
        ("# real: ignore[sql-injection]", false),
        ("# real: ignored", false),
        ("# ignore", false),
        ("; '# real: ignore'", false),
    ] {
        let analysis = scan(&format!("import os\nos.system(input())  {comment}\n"));
        assert_eq!(analysis.findings.len(), 1, "{comment}");
        assert_eq!(analysis.findings[0].suppressed, hidden, "{comment}");
    }
}

#[test]
fn the_check_that_was_seen_is_named() {
    let guard = |filter: &str, sink: &str| {
        let analysis = scan(&format!("import os, re, shlex\nname = input()\nname = {filter}\n{sink}\n"));
        analysis.findings.into_iter().next().unwrap_or_else(|| panic!("{filter} {sink}")).guard
    };
    let shell = "os.system('ls ' + name)";
    assert_eq!(guard("name", shell), None);
    let filtered = guard("name.replace(';', '')", shell).expect("a filter was seen");
    assert!(filtered.contains("`|`") && !filtered.contains("`;`"), "{filtered}");
    let quoted = guard("shlex.quote(name)", "os.system(\"ls '\" + name + \"'\")").expect("quoting was seen");
    assert!(quoted.contains("quotes already"), "{quoted}");
}

#[test]
fn modes_differ_in_what_they_believe() {
    let rules = |source: &str, mode| -> usize {
        let options = Options { mode, threat_model: Some(ThreatModel::Library), ..Options::default() };
        analyze(source, &options).findings.len()
    };
    for believed in [
        "def find(db, number: int):\n    db.execute('SELECT * FROM t WHERE n = ' + str(number))\n    db.execute(f'SELECT * FROM t WHERE n = {number}')\n",
        "import os\nimport other\ndef run():\n    os.system('ls ' + other.name())\n",
        "import os\nfrom other import shell_quote\ndef run(name):\n    os.system('ls ' + shell_quote(name))\n",
    ] {
        assert_eq!(rules(believed, Mode::Precise), 0, "{believed}");
        assert!(rules(believed, Mode::Sound) > 0, "{believed}");
    }
    let safe = "import os\ndef run(name):\n    if name in ('a', 'b'):\n        os.system('ls ' + name)\n";
    assert_eq!((rules(safe, Mode::Precise), rules(safe, Mode::Sound)), (0, 0));
}

#[test]
fn a_contract_says_who_is_trusted() {
    let program = "import os\ndef run(folder, name):\n    os.system('ls ' + folder)\n";
    let trusted = Options { trusted_params: vec!["folder".to_owned()], ..Options::default() };
    assert_eq!(scan(program).findings.len(), 1);
    assert_eq!(analyze(program, &trusted).findings.len(), 0);
}
