//! The system calls that a program may make: everything else fails with `EPERM`.
//!
//! A filter is a small BPF program that the kernel runs at every system call. Ours is a list of pairs "if the number is this
//! one, allow", after a check of the architecture, with a handful of calls whose arguments are looked at first:
//!
//! ```text
//! load architecture;      if not ours: kill
//! load number;            if it is clone3: ENOSYS         (the C library then falls back to clone, whose flags we can read)
//!                         if it is clone:  flags & NEW_NAMESPACES ? EPERM : allow
//!                         if it is read:   allow
//!                         …
//!                         EPERM
//! ```
//!
//! It is installed once, in the worker, and every fork inherits it for nothing. The few calls that the worker makes beyond those
//! of its jobs (it takes open files from a socket, and waits on a handle of its child) are no use to a job: it has no socket but
//! pairs of its own, and such a handle can be waited on and nothing else. Where the worker has no PID namespace it must not stand
//! behind the walls of its jobs (`Processes::Shared`); there a job adds a short filter that takes more away, and the
//! kernel runs both.
//!
//! What is missing from the list on purpose: `execve` (no other program), `socket`, `connect` and `bind` (no network, not even
//! the machine's own), `ptrace`, `process_vm_*`, `pidfd_*` (no other process), `mount`, `unshare`, `setns`, `chroot` (no way
//! out of the root), `setsid` and `setpgid` (no way out of the group that is killed at the end), `memfd_create`, `shmget`,
//! `add_key` and the like (no memory that the limits do not see and that outlives the job), `setxattr` (no marks for the next
//! job), `bpf`, `io_uring_*`, `userfaultfd`, `perf_event_open`, `keyctl` (history of kernel bugs), `seccomp`.

use libc::{ENOSYS, EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, c_long};

/// Whether the program has a PID namespace to itself. Without one, its signals could reach others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processes {
    /// Signals reach only the job itself.
    Private,
    /// The job sees every process of its user: it may not signal, and may start threads but no process.
    Shared,
}

/// The long filter: what a worker and its jobs may do. As the bytes of the kernel's `struct sock_filter` array, like the other one.
pub(crate) fn worker_filter(processes: Processes) -> Vec<u8> {
    let mut program = Program::start();
    program.when_number(libc::SYS_clone3, |body| body.give(SECCOMP_RET_ERRNO | ENOSYS as u32));
    program.when_number(libc::SYS_clone, |body| {
        body.load(OFFSET_ARGUMENTS);
        body.push(JUMP_IF_BITS, 0, 1, NEW_NAMESPACES);
        body.give(DENY);
        body.give(SECCOMP_RET_ALLOW);
    });
    for rule in ARGUMENT_RULES {
        program.when_number(rule.number, |body| body.check(rule));
    }
    match processes {
        Processes::Private => program.when_number(libc::SYS_prctl, |body| body.check(&THREAD_NAME)),
        Processes::Shared => program.allow(RAISING),
    }
    for calls in [ALLOWED, OLD_CALLS, SIGNALS, SERVING] {
        program.allow(calls);
    }
    program.give(DENY);
    program.bytes
}

/// The short filter of a job whose processes are `Shared`: its worker's own calls, signals to others, and new processes.
pub(crate) fn job_filter() -> Vec<u8> {
    let mut program = Program::start();
    program.when_number(libc::SYS_prctl, |body| body.check(&THREAD_NAME));
    for &number in RAISING.iter().chain(SERVING).chain(SIGNALS) {
        program.when_number(number, |body| body.give(DENY));
    }
    program.when_number(libc::SYS_clone, |body| {
        body.load(OFFSET_ARGUMENTS);
        body.push(JUMP_IF_BITS, 1, 0, CLONE_THREAD);
        body.give(DENY);
        body.give(SECCOMP_RET_ALLOW);
    });
    program.give(SECCOMP_RET_ALLOW);
    program.bytes
}

const DENY: u32 = SECCOMP_RET_ERRNO | EPERM as u32;

// Offsets in the kernel's `struct seccomp_data`; arguments are 64 bits wide, and both architectures are little-endian.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// A call that is allowed only with certain values of one argument.
struct ArgumentRule {
    number: c_long,
    argument: u32,
    values: &'static [u32],
}

const ARGUMENT_RULES: &[ArgumentRule] = &[
    // Terminal questions and flags of a descriptor; never a device's own commands.
    ArgumentRule {
        number: libc::SYS_ioctl,
        argument: 1,
        values: &[TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX],
    },
    // Duplicate, flags, locks; not the commands that make the kernel send signals to a process of one's choice.
    ArgumentRule {
        number: libc::SYS_fcntl,
        argument: 1,
        values: &[0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032],
    },
    // One's own limits, which can only go down; not those of the worker, which runs as the same user.
    ArgumentRule { number: libc::SYS_prlimit64, argument: 0, values: &[0] },
    // A pair of connected local sockets, which event loops wake themselves with. They cannot reach anybody else.
    ArgumentRule {
        number: libc::SYS_socketpair,
        argument: 1,
        values: &[1, 1 | 0o4000, 1 | 0o200_0000, 1 | 0o200_4000],
    },
];

/// The name of a thread is the one process property that a job may set.
const THREAD_NAME: ArgumentRule = ArgumentRule { number: libc::SYS_prctl, argument: 0, values: &[15, 16] };

