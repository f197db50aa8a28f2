//! Starts of real containers on this kernel.

use std::os::fd::AsFd as _;

use crate::runtime::config::{
    FileOrigin, IdMap, InjectedFile, Mount, MountSource, Namespace, Rlimit, UserNamespace,
};
use crate::runtime::init::{Stdio, steps};
use crate::runtime::testing::{Outcome, Sandbox, config, in_private_mounts, pipe, put, shell};

/// What an outcome is when all went well.
fn fine(out: &str) -> Outcome {
    Outcome {
        code: 0,
        out: out.to_owned(),
        err: String::new(),
    }
}

#[test]
fn the_command_is_pid_1_and_its_code_comes_back() {
    let sandbox = Sandbox::new("echo $$ $(hostname) $HOME; echo oops >&2; exit 7");
    let outcome = sandbox.run().unwrap();
    let expected = Outcome {
        code: 7,
        out: "1 box /root\n".to_owned(),
        err: "oops\n".to_owned(),
    };
    assert_eq!(outcome, expected);
}

#[test]
fn only_the_standard_descriptors_are_open() {
    let sandbox = Sandbox::new("ls /proc/1/fd; true");
    assert_eq!(sandbox.run().unwrap(), fine("0\n1\n2\n"));
}

/// Returns the lines of /proc/self/status that tell of privileges.
const STATUS: &str = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status";

#[test]
fn privileges_are_dockers_defaults() {
    let golden = |uid: u32, groups: &str, effective: &str, nnp: u32| {
        format!(
            "Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t{groups} \n\
             CapInh:\t0000000000000000\nCapPrm:\t{effective}\nCapEff:\t{effective}\nCapBnd:\t00000000a80425fb\n\
             CapAmb:\t0000000000000000\nNoNewPrivs:\t{nnp}\nSeccomp:\t2\n"
        )
    };
    for (user, no_new_privileges, expected) in [
        ("", false, golden(0, "0", "00000000a80425fb", 0)),
        ("web", false, golden(1000, "29 1000", "0000000000000000", 0)),
        (
            "1000:1000",
            true,
            golden(1000, "1000", "0000000000000000", 1),
        ),
    ] {
        let mut sandbox = Sandbox::new(STATUS);
        user.clone_into(&mut sandbox.config.process.user);
        sandbox.config.process.no_new_privileges = no_new_privileges;
        assert_eq!(sandbox.output(), expected, "user `{user}`");
        // A process that joins has the same.
        sandbox.config.process.args[2] = "sleep 100".to_owned();
        let (_read, write) = pipe();
        let stdio = Stdio::Pipes {
            out: write.as_fd(),
            err: write.as_fd(),
            input: None,
        };
        let init = sandbox.start(stdio).unwrap();
        let mut process = shell(STATUS);
        process.user = sandbox.config.process.user.clone();
        process.no_new_privileges = no_new_privileges;
        assert_eq!(
            sandbox.exec(&init, &process).unwrap(),
            fine(&expected),
            "exec as `{user}`"
        );
    }
}

#[test]
fn a_process_that_joins_sees_the_container_and_its_code_comes_back() {
    let sandbox = Sandbox::new("echo from init > /tmp/x; echo ready; sleep 100");
    let (read, write) = pipe();
    let stdio = Stdio::Pipes {
        out: write.as_fd(),
        err: write.as_fd(),
        input: None,
    };
    let init = sandbox.start(stdio).unwrap();
    rustix::io::read(&read, &mut [0; 6]).unwrap();
    let script = "hostname; cat /tmp/x; ls /proc/self/fd | wc -l; grep -m 1 -E ':pids:|^0::' /proc/self/cgroup; \
        for name in cgroup ipc mnt net pid user uts; do \
        [ $(readlink /proc/self/ns/$name) = $(readlink /proc/1/ns/$name) ] || echo $name differs; done; exit 9";
    let outcome = sandbox.exec(&init, &shell(script)).unwrap();
    let pids = outcome.out.lines().last().unwrap_or_default().to_owned();
    let expected = format!("box\nfrom init\n4\n{pids}\n");
    assert!(
        pids.ends_with(":/"),
        "in the container's own group: {outcome:?}"
    );
    assert_eq!(
        (outcome.code, outcome.out, outcome.err),
        (9, expected, String::new())
    );
    let mut missing = shell("");
    missing.args = vec!["nothere".to_owned()];
    let error = sandbox.exec(&init, &missing).unwrap_err();
    assert_eq!(
        (error.exit_code(), error.to_string()),
        (
            127,
            "executable `nothere` not found in PATH=/usr/bin:/bin".to_owned()
        )
    );
}

