"""Part 3 of the runner: one job, in a process of its own that ends with it.

Everything that this process says is only a claim: the Rust side reads one JSON document from the result pipe, after the
letter "R" that marks the moment from which the program under study could have written it. Before the "R", a failure is
ours; after it, whatever happens is the program's doing.
"""

DEPTH = 100  # Nested JSON levels of a returned value; deeper is opaque. The reader takes 128.
RESULT, PROGRAM = 3, 4
MAX_FILES = 64
OUT_OF_MEMORY = b'{"raised":{"types":["MemoryError","Exception","BaseException","object"],"message":"","at_import":false}}'
# Made once: `json.loads` and `json.dumps` do a good deal more than is needed, in every job.
from_json = json.JSONDecoder().scan_once
to_json = json.JSONEncoder(allow_nan=False).encode


def run_job(worker, request):
    """Never returns."""
    started = False
    try:
        payload, _ = from_json(os.read(PROGRAM, request[5]).decode(), 0)
        os.chdir(worker.box.path)
        for name, content in payload["files"]:
            place(name, content)
        confine(worker, request)
        os.closerange(PROGRAM, 4096)
        job = Job(payload, send)
        job.prelude()
        os.write(RESULT, b"R")
        started = True
        job.run()
    except BaseException as error:
        if not started:
            # Not the name alone, which may start with an "R".
            os.write(RESULT, f"exception {type(error).__name__}: {error}".encode(errors="replace")[:4000])
    finally:
        os._exit(1)


def place(name, content):
    with open(name, "xb") as file:
        file.write(sys.modules["base64"].b64decode(content))