const TCGETS: u32 = 0x5401;
const TIOCGWINSZ: u32 = 0x5413;
const FIONREAD: u32 = 0x541B;
const FIONBIO: u32 = 0x5421;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;

/// Every `CLONE_NEW…` flag.
const NEW_NAMESPACES: u32 = 0x7E02_0000 | 0x80;
const CLONE_THREAD: u32 = 0x1_0000;

/// Allowed whatever the arguments, by purpose.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Files and folders: what they reach is decided by the root, by Landlock and by ordinary permissions.
    libc::SYS_openat, libc::SYS_close, libc::SYS_close_range, libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev,
    libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat,
    libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_chdir, libc::SYS_fchdir,
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat, libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_symlinkat,
    libc::SYS_linkat, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_umask,
    libc::SYS_ftruncate, libc::SYS_truncate, libc::SYS_fallocate, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_flock,
    libc::SYS_utimensat, libc::SYS_sendfile, libc::SYS_copy_file_range, libc::SYS_fadvise64,
    // Descriptors, pipes and waiting for them.
    libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait, libc::SYS_eventfd2, libc::SYS_timerfd_create, libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime,
    libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_shutdown, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Memory, within the limit on address space.
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise, libc::SYS_msync,
    libc::SYS_mincore, libc::SYS_membarrier,
    // Threads and locks.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_set_tid_address, libc::SYS_rseq,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_gettid,
    // Processes of the job, and one's own signals.
    libc::SYS_exit, libc::SYS_exit_group, libc::SYS_wait4, libc::SYS_waitid, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending, libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigsuspend, libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Who am I.
    libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getpgid, libc::SYS_getsid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getegid, libc::SYS_getgroups, libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getrlimit, libc::SYS_setrlimit,
    libc::SYS_getrusage, libc::SYS_getpriority, libc::SYS_times, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getcpu,
    // Time and chance.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep, libc::SYS_gettimeofday,
    libc::SYS_getitimer, libc::SYS_setitimer, libc::SYS_timer_create, libc::SYS_timer_settime, libc::SYS_timer_gettime,
    libc::SYS_timer_delete, libc::SYS_getrandom,
];

const SIGNALS: &[c_long] = &[libc::SYS_kill, libc::SYS_tgkill, libc::SYS_tkill];

/// What a worker does for its jobs: it takes their open files from a socket, and waits for their end.
const SERVING: &[c_long] = &[libc::SYS_recvmsg, libc::SYS_sendmsg, libc::SYS_pidfd_open];

/// What a job does to raise its walls, where its worker does not stand behind them.
const RAISING: &[c_long] =
    &[libc::SYS_prctl, libc::SYS_capset, libc::SYS_landlock_restrict_self, libc::SYS_setpgid];

/// Calls that newer architectures no longer have: the same purposes under older names.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD_CALLS: &[c_long] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_mkdir,
    libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_symlink, libc::SYS_link, libc::SYS_rename, libc::SYS_chmod, libc::SYS_getdents,
    libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_dup2, libc::SYS_pipe, libc::SYS_poll, libc::SYS_select,
    libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_getpgrp, libc::SYS_alarm, libc::SYS_pause, libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[c_long] = &[];

#[derive(Default)]
struct Program {
    bytes: Vec<u8>,
}

impl Program {
    /// Kills on a foreign architecture, whose call numbers mean something else, and loads the number of the call.
    fn start() -> Self {
        let mut program = Self::default();
        program.load(OFFSET_ARCHITECTURE);
        program.push(JUMP_IF_EQUAL, 1, 0, ARCHITECTURE);
        program.give(SECCOMP_RET_KILL_PROCESS);
        program.load(OFFSET_NUMBER);
        program
    }

    fn push(&mut self, code: u16, jump_true: u8, jump_false: u8, operand: u32) {
        self.bytes.extend(code.to_ne_bytes());
        self.bytes.extend([jump_true, jump_false]);
        self.bytes.extend(operand.to_ne_bytes());
    }

    fn load(&mut self, offset: u32) {
        self.push(LOAD, 0, 0, offset);
    }

    fn give(&mut self, verdict: u32) {
        self.push(RETURN, 0, 0, verdict);
    }

    fn allow(&mut self, numbers: &[c_long]) {
        for &number in numbers {
            self.when_number(number, |body| body.give(SECCOMP_RET_ALLOW));
        }
    }

    /// Runs `body`, which must end with a verdict, if the call is this one. The number stays loaded for the next test.
    fn when_number(&mut self, number: c_long, body: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        body(&mut inner);
        let skip = u8::try_from(inner.bytes.len() / 8).expect("a rule has fewer than 256 instructions");
        self.push(JUMP_IF_EQUAL, 0, skip, number as u32);
        self.bytes.extend(inner.bytes);
    }

    fn check(&mut self, rule: &ArgumentRule) {
        self.load(OFFSET_ARGUMENTS + 8 * rule.argument);
        for &value in rule.values {
            self.push(JUMP_IF_EQUAL, 0, 1, value);
            self.give(SECCOMP_RET_ALLOW);
        }
        self.give(DENY);
    }
}
