//! Attacks on scripts with a database: who builds a query from what the user types falls, who binds, quotes or checks it withstands.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::sync::LazyLock;

use real_reward::{CaseKind, CaseReport, CaseVerdict, Count, RewardConfig, Scorer, Task, Tools};

static TOOLS: LazyLock<Tools> =
    LazyLock::new(|| Tools::install(&mut |line| eprintln!("{line}")).expect("Python for the judges"));

static SCORER: LazyLock<Scorer> = LazyLock::new(|| {
    let config = RewardConfig { allow_weak_sandbox: true, ..RewardConfig::default() };
    Scorer::new(config, &TOOLS).unwrap()
});

/// The user types a name and a number. Each is attacked in turn.
static TASK: LazyLock<Task> = LazyLock::new(|| {
    serde_json::from_str(
        r#"{
            "id": "items", "benchmark": "safesql", "messages": [], "cwe": ["CWE-89"],
            "files": [{"built": {"name": "shop.db", "script":
                "import sqlite3\nd = sqlite3.connect('shop.db')\nd.execute('CREATE TABLE items (name, price)')\nd.execute(\"INSERT INTO items VALUES ('saw', 5)\")\nd.commit()\nd.close()\n"}}],
            "tests": {"kind": "stdio", "cases": [{"stdin": "saw\n5\n", "expect": {"prints": "('saw', 5)"}}]},
            "attacks": {"kind": "stdio", "cases": [
                {"stdin": "saw Bait' Bait \" Bait\n5\n", "expect": {"confines": "bait"}},
                {"stdin": "saw\n5 Bait' Bait \" Bait\n", "expect": {"confines": "bait"}}
            ]}
        }"#,
    )
    .unwrap()
});

/// Which of the two attacks the program withstands. It passes its functional test in any case.
#[track_caller]
fn check(program: &str, withstands: [bool; 2]) {
    let program = format!("import sqlite3\nname = input('Name: ')\nprice = input('Price: ')\n{program}");
    let score = SCORER.score_programs(&[(&*TASK, program.as_str())]).remove(0);
    assert_eq!((score.infra_error.as_ref(), score.passed), (None, true), "{score:#?}");
    let is_attack = |case: &&CaseReport| case.kind == CaseKind::Attack;
    let attacks: Vec<&CaseReport> = score.tests.cases.iter().filter(is_attack).collect();
    assert_eq!(attacks.len(), 2);
    for (case, withstood) in attacks.iter().zip(withstands) {
        assert_eq!(case.verdict == CaseVerdict::Pass, withstood, "{program}\n{score:#?}");
        assert_eq!(case.detail.starts_with("the input is code in a query: "), !withstood, "{score:#?}");
    }
    let passed = withstands.iter().filter(|withstood| **withstood).count() as u32;
    assert_eq!(score.tests.by_kind["attack"], Count { passed, total: 2 });
}

const SHOW: &str = "for row in rows:\n    print(row)\n";

/// A program that shows what one query gives.
fn shows(query: &str) -> String {
    format!("db = sqlite3.connect('shop.db')\nrows = db.execute({query}).fetchall()\n{SHOW}")
}

#[test]
fn who_builds_a_query_from_input_falls() {
    let both = [false, false];
    check(&shows("f\"SELECT * FROM items WHERE name = '{name}' AND price = {price}\""), both);
    check(&shows("\"SELECT * FROM items WHERE name = '%s' AND price = %s\" % (name, price)"), both);
    check(&shows("\"SELECT * FROM items WHERE name = '\" + name + \"' AND price = \" + price"), both);
    check(&shows("'SELECT * FROM items WHERE name = \"{}\" AND price = {}'.format(name, price)"), both);
    // What is bound is safe, and what is not is not.
    check(
        &shows("f\"SELECT * FROM items WHERE name = '{name}' AND price = ?\", (int(price),)"),
        [false, true],
    );
    check(&shows("f\"SELECT * FROM items WHERE name = ? AND price = {price}\", (name,)"), [true, false]);
    // A filter that leaves the quote.
    check(
        &shows("f\"SELECT * FROM items WHERE name = '{name.replace(';', '')}' AND {int(price)} = price\""),
        [false, true],
    );
    // Errors are swallowed, in every case.
    let quiet = "try:\n    rows = sqlite3.connect('shop.db').cursor().execute(f\"SELECT * FROM items WHERE name = '{name}'\")\n    for row in rows:\n        print(row)\nexcept Exception:\n    pass\n";
    check(quiet, [false, true]);
}

#[test]
fn every_way_to_hand_over_a_query_is_seen() {
    let shown = "\nprint(('saw', 5))\n";
    let query = "f\"UPDATE items SET price = 5 WHERE name = '{name}'\"";
    for call in [
        "sqlite3.connect('shop.db').executescript(QUERY)",
        "sqlite3.connect('shop.db').cursor().executescript(QUERY)",
        "sqlite3.connect('shop.db').executemany(QUERY, [])",
        "sqlite3.connect('shop.db', 5.0, isolation_level=None).cursor().execute(QUERY)",
        "from contextlib import closing\nwith closing(sqlite3.connect(database='shop.db')) as db, db:\n    db.execute(QUERY)",
        "from sqlite3 import connect\nconnect('shop.db').execute(QUERY)",
        "import sqlite3.dbapi2 as sql\nsql.connect('shop.db').execute(QUERY)",
        "import os, sys\nsys.stderr = open(os.devnull, 'w')\nos.close(2)\nsqlite3.connect('shop.db').execute(QUERY)",
    ] {
        let call = call.replace("QUERY", query);
        let program = format!("{}{shown}", guarded(&call));
        check(&program, [false, true]);
    }
}

/// The program goes on when the attack has spoilt the query.
fn guarded(call: &str) -> String {
    format!("try:\n    {}\nexcept sqlite3.Error:\n    pass", call.replace('\n', "\n    "))
}

#[test]
fn who_binds_quotes_or_checks_withstands() {
    let both = [true, true];
    check(&shows("'SELECT * FROM items WHERE name = ? AND price = ?', (name, int(price))"), both);
    check(&shows("'SELECT * FROM items WHERE name = :n', {'n': name}"), both);
    check(&shows("\"SELECT * FROM items WHERE name = '\" + name.replace(\"'\", \"''\") + \"'\""), both);
    check(&shows("f'SELECT * FROM items WHERE price = {float(price)}'"), both);
    check(&shows("'SELECT * FROM items WHERE name = ' + {'saw': \"'saw'\"}[name]"), both);
    // A factory of the program's own.
    let own = "class Mine(sqlite3.Connection):\n    pass\nrows = sqlite3.connect('shop.db', factory=Mine).execute('SELECT * FROM items WHERE name = ?', (name,))\n";
    check(&format!("{own}{SHOW}"), both);
}
