//! Logical lines to instructions (Dockerfile reference). Every fault of the text is found, not only the first.

use std::path::Path;

use super::instruction::{
    Argument, Command, Dockerfile, Document, Healthcheck, Instruction, Kind, Run, Stage, Transfer,
};
use super::lexer::{self, Logical};
use super::{DockerfileError, Fault, Span, nearest};

use arguments::{Arguments, Flags, Words, take_flags};

mod arguments;
#[cfg(test)]
mod tests;

/// Every instruction.
const KEYWORDS: [&str; 18] = [
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "WORKDIR",
    "USER",
    "EXPOSE",
    "CMD",
    "ENTRYPOINT",
    "LABEL",
    "VOLUME",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "SHELL",
    "ONBUILD",
    "MAINTAINER",
];

/// Parses a Dockerfile; `path` is for messages alone.
pub fn parse(path: &Path, text: &str) -> Result<Dockerfile, DockerfileError> {
    let failed = |faults| DockerfileError {
        path: path.to_owned(),
        text: text.to_owned(),
        faults,
    };
    let lexed = lexer::lex(text).map_err(|fault| failed(vec![fault]))?;
    let mut file = Dockerfile {
        path: path.to_owned(),
        text: text.to_owned(),
        escape: lexed.escape,
        arguments: Vec::new(),
        stages: Vec::new(),
    };
    let mut faults = Vec::new();
    if let Some((frontend, span)) = &lexed.syntax {
        faults.extend(foreign_frontend(frontend, *span));
    }
    for line in &lexed.lines {
        if let Err(fault) = add_line(&mut file, line) {
            faults.push(fault);
        }
    }
    let everything = Span {
        start: 0,
        end: text.trim_end().len(),
    };
    if lexed.lines.is_empty() {
        faults.push(Fault::new(everything, "the Dockerfile has no instructions"));
    } else if file.stages.is_empty() && faults.is_empty() {
        faults.push(Fault::new(
            everything,
            "the Dockerfile has no stages to build: `FROM` is missing",
        ));
    }
    if faults.is_empty() {
        Ok(file)
    } else {
        Err(failed(faults))
    }
}

/// Parses one instruction that stands alone: a trigger of a base image, or a change to an imported one.
pub fn parse_one(text: &str, escape: char) -> Result<Instruction, Fault> {
    parse_instruction(&Logical::whole(text.trim(), 0), escape)
}

/// Returns a fault if the `syntax` directive names another language than Dockerfiles'.
fn foreign_frontend(frontend: &str, span: Span) -> Option<Fault> {
    let name = frontend.split(['@', ':']).next().unwrap_or_default();
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let own = ["docker/dockerfile", "docker/dockerfile-upstream"];
    if own.contains(&name) || name == "dockerfile.v0" {
        return None;
    }
    let message = format!("not supported yet: the frontend image `{frontend}`");
    Some(Fault::new(span, message))
}

/// Adds one instruction to the file.
fn add_line(file: &mut Dockerfile, line: &Logical) -> Result<(), Fault> {
    let words = Words::of(line);
    if words.keyword.eq_ignore_ascii_case("from") {
        file.stages.push(parse_from(line, file.escape)?);
        return Ok(());
    }
    let instruction = parse_instruction(line, file.escape)?;
    match (file.stages.last_mut(), instruction.kind) {
        (Some(stage), kind) => stage.instructions.push(Instruction {
            kind,
            ..instruction
        }),
        (None, Kind::Arg(arguments)) => file.arguments.extend(arguments),
        (None, _) => {
            return Err(Fault::new(
                line.span,
                format!("no build stage before `{}`", words.keyword),
            )
            .with_hint("only `ARG` may stand before the first `FROM`"));
        }
    }
    Ok(())
}

