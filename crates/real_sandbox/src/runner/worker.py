"""Part 2 of the runner: the warm interpreter.

It holds no program and no data: a job arrives as a handful of numbers and open files, is handed to a fork, and leaves as a
wait status. Source, arguments, output and result pass between the Rust side and the fork, so that nothing of one job is in
the memory that the next one is forked from.
"""


def main():
    # Numbers 0 to 4 are kept for the open files of a job, which so arrive where it needs them.
    control = socket.socket(fileno=os.dup2(0, JOB_FILES))
    os.closerange(0, JOB_FILES)
    for _ in range(JOB_FILES):
        os.open("/dev/null", os.O_RDWR)
    try:
        config = json.loads(control.recv(1 << 20))
        host_proc, readable = build_walls(config)
        keeper, client = socket.socketpair()
        child = os.fork()  # The first process of the new PID namespace.
        if child:
            control.close()
            client.close()
            keep_box(keeper)
            os.waitpid(child, 0)
            os._exit(0)
        keeper.close()
        worker = Worker(control, Box(config, client), config, host_proc, readable)
        control.send(json.dumps({"ready": worker.facts}).encode())
        os.closerange(0, JOB_FILES)
        worker.serve()
    except MissingLayer as missing:
        control.send(json.dumps({"missing": missing.args}).encode())
    except BaseException as error:
        import traceback

        control.send(json.dumps({"failed": "".join(traceback.format_exception(error)[-4:])}).encode())
    os._exit(1)


# Standard input, output and error, the result pipe, the program.
JOB_FILES = 5
# CPU seconds; bytes of memory, of a file, of the box; processes; bytes of the program. The names of files to collect follow, as JSON.
REQUEST = struct.Struct("=dQQQII")
# "D" for done, the wait status, CPU seconds, whether these are too many. The names of collected files follow, as JSON.
REPLY = struct.Struct("=cid?")