#[test]
fn commands_that_cannot_run_say_why() {
    let failing = |args: &[&str]| {
        let mut sandbox = Sandbox::new("");
        put(&sandbox.image("bin/script"), "#!/no/such/thing\n");
        put(&sandbox.image("bin/plain"), "text");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(sandbox.image("bin/script"), mode).unwrap();
        sandbox.config.process.args = args.iter().map(|&arg| arg.to_owned()).collect();
        let error = sandbox.run().unwrap_err();
        (error.exit_code(), error.to_string())
    };
    assert_eq!(
        failing(&["nope"]),
        (
            127,
            "executable `nope` not found in PATH=/usr/bin:/bin".to_owned()
        )
    );
    assert_eq!(
        failing(&["/nope"]),
        (127, "executable `/nope` not found".to_owned())
    );
    assert_eq!(
        failing(&["script"]),
        (127, "interpreter of `script` not found".to_owned())
    );
    assert_eq!(failing(&["plain"]), (126, "execute `plain`".to_owned()));
    assert_eq!(failing(&[""]), (128, "the command is empty".to_owned()));
}

#[test]
fn the_kernels_files_are_masked_and_read_only() {
    let script = "cat /proc/keys | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | wc -w; \
        (echo 1 > /proc/sys/kernel/core_pattern) 2>&1; \
        cd /sys/fs/cgroup; [ ! -d memory ] || cd memory; mkdir x 2>&1; ls -ln /dev | grep -c '^c'; readlink /dev/fd; mount | grep -c ' on /dev/shm '";
    let expected = "0\n0\n\
        /bin/sh: can't create /proc/sys/kernel/core_pattern: Read-only file system\n\
                mkdir: can't create directory 'x': Read-only file system\n6\n/proc/self/fd\n1\n";
    assert_eq!(Sandbox::new(script).output(), expected);
}

#[test]
fn a_working_directory_cannot_be_a_descriptor_of_ours() {
    for number in 3..12 {
        let mut sandbox = Sandbox::new("true");
        sandbox.config.process.cwd = format!("/proc/self/fd/{number}");
        let error = sandbox.run().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("enter the working directory `/proc/self/fd/{number}`")
        );
    }
    let mut sandbox = Sandbox::new("echo $PWD");
    sandbox.config.process.cwd = "/made/here".to_owned();
    assert_eq!(sandbox.output(), "/made/here\n");
}

#[test]
fn links_in_the_image_lead_nowhere() {
    for name in ["dev", "proc", "sys"] {
        let sandbox = Sandbox::new("true");
        let decoy = tempfile::tempdir().unwrap();
        fs_err::os::unix::fs::symlink(decoy.path(), sandbox.image(name)).unwrap();
        let kind = match name {
            "dev" => "tmpfs",
            "proc" => "proc",
            _ => "sysfs",
        };
        assert_eq!(
            sandbox.run().unwrap_err().to_string(),
            format!("mount {kind} on `/{name}`")
        );
        assert_eq!(fs_err::read_dir(decoy.path()).unwrap().count(), 0);
    }
    // A mount target behind a link is made inside the root.
    let mut sandbox = Sandbox::new("ls /away");
    let decoy = tempfile::tempdir().unwrap();
    fs_err::os::unix::fs::symlink(decoy.path(), sandbox.image("link")).unwrap();
    fs_err::os::unix::fs::symlink(decoy.path(), sandbox.image("away")).unwrap();
    sandbox.config.mounts = vec![tmpfs("/link/below")];
    assert_eq!(sandbox.output(), "below\n");
    assert_eq!(fs_err::read_dir(decoy.path()).unwrap().count(), 0);
}

#[test]
fn nothing_is_mounted_into_proc() {
    for target in ["/proc", "/proc/sys", "/proc/self/attr", "/link/sys"] {
        let mut sandbox = Sandbox::new("true");
        fs_err::os::unix::fs::symlink("/proc", sandbox.image("link")).unwrap();
        sandbox.config.mounts = vec![tmpfs(target)];
        let error = sandbox.run().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("mount tmpfs on `{target}`: the target is inside /proc")
        );
    }
}

/// A tmpfs at a path.
fn tmpfs(target: &str) -> Mount {
    Mount {
        target: target.to_owned(),
        source: MountSource::Tmpfs {
            size_bytes: Some(4096),
            mode: None,
            executable: false,
        },
        read_only: false,
    }
}