/// Parses `FROM [--platform=P] image [AS name]`.
fn parse_from(line: &Logical, escape: char) -> Result<Stage, Fault> {
    let mut words = Words::of(line);
    let mut flags = Flags(take_flags(line, &mut words, escape));
    let platform = flags.value("platform")?;
    flags.finish(&["platform"])?;
    let parts: Vec<&str> = words.rest.split_whitespace().collect();
    let (base, name) = match parts.as_slice() {
        [base] => (*base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => (*base, Some(*name)),
        _ => {
            return Err(Fault::new(
                line.span,
                "FROM requires either one or three arguments: `FROM image [AS name]`",
            ));
        }
    };
    let name = name.map(|name| stage_name(name, line)).transpose()?;
    Ok(Stage {
        base: base.to_owned(),
        platform,
        name,
        span: line.span,
        text: one_line(&line.text),
        instructions: Vec::new(),
    })
}

/// Checks a stage's name and returns it in lower case.
fn stage_name(name: &str, line: &Logical) -> Result<String, Fault> {
    let lower = name.to_lowercase();
    let mut characters = lower.chars();
    let valid = characters.next().is_some_and(|c| c.is_ascii_lowercase())
        && characters
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
    if !valid {
        return Err(
            Fault::new(line.span, format!("invalid name for build stage: `{name}`"))
                .with_hint("a letter, then letters, digits, `-`, `_` and `.`"),
        );
    }
    if matches!(lower.as_str(), "scratch" | "context") {
        return Err(Fault::new(
            line.span,
            format!("the name `{name}` is reserved and cannot name a build stage"),
        ));
    }
    Ok(lower)
}

/// Parses anything but `FROM`.
fn parse_instruction(line: &Logical, escape: char) -> Result<Instruction, Fault> {
    let mut words = Words::of(line);
    let keyword = words.keyword.to_ascii_uppercase();
    if !KEYWORDS.contains(&keyword.as_str()) {
        let span = line.place(0, words.keyword.len());
        let fault = Fault::new(span, format!("unknown instruction: {}", words.keyword));
        return Err(match nearest(&keyword, KEYWORDS) {
            Some(known) => fault.with_hint(format!("did you mean `{known}`?")),
            None => fault,
        });
    }
    let flags = match keyword.as_str() {
        "ONBUILD" => Vec::new(),
        _ => take_flags(line, &mut words, escape),
    };
    let arguments = Arguments {
        keyword: &keyword,
        rest: words.rest,
        rest_at: words.rest_at,
        line,
        escape,
    };
    if arguments.rest.is_empty() {
        return Err(arguments.fault(format!("{keyword} requires at least one argument")));
    }
    let mut flags = Flags(flags);
    let (kind, unsupported) = match keyword.as_str() {
        "COPY" | "ADD" => parse_transfer(&arguments, &mut flags)?,
        "RUN" => parse_run(&arguments, &mut flags)?,
        "HEALTHCHECK" => (parse_healthcheck(&arguments, &mut flags)?, None),
        _ => (parse_plain(&arguments)?, None),
    };
    flags.finish(known_flags(&keyword))?;
    Ok(Instruction {
        kind,
        span: line.span,
        text: one_line(&line.text),
        unsupported,
    })
}

/// Returns the flags an instruction has, for suggestions.
fn known_flags(keyword: &str) -> &'static [&'static str] {
    match keyword {
        "COPY" => &["from", "chown", "chmod", "link", "exclude", "parents"],
        "ADD" => &[
            "chown",
            "chmod",
            "link",
            "exclude",
            "checksum",
            "keep-git-dir",
            "unpack",
        ],
        "RUN" => &["mount", "network", "security", "device"],
        "HEALTHCHECK" => &[
            "interval",
            "timeout",
            "start-period",
            "start-interval",
            "retries",
        ],
        _ => &[],
    }
}

/// Parses an instruction without flags.
fn parse_plain(arguments: &Arguments<'_>) -> Result<Kind, Fault> {
    let whole = || arguments.rest.to_owned();
    Ok(match arguments.keyword {
        "ENV" => Kind::Env(arguments.pairs()?),
        "LABEL" => Kind::Label(arguments.pairs()?),
        "ARG" => Kind::Arg(parse_arg(arguments)?),
        "WORKDIR" => Kind::Workdir(whole()),
        "USER" => Kind::User(whole()),
        "STOPSIGNAL" => Kind::StopSignal(whole()),
        "MAINTAINER" => Kind::Maintainer(whole()),
        "EXPOSE" => Kind::Expose(
            arguments
                .rest
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        ),
        "VOLUME" => Kind::Volume(parse_volume(arguments)?),
        "CMD" => Kind::Cmd(arguments.command()?),
        "ENTRYPOINT" => Kind::Entrypoint(arguments.command()?),
        "SHELL" => match arguments.json()? {
            Some(words) if !words.is_empty() => Kind::Shell(words),
            _ => {
                return Err(arguments.fault("SHELL requires the arguments to be in JSON form"));
            }
        },
        "ONBUILD" => Kind::Onbuild(parse_onbuild(arguments)?),
        other => return Err(arguments.fault(format!("unknown instruction: {other}"))),
    })
}

