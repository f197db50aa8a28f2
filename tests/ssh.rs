//! Ssh agents and keys of builds, with the real binary.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]

mod support;

use std::path::Path;
use std::process::Stdio;

use support::{Machine, Ran};

/// Makes keys, and an image with `ssh-add` and what it needs.
const PREPARED: &str = "
mkdir -p c/root && cd c && ssh-keygen -q -t ed25519 -N '' -C first -f first && ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -C second -f second
ssh-keygen -q -t ed25519 -N secret -f locked
for file in $(ldd /usr/bin/ssh-add | grep -o '/[^ ]*') /usr/bin/ssh-add; do cp --parents -L $file root; done
printf 'FROM busybox\\nCOPY root/ /\\n' > Base
";

fn machine() -> Machine {
    let machine = Machine::new();
    machine.import_busybox();
    machine.sh(&format!("cd {} && {PREPARED}", machine.path().display()));
    machine.ok(
        "c",
        &["image", "build", "-q", "-t", "base", "-f", "Base", "."],
    );
    machine
}

/// Builds a Dockerfile in the context `c`.
fn build(machine: &Machine, text: &str, options: &[&str]) -> Ran {
    machine.write("c/Dockerfile", text);
    let args = [&["image", "build", "-t", "built"], options, &["."]].concat();
    machine.run("c", &args)
}

/// As [`build`], and requires success and that these lines are in the progress, in this order.
fn built(machine: &Machine, text: &str, options: &[&str], lines: &[&str]) {
    let ran = build(machine, text, options);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let mut rest = ran.stderr.lines();
    for line in lines {
        assert!(
            rest.any(|found| found.contains(line)),
            "`{line}` is not (in order) in\n{}",
            ran.stderr
        );
    }
}

/// Returns the agents that run below the machine's root.
fn agents(machine: &Machine) -> String {
    let root = machine.root();
    machine.sh(&format!(
        "for p in /proc/[0-9]*; do case $(readlink $p/exe)$(readlink $p/cwd) in *ssh-agent{}*) echo ${{p##*/}};; esac; done",
        root.display()
    ))
}

#[test]
fn keys_are_served_to_steps_and_go_with_the_build() {
    let machine = machine();
    built(
        &machine,
        "FROM base\n\
         RUN --mount=type=ssh echo $SSH_AUTH_SOCK; stat -c %F:%a:%u $SSH_AUTH_SOCK; ssh-add -l\n\
         RUN --mount=type=ssh ssh-add -D || echo kept; ssh-add -l | wc -l\n\
         RUN --mount=type=ssh,id=other,target=/x/agent,uid=65534,gid=7,mode=0620,required stat -c %a:%u:%g /x/agent; echo at $SSH_AUTH_SOCK; ssh-add -l\n\
         RUN --mount=type=ssh,id=none echo without $SSH_AUTH_SOCK.\n\
         RUN test ! -e /x || ls -a /x; ls -a /run 2>&1 | tail -1\n",
        &["--ssh", "default=first,second", "--ssh", "other=second"],
        &[
            " /run/buildkit/ssh_agent.0",
            " socket:600:0",
            "first (ED25519)",
            "(RSA)",
            " kept",
            " 2",
            " 620:65534:7",
            " at /x/agent",
            "(RSA)",
            " without .",
        ],
    );
    assert_eq!(agents(&machine), "");
    let path = machine.path().join("c/first");
    let key = fs_err::read_to_string(path).unwrap();
    let line = key.lines().nth(2).unwrap();
    let found = machine.sh(&format!(
        "grep -rlF -- '{line}' {} || true",
        machine.root().display()
    ));
    assert_eq!(found, "");
    let steps = machine.sh(&format!(
        "find {} -path '*/run/steps/*'",
        machine.root().display()
    ));
    assert_eq!(steps, "");
    machine.assert_clean();
}

#[test]
fn what_is_no_key_is_said_before_anything_is_built() {
    let machine = machine();
    let text = "FROM base\nRUN --mount=type=ssh,required echo ran\n";
    for (option, expected) in [
        (
            "default=locked",
            "ssh: this private key is passphrase protected: add it to an agent with `ssh-add`",
        ),
        ("default=Base", "Base`: ssh: no key found"),
        ("default=none", "No such file or directory"),
        ("default=root", "is neither a socket nor a key"),
        ("default", "there is no agent: SSH_AUTH_SOCK is not set"),
    ] {
        let ran = build(&machine, text, &["--ssh", option]);
        assert_eq!(ran.code, 2, "{option}: {}", ran.stderr);
        let begin = format!("`{option}` of `--ssh`: ");
        assert!(
            ran.stderr.contains(&begin) && ran.stderr.contains(expected),
            "{option}: {}",
            ran.stderr
        );
    }
    let ran = build(&machine, text, &[]);
    assert!(
        ran.code == 1 && ran.stderr.contains("ssh agent \"default\": not found"),
        "{}",
        ran.stderr
    );
    machine.assert_clean();
}

