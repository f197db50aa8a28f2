//! Profiles: Docker's default as data of our own, and the JSON format in which people write theirs.

use serde::Deserialize;

use crate::runtime::init::capabilities;

/// What happens to a system call: the value that the filter returns (`man 2 seccomp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action(pub(crate) u32);

impl Action {
    /// It is made.
    pub(crate) const ALLOW: Self = Self(0x7fff_0000);
    /// The process is killed.
    pub(crate) const KILL_PROCESS: Self = Self(0x8000_0000);

    /// It fails with this error.
    pub(crate) const fn errno(errno: u16) -> Self {
        Self(0x0005_0000 | errno as u32)
    }

    /// Whether an unknown call under it should rather be reported as missing.
    pub(crate) fn refuses(self) -> bool {
        !matches!(
            self.0 & 0xffff_0000,
            0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000
        )
    }
}

/// A comparison of an argument, all 64 bits, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// Equal in the bits of the mask.
    Masked(u64),
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Which, from 0 to 5.
    pub(crate) index: u8,
    /// How.
    pub(crate) compare: Compare,
    /// With what.
    pub(crate) value: u64,
}

/// What happens to some calls if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Names of the calls; those that an architecture does not have are passed over.
    pub(crate) names: Vec<String>,
    /// What happens.
    pub(crate) action: Action,
    /// When.
    pub(crate) conditions: Vec<Condition>,
}

/// A profile for one machine and one set of capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    /// What happens to a call without a rule.
    pub(crate) default: Action,
    /// In order; of several for a call the first that holds counts, one without conditions before all.
    pub(crate) rules: Vec<Rule>,
    /// Whether 32-bit programs may run.
    pub(crate) compatibility: bool,
}

/// Calls that Docker's default profile (2026-05) allows to everyone.
const ALLOWED: &str = "\
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime \
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close \
close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait \
epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 \
fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync \
fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 \
futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid \
getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid \
getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname \
getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init \
inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get \
ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 \
madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap \
mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
_newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll \
ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read \
readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr \
removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask \
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity \
sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval \
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select \
semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 \
setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid \
setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area \
set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill \
truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice \
wait4 waitid waitpid write writev process_vm_readv process_vm_writev ptrace";

