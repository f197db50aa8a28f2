//! What Docker Compose's command line has and this one does not yet: known, so that it is `not supported yet` and
//! never an unknown option.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::failure::CliError;

/// One option: its long name, its letter, and whether it takes a value.
type LaterOption = (&'static str, Option<char>, bool);

/// Options by command; the empty name stands for those before a command.
const OPTIONS: &[(&str, &[LaterOption])] = &[
    (
        "",
        &[
            ("compatibility", None, false),
            ("all-resources", None, false),
            ("verbose", None, false),
        ],
    ),
    ("up", &[("menu", None, false)]),
    ("down", &[("rmi", None, true)]),
    ("logs", &[("index", None, true)]),
    ("watch", &[("prune", None, true)]),
];

/// Commands of Docker Compose, and what can be done instead.
const COMMANDS: &[(&str, &str)] = &[
    ("attach", "`stack logs -f SERVICE` shows what it writes"),
    ("bridge", ""),
    (
        "cp",
        "`stack export SERVICE` writes its files as a tar archive",
    ),
    (
        "create",
        "`stack up --no-start` makes containers without starting them",
    ),
    (
        "events",
        "`stack logs -f` shows what containers write as they do",
    ),
    (
        "kill",
        "`stack down -t 0` ends containers at once, and removes them",
    ),
    ("ls", ""),
    ("pause", ""),
    ("port", "`stack ps` shows published ports"),
    ("publish", ""),
    (
        "restart",
        "`stack up -d --force-recreate SERVICE` starts it in a new container",
    ),
    (
        "rm",
        "`stack down SERVICE` stops and removes its containers",
    ),
    (
        "run",
        "`stack exec SERVICE COMMAND` runs one in a container that runs",
    ),
    ("scale", "`stack up -d --scale SERVICE=N` does that"),
    ("start", "`stack up -d SERVICE` starts what does not run"),
    ("stats", ""),
    (
        "stop",
        "`stack down SERVICE` stops and removes its containers; volumes and logs stay",
    ),
    (
        "top",
        "`stack exec SERVICE ps` lists processes where the image has `ps`",
    ),
    ("unpause", ""),
    (
        "volumes",
        "`stack config --volumes` lists those of the files, `stack system df -v` those that are there",
    ),
    (
        "wait",
        "`stack up --exit-code-from SERVICE` ends when it does, with its exit code",
    ),
];

/// Commands of Docker, and what they are called here.
const DOCKER: &[(&str, &str)] = &[
    ("compose", "leave the word out: `stack up`"),
    (
        "container",
        "`stack ps` lists containers, `stack inspect` shows one",
    ),
    ("history", "`stack image history`"),
    ("import", "`stack image import`"),
    ("load", "`stack image load`"),
    (
        "network",
        "networks come and go with what uses them: `stack config --networks` lists those of the files",
    ),
    ("prune", "`stack system prune`"),
    ("rmi", "`stack image rm`"),
    ("save", "`stack image save`"),
    ("tag", "`stack image tag`"),
    (
        "volume",
        "`stack system df -v` lists volumes, `stack down -v` removes those of a stack",
    ),
];

/// Adds all of them, hidden, to `command`.
pub(crate) fn extend(mut command: Command) -> Command {
    for (name, options) in OPTIONS {
        let add = |command: Command| command.args(options.iter().map(hidden));
        command = match *name {
            "" => add(command),
            name => command.mut_subcommand(name, add),
        };
    }
    let rest = Arg::new("rest")
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true);
    command.subcommands(COMMANDS.iter().chain(DOCKER).map(|(name, _)| {
        Command::new(*name)
            .hide(true)
            .disable_help_flag(true)
            .arg(rest.clone())
    }))
}

/// Returns what is wrong with the first thing typed that is not supported yet (``option `--rmi` of `down` ``) or has another
/// name here.
pub(crate) fn find(matches: &ArgMatches) -> Option<CliError> {
    if let Some(option) = option_in("", matches) {
        let what = format!("option `--{option}`");
        return Some(CliError::NotSupported(what));
    }
    let (name, arguments) = matches.subcommand()?;
    let instead = |table: &[(&str, &'static str)]| {
        let found = table.iter().find(|(known, _)| *known == name);
        found.map(|(_, hint)| *hint)
    };
    let (message, hint) = if let Some(hint) = instead(COMMANDS) {
        (format!("command `{name}`: not supported yet"), hint)
    } else if let Some(hint) = instead(DOCKER) {
        (format!("there is no command `{name}`"), hint)
    } else {
        let option = option_in(name, arguments)?;
        let what = format!("option `--{option}` of `{name}`");
        return Some(CliError::NotSupported(what));
    };
    let hints = [hint].into_iter().filter(|hint| !hint.is_empty());
    Some(CliError::Usage {
        message,
        hints: hints.map(str::to_owned).collect(),
    })
}

fn hidden((name, letter, value): &LaterOption) -> Arg {
    let arg = Arg::new(*name).long(*name).hide(true);
    let arg = match letter {
        Some(letter) => arg.short(*letter),
        None => arg,
    };
    if *value {
        arg.action(ArgAction::Append).num_args(0..=1)
    } else {
        // `--menu=false` is how Docker Compose's switches are turned off.
        arg.action(ArgAction::Append)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    }
}

fn option_in(command: &str, matches: &ArgMatches) -> Option<&'static str> {
    let (_, options) = OPTIONS.iter().find(|(name, _)| *name == command)?;
    // A switch that is turned off asks for nothing.
    let is_off = |name: &str| {
        let values = matches.try_get_many::<String>(name).ok().flatten();
        values.is_some_and(|mut values| values.all(|value| value == "false"))
    };
    options
        .iter()
        .find(|(name, _, takes_value)| {
            matches.value_source(name) == Some(ValueSource::CommandLine)
                && (*takes_value || !is_off(name))
        })
        .map(|(name, ..)| *name)
}
