//! What is typed wrongly is said with exit code 2, before anything is read or done.

use insta::assert_snapshot;

use crate::command::run;

#[test]
fn an_unknown_option_is_named() {
    assert_snapshot!(run(&["up", "--detachh"]), @r"
    exit 2
    --- stderr
    error: unexpected argument '--detachh' found

      tip: a similar argument exists: '--detach'

    Usage: stack up --detach [SERVICE]...

    For more information, try '--help'.
    ");
}

#[test]
fn an_unknown_command_is_named() {
    assert_snapshot!(run(&["pss"]), @r"
    exit 2
    --- stderr
    error: unrecognized subcommand 'pss'

      tip: some similar subcommands exist: 'push', 'ps'

    Usage: stack [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let rows: [&[&str]; 8] = [
        &["up", "-d", "--abort-on-container-exit"],
        &["up", "-d", "--attach", "web"],
        &["up", "--build", "--no-build"],
        &["up", "--force-recreate", "--no-recreate"],
        &["up", "--wait", "--watch"],
        &["up", "--scale", "web"],
        &["logs", "--tail", "many"],
        &["ps", "--filter", "name=x"],
    ];
    let shown: String = rows
        .iter()
        .map(|arguments| {
            let shown = run(arguments);
            let error = shown
                .lines()
                .find(|line| line.starts_with("error"))
                .unwrap_or(&shown);
            format!(
                "{}: {}: {error}\n",
                arguments.join(" "),
                shown.lines().next().unwrap()
            )
        })
        .collect();
    assert_snapshot!(shown, @r"
    up -d --abort-on-container-exit: exit 2: error: the argument '--detach' cannot be used with '--abort-on-container-exit'
    up -d --attach web: exit 2: error: the argument '--detach' cannot be used with '--attach <SERVICE>'
    up --build --no-build: exit 2: error: the argument '--build' cannot be used with '--no-build'
    up --force-recreate --no-recreate: exit 2: error: the argument '--force-recreate' cannot be used with '--no-recreate'
    up --wait --watch: exit 2: error: the argument '--wait' cannot be used with '--watch'
    up --scale web: exit 2: error: invalid value 'web' for '--scale <SERVICE=N>': it must be SERVICE=N, such as `web=3`
    logs --tail many: exit 2: error: invalid value 'many' for '--tail <N>': it must be a number or `all`
    ps --filter name=x: exit 2: error: invalid value 'name=x' for '--filter <status=STATE>': only `status=STATE` can be filtered for
    ");
}

#[test]
fn what_docker_compose_has_beyond_is_not_supported_yet() {
    let rows: [&[&str]; 7] = [
        &["--compatibility", "ps"],
        &["up", "--menu"],
        &["down", "--rmi", "local"],
        &["run", "--rm", "web", "sh"],
        &["cp", "web:/x", "."],
        &["rmi", "-f", "x"],
        &["ps", "--format", "{{.Name}}"],
    ];
    let shown: String = rows
        .iter()
        .map(|arguments| format!("{}: {}", arguments.join(" "), run(arguments)))
        .collect();
    assert_snapshot!(shown, @r"
    --compatibility ps: exit 2
    --- stderr
    error: option `--compatibility`: not supported yet
    up --menu: exit 2
    --- stderr
    error: option `--menu` of `up`: not supported yet
    down --rmi local: exit 2
    --- stderr
    error: option `--rmi` of `down`: not supported yet
    run --rm web sh: exit 2
    --- stderr
    error: command `run`: not supported yet
    help: `stack exec SERVICE COMMAND` runs one in a container that runs
    cp web:/x .: exit 2
    --- stderr
    error: command `cp`: not supported yet
    help: `stack export SERVICE` writes its files as a tar archive
    rmi -f x: exit 2
    --- stderr
    error: there is no command `rmi`
    help: `stack image rm`
    ps --format {{.Name}}: exit 2
    --- stderr
    error: format `{{.Name}}` of `ps`: not supported yet
    ");
}

#[test]
fn progress_that_cannot_be_drawn_is_refused() {
    assert_snapshot!(run(&["--progress", "tty", "--ansi", "never", "version"]), @r"
    exit 2
    --- stderr
    error: `--progress tty` cannot be drawn with `--ansi never`
    ");
}
