//! Honest programs are unharmed.

mod support;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use real_sandbox::{Action, Config, Ending, Error, Limits, Profile, Sandbox, Strictness, Value};
use support::{call, describe, job, run, sandbox, script};

/// The ending of `f()`.
#[track_caller]
fn check(program: &str, expected: &str) {
    assert_eq!(describe(&run(&call(program, vec![])).ending), expected, "{program}");
}

/// The output of a script, and how it ended.
#[track_caller]
fn check_script(program: &str, stdin: &str, stdout: &str, expected: &str) {
    let outcome = run(&script(program, stdin));
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(describe(&outcome.ending), expected, "{program}\n{stderr}");
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), stdout, "{program}");
}

#[test]
fn values_come_back_as_they_went() {
    let int = |text: &str| Value::Int(text.to_owned());
    let text = |text: &str| Value::Str(text.to_owned());
    let values = vec![
        Value::None,
        Value::Bool(true),
        int("0"),
        int("-9223372036854775808"),
        int("9223372036854775808"),
        int(&"7".repeat(6000)),
        Value::Float(1.0),
        Value::Float(0.1),
        Value::Float(-0.0),
        Value::Float(1e300),
        Value::Float(5e-324),
        Value::Float(f64::INFINITY),
        Value::Float(f64::NEG_INFINITY),
        Value::Complex(1.5, -2.0),
        text(""),
        text("a\n\"\\\0 é 漢 😀"),
        Value::Bytes((0..=255).collect()),
        Value::List(vec![int("1"), Value::List(vec![]), Value::None]),
        Value::Tuple(vec![int("1"), Value::Tuple(vec![])]),
        Value::Set(vec![int("1")]),
        Value::FrozenSet(vec![Value::Tuple(vec![int("1"), text("a")])]),
        Value::Dict(vec![(text("z"), int("1")), (text("a"), int("2")), (text("m"), Value::Dict(vec![]))]),
        Value::Dict(vec![(int("1"), text("a")), (Value::None, text("b"))]),
        Value::Dict(vec![(text("$tuple"), Value::List(vec![]))]),
    ];
    for value in &values {
        let ending = run(&call("def f(x):\n    return x\n", vec![value.clone()])).ending;
        assert_eq!(ending, Ending::Returned(value.clone()));
    }
    let all = Value::List(values);
    assert_eq!(run(&call("def f(x):\n    return x\n", vec![all.clone()])).ending, Ending::Returned(all));
    let nan = run(&call("def f(x):\n    return x != x, x\n", vec![Value::Float(f64::NAN)])).ending;
    assert_eq!(describe(&nan), r#"returned {"$tuple":[true,{"$float":"nan"}]}"#);
}

#[test]
fn calls() {
    check("def f():\n    return sum(range(10))\n", "returned 45");
    check("class f:\n    pass\n", r#"returned {"$opaque":"program.f"}"#);
    check("def f(:\n", "syntax error");
    check("def g():\n    pass\n", "entry point missing");
    check("f = 3\n", "entry point missing");
    check("", "entry point missing");
    check("raise KeyError('x')\ndef f():\n    pass\n", "raised KeyError at import");
    check("def f():\n    return {}['x']\n", "raised KeyError");
    check("def f(x):\n    return x\n", "raised TypeError");
    check("def f():\n    assert False\n", "raised AssertionError");
    check("def f():\n    return f()\n", "raised RecursionError");
    check("def f():\n    yield 1\n", r#"returned {"$opaque":"builtins.generator"}"#);
    check("async def f():\n    return 1\n", r#"returned {"$opaque":"builtins.coroutine"}"#);
    check(
        "if __name__ == '__main__':\n    raise ValueError\ndef f():\n    return __name__\n",
        r#"returned "program""#,
    );
    check(
        "from collections import *\ndef f():\n    return Counter('aab'), defaultdict(int), OrderedDict(b=1, a=2)\n",
        r#"returned {"$tuple":[{"a":2,"b":1},{},{"b":1,"a":2}]}"#,
    );
    check(
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f():\n    return P(1).x\n",
        "returned 1",
    );
    check(
        "import asyncio\nasync def g():\n    await asyncio.sleep(0)\n    return 4\ndef f():\n    return asyncio.run(g())\n",
        "returned 4",
    );
    check(
        "import threading\ndef f():\n    out = []\n    t = threading.Thread(target=out.append, args=(1,))\n    t.start(); t.join()\n    return out\n",
        "returned [1]",
    );
    check(
        "import sqlite3\ndef f():\n    c = sqlite3.connect('x.db')\n    c.execute('create table t (a)')\n    c.execute('insert into t values (?)', (5,))\n    c.commit()\n    return c.execute('select a from t').fetchone()\n",
        r#"returned {"$tuple":[5]}"#,
    );
    check(
        "import tempfile, os, shutil\ndef f():\n    d = tempfile.mkdtemp()\n    p = os.path.join(d, 'a')\n    open(p, 'w').write('x')\n    shutil.copy(p, p + 'b')\n    return sorted(os.listdir(d))\n",
        r#"returned ["a","ab"]"#,
    );
    check(
        "import zoneinfo, datetime\ndef f():\n    return datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc).isoformat()\n",
        r#"returned "2020-01-01T00:00:00+00:00""#,
    );
    check(
        "import subprocess, urllib.request, http.client, unittest.mock, multiprocessing, ctypes\ndef f():\n    return 1\n",
        "returned 1",
    );
    check(
        "def f():\n    return [hash('a') == hash('a'), __import__('random').random()]\n",
        "returned [true,0.8444218515250481]",
    );
    check("def f():\n    x = []\n    x.append(x)\n    return len(str(x))\n", "returned 7");
}

#[test]
fn methods_keywords_and_expressions() {
    let program = "class Solution:\n    def __init__(self):\n        self.base = 10\n    def add(self, a, b=0):\n        return self.base + a + b\n";
    let method = |entry_point: &str| Action::Call {
        entry_point: entry_point.to_owned(),
        args: vec![Value::Int("1".to_owned())],
        kwargs: vec![("b".to_owned(), Value::Int("5".to_owned()))],
    };
    assert_eq!(describe(&run(&job(program, method("Solution.add"))).ending), "returned 16");
    assert_eq!(describe(&run(&job(program, method("Solution.sub"))).ending), "entry point missing");
    let expression = Action::Evaluate { expression: "Solution().add(2) * scale".to_owned() };
    let mut evaluate = job(program, expression);
    evaluate.prelude = "scale = 3\n".to_owned();
    assert_eq!(describe(&run(&evaluate).ending), "returned 36");
}

#[test]
fn scripts() {
    check_script("a, b = map(int, input('? ').split())\nprint(a + b)\n", "1 2\n", "? 3\n", "finished");
    check_script("import sys\nprint(sys.stdin.read().upper(), end='')\n", "é\nb", "É\nB", "finished");
    check_script("print(__name__)\n", "", "__main__\n", "finished");
    check_script("import os\nprint('a')\nos.write(1, b'b')\n", "", "ba\n", "finished");
    check_script("import sys\nprint(1)\nsys.exit()\n", "", "1\n", "finished");
    check_script("print(1)\nexit(0)\n", "", "1\n", "finished");
    check_script("import sys\nprint(1)\nsys.exit(3)\n", "", "1\n", "exited 3");
    check_script("import sys\nsys.exit('bad')\n", "", "", "exited 1");
    check_script("print(1)\n1 / 0\n", "", "1\n", "raised ZeroDivisionError");
    check_script("input()\n", "", "", "raised EOFError");
    check_script("import atexit\natexit.register(print, 'bye')\n", "", "bye\n", "finished");
    check_script(
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.05), print('late'))).start()\n",
        "",
        "late\n",
        "finished",
    );
    check_script(
        "import os\nif os.fork() == 0:\n    os._exit(7)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))\n",
        "",
        "7\n",
        "finished",
    );
}

#[test]
fn a_failing_script_prints_the_traceback_that_python_prints() {
    let outcome = run(&script("def g():\n    return 1 / 0\ng()\n", ""));
    let stderr = String::from_utf8(outcome.stderr).unwrap();
    assert!(
        stderr.starts_with(
            "Traceback (most recent call last):\n  File \"program.py\", line 3, in <module>\n    g()\n"
        ),
        "{stderr}"
    );
    assert!(stderr.ends_with("ZeroDivisionError: division by zero\n"), "{stderr}");
}

#[test]
fn exceptions_name_their_bases() {
    let program = "class Meta(type):\n    __mro__ = ()\n    __name__ = 'X'\nclass Bad(ValueError, metaclass=Meta):\n    def __str__(self):\n        raise KeyError\ndef f():\n    raise Bad\n";
    let Ending::Raised { types, message, at_import } = run(&call(program, vec![])).ending else { panic!() };
    assert_eq!(types, ["Bad", "ValueError", "Exception", "BaseException", "object"]);
    assert_eq!((message.as_str(), at_import), ("", false));
}

#[test]
fn files_go_in_and_out() {
    let mut copy = call(
        "def f():\n    data = open('in.bin', 'rb').read()\n    open('out.bin', 'wb').write(data[::-1])\n",
        vec![],
    );
    copy.files = vec![("in.bin".to_owned(), vec![1, 2, 3])];
    copy.collect = vec!["out.bin".to_owned(), "absent".to_owned()];
    assert_eq!(run(&copy).files, [("out.bin".to_owned(), vec![3, 2, 1])]);
}

#[test]
fn a_prelude_that_fails_is_our_failure() {
    let mut bad = call("def f():\n    return 1\n", vec![]);
    bad.prelude = "import no_such_module\n".to_owned();
    let error = sandbox().run(&bad).unwrap_err().to_string();
    assert!(error.contains("ModuleNotFoundError: No module named 'no_such_module'"), "{error}");
    // "R" alone is the mark that the program has got control.
    bad.prelude = "raise RuntimeError('why')\n".to_owned();
    let error = sandbox().run(&bad).unwrap_err().to_string();
    assert!(error.contains("RuntimeError: why"), "{error}");
}

#[test]
fn limits_leave_room_for_what_they_allow() {
    let mut large = call("def f():\n    return len(bytes(200 << 20))\n", vec![]);
    assert_eq!(describe(&run(&large).ending), "returned 209715200");
    large.limits = Limits { memory: 100 << 20, ..Limits::default() };
    assert_eq!(describe(&run(&large).ending), "exceeded memory");
    let mut print = script("print('x' * 999)\n", "");
    print.limits.output = 1000;
    assert_eq!(run(&print).stdout.len(), 1000);
    let mut slow = call("import time\ndef f():\n    time.sleep(.3)\n    return 1\n", vec![]);
    slow.limits.cpu = Duration::from_millis(250);
    let outcome = run(&slow);
    assert_eq!(describe(&outcome.ending), "returned 1");
    assert!(outcome.wall >= Duration::from_millis(300) && outcome.cpu < Duration::from_millis(250));
}

#[test]
fn many_threads_get_their_own_answers() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for turn in 0..50 {
                    let number = Value::Int((thread * 1000 + turn).to_string());
                    let outcome = run(&call("def f(x):\n    print(x)\n    return x\n", vec![number.clone()]));
                    assert_eq!(outcome.ending, Ending::Returned(number));
                    assert_eq!(outcome.stdout, format!("{}\n", thread * 1000 + turn).as_bytes());
                }
            });
        }
    });
}