/// Calls of an architecture.
const BY_ARCHITECTURE: [(&[&str], &str); 3] = [
    (&["amd64"], "arch_prctl modify_ldt"),
    (
        &["arm64"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&["riscv64"], "riscv_flush_icache"),
];

/// Calls that come with a capability.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    (
        "SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("SYS_RAWIO", "iopl ioperm"),
    (
        "SYS_TIME",
        "settimeofday stime clock_settime clock_settime64",
    ),
    ("SYS_TTY_CONFIG", "vhangup"),
    (
        "SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Address families from 12 up that sockets may be of: not `AF_ALG` (38), `AF_VSOCK` (40) and some that nobody maintains.
const FAMILIES: [u64; 24] = [
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44,
];

/// The last of them, apart to keep the list in lines.
const LAST_FAMILY: u64 = 45;

/// Personalities: Linux, Linux with short inodes (8), UNAME26, both, and the question which it is.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `CLONE_NEW*` of the flags of `clone`, but for the time namespace, whose bit is a signal's there.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// Docker's default profile for these capabilities.
pub(crate) fn docker_default(mask: u64, architecture: &str) -> Profile {
    let list = |names: &str| names.split_whitespace().map(str::to_owned).collect();
    let allow = |names: &str, conditions| Rule {
        names: list(names),
        action: Action::ALLOW,
        conditions,
    };
    let condition = |compare, value| Condition {
        index: 0,
        compare,
        value,
    };
    let has = |name: &str| capabilities::by_name(name).is_some_and(|bit| mask & bit == bit);
    let mut rules = vec![
        allow(ALLOWED, Vec::new()),
        allow("socket", vec![condition(Compare::Less, 12)]),
    ];
    for family in FAMILIES.into_iter().chain([LAST_FAMILY]) {
        rules.push(allow("socket", vec![condition(Compare::Equal, family)]));
    }
    for personality in PERSONALITIES {
        rules.push(allow(
            "personality",
            vec![condition(Compare::Equal, personality)],
        ));
    }
    for (architectures, names) in BY_ARCHITECTURE {
        if architectures.contains(&architecture) {
            rules.push(allow(names, Vec::new()));
        }
    }
    for (capability, names) in BY_CAPABILITY {
        if has(capability) {
            rules.push(allow(names, Vec::new()));
        }
    }
    if !has("SYS_ADMIN") {
        rules.push(allow(
            "clone",
            vec![condition(Compare::Masked(NAMESPACE_FLAGS), 0)],
        ));
        // Its flags are behind a pointer: what is missing makes the C library use `clone`.
        rules.push(Rule {
            names: list("clone3"),
            action: Action::errno(38),
            conditions: Vec::new(),
        });
    }
    Profile {
        default: Action::errno(1),
        rules,
        compatibility: true,
    }
}

/// The JSON document.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    arch_map: Option<Vec<ArchMap>>,
    architectures: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Vec<Syscall>,
}

/// An architecture and those it runs beside itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

/// A rule of the document.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<Argument>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

/// A condition of the document.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// When a rule counts at all.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Names of an architecture: in `arches`, in `archMap`, of its 32-bit companion.
pub(crate) struct ArchitectureNames {
    /// As Go says it: `amd64`.
    pub(crate) go: &'static str,
    /// As libseccomp says it: `SCMP_ARCH_X86_64`.
    pub(crate) libseccomp: &'static str,
    /// The companion, as libseccomp says it.
    pub(crate) companion: &'static str,
}

/// Reads a profile in Docker's JSON format for these capabilities, this machine and this kernel (major, minor).
///
/// Errors: a sentence on what is not understood.
pub(crate) fn parse(
    text: &str,
    mask: u64,
    names: &ArchitectureNames,
    kernel: (u32, u32),
) -> Result<Profile, String> {
    let document: Document =
        serde_json::from_str(text).map_err(|error| format!("seccomp profile: {error}"))?;
    let companion = |list: &[String]| list.iter().any(|name| name == names.companion);
    let compatibility = match (&document.arch_map, &document.architectures) {
        (Some(map), _) => map
            .iter()
            .filter(|entry| entry.architecture == names.libseccomp)
            .any(|entry| entry.sub_architectures.as_deref().is_some_and(companion)),
        (None, Some(list)) => companion(list),
        (None, None) => false,
    };
    let default = parse_action(&document.default_action, document.default_errno_ret)?;
    let mut rules = Vec::new();
    for syscall in document.syscalls {
        if !counts(&syscall, mask, names.go, kernel)? {
            continue;
        }
        let conditions = syscall.args.unwrap_or_default();
        rules.push(Rule {
            action: parse_action(&syscall.action, syscall.errno_ret)?,
            names: syscall.names.into_iter().chain(syscall.name).collect(),
            conditions: conditions
                .iter()
                .map(parse_condition)
                .collect::<Result<_, _>>()?,
        });
    }
    Ok(Profile {
        default,
        rules,
        compatibility,
    })
}

/// Whether a rule counts here: all of what it includes holds, none of what it excludes.
fn counts(
    syscall: &Syscall,
    mask: u64,
    architecture: &str,
    kernel: (u32, u32),
) -> Result<bool, String> {
    let has = |name: &String| capabilities::by_name(name).is_some_and(|bit| mask & bit == bit);
    let here = |list: &Vec<String>| list.iter().any(|name| name == architecture);
    let new_enough = |filter: &Filter| match &filter.min_kernel {
        None => Ok(true),
        Some(text) => parse_kernel(text).map(|least| kernel >= least),
    };
    if let Some(includes) = &syscall.includes {
        let capable = includes
            .caps
            .as_ref()
            .is_none_or(|caps| caps.iter().all(has));
        let local = includes
            .arches
            .as_ref()
            .is_none_or(|list| list.is_empty() || here(list));
        if !capable || !local || !new_enough(includes)? {
            return Ok(false);
        }
    }
    if let Some(excludes) = &syscall.excludes {
        let capable = excludes
            .caps
            .as_ref()
            .is_some_and(|caps| caps.iter().any(has));
        let local = excludes.arches.as_ref().is_some_and(here);
        let new = excludes.min_kernel.is_some() && new_enough(excludes)?;
        return Ok(!capable && !local && !new);
    }
    Ok(true)
}

/// Reads `4.8` of a version, whatever follows.
pub(crate) fn parse_kernel(text: &str) -> Result<(u32, u32), String> {
    let mut parts = text
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(format!("seccomp profile: `{text}` is not a kernel version")),
    }
}

/// Reads an action.
fn parse_action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    match name {
        "SCMP_ACT_ALLOW" => Ok(Action::ALLOW),
        "SCMP_ACT_ERRNO" => Ok(Action::errno(errno.unwrap_or(1))),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action(0)),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KILL_PROCESS),
        "SCMP_ACT_TRAP" => Ok(Action(0x0003_0000)),
        "SCMP_ACT_TRACE" => Ok(Action(0x7ff0_0000 | u32::from(errno.unwrap_or(1)))),
        "SCMP_ACT_LOG" => Ok(Action(0x7ffc_0000)),
        _ => Err(format!("seccomp profile: action `{name}` is not supported")),
    }
}

/// Reads a condition.
fn parse_condition(argument: &Argument) -> Result<Condition, String> {
    let compare = match argument.op.as_str() {
        "SCMP_CMP_EQ" => Compare::Equal,
        "SCMP_CMP_NE" => Compare::NotEqual,
        "SCMP_CMP_LT" => Compare::Less,
        "SCMP_CMP_LE" => Compare::LessOrEqual,
        "SCMP_CMP_GT" => Compare::Greater,
        "SCMP_CMP_GE" => Compare::GreaterOrEqual,
        // There `value` is the mask and `valueTwo` what is compared with.
        "SCMP_CMP_MASKED_EQ" => Compare::Masked(argument.value),
        other => return Err(format!("seccomp profile: operator `{other}` is not known")),
    };
    if argument.index > 5 {
        return Err(format!(
            "seccomp profile: argument {} does not exist",
            argument.index
        ));
    }
    let value = match compare {
        Compare::Masked(_) => argument.value_two,
        _ => argument.value,
    };
    Ok(Condition {
        index: argument.index,
        compare,
        value,
    })
}
