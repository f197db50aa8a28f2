//! What Docker Compose's command line has and this one does not yet: known, so that it is `not supported yet` and
//! never an unknown option.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

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

/// Commands.
const COMMANDS: &[&str] = &[
    "attach", "bridge", "cp", "create", "events", "kill", "ls", "pause", "port", "publish",
    "restart", "rm", "run", "scale", "start", "stats", "stop", "top", "unpause", "volumes", "wait",
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
    command.subcommands(COMMANDS.iter().map(|name| {
        Command::new(*name)
            .hide(true)
            .disable_help_flag(true)
            .arg(rest.clone())
    }))
}

/// Returns the first thing typed that is not supported yet: ``option `--rmi` of `down` ``.
pub(crate) fn find(matches: &ArgMatches) -> Option<String> {
    if let Some(option) = option_in("", matches) {
        return Some(format!("option `--{option}`"));
    }
    let (name, arguments) = matches.subcommand()?;
    if COMMANDS.contains(&name) {
        return Some(format!("command `{name}`"));
    }
    option_in(name, arguments).map(|option| format!("option `--{option}` of `{name}`"))
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
