//! The sandbox is tested by attacking it. The numbers A1 … A26 group the cheats that graders are known to
//! have fallen for.
//!
//! An attack is a program and the ending that it must have, with alternatives where the interpreter's version or the machine's
//! speed decides. "returned" is no success for an attacker: a job is told no expected value, so that all it can do is to return
//! one that it has computed. `errno(…)` calls the C library and returns the error number, or 0: 1 is EPERM.

mod support;

use std::time::Duration;

use real_sandbox::{ControlGroups, Job, Layer};
use support::{call, describe, offers, run, sandbox, script};

const HELPERS: &str = "\
import ctypes as _ctypes, os as _os
_libc = _ctypes.CDLL(None, use_errno=True)
def errno(name, *arguments):
    _ctypes.set_errno(0)
    words = [_ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = getattr(_libc, name)(*words)
    return _ctypes.get_errno() if result == -1 else 0
";

fn attack(program: &str) -> Job {
    let mut job = call(program, vec![]);
    HELPERS.clone_into(&mut job.prelude);
    job.limits.wall = Duration::from_secs(4);
    job.limits.cpu = Duration::from_secs(1);
    job.limits.memory = 256 << 20;
    job.limits.file_size = 4 << 20;
    job.limits.output = 10_000;
    job
}

#[track_caller]
fn check(id: &str, program: &str, expected: &str) {
    let outcome = sandbox().run(&attack(program)).unwrap_or_else(|error| panic!("{id}: an outage: {error}"));
    let ending = describe(&outcome.ending);
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert!(
        expected.split(" | ").any(|one| one == ending),
        "{id}: {ending:.200}, and not {expected}\n{program:.1000}\n{stderr:.1000}",
    );
    assert!(outcome.wall < Duration::from_secs(10), "{id} took {:?}", outcome.wall);
}

fn check_all(attacks: &[(&str, &str, &str)]) {
    for (id, program, expected) in attacks {
        check(id, program, expected);
    }
    let honest = run(&attack("def f():\n    return 'well'\n"));
    assert_eq!(describe(&honest.ending), r#"returned "well""#, "the sandbox survives");
}

/// Ways to end the process before the tests are over, or to silence it.
#[test]
fn early_exits() {
    check_all(&[
        ("A1 exit at import", "import sys\nsys.exit(0)\ndef f():\n    pass\n", "exited 0"),
        ("A2 exit in the call", "import sys\ndef f():\n    sys.exit()\n", "exited 0"),
        ("A2 SystemExit", "def f():\n    raise SystemExit\n", "exited 0"),
        ("A2 exit with a value", "def f():\n    raise SystemExit({'returned': 1})\n", "exited 1"),
        ("A3 _exit", "import os\ndef f():\n    os._exit(0)\n", "exited 0"),
        ("A4 execv", "import os\ndef f():\n    os.execv('/bin/true', ['true'])\n", "raised PermissionError"),
        (
            "A4 exec of the interpreter",
            "import os, sys\ndef f():\n    os.execv(sys.executable, ['python'])\n",
            "raised PermissionError",
        ),
        ("A4 system", "import os\ndef f():\n    return os.system('true') != 0\n", "returned true"),
        (
            "A4 subprocess",
            "import subprocess\ndef f():\n    subprocess.run(['true'])\n",
            "raised PermissionError",
        ),
        (
            "A4 execveat",
            "def f():\n    return errno('execveat', -100, b'/usr/lib/x', None, None, 0)\n",
            "returned 1 | raised AttributeError",
        ),
        ("A5 close the pipe", "import os\ndef f():\n    os.closerange(0, 64)\n    return 1\n", "exited 1"),
        (
            "A5 close stderr",
            "import os\ndef f():\n    os.close(2)\n    raise ValueError\n",
            "raised ValueError",
        ),
        (
            "A5 hooks",
            "import sys\nsys.stderr = sys.stdout = None\nsys.excepthook = lambda *a: None\ndef f():\n    raise ValueError\n",
            "raised ValueError",
        ),
        (
            "A5 atexit",
            "import atexit, os\natexit.register(os._exit, 0)\ndef f():\n    raise ValueError\n",
            "raised ValueError",
        ),
        ("KeyboardInterrupt", "def f():\n    raise KeyboardInterrupt\n", "raised KeyboardInterrupt"),
    ]);
}

/// Objects and patches that fool a comparison inside of the process. There is none here.
#[test]
fn liars() {
    let liar = "class Liar(KIND):\n    __eq__ = __ne__ = lambda self, other: True\n    __hash__ = lambda self: 0\ndef f():\n    return Liar()\n";
    for kind in ["object", "int", "str", "list", "dict", "float", "tuple", "set", "bytes"] {
        check(&format!("A6 {kind}"), &liar.replace("KIND", kind), r#"returned {"$opaque":"program.Liar"}"#);
    }
    check_all(&[
        (
            "A6 nested",
            "class L(int):\n    pass\ndef f():\n    return [L(3)]\n",
            r#"returned [{"$opaque":"program.L"}]"#,
        ),
        (
            "A6 a class that says it is int",
            "class L:\n    __class__ = int\ndef f():\n    return L()\n",
            r#"returned {"$opaque":"program.L"}"#,
        ),
        (
            "A6 a class with a false name",
            "L = type('int', (), {'__module__': 'builtins'})\ndef f():\n    return L()\n",
            r#"returned {"$opaque":"builtins.int"}"#,
        ),
        (
            "A6 a metaclass that equals",
            "class M(type):\n    __eq__ = lambda a, b: True\n    __hash__ = lambda a: hash(int)\nclass L(metaclass=M):\n    pass\ndef f():\n    return L()\n",
            r#"returned {"$opaque":"program.L"}"#,
        ),
        (
            "A8 shadowed names",
            "int = str = len = type = repr = open = lambda *a: 1\ndef f():\n    return 2\n",
            "returned 2",
        ),
        (
            "A8 patched json",
            "import json\njson.dumps = lambda *a, **k: 'x'\ndef f():\n    return 2\n",
            "returned 2",
        ),
        (
            "A8 patched parts of json",
            "import json\njson.JSONEncoder.iterencode = lambda *a, **k: ['{', '}']\ndef f():\n    return 2\n",
            "exited 0",
        ),
        (
            "A8 patched builtins",
            "import builtins\nbuiltins.all = builtins.any = lambda *a: True\ndef f():\n    return {'a': 2}\n",
            r#"returned {"a":2}"#,
        ),
        (
            "A23 a profile function",
            "import sys\nsys.setprofile(lambda *a: 1)\nsys.settrace(lambda *a: None)\ndef f():\n    return 2\n",
            "returned 2",
        ),
        (
            "A23 an audit hook",
            "import sys\ndef f():\n    def hook(*a):\n        raise RuntimeError\n    sys.addaudithook(hook)\n    return 2\n",
            "returned 2",
        ),
        (
            "a value that contains itself",
            "def f():\n    x = []\n    x.append(x)\n    return x == 1\n",
            "returned false",
        ),
        (
            "a very deep value",
            "def f():\n    x = 1\n    for _ in range(99):\n        x = [x]\n    return [x] is None\n",
            "returned false",
        ),
    ]);
}

/// Frames that the program writes to the result pipe by itself.
#[test]
fn forgeries() {
    check_all(&[
        (
            "A9 a forged value is a value",
            "import os\ndef f():\n    os.write(3, b'{\"returned\":1}')\n    os._exit(0)\n",
            "returned 1",
        ),
        (
            "A9 two values are none",
            "import os\ndef f():\n    os.write(3, b'{\"returned\":1}')\n    return 2\n",
            "exited 0",
        ),
        (
            "A9 a forged count",
            "import os\ndef f():\n    os.write(3, b'{\"passed\":9,\"total\":9}')\n    os._exit(0)\n",
            "exited 0",
        ),
        (
            "A9 a forged outage",
            "import os\ndef f():\n    os.write(3, b'{\"failed\":\"no memory\"}')\n    os._exit(1)\n",
            "exited 1",
        ),
        (
            "A9 a value, and a crash",
            "import os\ndef f():\n    os.write(3, b'{\"returned\":1}')\n    os.abort()\n",
            "signaled 6 | signaled 11",
        ),
        (
            "A9 half a value",
            "import os\ndef f():\n    os.write(3, b'{\"returned\":')\n    os._exit(0)\n",
            "exited 0",
        ),
        ("A9 no UTF-8", "import os\ndef f():\n    os.write(3, b'\\xff\\xfe')\n    os._exit(0)\n", "exited 0"),
        ("A9 depth", "import os\ndef f():\n    os.write(3, b'[' * 60000)\n    os._exit(0)\n", "exited 0"),
        (
            "A9 a flood",
            "import os\ndef f():\n    while True:\n        os.write(3, b' ' * 60000)\n",
            "exceeded output",
        ),
        ("A9 a value too large", "def f():\n    return 'x' * (17 << 20)\n", "exceeded output"),
        (
            "A9 a file with results",
            "def f():\n    open('result.json', 'w').write('{\"returned\": 1}')\n    return 2\n",
            "returned 2",
        ),
        ("A9 a line of output", "def f():\n    print('R{\"returned\":1}')\n    return 2\n", "returned 2"),
    ]);
}

/// What the process can see.
#[test]
fn secrets() {
    let first = attack("def f():\n    CANARY = 'canary-' + '5417'\n    print(CANARY)\n    return CANARY\n");
    assert_eq!(describe(&run(&first).ending), r#"returned "canary-5417""#);
    let hunt = "\
import gc, re, sys
def f():
    frame, seen = sys._getframe(), []
    while frame:
        seen += [repr(frame.f_locals), repr(frame.f_globals)]
        frame = frame.f_back
    seen += [o for o in gc.get_objects() if type(o) is str] + [repr(o)[:10000] for o in gc.get_objects() if type(o) in (dict, list, tuple)]
    return sum(len(re.findall('canary-[0-9]{4}', text)) for text in seen)
";
    for _ in 0..4 {
        check("A10 the job before", hunt, "returned 0");
    }
    check_all(&[
        (
            "A10 no /proc/self/mem",
            "def f():\n    open('/proc/self/mem', 'rb')\n",
            "raised FileNotFoundError | raised PermissionError",
        ),
        ("A21 no environment", "import os\ndef f():\n    return dict(os.environ)\n", "returned {}"),
        (
            "A21 no environment of init",
            "def f():\n    open('/proc/1/environ', 'rb')\n",
            "raised FileNotFoundError | raised PermissionError",
        ),
    ]);
}

/// Nothing of one job is there for the next.
#[test]
fn memories() {
    let twice = [
        (
            "A16 a file",
            "import os\ndef f():\n    found = os.path.exists('/tmp/mark') or os.path.exists('mark')\n    open('mark', 'w').close()\n    return found\n",
        ),
        (
            "A16 a folder tree",
            "import os\ndef f():\n    found = os.listdir('.') != []\n    for _ in range(300):\n        os.mkdir('d' * 200)\n        os.chdir('d' * 200)\n    return found\n",
        ),
        (
            "A16 the mode of the folder",
            "import os\ndef f():\n    mode = os.stat('.').st_mode & 0o777\n    os.chmod('.', 0)\n    return mode == 0\n",
        ),
        (
            "A16 the times of the folder",
            "import os\ndef f():\n    seen = os.stat('.').st_mtime == 77\n    os.utime('.', (77, 77))\n    return seen\n",
        ),
        (
            "A16 a module",
            "import json\ndef f():\n    found = hasattr(json, 'mark')\n    json.mark = 1\n    return found\n",
        ),
        (
            "A16 the environment",
            "import os\ndef f():\n    found = 'MARK' in os.environ\n    os.environ['MARK'] = '1'\n    return found\n",
        ),
        ("A16 shared memory", "def f():\n    return errno('shmget', 5417, 4096, 0o1666) == 0\n"),
        ("A16 a message queue", "def f():\n    return errno('msgget', 5417, 0o1666) == 0\n"),
        (
            "A16 an extended attribute",
            "def f():\n    return errno('setxattr', b'.', b'user.mark', b'x', 1, 0) == 0\n",
        ),
        ("A16 a key", "def f():\n    return errno('syscall', 250, 0, -3, 1) == 0\n"),
    ];
    for (id, program) in twice {
        for _ in 0..4 {
            check(id, program, "returned false");
        }
    }
}

/// Bombs and floods.
#[test]
fn exhaustion() {
    check_all(&[
        ("A18 an endless loop", "def f():\n    while True:\n        pass\n", "exceeded time"),
        ("A18 at import", "while True:\n    pass\n", "exceeded time"),
        (
            "A18 in C",
            "def f():\n    return len(str(7 ** 10 ** 8))\n",
            "exceeded time | exceeded memory | raised ValueError",
        ),
        ("A18 sleep", "import time\ndef f():\n    time.sleep(1000)\n", "exceeded time"),
        (
            "A18 in the value",
            "def f():\n    x = [1]\n    for _ in range(80):\n        x = [x, x]\n    return x\n",
            "exceeded time | exceeded memory",
        ),
        (
            "A18 in __del__",
            "class D:\n    def __del__(self):\n        while True:\n            pass\ndef f():\n    return D() and 1\n",
            "exceeded time",
        ),
        (
            "A18 a regular expression",
            "import re\ndef f():\n    re.match('(a+)+$', 'a' * 50 + 'b')\n",
            "exceeded time",
        ),
        (
            "A18 a stopped process",
            "import os, signal\ndef f():\n    os.kill(os.getpid(), signal.SIGSTOP)\n",
            "exceeded time | raised PermissionError",
        ),
        (
            "A19 memory",
            "def f():\n    x = []\n    while True:\n        x.append(' ' * 10**7)\n",
            "exceeded memory",
        ),
        (
            "A19 small pieces of memory",
            "def f():\n    x = []\n    while True:\n        x = [x, x, [0] * 1000]\n",
            "exceeded memory | exceeded time",
        ),
        (
            "A19 mapped memory",
            "import mmap\ndef f():\n    return [mmap.mmap(-1, 1 << 26) for _ in range(100)]\n",
            "raised OSError | exceeded memory",
        ),
        ("A19 a file in memory", "import os\ndef f():\n    os.memfd_create('x')\n", "raised PermissionError"),
        ("A19 recursion", "def f():\n    return f()\n", "raised RecursionError"),
        (
            "A19 deep recursion",
            "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    return f()\n",
            "exceeded memory | signaled 11 | raised RecursionError | exceeded time",
        ),
        (
            "A19 deep recursion in C",
            "def f():\n    x = ()\n    for _ in range(10**6):\n        x = (x,)\n    return hash(x)\n",
            "signaled 11 | raised RecursionError | exceeded memory | returned 0",
        ),
        ("A19 a crash", "import ctypes\ndef f():\n    ctypes.string_at(0)\n", "signaled 11"),
        ("A19 output", "def f():\n    while True:\n        print('x' * 1000)\n", "exceeded output"),
        (
            "A19 errors",
            "import os\ndef f():\n    while True:\n        os.write(2, b'x' * 1000)\n",
            "exceeded output",
        ),
        (
            "A19 a large file",
            "def f():\n    file = open('x', 'wb', 0)\n    while True:\n        file.write(bytes(1 << 20))\n",
            "raised OSError",
        ),
        ("A19 descriptors", "import os\ndef f():\n    while True:\n        os.dup(0)\n", "raised OSError"),
        (
            "A19 a decompression",
            "import zlib\ndef f():\n    c = zlib.compressobj()\n    small = b''.join(c.compress(bytes(1 << 20)) for _ in range(400)) + c.flush()\n    return len(zlib.decompress(small))\n",
            "exceeded memory | exceeded time",
        ),
    ]);
    if offers(Layer::UserNamespace, "bombs of processes, threads and files") {
        check_all(&[
            (
                "A19 processes",
                "import os\ndef f():\n    while True:\n        os.fork()\n",
                "raised BlockingIOError | exceeded time | exited 0",
            ),
            (
                "A19 threads",
                "import threading, time\ndef f():\n    for _ in range(1000):\n        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n",
                "raised RuntimeError",
            ),
            (
                "A19 many files",
                "def f():\n    for i in range(10**5):\n        open(str(i), 'w').close()\n",
                "raised OSError",
            ),
            (
                "A19 files that fill the disk",
                "def f():\n    for i in range(10):\n        open(str(i), 'wb').write(bytes(1 << 20))\n",
                "raised OSError",
            ),
        ]);
    }
}

/// Memory that no single process has too much of.
#[test]
fn memory_of_many_processes() {
    if let ControlGroups::None(reason) = &sandbox().protection().control_groups {
        eprintln!("skipped: memory_of_many_processes: {reason}");
        return;
    }
    let together = "\
import os, time
def f():
    for _ in range(8):
        if os.fork() == 0:
            hoard = bytearray(180 << 20)
            hoard[::4096] = b'x' * len(hoard[::4096])
            time.sleep(60)
    for _ in range(8):
        if os.wait()[1]:
            os._exit(1)
";
    check("A19 memory of many processes", together, "exceeded memory | exceeded time");
    check("A19 a job after that one", "def f():\n    return len(bytes(100 << 20))\n", "returned 104857600");
}

/// Descendants that want to outlive the job, or to keep its pipes open.
#[test]
fn daemons() {
    let daemon = "\
import os, time
def f():
    if os.fork() == 0:
        try:
            os.setsid()
        except OSError:
            pass
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    os.wait()
    return 1
";
    if offers(Layer::Namespaces, "daemons") {
        let outcome = run(&attack(daemon));
        assert_eq!(describe(&outcome.ending), "returned 1");
        assert!(outcome.wall < Duration::from_secs(3), "nobody waits for a daemon");
        check(
            "A20 a child that writes on",
            "import os\ndef f():\n    if os.fork() == 0:\n        while True:\n            os.write(1, b'x' * 9)\n    return 1\n",
            "returned 1 | exceeded output",
        );
        check(
            "A20 a child that finishes first",
            "import os\ndef f():\n    if os.fork() == 0:\n        return 2\n    os.wait()\n    os._exit(0)\n",
            "returned 2",
        );
    }
    if offers(Layer::Seccomp, "setsid") {
        check("A20 setsid", "import os\ndef f():\n    os.setsid()\n", "raised PermissionError");
        check("A20 setpgid", "import os\ndef f():\n    os.setpgid(0, 0)\n", "raised PermissionError");
    }
}

/// Ways out to files and to the network.
#[test]
fn files_and_network() {
    if !offers(Layer::Seccomp, "files_and_network") || !offers(Layer::Landlock, "files_and_network") {
        return;
    }
    let denied = "raised PermissionError | raised FileNotFoundError | raised OSError";
    check_all(&[
        ("A21 passwords", "def f():\n    open('/etc/passwd')\n", denied),
        (
            "A21 the root folder",
            "import os\ndef f():\n    return [n for n in os.listdir('/') if n not in ('box', 'dev', 'etc', 'lib', 'lib64', 'tmp', 'usr', 'root', 'home', 'opt', 'venv')]\n",
            "returned [] | raised PermissionError",
        ),
        ("A21 home", "import os\ndef f():\n    return os.listdir('/root/.ssh')\n", denied),
        (
            "A21 write to the library",
            "import os\ndef f():\n    open(os.path.dirname(os.__file__) + '/x.py', 'w')\n",
            denied,
        ),
        ("A21 write to the root", "def f():\n    open('/x', 'w')\n", denied),
        (
            "A21 out through a link",
            "import os\ndef f():\n    os.symlink('/etc', 'x')\n    open('x/passwd')\n",
            denied,
        ),
        ("A21 out through ..", "def f():\n    open('../../../../../etc/passwd')\n", denied),
        ("A21 a device", "def f():\n    open('/dev/sda', 'rb')\n", denied),
        ("A21 make a device", "import os\ndef f():\n    os.mknod('x', 0o20666, os.makedev(1, 1))\n", denied),
        ("A22 a socket", "import socket\ndef f():\n    socket.socket()\n", "raised PermissionError"),
        (
            "A22 a local socket",
            "import socket\ndef f():\n    socket.socket(socket.AF_UNIX).connect('/run/docker.sock')\n",
            "raised PermissionError",
        ),
        (
            "A22 a page",
            "import urllib.request\ndef f():\n    urllib.request.urlopen('http://127.0.0.1:1')\n",
            "raised URLError",
        ),
        (
            "A22 a name",
            "import socket\ndef f():\n    socket.getaddrinfo('example.org', 80)\n",
            "raised gaierror | raised PermissionError",
        ),
    ]);
}

/// Ways out of the limits, and to the worker.
#[test]
fn limits_and_neighbours() {
    if !offers(Layer::Seccomp, "limits_and_neighbours") {
        return;
    }
    check_all(&[
        (
            "A24 alarm",
            "import signal\ndef f():\n    signal.alarm(0)\n    while True:\n        pass\n",
            "exceeded time",
        ),
        (
            "A24 ignore signals",
            "import signal\nfor s in (signal.SIGXCPU, signal.SIGTERM, signal.SIGALRM):\n    signal.signal(s, signal.SIG_IGN)\ndef f():\n    while True:\n        pass\n",
            "exceeded time",
        ),
        (
            "A24 raise a limit",
            "import resource\ndef f():\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n",
            "raised ValueError | raised PermissionError",
        ),
        (
            "A24 raise the limit on processes",
            "import resource\ndef f():\n    resource.setrlimit(resource.RLIMIT_NPROC, (-1, -1))\n",
            "raised ValueError | raised PermissionError",
        ),
        (
            "A24 limits of the worker",
            "import resource\ndef f():\n    resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))\n",
            "raised PermissionError",
        ),
        (
            "A24 priority of the worker",
            "import os\ndef f():\n    os.setpriority(os.PRIO_PROCESS, 1, 19)\n",
            "raised PermissionError",
        ),
        (
            "A24 processors of the worker",
            "import os\ndef f():\n    os.sched_setaffinity(1, {0})\n",
            "raised PermissionError",
        ),
        ("A25 ptrace", "def f():\n    return errno('ptrace', 16, 1, 0, 0)\n", "returned 1"),
        (
            "A25 memory of the worker",
            "def f():\n    return errno('process_vm_readv', 1, None, 0, None, 0, 0)\n",
            "returned 1",
        ),
        (
            "A25 a signal by a handle on the worker",
            "import os, signal\ndef f():\n    signal.pidfd_send_signal(os.pidfd_open(1), 9)\n",
            "raised PermissionError",
        ),
        (
            "A25 the worker's open files by a handle",
            "import os\ndef f():\n    return errno('syscall', 438, os.pidfd_open(1), 5, 0)\n",
            "returned 1",
        ),
        (
            "A25 the worker's namespaces by a handle",
            "import os\ndef f():\n    handle = os.pidfd_open(1)\n    return [errno('ioctl', handle, 0xFF00 + n, 0) for n in range(1, 12)] + [errno('setns', handle, 0x20000000)]\n",
            "returned [1,1,1,1,1,1,1,1,1,1,1,1]",
        ),
        (
            "A25 signals by descriptor",
            "import fcntl, os\ndef f():\n    r, w = os.pipe()\n    fcntl.fcntl(r, fcntl.F_SETOWN, 1)\n",
            "raised PermissionError",
        ),
    ]);
}

/// Ways into the kernel.
#[test]
fn privileges_and_kernel() {
    if !offers(Layer::Seccomp, "privileges_and_kernel") {
        return;
    }
    check_all(&[
        (
            "mount",
            "def f():\n    return errno('mount', b'tmpfs', b'/box/tmp', b'tmpfs', 0, None)\n",
            "returned 1",
        ),
        ("umount", "def f():\n    return errno('umount2', b'/box/tmp', 2)\n", "returned 1"),
        ("chroot", "import os\ndef f():\n    os.chroot('.')\n", "raised PermissionError"),
        ("unshare", "def f():\n    return errno('unshare', 0x10000000)\n", "returned 1"),
        ("setns", "def f():\n    return errno('setns', 0, 0)\n", "returned 1"),
        (
            "clone into a user namespace",
            "def f():\n    return errno('syscall', 56 if _os.uname().machine == 'x86_64' else 220, 0x10000011, 0, 0, 0, 0)\n",
            "returned 1",
        ),
        ("clone3", "def f():\n    return errno('syscall', 435, bytes(88), 88)\n", "returned 38"),
        ("become root", "import os\ndef f():\n    os.setuid(0)\n", "raised PermissionError"),
        (
            "capabilities",
            "def f():\n    return errno('capset', b'\\x22\\x05\\x08\\x20' + bytes(4), b'\\xff' * 24)\n",
            "returned 1",
        ),
        (
            "new privileges, dumps, seccomp off",
            "def f():\n    return [errno('prctl', n, 0, 0, 0, 0) for n in (38, 4, 22, 36, 1)]\n",
            "returned [1,1,1,1,1]",
        ),
        (
            "the seccomp call",
            "def f():\n    return [errno('syscall', 317 if _os.uname().machine == 'x86_64' else 277, n, 0, None) for n in range(4)]\n",
            "returned [1,1,1,1]",
        ),
        ("a Landlock of one's own", "def f():\n    return errno('syscall', 444, None, 0, 1)\n", "returned 1"),
        ("io_uring", "def f():\n    return errno('syscall', 425, 8, bytes(120))\n", "returned 1"),
        (
            "new mount calls",
            "def f():\n    return [errno('syscall', n, -100, b'/', 0, 0, 0) for n in (428, 429, 430, 442)]\n",
            "returned [1,1,1,1]",
        ),
        ("personality", "def f():\n    return errno('personality', 0x0400000)\n", "returned 1"),
        ("host name", "import socket\ndef f():\n    socket.sethostname('x')\n", "raised PermissionError"),
        (
            "clock",
            "import time\ndef f():\n    time.clock_settime(time.CLOCK_REALTIME, 0)\n",
            "raised PermissionError",
        ),
        ("reboot", "def f():\n    return errno('reboot', 0)\n", "returned 1"),
        (
            "terminal input",
            "import fcntl\ndef f():\n    fcntl.ioctl(0, 0x5412, b'x')\n",
            "raised PermissionError",
        ),
        ("foreign call numbers", "def f():\n    return errno('syscall', 0x40000000 + 39)\n", "returned 1"),
        ("an unknown call", "def f():\n    return errno('syscall', 999)\n", "returned 1"),
    ]);
}

/// Signals reach only the job's own processes.
#[test]
fn signals() {
    if !offers(Layer::Namespaces, "signals") {
        return;
    }
    check_all(&[
        (
            "A25 kill the worker",
            "import os\ndef f():\n    for s in range(1, 65):\n        for p in (1, os.getppid()):\n            try:\n                os.kill(p, s)\n            except OSError:\n                pass\n    return 1\n",
            "returned 1",
        ),
        (
            "A25 kill everybody",
            "import os\ndef f():\n    try:\n        os.kill(-1, 9)\n    except ProcessLookupError:\n        pass\n    return 1\n",
            "returned 1",
        ),
        ("A25 kill the group", "import os\ndef f():\n    os.killpg(0, 9)\n", "signaled 9"),
        (
            "A25 kill other numbers",
            "import os\ndef f():\n    n = 0\n    for p in range(2, 40000):\n        if p != os.getpid():\n            try:\n                os.kill(p, 0)\n                n += 1\n            except ProcessLookupError:\n                pass\n    return n\n",
            "returned 0",
        ),
        ("kill oneself", "import os\ndef f():\n    os.kill(os.getpid(), 9)\n", "signaled 9"),
        ("terminate oneself", "import os\ndef f():\n    os.kill(os.getpid(), 15)\n", "signaled 15"),
        ("a false time limit", "import os\ndef f():\n    os.kill(os.getpid(), 24)\n", "signaled 24"),
        ("abort", "import os\ndef f():\n    os.abort()\n", "signaled 6"),
        (
            "faulthandler",
            "import faulthandler\ndef f():\n    faulthandler.enable()\n    faulthandler._sigsegv()\n",
            "signaled 11",
        ),
    ]);
}

/// Source that wants to be read differently.
#[test]
fn sources() {
    check_all(&[
        ("A26 an open string", "def f():\n    return 1\n'''", "syntax error"),
        ("A26 a last backslash", "def f():\n    return 1\n\\", "syntax error"),
        ("A26 a null byte", "def f():\n    return 1\n\0", "syntax error"),
        ("A26 an encoding", "# -*- coding: rot13 -*-\ndef f():\n    return 1\n", "returned 1"),
        ("A26 a byte order mark", "\u{feff}def f():\n    return 1\n", "syntax error | returned 1"),
        ("A26 a form feed", "\u{c}def f():\n    return 1\n", "returned 1"),
        ("A26 an open block", "def f():\n    return 1\nif True:\n", "syntax error"),
        ("A26 an invisible letter", "def f():\n    return 1\u{200b}\n", "syntax error"),
    ]);
    let deep = format!("def f():\n    return {}1{}\n", "(".repeat(5000), ")".repeat(5000));
    check("nested brackets", &deep, "syntax error");
    let deep = format!("def f():\n    return {}1\n", "-".repeat(200_000));
    check("nested operators", &deep, "syntax error | signaled 11");
    let long = format!("def f():\n    return sum([{}])\n", "1, ".repeat(300_000));
    check("a long line", &long, "returned 300000 | exceeded memory | exceeded time");
}

#[test]
fn collected_files_are_the_jobs_own() {
    let mut thief = attack(
        "import os\ndef f():\n    os.symlink('/etc/passwd', 'a')\n    os.mkdir('b')\n    os.symlink('c', 'd')\n    open('c', 'w').write('mine')\n",
    );
    thief.collect = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    assert_eq!(run(&thief).files, [("c".to_owned(), b"mine".to_vec())]);
    thief.collect = vec!["../etc/passwd".to_owned()];
    assert!(sandbox().run(&thief).is_err(), "a path is refused");
}

#[test]
fn scripts_cannot_read_more_than_their_input() {
    let job = script(
        "import os\nprint(os.listdir('.'), sorted(n for n in range(64) if os.fstat(n)) if 0 else '')\n",
        "x",
    );
    assert_eq!(run(&job).stdout, b"[] \n");
    let open = "import os\ndef f():\n    found = []\n    for n in range(1024):\n        try:\n            os.fstat(n)\n            found.append(n)\n        except OSError:\n            pass\n    return found\n";
    check("open descriptors", open, "returned [0,1,2,3]");
}

/// Root started these tests: once more as somebody who is not, where such a user can reach an interpreter.
#[test]
fn the_same_as_an_ordinary_user() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    const NOBODY: u32 = 65534;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return; // They all ran as one.
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("attacks");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut ordinary = Command::new(&copy);
    ordinary.uid(NOBODY).gid(NOBODY).env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir("/");
    let mut probe = Command::new("python3");
    probe
        .args(["-c", "import sys; assert sys.version_info >= (3, 10)"])
        .env("PATH", "/usr/local/bin:/usr/bin:/bin");
    if !probe.uid(NOBODY).gid(NOBODY).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: the_same_as_an_ordinary_user: no python3 outside of root's home");
        return;
    }
    let output = ordinary.args(["--skip", "the_same_as_an_ordinary_user"]).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && report.contains("test result: ok"),
        "{report}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