#[test]
fn a_service_has_its_keys_and_an_agent_of_whoever_builds() {
    let machine = machine();
    machine.write(
        "c/Dockerfile",
        "FROM base\nRUN --mount=type=ssh ssh-add -l\n",
    );
    let file = |ssh: &str| {
        let text = format!(
            "name: p\nservices: {{a: {{build: {{context: ., no_cache: true, ssh: {ssh}}}}}}}\n"
        );
        machine.write("c/compose.yaml", &text);
    };
    let directory = machine.path().join("c");
    let mut agent = machine.command("c", "ssh-agent");
    let mut agent = agent
        .args(["-D", "-a", "own"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    machine.sh(&format!(
        "cd {} && until SSH_AUTH_SOCK=own ssh-add -q second 2> /dev/null; do :; done",
        directory.display()
    ));
    for (ssh, expected) in [
        ("[default]", "second (RSA)"),
        ("{default: }", "second (RSA)"),
        ("[default=./first]", "first (ED25519)"),
        ("{default: ./first}", "first (ED25519)"),
        ("['default=./first,./second']", "(RSA)"),
        ("{default: own}", "second (RSA)"),
    ] {
        file(ssh);
        let mut command = machine.stack("c", &["build"]);
        command.env("SSH_AUTH_SOCK", directory.join("own"));
        let ran = Ran::of(&command.output().unwrap());
        assert!(
            ran.code == 0 && ran.stderr.contains(expected),
            "{ssh}: {}",
            ran.stderr
        );
    }
    let _ended = agent.kill();
    let _reaped = agent.wait();
    // Whoever builds has the last word.
    file("[default]");
    let ran = machine.run("c", &["build", "--ssh", "default=first"]);
    assert!(
        ran.code == 0 && ran.stderr.contains("first (ED25519)"),
        "{}",
        ran.stderr
    );
    machine.assert_clean();
}

#[test]
fn a_killed_build_takes_its_agent_along() {
    let machine = machine();
    machine.write(
        "c/Dockerfile",
        "FROM base\nRUN --mount=type=ssh ssh-add -l && sleep 1000\n",
    );
    let args = ["image", "build", "--ssh", "default=first", "."];
    let mut build = machine
        .stack("c", &args)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = std::io::BufReader::new(build.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(pipe).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("(ED25519)")));
    assert_eq!(agents(&machine).lines().count(), 1);
    build.kill().unwrap();
    build.wait().unwrap();
    let started = std::time::Instant::now();
    while !agents(&machine).is_empty() {
        assert!(started.elapsed().as_secs() < 20, "the agent lives on");
    }
    // The next build removes what it left.
    built(&machine, "FROM base\nRUN true\n", &[], &[]);
    machine.run(".", &["system", "prune", "-f"]);
    let sockets = format!("find {} -type s", machine.root().display());
    assert_eq!(machine.sh(&sockets), "");
    machine.assert_clean();
}

/// An `ssh` that lets in who has the key `first` in an agent, and runs the command here. `sshd` would want a port and users.
const SSH: &str = r#"#!/bin/sh
echo "$*" >> "$HOME/ssh-arguments"
ssh-add -T "$HOME/c/first.pub" > /dev/null 2>&1 || { echo 'git@server: Permission denied (publickey).' >&2; exit 255; }
while [ "$1" != git@server ]; do shift; done
shift
exec sh -c "$*"
"#;

#[test]
fn repositories_are_had_by_ssh() {
    let machine = machine();
    let directory = machine.path().display().to_string();
    machine.write("bin/ssh", SSH);
    machine.sh(&format!(
        "cd {directory} && chmod 755 bin/ssh && export GIT_CONFIG_GLOBAL=/dev/null && mkdir work && cd work && \
         git init -q -b main && printf 'FROM busybox\\nRUN echo from the repository\\n' > Dockerfile && echo said > said && \
         git add . && git -c user.name=t -c user.email=t@t commit -qm one && cd .. && git clone -q --bare work repo.git"
    ));
    let run = |options: &[&str]| {
        let mut command = machine.stack("c", &["image", "build", "--no-cache"]);
        let path = format!("{directory}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        Ran::of(&command.args(options).env("PATH", path).output().unwrap())
    };
    let repository = format!("git@server:{directory}/repo.git");
    machine.write(
        "c/Dockerfile",
        &format!("FROM busybox\nADD {repository} /r\nRUN cat /r/said\n"),
    );
    let ran = run(&["."]);
    assert!(
        ran.code == 1
            && ran.stderr.contains(
                "give the build an agent (`--ssh default`) or a key (`--ssh default=FILE`)"
            ),
        "{}",
        ran.stderr
    );
    let arguments = Path::new(&directory).join("ssh-arguments");
    let asked = fs_err::read_to_string(&arguments).unwrap();
    assert!(
        asked.contains("IdentityAgent=none") && asked.contains("IdentityFile=none"),
        "{asked}"
    );
    let ran = run(&["--ssh", "default=first", "."]);
    assert!(
        ran.code == 0 && ran.stderr.contains(" said"),
        "{}",
        ran.stderr
    );
    let ran = run(&["--ssh", "default=first", &repository]);
    assert!(
        ran.code == 0 && ran.stderr.contains("from the repository"),
        "{}",
        ran.stderr
    );
    machine.assert_clean();
}