/// Parses `ARG name[=default] …`.
fn parse_arg(arguments: &Arguments<'_>) -> Result<Vec<Argument>, Fault> {
    let words = arguments.quoted_words();
    words
        .into_iter()
        .map(|word| {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (word, None),
            };
            if name.is_empty() {
                let place = arguments.place_of(word);
                return Err(Fault::new(place, "ARG names can not be blank"));
            }
            Ok(Argument {
                name: name.to_owned(),
                default,
                span: arguments.line.span,
            })
        })
        .collect()
}

/// Parses `VOLUME path …`.
fn parse_volume(arguments: &Arguments<'_>) -> Result<Vec<String>, Fault> {
    let words = arguments.words()?;
    if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
        return Err(arguments.fault("VOLUME specified can not be an empty string"));
    }
    Ok(words)
}

/// Checks the trigger of `ONBUILD` and returns its text.
fn parse_onbuild(arguments: &Arguments<'_>) -> Result<String, Fault> {
    let trigger = arguments.rest;
    let keyword = trigger.split_whitespace().next().unwrap_or_default();
    let upper = keyword.to_ascii_uppercase();
    if upper == "ONBUILD" {
        return Err(arguments.fault("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
    }
    if upper == "FROM" || upper == "MAINTAINER" {
        return Err(arguments.fault(format!("{upper} isn't allowed as an ONBUILD trigger")));
    }
    if !arguments.line.documents.is_empty() {
        return Err(arguments.fault("not supported yet: a here-document in ONBUILD"));
    }
    let line = Logical::whole(trigger, 0);
    parse_instruction(&line, arguments.escape).map_err(|fault| Fault {
        span: arguments.line.span,
        ..fault
    })?;
    Ok(trigger.to_owned())
}

/// An instruction and what of it is not done yet.
type Parsed = (Kind, Option<(String, Span)>);

/// Parses `COPY` and `ADD`.
fn parse_transfer(arguments: &Arguments<'_>, flags: &mut Flags) -> Result<Parsed, Fault> {
    let copy = arguments.keyword == "COPY";
    let mut transfer = Transfer {
        chown: flags.value("chown")?,
        chmod: flags.value("chmod")?,
        link: flags.switch("link")?,
        exclude: flags.values("exclude")?,
        ..Transfer::default()
    };
    let unsupported = if copy {
        let from_place = flags.0.iter().find(|f| f.name == "from").map(|f| f.span);
        transfer.from = flags.value("from")?;
        if transfer
            .from
            .as_deref()
            .is_some_and(|from| from.contains('$'))
        {
            let fault = Fault::new(
                from_place.unwrap_or(arguments.line.span),
                "variable expansion is not supported for --from",
            );
            return Err(fault.with_hint(
                "define a new stage with FROM using ARG from global scope, and copy from that",
            ));
        }
        flags.unsupported(&["parents"], &[("parents", "false")])
    } else {
        flags.unsupported(
            &["checksum", "keep-git-dir", "unpack"],
            &[("keep-git-dir", "false")],
        )
    };
    let mut words = arguments.words()?;
    let keyword = arguments.keyword;
    match words.len() {
        0 => return Err(arguments.fault(format!("{keyword} requires at least two arguments"))),
        1 => {
            return Err(arguments.fault(format!(
                "{keyword} requires at least two arguments, but only one was provided: \
                 the destination could not be determined"
            )));
        }
        _ => {}
    }
    transfer.destination = words.pop().unwrap_or_default();
    if !arguments.line.documents.is_empty() {
        if lexer::parse_opening(&transfer.destination).is_some() {
            return Err(arguments.fault(format!(
                "{keyword} cannot accept a heredoc as the destination"
            )));
        }
        words.retain(|word| lexer::parse_opening(word).is_none());
    }
    transfer.documents.clone_from(&arguments.line.documents);
    transfer.sources = words;
    let kind = if copy {
        Kind::Copy(transfer)
    } else {
        Kind::Add(transfer)
    };
    Ok((kind, unsupported))
}

/// Parses `RUN`.
fn parse_run(arguments: &Arguments<'_>, flags: &mut Flags) -> Result<Parsed, Fault> {
    let mut unsupported = flags.unsupported(
        &["mount", "network", "security", "device"],
        &[("network", "default"), ("security", "sandbox")],
    );
    let command = arguments.command()?;
    if command == Command::Exec(Vec::new()) {
        return Err(arguments.fault("RUN requires a command"));
    }
    let documents: Vec<Document> = arguments.line.documents.clone();
    if let [script] = documents.as_slice()
        && lexer::parse_opening(arguments.rest).is_some()
        && script.content().starts_with("#!")
        && unsupported.is_none()
    {
        unsupported = Some((
            "a here-document that names its interpreter (`#!`)".to_owned(),
            arguments.line.span,
        ));
    }
    Ok((Kind::Run(Run { command, documents }), unsupported))
}

/// Parses `HEALTHCHECK [flags] CMD command` and `HEALTHCHECK NONE`.
fn parse_healthcheck(arguments: &Arguments<'_>, flags: &mut Flags) -> Result<Kind, Fault> {
    let (kind, rest) = match arguments.rest.split_once(char::is_whitespace) {
        Some((kind, rest)) => (kind, rest.trim()),
        None => (arguments.rest, ""),
    };
    let mut check = Healthcheck {
        command: None,
        interval_ns: duration_flag(arguments, flags, "interval")?,
        timeout_ns: duration_flag(arguments, flags, "timeout")?,
        start_period_ns: duration_flag(arguments, flags, "start-period")?,
        start_interval_ns: duration_flag(arguments, flags, "start-interval")?,
        retries: 0,
    };
    if let Some(retries) = flags.value("retries")? {
        check.retries = retries
            .parse()
            .ok()
            .filter(|retries| *retries >= 0 && *retries <= i64::from(i32::MAX))
            .ok_or_else(|| {
                arguments.fault(format!("--retries must not be negative: `{retries}`"))
            })?;
    }
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => Ok(Kind::Healthcheck(check)),
        "NONE" => Err(arguments.fault("HEALTHCHECK NONE takes no arguments")),
        "CMD" if rest.is_empty() => Err(arguments.fault("missing command after HEALTHCHECK CMD")),
        "CMD" => {
            let command = Arguments { rest, ..*arguments }.command()?;
            Ok(Kind::Healthcheck(Healthcheck {
                command: Some(command),
                ..check
            }))
        }
        _ => Err(arguments.fault(format!("unknown type `{kind}` in HEALTHCHECK (try CMD)"))),
    }
}

/// Takes a duration flag, 0 where absent.
fn duration_flag(arguments: &Arguments<'_>, flags: &mut Flags, name: &str) -> Result<i64, Fault> {
    let Some(text) = flags.value(name)? else {
        return Ok(0);
    };
    let duration = parse_duration(&text).ok_or_else(|| {
        arguments.fault(format!(
            "invalid duration `{text}` of --{name}: write it like `1m30s`"
        ))
    })?;
    if duration != 0 && duration < 1_000_000 {
        return Err(arguments.fault(format!("--{name} cannot be less than 1ms: `{text}`")));
    }
    Ok(duration)
}

/// Parses Go's duration syntax (`1h2m3.5s`, `100ms`, `0`) to nanoseconds.
fn parse_duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0_i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_ns: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        total = total.checked_add(whole.checked_mul(unit_ns)?)?;
        let mut digit_ns = unit_ns;
        for digit in fraction.chars() {
            digit_ns /= 10;
            total = total.checked_add(digit_ns.checked_mul(i64::from(digit.to_digit(10)?))?)?;
        }
        rest = after;
    }
    Some(total)
}

/// Returns text on one line, for messages and progress.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