/// Where some `numpy` is to be found: the interpreter's own, or the one that `real` has set up in its cache.
fn numpy_folder() -> Option<PathBuf> {
    let script = "import numpy, os; print(os.path.dirname(os.path.dirname(numpy.__file__)))";
    let output = Command::new("python3").args(["-c", script]).output().ok()?;
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()));
    }
    let cache = PathBuf::from(std::env::var_os("HOME")?).join(".cache/real");
    let environments = std::fs::read_dir(cache).ok()?.flatten();
    let libraries = environments.filter_map(|one| std::fs::read_dir(one.path().join("lib")).ok());
    let folders = libraries.flatten().flatten().map(|library| library.path().join("site-packages"));
    folders.into_iter().find(|folder| folder.join("numpy").is_dir())
}

#[test]
fn numpy_values_are_the_lists_and_numbers_that_they_hold() {
    let Some(folder) = numpy_folder() else {
        eprintln!("skipped: numpy_values_are_the_lists_and_numbers_that_they_hold: there is no numpy");
        return;
    };
    let config = Config {
        profile: Profile::Numpy,
        site_packages: vec![folder],
        workers: NonZeroUsize::MIN,
        strictness: Strictness::Degrade,
        ..Config::default()
    };
    let sandbox = match Sandbox::start(config) {
        Err(Error::Start(reason)) => {
            eprintln!("skipped: numpy_values: the numpy found is not for this interpreter: {reason}");
            return;
        }
        other => other.expect("a sandbox"),
    };
    let program = "\
import numpy as np
class Liar(np.ndarray):
    __eq__ = lambda self, other: True
def f():
    yield np.arange(4).reshape(2, 2)
    yield np.float64(0.5), np.int64(3), np.bool_(True), np.str_('a')
    yield np.array([np.nan, 1j])
    yield np.zeros(1).view(Liar)
    yield np.random.rand() == np.random.RandomState(0).rand()
f = lambda g=f: list(g())
";
    let ending = sandbox.run(&call(program, vec![])).expect("an outcome").ending;
    let expected = r#"returned [[[0,1],[2,3]],{"$tuple":[0.5,3,true,"a"]},[{"$complex":[{"$float":"nan"},0.0]},{"$complex":[0.0,1.0]}],{"$opaque":"program.Liar"},true]"#;
    assert_eq!(describe(&ending), expected);
}