#[test]
fn hostile_user_files_are_refused_at_once() {
    let with = |make: &dyn Fn(&std::path::Path)| {
        let mut sandbox = Sandbox::new("true");
        fs_err::remove_file(sandbox.image("etc/passwd")).unwrap();
        make(&sandbox.image("etc/passwd"));
        sandbox.config.process.user = "web".to_owned();
        sandbox.run().unwrap_err().to_string()
    };
    let fifo = |path: &std::path::Path| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    };
    assert_eq!(
        with(&fifo),
        "find the user `web`: /etc/passwd is not a regular file"
    );
    let device = |path: &std::path::Path| fs_err::os::unix::fs::symlink("/dev/zero", path).unwrap();
    assert_eq!(
        with(&device),
        "find the user `web`: /etc/passwd is not a regular file"
    );
    let huge = |path: &std::path::Path| {
        fs_err::File::create(path)
            .unwrap()
            .set_len(2 << 30)
            .unwrap();
    };
    assert_eq!(
        with(&huge),
        "find the user `web`: /etc/passwd is larger than 1048576 bytes"
    );
}

#[test]
fn mounts_files_and_volumes_are_where_they_were_asked() {
    let mut sandbox = Sandbox::new(
        "cat /etc/hosts | grep other; cat /etc/hostname /etc/resolv.conf /bound/f /run/secrets/key; stat -c '%a %u' /run/secrets/key; \
         (echo x > /bound/f) 2>&1; ls /data; stat -c '%u %a' /data/seed; echo more > /data/more; (echo x > /x) 2>&1; env | grep HOME",
    );
    let bound = sandbox.directory.path().join("bound");
    let volume = sandbox.directory.path().join("volume/_data");
    fs_err::create_dir_all(&bound).unwrap();
    fs_err::create_dir_all(&volume).unwrap();
    put(&bound.join("f"), "bound\n");
    fs_err::create_dir(sandbox.image("data")).unwrap();
    put(&sandbox.image("data/seed"), "seed");
    std::os::unix::fs::chown(sandbox.image("data/seed"), Some(1000), Some(1000)).unwrap();
    sandbox.config.mounts = vec![
        Mount {
            target: "/bound".to_owned(),
            source: MountSource::Bind {
                path: bound,
                propagation: "rprivate".to_owned(),
            },
            read_only: true,
        },
        Mount {
            target: "/data".to_owned(),
            source: MountSource::Volume {
                path: volume.clone(),
                subpath: None,
                copy_up: true,
            },
            read_only: false,
        },
    ];
    sandbox.config.files = vec![InjectedFile {
        target: "/run/secrets/key".to_owned(),
        origin: FileOrigin::Content("s3cret\n".to_owned()),
        uid: 5,
        gid: 5,
        mode: 0o440,
    }];
    sandbox.config.read_only = true;
    let outcome = sandbox.output();
    let expected = "10.9.8.7\tother\nbox\nnameserver 127.0.0.11\nbound\ns3cret\n440 5\n\
        /bin/sh: can't create /bound/f: Read-only file system\nseed\n1000 644\n\
        /bin/sh: can't create /x: Read-only file system\nHOME=/root\n";
    assert_eq!(outcome, expected);
    assert_eq!(
        fs_err::read_to_string(volume.join("more")).unwrap(),
        "more\n"
    );
    assert!(!fs_err::exists(volume.with_file_name("._data.filling")).unwrap());
}

#[test]
fn a_part_of_a_volume_is_found_inside_it() {
    let mut sandbox = Sandbox::new("cat /part/f");
    let top = sandbox.directory.path().to_owned();
    let volume = top.join("volume/_data");
    for directory in ["volume/_data/sub", "outside"] {
        fs_err::create_dir_all(top.join(directory)).unwrap();
    }
    put(&volume.join("sub/f"), "inside\n");
    put(&top.join("outside/f"), "outside\n");
    // As somebody in a container that has the volume might.
    std::os::unix::fs::symlink(top.join("outside"), volume.join("out")).unwrap();
    std::os::unix::fs::symlink("../../outside", volume.join("up")).unwrap();
    std::os::unix::fs::symlink("/sub", volume.join("in")).unwrap();
    for (subpath, is_there) in [("sub", true), ("in", true), ("out", false), ("up", false)] {
        sandbox.config.mounts = vec![Mount {
            target: "/part".to_owned(),
            source: MountSource::Volume {
                path: volume.clone(),
                subpath: Some(subpath.into()),
                copy_up: false,
            },
            read_only: false,
        }];
        let ran = sandbox.run();
        if is_there {
            assert_eq!(ran.unwrap(), fine("inside\n"), "{subpath}");
        } else {
            let text = ran.unwrap_err().to_string();
            assert!(text.starts_with(&format!("open `{subpath}` in")), "{text}");
        }
    }
}

