use super::*;
use crate::runtime::init::Stdio;
use crate::runtime::testing::{Sandbox, pipe};

/// Renders the writes for a host whose controllers are all of one version.
fn check(resources: &Resources, version: Version, expected: &str) {
    let found = settings(resources, |_| Some(version)).unwrap();
    let shown: Vec<String> = found
        .iter()
        .map(|setting| format!("{}={}", setting.file, setting.value))
        .collect();
    assert_eq!(shown.join(" "), expected);
}

#[test]
fn limits_become_writes() {
    let all = Resources {
        memory_bytes: Some(1 << 20),
        cpu_milli: Some(1500),
        pids: Some(7),
    };
    check(
        &all,
        Version::V2,
        "memory.max=1048576 memory.swap.max=1048576 cpu.max=150000 100000 pids.max=7",
    );
    check(
        &all,
        Version::V1,
        "memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=2097152 \
         cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000 pids.max=7",
    );
    let little = Resources {
        cpu_milli: Some(5),
        ..Resources::default()
    };
    check(&little, Version::V2, "cpu.max=5000 1000000");
    check(&Resources::default(), Version::V1, "");
}

#[test]
fn a_limit_without_its_controller_is_an_error() {
    let resources = Resources {
        pids: Some(7),
        ..Resources::default()
    };
    let error = settings(&resources, |_| None).unwrap_err().to_string();
    assert_eq!(
        error,
        "limit `pids` needs the `pids` controller, which this host does not offer"
    );
}

#[test]
fn hierarchies_are_read_from_mountinfo() {
    let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        33 31 0:29 / /other\\040place rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
    let hierarchy = |mount: &str, version, controllers: &[&str]| Hierarchy {
        mount: mount.into(),
        version,
        controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
    };
    let expected = [
        hierarchy(
            "/sys/fs/cgroup/cpu,cpuacct",
            Version::V1,
            &["cpu", "cpuacct"],
        ),
        hierarchy("/sys/fs/cgroup/systemd", Version::V1, &["name=systemd"]),
        hierarchy("/sys/fs/cgroup/unified", Version::V2, &[]),
    ];
    assert_eq!(parse_hierarchies(text), expected);
    let own = "9:name=systemd:/session-1\n2:cpuacct,cpu:/a\n0::/b\n";
    let places: Vec<_> = expected
        .iter()
        .map(|hierarchy| place_in(own, hierarchy))
        .collect();
    assert_eq!(places, [Some("/a"), Some("/session-1"), Some("/b")]);
}

/// Lets one instance's monitor make its group where another one has made the directories and done no more; returns what is in
/// the files then, each in the root, above the group, and in it.
fn made_over(version: Version, controllers: &[&str], files: &[(&str, [&str; 3])]) -> Vec<String> {
    let mount = tempfile::tempdir().unwrap();
    let mount = mount.path();
    let directory = mount.join("stack-1/one");
    fs_err::create_dir_all(&directory).unwrap();
    let places = [mount, &mount.join("stack-1"), &directory];
    for (name, texts) in files {
        for (place, text) in places.iter().zip(texts) {
            fs_err::write(place.join(name), text).unwrap();
        }
    }
    make_directory(&Placed {
        directory: directory.clone(),
        hierarchy: Hierarchy {
            mount: mount.into(),
            version,
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        },
    })
    .unwrap();
    let texts = files.iter().map(|(name, _)| {
        let text = |place: &&Path| fs_err::read_to_string(place.join(name)).unwrap();
        places.iter().map(text).collect::<Vec<_>>().join("|")
    });
    texts.collect()
}

