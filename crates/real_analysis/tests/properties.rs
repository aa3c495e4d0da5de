//! Properties that hold for every program: nothing panics, answers are the same each time, and what should not matter
//! does not.

use std::fmt::Write;

use proptest::prelude::*;
use real_analysis::{Analysis, Library, Options, Returned, ThreatModel, analyze, outline};

fn scan(source: &str) -> Analysis {
    analyze(source, &Options::default())
}

/// Rules found, in order of position.
fn rules(source: &str) -> Vec<&'static str> {
    scan(source).findings.iter().map(|finding| finding.rule).collect()
}

const ATOMS: &[&str] = &[
    "x",
    "y",
    "input()",
    "'a'",
    "f'{x}{y!r:>3}'",
    "[x, *y]",
    "{'k': x, **y}",
    "x.strip().lower()",
    "(lambda t: t + y)(x)",
    "[i for i in x if i]",
];
const TESTS: &[&str] =
    &["x", "not y", "x and y or x", "x in ('a', 'b')", "x.isdigit()", "1 < x < 3", "isinstance(x, int)"];

fn expression() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(ATOMS).prop_map(str::to_owned);
    atom.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} % ({b},))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} if {b} else x)")),
            inner.clone().prop_map(|a| format!("({a})[0]")),
            inner.prop_map(|a| format!("f({a}, k={a})")),
        ]
    })
}