#[test]
fn programs_run_from_the_memory_of_a_step_alone() {
    for (executable, expected) in [(true, "yes\n"), (false, "no\n")] {
        let mut sandbox =
            Sandbox::new("cp /bin/busybox /t/sh; /t/sh -c 'echo yes' 2>/dev/null || echo no");
        sandbox.config.mounts = vec![Mount {
            target: "/t".to_owned(),
            source: MountSource::Tmpfs {
                size_bytes: None,
                mode: None,
                executable,
            },
            read_only: false,
        }];
        assert_eq!(sandbox.run().unwrap(), fine(expected));
    }
}

#[test]
fn the_init_process_reaps_forwards_and_ends_with_its_child() {
    let mut sandbox = Sandbox::new(
        "echo $$; trap 'echo got; exit 3' TERM; (true &); kill -TERM 1; while :; do sleep 0.01; done",
    );
    sandbox.config.process.init = true;
    assert_eq!(
        sandbox.run().unwrap(),
        Outcome {
            code: 3,
            out: "2\ngot\n".to_owned(),
            err: String::new()
        }
    );
}

#[test]
fn a_terminal_is_the_containers_own() {
    let mut sandbox = Sandbox::new("tty; echo x > /dev/console; [ -t 0 ] && [ -t 2 ] && echo yes");
    sandbox.config.process.tty = true;
    for user in ["", "web"] {
        sandbox.config.process.user = user.to_owned();
        let spawned = sandbox.start(Stdio::Terminal).unwrap();
        let master = spawned.terminal.unwrap();
        let mut text = Vec::new();
        let mut buffer = [0; 256];
        // The end of a terminal is EIO.
        let ended = loop {
            match rustix::io::read(&master, &mut buffer) {
                Ok(read) => text.extend_from_slice(&buffer[..read]),
                Err(errno) => break errno,
            }
        };
        assert_eq!(ended, rustix::io::Errno::IO);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "/dev/pts/0\r\nx\r\nyes\r\n",
            "{user}"
        );
        crate::sys::pidfd::wait(spawned.pidfd.as_fd()).unwrap();
    }
}

#[test]
fn limits_that_are_only_defaults_may_be_missing() {
    let limit = |soft, required| Rlimit {
        name: "nofile".to_owned(),
        soft,
        hard: soft,
        required,
    };
    let mut sandbox = Sandbox::new("ulimit -n");
    sandbox.config.process.rlimits = vec![limit(512, true)];
    assert_eq!(sandbox.output(), "512\n");
    // Beyond the kernel's own bound (fs.nr_open) nobody can go, so this is EPERM for everyone.
    sandbox.config.process.rlimits = vec![limit(u64::MAX, true)];
    assert_eq!(
        sandbox.run().unwrap_err().to_string(),
        "set the limit `nofile`"
    );
    sandbox.config.process.rlimits = vec![limit(u64::MAX, false)];
    let (read, write) = pipe();
    let spawned = sandbox
        .start(Stdio::Pipes {
            out: write.as_fd(),
            err: write.as_fd(),
            input: None,
        })
        .unwrap();
    drop((read, write));
    assert_eq!(
        spawned.warnings,
        ["limit `nofile` was not set: Operation not permitted (os error 1)"]
    );
    crate::sys::pidfd::wait(spawned.pidfd.as_fd()).unwrap();
}

#[test]
fn a_mapped_root_is_nobody_outside() {
    let mut sandbox = Sandbox::new(
        "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u /bin/busybox; touch /made; stat -c %u /made; echo a > /dev/null; ls /sys/fs | grep -c cgroup",
    );
    fs_err::os::unix::fs::symlink("busybox", sandbox.image("bin/tr")).unwrap();
    let map = vec![IdMap {
        inside: 0,
        outside: 100_000,
        count: 65_536,
    }];
    sandbox.config.namespaces.user = UserNamespace::Mapped {
        uids: map.clone(),
        gids: map,
    };
    assert_eq!(sandbox.output(), "0\n 0 100000 65536\n0\n0\n1\n");
    let made = sandbox.directory.path().join("upper/made");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs_err::metadata(made).unwrap());
    assert_eq!(owner, 100_000);
}

