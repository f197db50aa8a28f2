//! `COPY`, `ADD` and `RUN`: the instructions with many flags.

use super::super::instruction::{
    Command, Device, Kind, MountFlag, Run, RunNetwork, RunSecurity, Transfer,
};
use super::super::lexer;
use super::super::mount::csv_fields;
use super::super::{Fault, Span, nearest};
use super::arguments::{Arguments, Flags};

/// Parses `COPY` and `ADD`.
pub(super) fn parse_transfer(arguments: &Arguments<'_>, flags: &mut Flags) -> Result<Kind, Fault> {
    let is_copy = arguments.keyword == "COPY";
    let mut transfer = Transfer {
        chown: flags.value("chown")?,
        chmod: flags.value("chmod")?,
        link: flags.switch("link")?.unwrap_or(false),
        exclude: texts(flags.values("exclude")?),
        ..Transfer::default()
    };
    if is_copy {
        transfer.from = parse_from(flags)?;
        transfer.parents = flags.switch("parents")?.unwrap_or(false);
    } else {
        transfer.checksum = flags.value("checksum")?;
        transfer.keep_git_dir = flags.switch("keep-git-dir")?;
        transfer.unpack = flags.switch("unpack")?;
    }
    let mut words = arguments.words()?;
    let keyword = arguments.keyword;
    match words.len() {
        0 => return Err(arguments.fault(format!("{keyword} requires at least two arguments"))),
        1 => {
            return Err(arguments.fault(format!(
                "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
            )));
        }
        _ => {}
    }
    transfer.destination = words.pop().unwrap_or_default();
    if !arguments.line.documents.is_empty() {
        if lexer::parse_opening(&transfer.destination).is_some() {
            let message = format!("{keyword} cannot accept a heredoc as a destination");
            return Err(arguments.fault(message));
        }
        words.retain(|word| lexer::parse_opening(word).is_none());
    }
    transfer.documents.clone_from(&arguments.line.documents);
    transfer.sources = words;
    Ok(if is_copy {
        Kind::Copy(transfer)
    } else {
        Kind::Add(transfer)
    })
}

/// Takes `--from`.
fn parse_from(flags: &mut Flags) -> Result<Option<String>, Fault> {
    let Some((from, span)) = flags.placed("from")? else {
        return Ok(None);
    };
    if from
        .split_once('$')
        .is_some_and(|(_, name)| !name.is_empty())
    {
        let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
        return Err(Fault::new(span, message));
    }
    Ok(Some(from).filter(|from| !from.is_empty()))
}

/// Forgets places.
fn texts(values: Vec<(String, Span)>) -> Vec<String> {
    values.into_iter().map(|(text, _)| text).collect()
}

/// Parses `RUN`.
pub(super) fn parse_run(arguments: &Arguments<'_>, flags: &mut Flags) -> Result<Kind, Fault> {
    let mut mounts = Vec::new();
    for (text, span) in flags.values("mount")? {
        let mount = MountFlag::parse(&text, span);
        mounts.push(mount.map_err(|error| Fault::new(span, error.to_string()))?);
    }
    let network = choice(
        flags,
        "network",
        |text| format!("invalid network mode {text:?}"),
        &[
            ("default", RunNetwork::Default),
            ("none", RunNetwork::None),
            ("host", RunNetwork::Host),
        ],
    )?;
    let security = choice(
        flags,
        "security",
        |text| format!("security {text:?} is not valid"),
        &[
            ("sandbox", RunSecurity::Sandbox),
            ("insecure", RunSecurity::Insecure),
        ],
    )?;
    let mut devices = Vec::new();
    for (text, span) in flags.values("device")? {
        devices.push(parse_device(&text, span)?);
    }
    let command = arguments.command()?;
    if command == Command::Exec(Vec::new()) {
        return Err(arguments.fault("RUN requires at least one argument"));
    }
    Ok(Kind::Run(Run {
        command,
        documents: arguments.line.documents.clone(),
        mounts,
        network,
        security,
        devices,
    }))
}

/// Takes a flag that has one of a few values; the default where it is not given or empty.
fn choice<T: Copy + Default>(
    flags: &mut Flags,
    name: &str,
    message: impl Fn(&str) -> String,
    values: &[(&str, T)],
) -> Result<T, Fault> {
    let Some((text, span)) = flags.placed(name)? else {
        return Ok(T::default());
    };
    let lower = text.to_lowercase();
    if let Some((_, value)) = values.iter().find(|(known, _)| *known == lower) {
        return Ok(*value);
    }
    let fault = Fault::new(span, message(&text));
    Err(
        match nearest(&lower, values.iter().map(|(known, _)| *known)) {
            Some(known) => fault.with_hint(format!("did you mean {known}?")),
            None => fault,
        },
    )
}

/// Parses the value of `--device`: a name, `required`, or `name=…`.
fn parse_device(text: &str, span: Span) -> Result<Device, Fault> {
    let fault = |message: String| Fault::new(span, message);
    let mut device = Device {
        name: String::new(),
        required: false,
        span,
    };
    for field in csv_fields(text).map_err(|error| fault(error.to_string()))? {
        match field.split_once('=') {
            None if field == "required" => device.required = true,
            Some(("required", value)) => {
                device.required = match value {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(fault(format!("invalid value for required: {value}"))),
                };
            }
            Some(("name", name)) if device.name.is_empty() => name.clone_into(&mut device.name),
            // A name of the Container Device Interface has a `=` itself.
            _ if device.name.is_empty() => device.name = field,
            _ => return Err(fault(format!("unexpected field '{field}' of --device"))),
        }
    }
    if device.name.is_empty() {
        return Err(fault("--device needs the name of a device".to_owned()));
    }
    Ok(device)
}