class Worker:
    def __init__(self, control, box, config, host_proc, readable):
        call(libc.prctl, PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        call(libc.prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        call(libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.control, self.box = control, box
        self.owns_pids = "namespaces" in config["layers"]
        self.counts_processes = "user_namespace" in config["layers"]
        if self.owns_pids and os.getpid() != 1:
            raise RuntimeError("the worker is not the first process of its namespace")
        self.walls = Walls(config, readable, os.path.dirname(BOX) if self.owns_pids else box.path)
        warm_up(config)
        fold_libraries(host_proc)
        with os.fdopen(os.open("self/statm", os.O_RDONLY, dir_fd=host_proc)) as statm:
            self.own_memory = int(statm.read().split()[0]) * resource.getpagesize()
        os.close(host_proc)
        # Not to be read, traced or dumped by anything that runs as the same user.
        call(libc.prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)
        for limit in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
            resource.setrlimit(limit, (0, 0))
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.walls.rise_around_worker()
        self.facts = {"python": sys.version.split()[0], "landlock": self.walls.landlock, "memory": self.own_memory}

    def serve(self):
        """One job after the other, until the other end of the socket is closed."""
        room = socket.CMSG_SPACE(4 * JOB_FILES)
        while True:
            message = self.control.recvmsg(1 << 16, room)[0]
            if not message:
                os._exit(0)
            if message != b"kill":  # Else it was meant for a job that ended by itself in the meantime.
                self.run(REQUEST.unpack_from(message), message[REQUEST.size :])

    def run(self, request, names):
        cpu_limit = request[0]
        self.box.prepare(request[3])
        child = os.fork()
        if child == 0:
            run_job(self, request)
        os.closerange(0, JOB_FILES)
        is_over = self.watch(child, cpu_limit)
        status, cpu = self.end(child)
        reply = REPLY.pack(b"D", status, cpu, is_over or cpu >= cpu_limit)
        if names:
            found, handles = self.box.collect(json.loads(names))
            socket.send_fds(self.control, [reply + json.dumps(found).encode()], handles)
            for handle in handles:
                os.close(handle)
        else:
            self.control.send(reply)
        self.box.clean()

    def watch(self, child, cpu_limit):
        """Until the job's first process ends, runs out of CPU time, or is to be killed. True: it ran out."""
        if not self.owns_pids:
            own_group(child)
        handle = os.pidfd_open(child)
        self.poll.register(handle, select.POLLIN)
        clock = (~child << 3) | 2  # The kernel's number for the CPU clock of another process.
        left = cpu_limit
        try:
            while True:
                ready = [descriptor for descriptor, _ in self.poll.poll(left * 1000 + 1)]
                if handle in ready:
                    return False
                if ready:
                    if not self.control.recv(1 << 16):
                        self.end(child)
                        os._exit(0)
                    return False
                left = cpu_limit - cpu_time(clock)
                if left <= 0:
                    return True
        finally:
            self.poll.unregister(handle)
            os.close(handle)

    def end(self, child):
        """Kills what is left of the job and reaps all of it. Nothing can fork its way out: a process with a pending SIGKILL
        cannot fork, and the kernel signals the whole namespace, or group, under one lock."""
        everybody = -1 if self.owns_pids else -child
        libc.kill(everybody, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        cpu = usage.ru_utime + usage.ru_stime
        while libc.kill(everybody, signal.SIGKILL) == 0:  # By the C library, as "no such process" is an exception in Python.
            _, _, usage = os.wait4(everybody, 0)
            cpu += usage.ru_utime + usage.ru_stime
        return status, cpu


def cpu_time(clock):
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0  # It has ended.


def own_group(child):
    try:
        os.setpgid(child, child)
    except OSError:
        pass  # It has ended, or done so itself.


class Box:
    """The working folder of a job: a file system of its own in memory, or else a folder that is emptied."""

    def __init__(self, config, keeper):
        self.keeper = keeper
        self.mounts = {"namespaces", "user_namespace"} <= set(config["layers"])
        self.path = BOX if "namespaces" in config["layers"] else config["box"]
        self.space = self.stamp = None
        if not self.mounts:
            self.clean()

    def prepare(self, space):
        if self.mounts and space != self.space:
            self.space = space
            self.renew()

    def renew(self):
        self.keeper.send(SPACE.pack(self.space))
        if not self.keeper.recv(1):
            raise RuntimeError("the launcher could not mount a working folder")
        self.stamp = self.look()

    def look(self):
        found = os.stat(self.path)
        return found.st_mode, found.st_mtime_ns, found.st_ctime_ns

    def clean(self):
        """The next job must find no trace of this one, not even in the folder's times."""
        if self.mounts:
            if self.look() != self.stamp:
                self.renew()
            return
        import shutil

        os.chmod(self.path, 0o700)
        for entry in os.scandir(self.path):
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
        os.utime(self.path, (0, 0))

    def collect(self, names):
        found, handles = [], []
        for name in names:
            try:
                handle = os.open(os.path.join(self.path, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            if stat.S_ISREG(os.fstat(handle).st_mode):
                found.append(name)
                handles.append(handle)
            else:
                os.close(handle)
        return found, handles


SPACE = struct.Struct("Q")
PROT_READ_EXEC = 5


def keep_box(worker):
    """What the launcher does while the worker lives. It stands outside of the walls, and alone may mount: for each number that the
    worker sends it mounts a fresh file system of so many bytes over the box."""
    call(libc.prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)
    is_mounted = False
    while number := worker.recv(SPACE.size):
        if is_mounted:  # The one below belongs to the root, and stays.
            call(libc.umount2, BOX.encode(), MNT_DETACH)
        options = f"mode=0700,size={SPACE.unpack(number)[0]},nr_inodes=4096"
        mount("tmpfs", BOX, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
        is_mounted = True
        worker.send(b"x")


class Walls:
    """The last of the walls: no capability, no file, no system call beyond the lists.

    The worker itself stands behind them, so that a fork costs no more for them. No job can reach it there: the first process of a
    PID namespace gets no signal from inside. Where it has no such namespace, each job raises them around itself."""

    def __init__(self, config, readable, home):
        layers = config["layers"]
        self.shared = "namespaces" not in layers
        self.calls = config["syscalls"]
        self.rules, self.landlock = None, 0
        if "landlock" in layers:
            self.rules, self.landlock = layer("landlock", landlock_rules, config, readable, home)
        self.filters = [SeccompFilter(text) for text in config["filters"]] if "seccomp" in layers else []

    def rise_around_worker(self):
        if not self.shared:
            self.restrict()
        if self.filters:
            layer("seccomp", self.filters[0].install)

    def rise_around_job(self):
        self.restrict()
        for more in self.filters[1:]:
            more.install()

    def restrict(self):
        system_call(self.calls["capset"], struct.pack("Ii", 0x20080522, 0), bytes(24))
        if self.rules is not None:
            system_call(self.calls["landlock_restrict_self"], self.rules, 0)


class SeccompFilter:
    """The compiled filter, in the layout that prctl takes."""

    def __init__(self, hexadecimal):
        instructions = bytes.fromhex(hexadecimal)
        self.instructions = ctypes.create_string_buffer(instructions, len(instructions))
        header = struct.pack("HxxxxxxP", len(instructions) // 8, ctypes.addressof(self.instructions))
        self.header = ctypes.create_string_buffer(header, len(header))

    def install(self):
        call(libc.prctl, PR_SET_SECCOMP, 2, ctypes.addressof(self.header), 0, 0)


def warm_up(config):
    """Imports what programs import, so that no job pays for it, and makes the heap cheap to fork."""
    import gc, importlib, _sitebuiltins

    if "" in sys.path:
        sys.path.remove("")
    sys.path.extend(config["site_packages"])
    # Modules ask to be told of forks, to renew locks and seeds. Here no lock is held and the seed is ours, so that all this
    # would only cost each job half a millisecond.
    register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
    for name in config["modules"]:
        try:
            importlib.import_module(name)
        except ImportError:
            if name in config["required"]:
                raise
    for name, source in config["own_modules"]:
        sys.modules[name] = module = types.ModuleType(name)
        exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
    os.register_at_fork = register
    # The `site` module, which we do not run, would have made these.
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
    os.environ.clear()
    for name in ("random", "numpy.random"):
        if name in sys.modules:
            sys.modules[name].seed(config["seed"])
    rehearse()
    gc.collect()
    gc.freeze()


REHEARSAL = """{"prelude": "import re", "files": [], "action": {"call": {"entry_point": "f", "args": [1], "kwargs": []}}, "program":
    "class A:\\n    def g(self, a: int) -> list:\\n        return [a]\\ndef f(a):\\n    try:\\n        {}[a]\\n    except KeyError:\\n        return A().g(a)\\n"}"""


def rehearse():
    """A few small jobs in the worker itself. What the interpreter makes at first use (types of syntax trees, caches of attributes, bytecode
    for the types that it meets) is then there for all jobs, which else would each make it, and copy the pages that it is written to."""
    kept, arguments = sys.modules["__main__"], sys.argv[:]
    for _ in range(20):
        payload, _ = from_json(REHEARSAL.replace("\n", " "), 0)
        job = Job(payload, lambda frame: to_json(frame).encode())
        job.prelude()
        job.run()
    sys.modules["__main__"], sys.argv[:] = kept, arguments
    del sys.modules["program"]
    sys.modules["linecache"].cache.clear()


def fold_libraries(host_proc):
    """Makes one mapping of what is read-only in each shared library. A fork copies mappings one by one, hundreds of them, and a library
    comes as three in a row that differ in a single right. So its constants become executable, like the code between them; whoever could jump
    there from Python (`ctypes`) can map code of his own."""
    with os.fdopen(os.open("self/maps", os.O_RDONLY, dir_fd=host_proc)) as maps:
        mappings = [line.split() for line in maps]
    run = None  # Start, end, file and the offset in it where the next mapping would go on.
    runs = []
    for addresses, rights, offset, device, inode, *_ in mappings:
        start, end = (int(address, 16) for address in addresses.split("-"))
        position = int(offset, 16)
        if inode == "0" or rights not in ("r--p", "r-xp"):
            run = None
        elif run and run[1:] == [start, (device, inode), position]:
            run[1], run[3] = end, position + end - start
        else:
            run = [start, end, (device, inode), position + end - start]
            runs.append(run)
    for start, end, _, _ in runs:
        libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), PROT_READ_EXEC)  # Where it fails, nothing changes.