#[test]
fn what_another_monitor_has_begun_to_make_is_finished() {
    let all = &["cpu", "hugetlb", "memory"];
    for (before, after) in [
        (["", "", ""], "+cpu +memory|+cpu +memory|"),
        (["cpu memory\n", "cpu\n", ""], "+cpu +memory|+cpu +memory|"),
        // Nothing is left to do.
        (
            ["cpu memory\n", "memory cpu\n", ""],
            "cpu memory\n|memory cpu\n|",
        ),
    ] {
        let found = made_over(Version::V2, all, &[("cgroup.subtree_control", before)]);
        assert_eq!(found, [after], "{before:?}");
    }
    for (cpus, mems, after) in [
        (["0-1\n", "\n", "\n"], ["0\n", "\n", "\n"], ["0-1", "0"]),
        (["0-1\n", "0-1", "\n"], ["0\n", "\n", "\n"], ["0-1", "0"]),
        (["0-1\n", "1\n", "1"], ["0\n", "0\n", "\n"], ["1", "0"]),
        (["0-1\n", "1\n", "1\n"], ["0\n", "0\n", "0\n"], ["1", "0"]),
    ] {
        let files = [("cpuset.cpus", cpus), ("cpuset.mems", mems)];
        let found = made_over(Version::V1, &["cpuset"], &files);
        let ends = found.iter().map(|texts| texts.rsplit('|').next().unwrap());
        let ends: Vec<_> = ends.map(str::trim).collect();
        assert_eq!(ends, after, "{files:?}");
    }
}

#[test]
fn limits_hold_and_everything_in_a_group_is_killed() {
    // As the container sees them, on a v1 or hybrid host and on one with v2 alone.
    let (files, expected) = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        (
            "memory.max pids.max cpu.max",
            "67108864\n10\n50000 100000\nready\n",
        )
    } else {
        (
            "memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us",
            "67108864\n10\n50000\nready\n",
        )
    };
    let mut sandbox = Sandbox::new(&format!(
        "cd /sys/fs/cgroup && cat {files}; sleep 1000 & sleep 1000 & echo ready; wait"
    ));
    let resources = Resources {
        memory_bytes: Some(64 << 20),
        cpu_milli: Some(500),
        pids: Some(10),
    };
    sandbox.cgroup = sandbox
        .cgroups
        .create("c", &resources, &DeviceAccess::Default)
        .unwrap();
    let (read, write) = pipe();
    let spawned = sandbox
        .start(Stdio::Pipes {
            out: write.as_fd(),
            err: write.as_fd(),
            input: None,
        })
        .unwrap();
    let mut text = String::new();
    while !text.contains("ready") {
        let mut buffer = [0; 256];
        let read = rustix::io::read(&read, &mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert_eq!(text, expected);
    assert_eq!(sandbox.cgroup.pids().unwrap().len(), 3);
    sandbox.cgroup.kill_all().unwrap();
    assert_eq!(
        pidfd::wait(spawned.pidfd.as_fd()).unwrap(),
        pidfd::Exit::Signal(9)
    );
    sandbox.cgroup.remove().unwrap();
    sandbox.cgroup.remove().unwrap();
    assert_eq!(sandbox.cgroup.pids().unwrap(), Vec::<i32>::new());
}

#[test]
fn devices_that_are_not_listed_cannot_be_opened() {
    // fuse may be made (`c *:* m`), not opened.
    let sandbox = Sandbox::new("mknod /tmp/f c 10 229 && cat /tmp/f; cat /dev/null && echo fine");
    fs_err::os::unix::fs::symlink("busybox", sandbox.image("bin/mknod")).unwrap();
    let outcome = sandbox.run().unwrap();
    assert_eq!(
        (outcome.out.as_str(), outcome.err.as_str()),
        (
            "fine\n",
            "cat: can't open '/tmp/f': Operation not permitted\n"
        )
    );
    // The same by a program, on a host with v2 alone.
    let unified = |own: &Hierarchy| own.version == Version::V2;
    let mut cgroups = sandbox.cgroups.clone();
    cgroups.hierarchies.retain(unified);
    let Some(hierarchy) = cgroups.hierarchies.first().cloned() else {
        return;
    };
    let group = cgroups
        .create("v2", &Resources::default(), &DeviceAccess::Default)
        .unwrap();
    assert_eq!(group.hierarchies().collect::<Vec<_>>(), [&hierarchy]);
    group.kill_all().unwrap();
    group.remove().unwrap();
}