fn statement() -> impl Strategy<Value = String> {
    let simple = prop_oneof![
        expression().prop_map(|value| format!("x = {value}\n")),
        expression().prop_map(|value| format!("x += {value}\n")),
        expression().prop_map(|value| format!("a, *y = {value}\n")),
        expression().prop_map(|value| format!("cursor.execute({value})\n")),
        Just("return x\n".to_owned()),
        Just("raise ValueError(x)\n".to_owned()),
        Just("pass\n".to_owned()),
    ];
    simple.prop_recursive(3, 24, 4, |inner| {
        let block = prop::collection::vec(inner, 1..4).prop_map(|statements| indent(&statements.concat()));
        let test = prop::sample::select(TESTS);
        prop_oneof![
            (test.clone(), block.clone(), block.clone())
                .prop_map(|(t, a, b)| format!("if {t}:\n{a}else:\n{b}")),
            (test, block.clone()).prop_map(|(t, a)| format!("while {t}:\n{a}    continue\n")),
            (block.clone(), block.clone())
                .prop_map(|(a, b)| format!("for y in x:\n{a}    break\nelse:\n{b}")),
            (block.clone(), block.clone(), block.clone())
                .prop_map(|(a, b, c)| format!("try:\n{a}except ValueError as e:\n{b}finally:\n{c}")),
            (block.clone(), block.clone()).prop_map(|(a, b)| format!(
                "match x:\n    case 'a' | 'b':\n{}    case [y, *z]:\n{}",
                indent(&a),
                indent(&b)
            )),
            block.clone().prop_map(|a| format!("with open(x) as y:\n{a}")),
            block.prop_map(|a| format!("def f(x, y=1, *z, k=None, **w):\n{a}")),
        ]
    })
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |mut indented, line| {
        writeln!(indented, "    {line}").expect("a string takes any text");
        indented
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The SSA verifier runs inside `analyze` in debug builds.
    #[test]
    fn every_program_is_analysed(body in prop::collection::vec(statement(), 1..6)) {
        let source = format!("def g(x, y):\n{}", indent(&body.concat()));
        let first = scan(&source);
        prop_assert!(first.parsed, "{source}");
        prop_assert_eq!(first, scan(&source));
    }

    #[test]
    fn every_text_is_analysed(text in "[\\[\\](){}:=.,'\"#fx01 \\n\\t\\\\@*]{0,200}") {
        let analysis = scan(&text);
        prop_assert_eq!(analysis.parsed, outline(&text).parsed);
    }

    /// A prefix of a program is what a model leaves when it runs out of tokens.
    #[test]
    fn every_prefix_is_analysed(body in prop::collection::vec(statement(), 1..4), at in 0usize..400) {
        let source = body.concat();
        let end = at.min(source.len());
        scan(&source[..end]);
    }
}

const VULNERABLE: &str =
    "import os\n\ndef run(name):\n    # a comment\n    command = 'ls ' + name\n    os.system(command)\n";
const GUARDED: &str = "import os\n\ndef run(name):\n    # a comment\n    if not name.isalnum():\n        return None\n    command = 'ls ' + name\n    os.system(command)\n";

/// One check: a change of form leaves the verdicts of both programs alone.
fn keeps_verdicts(change: impl Fn(&str) -> String) {
    let vulnerable = change(VULNERABLE);
    assert_eq!(rules(&vulnerable), ["command-injection"], "{vulnerable}");
    let guarded = change(GUARDED);
    assert_eq!(rules(&guarded), [""; 0], "{guarded}");
}

#[test]
fn form_does_not_matter() {
    keeps_verdicts(str::to_owned);
    keeps_verdicts(|source| source.replace("name", "safe_constant").replace("command", "escaped"));
    keeps_verdicts(|source| source.replace("    # a comment\n", ""));
    keeps_verdicts(|source| {
        source.replace("import os\n", "from os import system as s\n").replace("os.system", "s")
    });
    keeps_verdicts(|source| source.replace("'ls ' + name", "f'ls {name}'"));
    keeps_verdicts(|source| source.replace("'ls ' + name", "'ls {}'.format(name)"));
    keeps_verdicts(|source| {
        source.replace(
            "    command = 'ls ' + name\n",
            "    prefix = 'ls '\n    other = name\n    command = prefix\n    command += other\n",
        )
    });
    keeps_verdicts(|source| source.replace("os.system(command)", "(lambda text: os.system(text))(command)"));
    keeps_verdicts(|source| format!("LS = 'ls '\n{}", source.replace("'ls '", "LS")));
    keeps_verdicts(|source| {
        let (imports, function) = source.split_once("\n\n").expect("imports come first");
        format!("{imports}\n\nclass Runner:\n{}", indent(&function.replace("run(name)", "run(self, name)")))
    });
    keeps_verdicts(|source| {
        source.replace("not name.isalnum()", "not check(name)")
            + "\ndef check(value):\n    return value.isalnum()\n"
    });
    keeps_verdicts(|source| format!("{source}\n\ndef other(value):\n    return [item for item in value]\n"));
}

#[test]
fn the_place_of_a_check_matters() {
    let after = VULNERABLE.to_owned() + "    if not name.isalnum():\n        raise ValueError\n";
    assert_eq!(rules(&after), ["command-injection"]);
    let other = GUARDED.replace("if not name", "other = 'a'\n    if not other");
    assert_eq!(rules(&other), ["command-injection"]);
    let unused = VULNERABLE.replace("command = 'ls '", "name.replace(';', '')\n    command = 'ls '");
    assert_eq!(rules(&unused), ["command-injection"]);
}

#[test]
fn deep_and_long_programs_end() {
    let parens = format!("x = {}1{}\n", "(".repeat(20_000), ")".repeat(20_000));
    let nots = format!("x = {}1\n", "not ".repeat(20_000));
    let sum = format!("x = {}1\n", "1 + ".repeat(50_000));
    let chain = format!("x = a{}\n", ".b()".repeat(20_000));
    let calls = format!("x = {}1{}\n", "f(".repeat(5_000), ")".repeat(5_000));
    let mut ifs = String::new();
    for depth in 0..2_000 {
        writeln!(ifs, "{}if x:", " ".repeat(depth)).expect("a string takes any text");
    }
    let elifs = "if x == 1:\n    y = 1\n".to_owned() + &"elif x == 2:\n    y = 2\n".repeat(5_000);
    let flat = "x = input()\nif x:\n    y = x\n".repeat(5_000);
    for source in [parens, nots, sum, chain, calls, ifs + &" ".repeat(2_000) + "pass\n", elifs, flat] {
        scan(&source);
    }
}

#[test]
fn a_program_too_deep_is_reported() {
    let source = format!("x = {}1\n", "not ".repeat(5_000));
    assert!(scan(&source).budget_hit);
    assert!(!scan("x = not 1\n").budget_hit);
}

#[test]
fn prelude_and_entry_point() {
    let program =
        "def run(name):\n    return helper(name)\n\ndef helper(name):\n    os.system(PREFIX + name)\n";
    let options = Options {
        threat_model: Some(ThreatModel::Program),
        prelude: Some("import os\nPREFIX = 'ls '\nos.system(input())\n".to_owned()),
        entry_point: Some("run".to_owned()),
        ..Options::default()
    };
    let analysis = analyze(program, &options);
    let found: Vec<(&str, u32)> =
        analysis.findings.iter().map(|finding| (finding.rule, finding.span.line)).collect();
    assert_eq!(found, [("command-injection", 5)]);
    let lines: Vec<u32> = analysis.findings[0].flow.iter().map(|step| step.span.line).collect();
    assert_eq!((lines.first(), lines.last()), (Some(&1), Some(&5)), "{lines:?}");
}

#[test]
fn json_has_the_fields_of_a_scan_row() {
    let analysis = scan("import os\nos.system(input())\n");
    let row = serde_json::to_value(&analysis.findings[0]).expect("findings are plain data");
    assert_eq!(row["cwe"], serde_json::json!(["CWE-78", "CWE-77"]));
    for field in ["line", "column", "end_line", "end_column", "rule", "message", "confidence", "flow"] {
        assert!(!row[field].is_null(), "{field}");
    }
}

#[test]
fn outline_of_a_program() {
    let source = "import os.path\nfrom re import sub\n\ndef f(a: int) -> int:\n    return a  # type: ignore\n\nasync def g(a): ...\n\nclass C:\n    def m(self) -> None:\n        import json\n\nX = 1  # noqa\n";
    let outline = outline(source);
    let items: Vec<(&str, bool, bool)> =
        outline.items.iter().map(|item| (&*item.name, item.annotated, item.empty)).collect();
    assert_eq!(
        items,
        [
            ("f", true, false),
            ("g", false, true),
            ("C", false, false),
            ("C.m", true, false),
            ("X", false, false)
        ]
    );
    assert_eq!(outline.imports, ["os.path", "re.sub"]);
    assert_eq!(outline.suppressions.iter().map(|span| span.line).collect::<Vec<_>>(), [5, 13]);
}

#[test]
fn a_returned_url_is_judged_by_contract() {
    let check = |body: &str, expected: &[&str]| {
        let source =
            format!("from urllib.parse import urlparse\n\ndef after(target: str) -> str:\n{}", indent(body));
        let options = Options {
            entry_point: Some("after".to_owned()),
            returns: Some(Returned::Url),
            ..Options::default()
        };
        let found: Vec<&str> =
            analyze(&source, &options).findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(found, expected, "{source}");
    };
    check("return target or '/home'\n", &["open-redirect"]);
    check(
        "if 'example.org' in target:\n    return target\nreturn '/home'\n",
        &["substring-allow-list", "open-redirect"],
    );
    check(
        "if target.startswith('https://example.org'):\n    return target\nreturn '/home'\n",
        &["open-redirect"],
    );
    check(
        "url = urlparse(target)\nif url.scheme == 'https':\n    return target\nreturn '/home'\n",
        &["open-redirect"],
    );
    check("if urlparse(target).hostname == 'example.org':\n    return target\nreturn '/home'\n", &[]);
    check("if target in ('/a', '/b'):\n    return target\nreturn '/home'\n", &[]);
    check("return {'a': '/a'}.get(target, '/home')\n", &[]);
}

#[test]
fn a_library_of_the_user_goes_first() {
    let text = "shop.database.run(query: sql)\nshop.params -> source request \"the shop\"\nshop.quote() -> html-escaped\nos.system()\n";
    let library = Library::parse(text).expect("the text has entries only");
    let options = Options { library: Some(library.into()), ..Options::default() };
    let program = "import os\nimport shop\nname = shop.params['name']\nshop.database.run('SELECT ' + name)\nos.system(name)\n";
    let rules = |options: &Options| -> Vec<&str> {
        analyze(program, options).findings.iter().map(|finding| finding.rule).collect()
    };
    assert_eq!(rules(&options), ["sql-injection"]);
    assert_eq!(rules(&Options::default()), [""; 0]);
    assert_eq!(Library::parse("x\nx(").expect_err("the second line is broken").line, 2);
}
