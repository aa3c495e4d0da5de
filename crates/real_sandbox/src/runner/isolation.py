"""Part 1 of the runner: the walls that a worker builds around itself before it hears of any program.

`real_sandbox` concatenates the three parts and starts them with `python -c`; standard input is the control socket. The first
message is the configuration, whose "layers" are the walls to build. A wall that cannot be built ends the runner with a
message that names it: whether to go on without it is decided on the Rust side.

The order matters and is the same as in every container runtime: new namespaces, a new root with nothing but the interpreter's
files in it, an unprivileged user, and only then anything else.
"""

import builtins, collections, ctypes, json, os, resource, select, signal, socket, stat, struct, sys, time, types

libc = ctypes.CDLL(None, use_errno=True)

BOX = "/box/tmp"
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
NEW_MOUNT, NEW_USER = 0x00020000, 0x10000000
# Host name, IPC, user, PID, network, mount.
NEW_NAMESPACES = 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000 | NEW_MOUNT
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
NOBODY = 65534


class MissingLayer(Exception):
    """A wall could not be built: its name, and why."""


def call(function, *arguments):
    """A C function that returns -1 and sets errno when it fails. Integers go as machine words, which variadic calls need."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = function(*words)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), getattr(function, "__name__", None))
    return result


def system_call(number, *arguments):
    return call(libc.syscall, number, *arguments)


def mount(source, target, kind, flags, data=None):
    encoded = [text and text.encode() for text in (source, target, kind)]
    call(libc.mount, *encoded, flags, data and data.encode())


def build_walls(config):
    """Namespaces, root and user. What is per job (Landlock, seccomp, limits) is only prepared, by the worker."""
    layers = config["layers"]
    host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    readable = readable_paths(config)
    if os.geteuid() == 0:
        if "namespaces" in layers:
            layer("namespaces", call, libc.unshare, NEW_NAMESPACES)
            readable = layer("namespaces", build_root, config, readable)
        if "user" in layers:
            layer("user", become_nobody, config["box"], readable)
        if "user_namespace" in layers:
            layer("user_namespace", enter_user_namespace, host_proc, NEW_MOUNT)
    else:
        if "user_namespace" in layers:
            more = NEW_NAMESPACES if "namespaces" in layers else NEW_MOUNT
            layer("user_namespace", enter_user_namespace, host_proc, more)
        elif "namespaces" in layers:
            layer("namespaces", call, libc.unshare, NEW_NAMESPACES)
        if "namespaces" in layers:
            readable = layer("namespaces", build_root, config, readable)
    return host_proc, readable


def layer(name, build, *arguments):
    try:
        return build(*arguments)
    except OSError as error:
        raise MissingLayer(name, str(error)) from error


def enter_user_namespace(host_proc, more_namespaces):
    """Users and groups keep their numbers; every other user of the machine becomes unreachable."""
    user, group = os.geteuid(), os.getegid()
    call(libc.unshare, NEW_USER | more_namespaces)
    call(libc.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)  # After a change of user /proc/self would belong to root.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        handle = os.open(f"self/{name}", os.O_WRONLY, dir_fd=host_proc)
        os.write(handle, text.encode())
        os.close(handle)


def become_nobody(box, readable):
    os.setgroups([])
    if box:
        os.chown(box, NOBODY, NOBODY)
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    for path in readable:
        os.stat(path)  # An interpreter in root's home is out of reach now, unless a root of our own was built.
    call(libc.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)


def readable_paths(config):
    """What a program may read: the interpreter's library, shared libraries, time zones, and the packages asked for."""
    prefixes = {sys.base_prefix, sys.base_exec_prefix}
    candidates = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", *sys.path]
    candidates += [f"{prefix}/{name}" for prefix in prefixes for name in ("lib", "lib64")]
    candidates += config["site_packages"]
    chosen = []
    for path in sorted({os.path.abspath(path) for path in candidates if path}):
        covered = any(path.startswith(parent + "/") for parent in chosen)
        if not covered and path != "/" and os.path.exists(path):
            chosen.append(path)
    return chosen


def build_root(config, readable):
    """A root of our own: an empty file system with the readable paths mounted in it, and the old root taken away. Answers where the
    readable paths are from now on."""
    places = {path: place_in_root(path, number) for number, path in enumerate(readable)}
    sources = {place: os.path.realpath(path) for path, place in places.items()}
    sources |= {path: os.path.realpath(path) for path in ("/dev/null", "/dev/urandom")}
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    os.mkdir("/tmp/old")
    system_call(config["syscalls"]["pivot_root"], b"/tmp", b"/tmp/old")
    os.chdir("/")
    for place, source in sources.items():
        bind("/old" + source, place)
    os.makedirs(BOX)
    os.symlink(BOX, "/tmp")
    call(libc.umount2, b"/old", MNT_DETACH)
    os.rmdir("/old")
    read_only = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID, 0, 0, 0)
    system_call(config["syscalls"]["mount_setattr"], AT_FDCWD, b"/", AT_RECURSIVE, read_only, len(read_only))
    # The worker mounts its own box over this one where it may: see `Box`.
    nobody = os.geteuid() == 0 and "user" in config["layers"]
    owner = (NOBODY, NOBODY) if nobody else (os.geteuid(), os.getegid())
    options = "mode=0700,size=64m,nr_inodes=4096,uid=%d,gid=%d" % owner
    mount("tmpfs", BOX, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    for paths in (sys.path, config["site_packages"]):
        paths[:] = [moved(path, places) for path in paths]
    sys.path_importer_cache.clear()
    return list(places.values())


def place_in_root(path, number):
    """A path of the machine is the same in our root, unless it lies in /tmp, which programs have to themselves."""
    return f"/packages/{number}" if path == "/tmp" or path.startswith("/tmp/") else path


def moved(path, places):
    path = path and os.path.abspath(path)
    for old, place in places.items():
        if path == old or path.startswith(old + "/"):
            return place + path[len(old) :]
    return path


def bind(source, target):
    if os.path.isdir(source):
        os.makedirs(target)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "x").close()
    mount(source, target, None, MS_BIND | MS_REC)


def landlock_rules(config, readable, box):
    """A Landlock ruleset: read the readable paths, write in the box, no TCP, no signal to and no socket of anybody outside."""
    create, add = config["syscalls"]["landlock_create_ruleset"], config["syscalls"]["landlock_add_rule"]
    version = system_call(create, None, 0, 1)
    files = (1 << 13) - 1
    for since, right in ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15)):
        files |= right if version >= since else 0
    attributes = struct.pack("QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    attributes = attributes[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = system_call(create, attributes, len(attributes), 0)
    write_file, read_file, read_folder, truncate = 1 << 1, 1 << 2, 1 << 3, 1 << 14
    # Remove and make folders and files, make symbolic links, move; not: execute, make devices, sockets or FIFOs.
    box_rights = write_file | read_file | read_folder | 3 << 4 | 3 << 7 | 1 << 12 | 1 << 13 | truncate
    grants = [(path, read_file | (read_folder if os.path.isdir(path) else 0)) for path in readable]
    grants += [("/dev/null", read_file | write_file), ("/dev/urandom", read_file), (box, box_rights)]
    for path, rights in grants:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        system_call(add, rules, 1, struct.pack("=Qi", rights & files, handle), 0)
        os.close(handle)
    return rules, version