#[test]
fn a_failed_start_leaves_nothing() {
    let mut sandbox = Sandbox::new("");
    sandbox.config.process.args = vec!["nope".to_owned()];
    for _ in 0..3 {
        sandbox.run().unwrap_err();
    }
    assert_eq!(sandbox.cgroup.pids().unwrap(), Vec::<i32>::new());
    let mounted = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounted.contains(sandbox.directory.path().to_str().unwrap()));
}

/// How a start went when its caller had one thread, as monitors have.
#[test]
fn a_caller_without_threads_clones_directly() {
    let mut sandbox = Sandbox::new(
        "grep -m 1 -E ':pids:|^0::' /proc/self/cgroup; grep ^0: /proc/self/cgroup; echo $$",
    );
    sandbox.config.process.capabilities = 0;
    in_private_mounts(|| {
        let sandbox = &mut sandbox;
        assert!(
            crate::sys::clone::SingleThreaded::check()
                .unwrap()
                .is_some()
        );
        let outcome = sandbox.run().unwrap();
        let lines: Vec<&str> = outcome.out.lines().collect();
        assert!(lines[0].ends_with(":/"), "{outcome:?}");
        assert_eq!(lines[1..], ["0::/", "1"]);
        let mut missing = shell("");
        missing.args = vec!["nope".to_owned()];
        sandbox.config.process = missing;
        assert_eq!(sandbox.run().unwrap_err().exit_code(), 127);
    });
}

#[test]
fn a_plan_is_a_list_of_steps() {
    let mut config = config("true");
    config.sysctls = [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into();
    config.read_only = true;
    config.process.tty = true;
    let facts = steps::Facts {
        etc_directory: "/c".into(),
        hostname_file: true,
        ..steps::Facts::default()
    };
    let plan = steps::plan(&config, &facts).unwrap();
    let shown: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    let masked = |step: &&String| !step.starts_with("mask") && !step.starts_with("make the");
    let shown: Vec<&String> = shown.iter().filter(masked).collect();
    let expected = [
        "bring `lo` up",
        "make a cgroup namespace",
        "make all mounts slaves",
        "attach the root file system",
        "mount proc on `/proc`",
        "mount sysfs on `/sys`",
        "mount tmpfs on `/dev`",
        "open `/dev/null`",
        "mount devpts on `/dev/pts`",
        "mount tmpfs on `/dev/shm`",
        "mount mqueue on `/dev/mqueue`",
        "set sysctl `net.ipv4.ip_forward` to `1`",
        "mount on `/etc/hosts`",
        "mount on `/etc/hostname`",
        "mount on `/etc/resolv.conf`",
        "set the host name to `box`",
        "make `/proc/bus` read-only",
        "make `/proc/fs` read-only",
        "make `/proc/irq` read-only",
        "make `/proc/sys` read-only",
        "make `/proc/sysrq-trigger` read-only",
        "open a terminal",
        "change the root",
        "connect the standard streams",
        "join a session keyring",
        "find the user `root`",
        "enter the working directory `/`",
        "drop privileges",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn what_cannot_be_is_said_before_anything_is_made() {
    let check = |change: &dyn Fn(&mut crate::runtime::config::ContainerConfig), expected: &str| {
        let mut config = config("true");
        change(&mut config);
        let found = steps::plan(&config, &steps::Facts::default());
        assert_eq!(found.map(|_| ()), Err(expected.to_owned()));
    };
    check(
        &|config| config.sysctls = [("kernel.core_pattern".to_owned(), "x".to_owned())].into(),
        "sysctl `kernel.core_pattern` is not one that a container has for itself",
    );
    check(
        &|config| {
            config.sysctls = [("net.core.somaxconn".to_owned(), "1".to_owned())].into();
            config.namespaces.network = Namespace::Host;
        },
        "sysctl `net.core.somaxconn` needs a network namespace of the container's own",
    );
    check(
        &|config| config.sysctls = [("net/../kernel/x".to_owned(), "1".to_owned())].into(),
        "sysctl `net/../kernel/x` is not a valid name",
    );
    check(
        &|config| config.process.cwd = "work".to_owned(),
        "the working directory `work` is not an absolute path",
    );
    check(
        &|config| config.mounts = vec![tmpfs("/")],
        "mount target `/` is not an absolute path below `/`",
    );
}
