//! A machine for one test: network and mount namespaces of its own, a root of its own, and the real binary in it.
//!
//! What a test left behind in the machine is found by [`Machine::leftovers`]; dropping the machine takes everything with it.

#![expect(clippy::disallowed_methods, reason = "tests run real processes")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Where the base images' tarballs lie, made once for all test binaries of a run.
const BUSYBOX: &str = "/bin/busybox";

/// A private machine.
pub(crate) struct Machine {
    /// Keeps the namespaces alive.
    holder: Child,
    directory: tempfile::TempDir,
}

impl Machine {
    /// Makes namespaces, `lo` up, and an empty root. Fails, and says so, where the kernel or the user cannot.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ready = directory.path().join("ready");
        // The locks of the host are the machine's own, as its addresses are.
        let script = format!(
            "ip link set lo up && mount -t tmpfs tmpfs /run/lock && mkdir -p /var/lib/stack-host && \
             mount -t tmpfs tmpfs /var/lib/stack-host && : > {} && exec sleep infinity",
            ready.display()
        );
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "--kill-child",
                "sh",
                "-c",
                &script,
            ])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        while !ready.exists() {
            assert_eq!(
                holder.try_wait().unwrap(),
                None,
                "a kernel test needs root, unshare and ip"
            );
            assert!(
                started.elapsed().as_secs() < 30,
                "namespaces were not made in 30 s"
            );
            std::thread::yield_now();
        }
        Self { holder, directory }
    }

    /// Makes a machine with busybox in its store and one file, `p/compose.yaml`.
    pub(crate) fn project(text: &str) -> Self {
        let machine = Self::new();
        machine.import_busybox();
        machine.write("p/compose.yaml", text);
        machine
    }

    /// Returns the directory that holds the root and the test's files.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the directory given as `--root`.
    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("stack")
    }

    /// Writes a file beneath the machine's directory, making parents, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::File::create(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        path
    }

    /// Prepares a command to run in the machine's namespaces, in its directory `cwd`.
    pub(crate) fn command(&self, cwd: &str, program: &str) -> Command {
        let pid = self.holder.id();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .arg(format!("--mount=/proc/{pid}/ns/mnt"))
            .arg(format!("--wdns={}", self.path().join(cwd).display()))
            .arg("--")
            .arg(program)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.path())
            .stdin(Stdio::null());
        command
    }

    /// Prepares `stack --root … ARGS` in the directory `cwd`.
    pub(crate) fn stack(&self, cwd: &str, args: &[&str]) -> Command {
        let mut command = self.command(cwd, env!("CARGO_BIN_EXE_stack"));
        command.arg("--root").arg(self.root()).args(args);
        command
    }

    /// Runs `stack ARGS` in `cwd` and returns its output.
    pub(crate) fn run(&self, cwd: &str, args: &[&str]) -> Ran {
        Ran::of(&self.stack(cwd, args).output().unwrap())
    }

    /// Runs `stack ARGS`, requires exit code 0, returns standard output.
    pub(crate) fn ok(&self, cwd: &str, args: &[&str]) -> String {
        let ran = self.run(cwd, args);
        assert_eq!(ran.code, 0, "stack {args:?}\n{}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Runs any program in the machine, requires exit code 0, returns standard output.
    pub(crate) fn sh(&self, script: &str) -> String {
        let ran = Ran::of(
            &self
                .command(".", "sh")
                .args(["-c", script])
                .output()
                .unwrap(),
        );
        assert_eq!(
            ran.code, 0,
            "sh -c {script:?}\n{}{}",
            ran.stdout, ran.stderr
        );
        ran.stdout
    }

    /// Puts `busybox:latest` into the store: Debian's static busybox with a link for each applet.
    pub(crate) fn import_busybox(&self) {
        assert!(
            Path::new(BUSYBOX).exists(),
            "tests need Debian's busybox-static: run `make test`"
        );
        let tar = self.path().join("busybox.tar");
        self.sh(&format!(
            "d=$(mktemp -d) && mkdir -p $d/bin $d/etc $d/tmp $d/root $d/var && cp {BUSYBOX} $d/bin/ && \
             for a in $({BUSYBOX} --list); do [ $a = busybox ] || ln -s busybox $d/bin/$a; done && \
             echo root:x:0:0:root:/root:/bin/sh > $d/etc/passwd && \
             echo nobody:x:65534:65534:nobody:/:/bin/false >> $d/etc/passwd && \
             printf 'root:x:0:\\nnobody:x:65534:\\n' > $d/etc/group && chmod 1777 $d/tmp && \
             tar -C $d -cf {} . && rm -rf $d",
            tar.display()
        ));
        let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let tar = tar.to_str().unwrap();
        self.ok(
            ".",
            &[
                "image",
                "import",
                "--change",
                "CMD [\"sh\"]",
                "--change",
                path,
                tar,
                "busybox:latest",
            ],
        );
    }

    /// Returns what of this root is still there: processes, mounts, links, tables, cgroups. Empty after the last `down`.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let root = self.root();
        let root = root.to_str().unwrap();
        for (pid, command) in processes() {
            if command.contains(root) {
                left.push(format!("process {pid}: {command}"));
            }
        }
        let mounts = self.sh("cat /proc/self/mounts");
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(root))
                .map(|line| format!("mount {line}")),
        );
        let links = self.sh("ip -br link");
        left.extend(
            links
                .lines()
                .filter(|line| !line.starts_with("lo "))
                .map(|line| format!("link {line}")),
        );
        left.extend(
            self.sh("nft list tables")
                .lines()
                .map(|line| format!("nft {line}")),
        );
        left.extend(
            self.cgroups()
                .iter()
                .map(|path| format!("cgroup {}", path.display())),
        );
        left
    }

    /// Returns this root's cgroups, one a hierarchy.
    fn cgroups(&self) -> Vec<PathBuf> {
        let Ok(instance) = fs_err::read_to_string(self.root().join("lib/instance")) else {
            return Vec::new();
        };
        let name = format!("stack-{}", instance.trim());
        let found = Command::new("find")
            .args(["/sys/fs/cgroup", "-maxdepth", "4", "-name", &name])
            .output()
            .unwrap();
        String::from_utf8_lossy(&found.stdout)
            .lines()
            .map(PathBuf::from)
            .collect()
    }

    /// Asserts that nothing is left, waiting for what the kernel takes apart in the background.
    pub(crate) fn assert_clean(&self) {
        let started = std::time::Instant::now();
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(
                started.elapsed().as_secs() < 10,
                "left behind:\n{}",
                left.join("\n")
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A failed test may leave containers: everything that names this root goes, by its id.
        let root = self.root();
        let root = root.to_str().unwrap_or("/nonexistent");
        for (pid, command) in processes() {
            if command.contains(root)
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for directory in self.cgroups() {
            end_group(&directory);
        }
        let _ended = self.holder.kill();
        let _reaped = self.holder.wait();
    }
}

/// Ends what runs beneath one cgroup and removes it.
fn end_group(directory: &Path) {
    let script = "for i in 1 2 3; do find \"$0\" -name cgroup.procs -exec cat {} + | xargs -r kill -9; \
                  find \"$0\" -depth -type d -exec rmdir {} + && break; done";
    let _best = Command::new("sh")
        .args(["-c", script])
        .arg(directory)
        .stderr(Stdio::null())
        .status();
}

/// A finished command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Exit code; 128 + N for signal N.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Reads an output.
    pub(crate) fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Self {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Returns every process with a command line: id and arguments.
fn processes() -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end between the listing and the reading.
        if let Ok(command) = fs_err::read(entry.path().join("cmdline")) {
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if !command.is_empty() {
                found.push((pid, command));
            }
        }
    }
    found
}
