"""Part 2 of the runner: the warm interpreter.

It holds no program and no data: a job arrives as a handful of numbers and open files, is handed to a fork, and leaves as a
wait status. Source, arguments, output and result pass between the Rust side and the fork, so that nothing of one job is in
the memory that the next one is forked from.
"""


def main():
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    try:
        config = json.loads(control.recv(1 << 20))
        host_proc, readable = build_walls(config)
        child = os.fork()  # The first process of the new PID namespace.
        if child:
            control.close()
            os.waitpid(child, 0)
            os._exit(0)
        worker = Worker(control, config, host_proc, readable)
        control.send(json.dumps({"ready": worker.facts}).encode())
        worker.serve()
    except MissingLayer as missing:
        control.send(json.dumps({"missing": missing.args}).encode())
    except BaseException as error:
        import traceback

        control.send(json.dumps({"failed": "".join(traceback.format_exception(error)[-4:])}).encode())
    os._exit(1)


class Worker:
    def __init__(self, control, config, host_proc, readable):
        call(libc.prctl, PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        call(libc.prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        call(libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.control, self.config = control, config
        self.owns_pids = "namespaces" in config["layers"]
        if self.owns_pids and os.getpid() != 1:
            raise RuntimeError("the worker is not the first process of its namespace")
        self.box = Box(config)
        self.landlock, version = None, 0
        if "landlock" in config["layers"]:
            home = os.path.dirname(BOX) if self.owns_pids else self.box.path
            self.landlock, version = layer("landlock", landlock_rules, config, readable, home)
        self.seccomp = None
        warm_up(config)
        with os.fdopen(os.open("self/statm", os.O_RDONLY, dir_fd=host_proc)) as statm:
            self.own_memory = int(statm.read().split()[0]) * resource.getpagesize()
        os.close(host_proc)
        # Not to be read, traced or dumped by anything that runs as the same user.
        call(libc.prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)
        if "seccomp" in config["layers"]:
            self.seccomp = SeccompFilter(config["job_filter"])
            layer("seccomp", SeccompFilter(config["worker_filter"]).install)
        self.facts = {"python": sys.version.split()[0], "landlock": version, "memory": self.own_memory}

    def serve(self):
        """One job after the other, until the other end of the socket is closed."""
        while True:
            message, files, _, _ = socket.recv_fds(self.control, 1 << 16, 8)
            if not message:
                os._exit(0)
            if message == b"kill":
                continue  # Meant for a job that ended by itself in the meantime.
            self.run(json.loads(message), files)

    def run(self, request, files):
        self.box.prepare(request["space"])
        child = os.fork()
        if child == 0:
            run_job(self, request, files)
        for descriptor in files:
            os.close(descriptor)
        limit = self.watch(child, request["cpu"])
        status, cpu = self.end(child)
        names, handles = self.box.collect(request["collect"])
        over_cpu = limit or cpu >= request["cpu"]
        reply = {"done": {"status": status, "cpu": cpu, "over_cpu": over_cpu, "files": names}}
        socket.send_fds(self.control, [json.dumps(reply).encode()], handles)
        for handle in handles:
            os.close(handle)
        self.box.clean()

    def watch(self, child, cpu_limit):
        """Until the job's first process ends, runs out of CPU time, or is to be killed. True: it ran out."""
        own_group(child)
        handle = os.pidfd_open(child)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.register(self.control, select.POLLIN)
        clock = (~child << 3) | 2  # The kernel's number for the CPU clock of another process.
        try:
            while True:
                left = cpu_limit - cpu_time(clock)
                if left <= 0:
                    return True
                ready = [descriptor for descriptor, _ in poll.poll(left * 1000 + 1)]
                if handle in ready:
                    return False
                if ready:
                    if not self.control.recv(1 << 16):
                        self.end(child)
                        os._exit(0)
                    return False
        finally:
            os.close(handle)

    def end(self, child):
        """Kills what is left of the job and reaps all of it. Nothing can fork its way out: a process with a pending SIGKILL
        cannot fork, and the kernel signals the whole namespace, or group, under one lock."""
        try:
            if self.owns_pids:
                os.kill(-1, signal.SIGKILL)
            else:
                os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
        _, status, usage = os.wait4(child, 0)
        cpu = usage.ru_utime + usage.ru_stime
        while True:
            try:
                _, _, usage = os.wait4(-1, 0)
                cpu += usage.ru_utime + usage.ru_stime
            except ChildProcessError:
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

    def __init__(self, config):
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
        if self.stamp is not None:  # Else the one below belongs to the root, and stays under ours.
            call(libc.umount2, self.path.encode(), MNT_DETACH)
        options = f"mode=0700,size={self.space},nr_inodes=4096"
        mount("tmpfs", self.path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
        self.stamp = self.look()

    def look(self):
        found = os.stat(self.path)
        return found.st_mode, found.st_mtime_ns, found.st_ctime_ns, os.listdir(self.path)

    def clean(self):
        """The next job must find no trace of this one, not even in the folder's times."""
        if self.mounts:
            if self.look() != self.stamp:
                self.renew()
            return
        import shutil

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
    import gc, importlib, random, _sitebuiltins

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
    os.register_at_fork = register
    # The `site` module, which we do not run, would have made these.
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
    os.environ.clear()
    gc.collect()
    gc.freeze()