def confine(worker, request):
    """Limits, which differ from job to job, and the walls that the worker does not stand behind."""
    cpu, memory, file_size, _, processes, _ = request
    set_limit(resource.RLIMIT_AS, worker.own_memory + memory)
    set_limit(resource.RLIMIT_CPU, int(cpu) + 2)
    set_limit(resource.RLIMIT_FSIZE, file_size)
    set_limit(resource.RLIMIT_NOFILE, MAX_FILES)
    if worker.counts_processes:
        # Counted within the namespace, where the launcher and the worker live too.
        set_limit(resource.RLIMIT_NPROC, processes + 2)
    if not worker.owns_pids:
        call(libc.prctl, PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setpgid(0, 0)
        worker.walls.rise_around_job()


def set_limit(resource_number, value):
    resource.setrlimit(resource_number, (value, value))


class Job:
    def __init__(self, payload, report):
        self.report = report
        self.payload, self.action = payload, payload["action"]
        self.is_script = "script" in self.action
        module = types.ModuleType("__main__" if self.is_script else "program")
        sys.modules[module.__name__] = sys.modules["__main__"] = module
        self.globals = module.__dict__
        sys.argv[:] = ["program.py"]

    def prelude(self):
        if self.payload["prelude"]:
            exec(compile(self.payload["prelude"], "prelude.py", "exec", dont_inherit=True), self.globals)

    def run(self):
        try:
            source = self.payload["program"]
            code = compile(source, "program.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            return self.report({"syntax_error": message_of(error)})
        remember_source(source)
        at_import = not self.is_script
        try:
            exec(code, self.globals)
            if self.is_script:
                return self.finish({"finished": None})
            at_import = False
            self.finish({"returned": encode(self.value(), DEPTH)})
        except EntryPointMissing:
            self.finish({"entry_point_missing": None})
        except SystemExit as error:
            self.leave(error)
        except MemoryError as error:
            error.__traceback__ = None  # Frees what the program held.
            send_bytes(OUT_OF_MEMORY)
        except BaseException as error:
            if self.is_script:
                show(error)
            raised = {"types": class_names(type(error)), "message": message_of(error), "at_import": at_import}
            error.__traceback__ = None
            self.finish({"raised": raised})

    def value(self):
        if "evaluate" in self.action:
            return eval(self.action["evaluate"]["expression"], self.globals)
        call = self.action["call"]
        arguments = [decode(value) for value in call["args"]]
        keywords = {name: decode(value) for name, value in call["kwargs"]}
        return entry_point(self.globals, call["entry_point"])(*arguments, **keywords)

    def finish(self, frame):
        self.wind_up()
        self.report(frame)

    def wind_up(self):
        """What the interpreter does at the end of a script; a call only flushes."""
        if self.is_script:
            import atexit, threading

            for step in (threading._shutdown, atexit._run_exitfuncs):
                try:
                    step()
                except BaseException:
                    pass
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            try:
                stream.flush()
            except BaseException:
                pass

    def leave(self, error):
        """`sys.exit`. The end of a script with status 0 is its ordinary end."""
        code = error.code
        if code is None or (type(code) is int and code == 0):
            code = 0
            if self.is_script:
                return self.finish({"finished": None})
        elif type(code) is not int:
            try:
                print(code, file=sys.stderr)
            except BaseException:
                pass
            code = 1
        self.wind_up()
        os._exit(code & 255)


class EntryPointMissing(Exception):
    pass


def entry_point(namespace, dotted):
    """`function`, or `Class.method` on an instance made without arguments. By exact name, and only what the module has."""
    name, *rest = dotted.split(".")
    target = namespace.get(name)
    for attribute in rest:
        target = target() if isinstance(target, type) else target
        try:
            target = getattr(target, attribute)
        except AttributeError:
            raise EntryPointMissing from None
    if not callable(target):
        raise EntryPointMissing
    return target


def send(frame):
    sys.setrecursionlimit(10_000)
    send_bytes(to_json(frame).encode())


def send_bytes(data):
    view = memoryview(data)
    while view:
        view = view[os.write(RESULT, view) :]
    os._exit(0)


def remember_source(source):
    """For tracebacks that quote the line."""
    sys.modules["linecache"].cache["program.py"] = (lambda: source,)


def show(error):
    """The traceback that Python would print, without our own frame."""
    try:
        trace = error.__traceback__ and error.__traceback__.tb_next
        sys.modules["traceback"].print_exception(type(error), error, trace)
    except BaseException:
        pass


def message_of(error):
    try:
        return str(error)[:500].encode(errors="replace").decode()
    except BaseException:
        return ""


def class_names(kind):
    """Names along the method resolution order, read past anything that a metaclass overrides."""
    order = type.__dict__["__mro__"].__get__(kind)
    return [simple_name(base) for base in order[:32]]


def simple_name(kind):
    return str(type.__dict__["__name__"].__get__(kind))[:200].encode(errors="replace").decode()


def full_name(kind):
    module = type.__dict__["__module__"].__get__(kind)
    return f"{module[:200]}.{simple_name(kind)}" if type(module) is str else simple_name(kind)


LIBRARY_DICTS = (collections.OrderedDict, collections.defaultdict, collections.Counter)


def encode(value, depth):
    """The notation of `value.rs`. Exact types only: an instance of a subclass could pretend to be anything."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 63 else {"$int": decimal_digits(value)}
    if kind is float:
        return value if value - value == 0 else {"$float": repr(value)}
    if kind is str:
        return value if value.isascii() or is_unicode(value) else {"$opaque": "str"}
    if depth <= 0:
        return {"$opaque": "nested too deeply"}
    if kind is list:
        return [encode(item, depth - 1) for item in value]
    if kind is tuple or kind is set or kind is frozenset:
        return {"$" + kind.__name__: [encode(item, depth - 2) for item in value]}
    if kind is dict or any(kind is known for known in LIBRARY_DICTS):
        return encode_dict(value, depth)
    if kind is bytes:
        return {"$bytes": sys.modules["base64"].b64encode(value).decode()}
    if kind is complex:
        return {"$complex": [encode(value.real, 1), encode(value.imag, 1)]}
    return encode_numpy(value, kind, depth)


def encode_dict(value, depth):
    if all(type(key) is str and key[:1] != "$" and is_unicode(key) for key in value):
        return {key: encode(item, depth - 1) for key, item in value.items()}
    return {"$dict": [[encode(key, depth - 3), encode(item, depth - 3)] for key, item in value.items()]}


def encode_numpy(value, kind, depth):
    """NumPy's own arrays and scalars stand for the lists and numbers that they hold."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and (kind is numpy.ndarray or (kind.__module__ == "numpy" and isinstance(value, numpy.generic))):
        plain = value.tolist()
        if type(plain) is not kind:
            return encode(plain, depth)
    return {"$opaque": full_name(kind)}


def is_unicode(text):
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def unlimited_digits():
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)


def decimal_digits(value):
    unlimited_digits()
    return str(value)


def decode(value):
    """The notation of `value.rs`, back to objects."""
    kind = type(value)
    if kind is list:
        return [decode(item) for item in value]
    if kind is not dict:
        return value
    if len(value) == 1:
        ((tag, content),) = value.items()
        if tag[:1] == "$":
            return DECODERS[tag](content)
    return {key: decode(item) for key, item in value.items()}


def decode_int(digits):
    if not hasattr(sys, "set_int_max_str_digits"):
        return int(digits)
    before = sys.get_int_max_str_digits()
    unlimited_digits()
    number = int(digits)
    sys.set_int_max_str_digits(before)
    return number


DECODERS = {
    "$tuple": lambda items: tuple(map(decode, items)),
    "$set": lambda items: set(map(decode, items)),
    "$frozenset": lambda items: frozenset(map(decode, items)),
    "$bytes": lambda text: sys.modules["base64"].b64decode(text),
    "$float": float,
    "$int": decode_int,
    "$complex": lambda parts: complex(*map(decode, parts)),
    "$dict": lambda pairs: {decode(key): decode(item) for key, item in pairs},
    "$opaque": lambda name: object(),
}

main()
