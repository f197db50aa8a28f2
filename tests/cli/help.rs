//! The help, as it is shown.

use insta::assert_snapshot;

use crate::command::run;

#[test]
fn whole() {
    assert_snapshot!(run(&["--help"]), @r"
    exit 0
    --- stdout
    Run multi-container applications from Compose files

    Usage: stack [OPTIONS] <COMMAND>

    Commands:
      up       Create and start containers
      down     Stop and remove containers and networks
      ps       List containers
      logs     Show what containers wrote
      exec     Run a command in a running container
      config   Check and show the Compose file, resolved [alias: convert]
      build    Build images
      pull     Pull images
      push     Push images
      images   List the images that containers use
      commit   Make an image of a container's changes
      export   Write a container's files as a tar archive
      inspect  Show all that is known of containers and images, as JSON
      image    Work with the image store
      login    Keep a name and password for a registry
      logout   Forget what is kept for a registry
      system   Disk usage, clean-up and repair
      watch    Act on changes of source files as `develop.watch` says
      apply    Make what runs equal to a file, a directory or a repository, without questions
      boot     Start again what should run, after the host has come up
      version  Show the version
      help     Print this message or the help of the given subcommand(s)

    Options:
      -f, --file <FILE>              Compose file; may be repeated, `-` is standard input
      -p, --project-name <NAME>      Project name
          --profile <NAME>           Profile to enable; may be repeated, `*` is all
          --env-file <FILE>          File of variables instead of `.env`; may be repeated
          --project-directory <DIR>  Directory that relative paths start from [default: that of the
                                     first Compose file]
          --parallel <N>             Most operations at once; -1 is no limit [default: no limit, but for
                                     pulls and builds]
      -v, --version                  Show the version

    Global options:
          --root <DIR>      Keep everything beneath this directory: a stack of its own [default:
                            /var/lib/stack and /run/stack]
          --progress <HOW>  How progress is shown [default: auto] [possible values: auto, tty, plain,
                            json, quiet]
          --ansi <WHEN>     When control characters and colours are written [default: auto] [possible
                            values: never, always, auto]
          --dry-run         Show what would be done, and do nothing
      -h, --help            Show help
    ");
}

#[test]
fn up() {
    assert_snapshot!(run(&["up", "--help"]), @r"
    exit 0
    --- stdout
    Create and start containers

    Usage: stack up [OPTIONS] [SERVICE]...

    Arguments:
      [SERVICE]...  Services; all where none is named

    Options:
      -d, --detach                      Run in the background
          --build                       Build images before starting
          --no-build                    Do not build, even if an image is missing
          --pull <POLICY>               When to pull, for every service [possible values: always,
                                        missing, never, build]
          --quiet-pull                  Do not show the progress of pulls
          --quiet-build                 Do not show the output of builds
          --force-recreate              Recreate containers even if nothing changed
          --no-recreate                 Leave containers that exist as they are
          --always-recreate-deps        Recreate dependencies too
      -V, --renew-anon-volumes          Give recreated containers new anonymous volumes
          --no-deps                     Leave out the services that the named ones depend on
          --no-start                    Create containers without starting them
          --remove-orphans              Remove containers of services that the file does not have
          --scale <SERVICE=N>           Number of containers of a service; may be repeated
      -t, --timeout <SECONDS>           Seconds that a container has to stop
          --wait                        Wait until services run or are healthy; implies --detach
          --wait-timeout <SECONDS>      Seconds that --wait waits
          --abort-on-container-exit     Stop all as soon as one container ends; its exit code is the
                                        result
          --abort-on-container-failure  Stop all as soon as one container fails; its exit code is the
                                        result
          --exit-code-from <SERVICE>    The exit code of this service is the result; implies
                                        --abort-on-container-exit
          --attach <SERVICE>            Show the output of these services only; may be repeated
          --no-attach <SERVICE>         Do not show the output of these services; may be repeated
          --attach-dependencies         Show the output of dependencies of the named services too
          --no-color                    Without colours
          --no-log-prefix               Without the container's name before each line
          --timestamps                  Show times
      -w, --watch                       Watch source files and act on changes
      -y, --yes                         Answer every question with yes

    Global options:
          --root <DIR>      Keep everything beneath this directory: a stack of its own [default:
                            /var/lib/stack and /run/stack]
          --progress <HOW>  How progress is shown [default: auto] [possible values: auto, tty, plain,
                            json, quiet]
          --ansi <WHEN>     When control characters and colours are written [default: auto] [possible
                            values: never, always, auto]
          --dry-run         Show what would be done, and do nothing
      -h, --help            Show help
    ");
}

#[test]
fn exec() {
    assert_snapshot!(run(&["exec", "--help"]), @r"
    exit 0
    --- stdout
    Run a command in a running container

    Usage: stack exec [OPTIONS] <SERVICE> <COMMAND>...

    Arguments:
      <SERVICE>     Service
      <COMMAND>...  Command and its arguments

    Options:
      -d, --detach              Do not wait for the command
      -e, --env <NAME[=VALUE]>  Variable; may be repeated
          --index <N>           Which of the service's containers, from 1 [default: the first that runs]
          --privileged          Give the command every capability
      -u, --user <USER>         User, or user:group
      -w, --workdir <DIR>       Working directory
      -T, --no-tty              Without a terminal [default: with one where this command has one]
                                [alias: --no-TTY]

    Global options:
          --root <DIR>      Keep everything beneath this directory: a stack of its own [default:
                            /var/lib/stack and /run/stack]
          --progress <HOW>  How progress is shown [default: auto] [possible values: auto, tty, plain,
                            json, quiet]
          --ansi <WHEN>     When control characters and colours are written [default: auto] [possible
                            values: never, always, auto]
          --dry-run         Show what would be done, and do nothing
      -h, --help            Show help
    ");
}

#[test]
fn image_import() {
    assert_snapshot!(run(&["image", "import", "--help"]), @r#"
    exit 0
    --- stdout
    Make an image of a root file system in a tar archive

    Usage: stack image import [OPTIONS] <FILE|URL|-> [REFERENCE]

    Arguments:
      <FILE|URL|->  Archive, also compressed; `-` is standard input
      [REFERENCE]   Name to give it

    Options:
      -c, --change <INSTRUCTION>  Dockerfile instruction to apply, such as `CMD ["sh"]`; may be repeated
      -m, --message <TEXT>        Comment of the image [default: where it is from]
          --platform <PLATFORM>   What the image runs on, such as `linux/arm64` [default: this machine]

    Global options:
          --root <DIR>      Keep everything beneath this directory: a stack of its own [default:
                            /var/lib/stack and /run/stack]
          --progress <HOW>  How progress is shown [default: auto] [possible values: auto, tty, plain,
                            json, quiet]
          --ansi <WHEN>     When control characters and colours are written [default: auto] [possible
                            values: never, always, auto]
          --dry-run         Show what would be done, and do nothing
      -h, --help            Show help
    "#);
}

#[test]
fn every_command_has_help() {
    for command in [
        "up", "down", "ps", "logs", "exec", "config", "build", "pull", "push", "images", "image",
        "login", "logout", "commit", "export", "inspect", "system", "watch", "apply", "version",
    ] {
        let shown = run(&[command, "--help"]);
        assert!(
            shown.starts_with("exit 0\n--- stdout\n"),
            "{command}: {shown}"
        );
    }
}
