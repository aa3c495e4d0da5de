//! What goes wrong around the sandbox: lost workers, missing walls, and that nothing is left behind. One test after the other, since
//! they look at the processes and descriptors of this one.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use real_sandbox::{Action, Config, Ending, Error, Job, Layer, Limits, Resource, Sandbox, Strictness, Value};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn call(program: &str) -> Job {
    Job {
        prelude: String::new(),
        program: program.to_owned(),
        files: vec![],
        action: Action::Call { entry_point: "f".to_owned(), args: vec![], kwargs: vec![] },
        collect: vec![],
        limits: Limits::default(),
    }
}

fn config(workers: usize, strictness: Strictness) -> Config {
    Config { workers: NonZeroUsize::new(workers).unwrap(), strictness, ..Config::default() }
}

fn one() -> Ending {
    Ending::Returned(Value::Int("1".to_owned()))
}

/// The processes below this one.
fn descendants() -> BTreeSet<u32> {
    let mut found = BTreeSet::from([std::process::id()]);
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|process: u32| Some((process, parent(process)?)))
        .collect();
    loop {
        let before = found.len();
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(child, _)| *child)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            found.remove(&std::process::id());
            return found;
        }
    }
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn temporary_folders() -> usize {
    let ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("real-sandbox-");
    fs::read_dir(std::env::temp_dir()).unwrap().flatten().filter(ours).count()
}

fn kill(process: u32) {
    let status = std::process::Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn nothing_is_left_behind() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    leave_nothing_behind(Strictness::Degrade);
    leave_nothing_behind(Strictness::Without(vec![Layer::Namespaces, Layer::UserNamespace, Layer::User]));
}

fn leave_nothing_behind(strictness: Strictness) {
    const DAEMON: &str = "\
import os, time
def f():
    open('x', 'w').close()
    try:
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
    except OSError:
        pass
    return 1
";
    let before = (open_files(), descendants(), temporary_folders());
    let sandbox = Sandbox::start(config(2, strictness)).unwrap();
    let warm = (open_files(), descendants(), temporary_folders());
    for turn in 0..200 {
        let job = call(if turn % 10 == 0 { DAEMON } else { "def f():\n    return 1\n" });
        assert_eq!(sandbox.run(&job).unwrap().ending, one());
    }
    assert_eq!((open_files(), descendants(), temporary_folders()), warm);
    drop(sandbox);
    assert_eq!((open_files(), descendants(), temporary_folders()), before);
}

#[test]
fn a_lost_worker_costs_nobody_an_answer() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let sandbox = Sandbox::start(config(2, Strictness::Degrade)).unwrap();
    let job = call("import time\ndef f():\n    time.sleep(.3)\n    return 1\n");
    thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| sandbox.run(&job).unwrap().ending)).collect();
        thread::sleep(Duration::from_millis(150));
        // A launcher's child is the worker, and its child the job.
        let launchers: Vec<u32> =
            descendants().into_iter().filter(|p| parent(*p) == Some(std::process::id())).collect();
        kill(*descendants().iter().find(|p| parent(**p) == Some(launchers[0])).unwrap());
        kill(launchers[1]);
        for run in runs {
            assert_eq!(run.join().unwrap(), one());
        }
    });
    drop(sandbox);
    assert_eq!(descendants(), BTreeSet::new());
}

#[test]
fn a_worker_that_hangs_is_replaced() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let sandbox = Sandbox::start(config(1, Strictness::Degrade)).unwrap();
    let worker = *descendants().iter().find(|p| parent(**p) != Some(std::process::id())).unwrap();
    let stopped = std::process::Command::new("kill").args(["-STOP", &worker.to_string()]).status().unwrap();
    assert!(stopped.success());
    let mut job = call("def f():\n    return 1\n");
    job.limits.wall = Duration::from_secs(1);
    assert_eq!(sandbox.run(&job).unwrap().ending, one());
}

/// Every wall can be missing, and the others still hold.
#[test]
fn degraded_sandboxes_work() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let offered = Sandbox::start(config(1, Strictness::Degrade)).unwrap().protection().clone();
    let without = [
        vec![],
        vec![Layer::UserNamespace],
        vec![Layer::Namespaces],
        vec![Layer::Landlock],
        vec![Layer::Seccomp],
        vec![Layer::Namespaces, Layer::UserNamespace],
        vec![Layer::User, Layer::Namespaces, Layer::UserNamespace],
        Layer::ALL.to_vec(),
    ];
    for layers in without {
        let wanted: Vec<Layer> = Layer::ALL.into_iter().filter(|layer| !layers.contains(layer)).collect();
        let sandbox = match Sandbox::start(config(1, Strictness::Without(layers.clone()))) {
            Err(Error::Unprotected { layer, reason }) => {
                eprintln!("skipped: without {layers:?}: this machine does not offer `{layer}`: {reason}");
                assert!(!layers.is_empty() || !offered.is_complete(), "{layer}: {reason}");
                continue;
            }
            other => other.unwrap_or_else(|error| panic!("without {layers:?}: {error}")),
        };
        assert_eq!(sandbox.protection().enforced, wanted);
        check_degraded(&sandbox, &layers);
    }
}

