//! The program `git` as it is run for repositories that nobody vouches for: it asks nothing and runs nothing of theirs.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Settings of every call: hooks, the file system monitor and helpers would be programs of the repository or its user, and what
/// collects garbage in the background would outlive us.
const SETTINGS: [&str; 9] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "protocol.ext.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "init.defaultBranch=main",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
];

/// Variables that would lead git to another repository, such as those that hooks are run with, or to a program that asks.
const ELSEWHERE: [&str; 11] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_NAMESPACE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_EXTERNAL_DIFF",
    "SSH_ASKPASS",
];

/// Makes a call of git harmless that has its environment and no arguments yet: takes away what leads elsewhere, sets what it may
/// do, connects its output to pipes, and puts it in a process group of its own, so that an interrupt from the terminal is the
/// caller's to act on and all that it starts can be killed with it ([`super::child::Running`]).
///
/// `protocols` are those that it may fetch by, also for submodules and redirects (`https`, `ssh`).
pub fn confine(command: &mut Command, protocols: &[&str]) {
    for name in ELSEWHERE {
        command.env_remove(name);
    }
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", protocols.join(":"))
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it is not started")]
    fn nothing_of_the_environment_leads_elsewhere() {
        let mut command = Command::new("git");
        command.env("GIT_DIR", "/elsewhere").env("HOME", "/home/me");
        confine(&mut command, &["https", "ssh"]);
        let set: BTreeMap<_, _> = command.get_envs().collect();
        for name in ELSEWHERE {
            assert_eq!(set.get(std::ffi::OsStr::new(name)), Some(&None), "{name}");
        }
        let kept = ["HOME", "GIT_ALLOW_PROTOCOL", "GIT_TERMINAL_PROMPT"];
        let kept = kept.map(|name| set.get(std::ffi::OsStr::new(name)).copied().flatten());
        let expected = ["/home/me", "https:ssh", "0"];
        assert_eq!(kept, expected.map(|value| Some(value.as_ref())));
    }
}