fn check_degraded(sandbox: &Sandbox, layers: &[Layer]) {
    let has = |layer| !layers.contains(&layer);
    let mark = call(
        "import os\ndef f():\n    found = os.listdir('.')\n    os.mkdir('d')\n    open('d/x', 'w').close()\n    return int(found == [])\n",
    );
    for _ in 0..3 {
        assert_eq!(sandbox.run(&mark).unwrap().ending, one(), "without {layers:?}");
    }
    let mut endless = call("def f():\n    while True:\n        pass\n");
    endless.limits.cpu = Duration::from_millis(200);
    assert_eq!(sandbox.run(&endless).unwrap().ending, Ending::Exceeded(Resource::Time), "without {layers:?}");
    let passwords = sandbox.run(&call("def f():\n    open('/etc/passwd')\n    return 1\n")).unwrap().ending;
    assert_eq!(passwords == one(), !has(Layer::Namespaces) && !has(Layer::Landlock), "without {layers:?}");
    let socket =
        sandbox.run(&call("import socket\ndef f():\n    socket.socket()\n    return 1\n")).unwrap().ending;
    assert_eq!(socket == one(), !has(Layer::Seccomp), "without {layers:?}");
    let signal = "import os\ndef f():\n    try:\n        os.kill(os.getppid(), 9)\n    except OSError:\n        pass\n    return 1\n";
    if has(Layer::Namespaces) || has(Layer::Seccomp) {
        assert_eq!(sandbox.run(&call(signal)).unwrap().ending, one(), "without {layers:?}");
    }
}

/// The same test binary where no user namespace can be made: in one that forbids more of them.
#[test]
fn strict_refuses_what_degrade_reports() {
    const MARK: &str = "REAL_SANDBOX_WITHOUT_NAMESPACES";
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os(MARK).is_some() {
        let refused = Sandbox::start(config(1, Strictness::Strict));
        assert!(matches!(refused, Err(Error::Unprotected { .. })), "{refused:?}");
        let sandbox = Sandbox::start(config(1, Strictness::Degrade)).unwrap();
        let missing = &sandbox.protection().missing;
        assert!(missing.iter().any(|(layer, _)| *layer == Layer::UserNamespace), "{missing:?}");
        assert!(!sandbox.protection().is_complete() && !sandbox.protection().has(Layer::UserNamespace));
        assert_eq!(sandbox.run(&call("def f():\n    return 1\n")).unwrap().ending, one());
        return;
    }
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" --exact strict_refuses_what_degrade_reports";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(MARK, "1")
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: strict_refuses_what_degrade_reports: there is no `unshare`");
        return;
    };
    let report = String::from_utf8_lossy(&output.stdout);
    if !report.contains("running 1 test") {
        eprintln!(
            "skipped: strict_refuses_what_degrade_reports: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_missing_interpreter_is_named() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let python = "no-such-python".into();
    let error = Sandbox::start(Config { python, ..Config::default() }).unwrap_err().to_string();
    assert!(error.contains("no-such-python"), "{error}");
}

/// A program's own `/tmp` would hide them, so they are shown in another place, and only to be read.
#[test]
fn packages_in_tmp_are_found_elsewhere() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/__init__.py"), "WORD = 'here'\n").unwrap();
    let site_packages = vec![folder.path().to_owned()];
    let sandbox = Sandbox::start(Config { site_packages, ..config(1, Strictness::Degrade) }).unwrap();
    if !sandbox.protection().has(Layer::Namespaces) {
        eprintln!("skipped: packages_in_tmp_are_found_elsewhere: there are no namespaces here");
        return;
    }
    let program = format!(
        "import mine, os\n\
         def refused(path):\n    try:\n        open(path, 'w')\n    except OSError:\n        return True\n\
         def f():\n    return [mine.WORD, os.listdir('/tmp'), os.path.exists({:?}), refused(mine.__file__)]\n",
        folder.path()
    );
    let expected =
        vec![Value::Str("here".to_owned()), Value::List(vec![]), Value::Bool(false), Value::Bool(true)];
    assert_eq!(sandbox.run(&call(&program)).unwrap().ending, Ending::Returned(Value::List(expected)));
}

#[test]
fn a_dropped_sandbox_ends_its_jobs() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let started = Instant::now();
    for _ in 0..3 {
        drop(Sandbox::start(config(2, Strictness::Degrade)).unwrap());
    }
    assert!(started.elapsed() < Duration::from_mins(1));
    assert_eq!(descendants(), BTreeSet::new());
}
