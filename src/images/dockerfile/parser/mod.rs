//! Logical lines to instructions (Dockerfile reference). Every fault of the text is found, not only the first.

use std::path::Path;

use super::instruction::{Argument, Dockerfile, Instruction, Kind, Stage, Written};
use super::lexer::{self, Logical};
use super::{DockerfileError, Fault, Span, nearest};

use arguments::{Arguments, BLANKS, Flags, Words, take_flags};

mod arguments;
mod health;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
mod transfer;

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

/// Parses a Dockerfile; `path` is for messages alone. The frontend that it asks for is the builder's own matter if it is one of
/// Docker's, else a fault.
pub fn parse(path: &Path, text: &str) -> Result<Dockerfile, DockerfileError> {
    parse_for(path, text, None)
}

/// Parses a Dockerfile for the frontend `chosen`, whatever its `syntax` directive says.
pub fn parse_for(
    path: &Path,
    text: &str,
    chosen: Option<&str>,
) -> Result<Dockerfile, DockerfileError> {
    let failed = |faults| DockerfileError {
        path: path.to_owned(),
        text: text.to_owned(),
        faults,
    };
    let mut faults = Vec::new();
    let asked = match chosen {
        Some(chosen) => Some((chosen.to_owned(), Span::default())),
        None => lexer::frontend_of(text),
    };
    if let Some((frontend, span)) = asked
        && let Some(fault) = foreign_frontend(&frontend, span)
    {
        // What follows is another language.
        return Err(failed(vec![fault]));
    }
    let lexed = lexer::lex(text).map_err(|fault| failed(vec![fault]))?;
    let mut file = Dockerfile {
        path: path.to_owned(),
        text: text.to_owned(),
        escape: lexed.escape,
        check: lexed.check,
        written: Vec::new(),
        arguments: Vec::new(),
        stages: Vec::new(),
    };
    for line in &lexed.lines {
        // Where the first FROM is what is wrong, what follows it is not.
        let is_lost = file.stages.is_empty() && !faults.is_empty();
        match add_line(&mut file, line) {
            Err(AddError::NoStage(_)) if is_lost => {}
            Err(AddError::NoStage(fault) | AddError::Wrong(fault)) => faults.push(fault),
            Ok(()) => {}
        }
    }
    let everything = Span {
        start: 0,
        end: text.trim_end().len(),
    };
    let nothing = if text.is_empty() {
        Some("the Dockerfile cannot be empty")
    } else if lexed.lines.is_empty() {
        Some("file with no instructions")
    } else if file.stages.is_empty() && faults.is_empty() {
        Some("dockerfile contains no stages to build")
    } else {
        None
    };
    faults.extend(nothing.map(|message| Fault::new(everything, message)));
    if faults.is_empty() {
        Ok(file)
    } else {
        Err(failed(faults))
    }
}

/// Parses one instruction that stands alone: a trigger of a base image, or a change to an imported one. Its here-documents follow it.
pub fn parse_one(text: &str, escape: char) -> Result<Instruction, Fault> {
    let text = text.trim();
    if !text.contains("<<") {
        return parse_instruction(&Logical::whole(text, 0), escape);
    }
    let lexed = lexer::lex(text)?;
    let [line] = lexed.lines.as_slice() else {
        let everything = Span {
            start: 0,
            end: text.len(),
        };
        return Err(Fault::new(everything, "it should be a single instruction"));
    };
    parse_instruction(line, escape)
}

/// Returns a fault if the `syntax` directive names another language than Dockerfiles'.
fn foreign_frontend(frontend: &str, span: Span) -> Option<Fault> {
    let name = frontend.split('@').next().unwrap_or_default();
    // A `:` before the last `/` is that of a port.
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let own = ["docker/dockerfile", "docker/dockerfile-upstream"];
    let is_own = own.iter().any(|own| {
        let mirror = name.strip_suffix(own);
        mirror.is_some_and(|mirror| mirror.is_empty() || mirror.ends_with('/'))
    });
    if is_own || name == "dockerfile.v0" || name.is_empty() {
        return None;
    }
    let message = format!("the frontend image `{frontend}` is not supported");
    let hint = "the builder is its own frontend, for the language of docker/dockerfile alone";
    Some(Fault::new(span, message).with_hint(hint))
}

/// Why a line is no part of the file.
enum AddError {
    /// It stands before the first stage.
    NoStage(Fault),
    /// It says nothing.
    Wrong(Fault),
}

impl From<Fault> for AddError {
    fn from(fault: Fault) -> Self {
        Self::Wrong(fault)
    }
}

/// Adds one instruction to the file.
fn add_line(file: &mut Dockerfile, line: &Logical) -> Result<(), AddError> {
    let words = Words::of(line);
    file.written.push(written(line, &words, file.escape));
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
            let fault = Fault::new(line.span, "no build stage in current context");
            let fault = fault.with_hint("only ARG may stand before the first FROM");
            return Err(AddError::NoStage(fault));
        }
    }
    Ok(())
}

/// Notes how an instruction is written.
fn written(line: &Logical, words: &Words<'_>, escape: char) -> Written {
    let keyword = words.keyword.to_ascii_uppercase();
    let arguments = Arguments {
        keyword: &keyword,
        rest: words.rest,
        rest_at: words.rest_at,
        line,
        escape,
    };
    let has_pairs = matches!(keyword.as_str(), "ENV" | "LABEL");
    Written {
        span: line.span,
        keyword: words.keyword.to_owned(),
        rest: words.rest.to_owned(),
        comments: line.comments.clone(),
        empty_line: line.empty_line,
        is_legacy_pair: has_pairs && arguments.is_legacy_pair(),
    }
}

/// Parses `FROM [--platform=P] image [AS name]`.
fn parse_from(line: &Logical, escape: char) -> Result<Stage, Fault> {
    let mut words = Words::of(line);
    let mut flags = Flags(take_flags(line, &mut words, escape));
    let platform = flags.value("platform")?.filter(|text| !text.is_empty());
    flags.finish(known_flags("FROM"))?;
    let parts = words.rest.split(BLANKS).filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.collect();
    let (base, name) = match parts.as_slice() {
        [base] => (*base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => (*base, Some(*name)),
        _ => {
            let fault = Fault::new(line.span, "FROM requires either one or three arguments");
            return Err(fault.with_hint("FROM image [AS name]"));
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
        let message = format!(
            "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
        );
        return Err(Fault::new(line.span, message));
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
            Some(known) => fault.with_hint(format!("did you mean {known}?")),
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
        let needed = match keyword.as_str() {
            // They are the shell's matter: `/bin/sh -c ""`.
            "CMD" | "ENTRYPOINT" | "RUN" => None,
            "COPY" | "ADD" => Some("at least two arguments"),
            "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" => Some("exactly one argument"),
            _ => Some("at least one argument"),
        };
        if let Some(needed) = needed {
            return Err(arguments.fault(format!("{keyword} requires {needed}")));
        }
    }
    let mut flags = Flags(flags);
    let kind = match keyword.as_str() {
        "COPY" | "ADD" => transfer::parse_transfer(&arguments, &mut flags)?,
        "RUN" => transfer::parse_run(&arguments, &mut flags)?,
        "HEALTHCHECK" => health::parse_healthcheck(&arguments, &mut flags)?,
        _ => parse_plain(&arguments)?,
    };
    flags.finish(known_flags(&keyword))?;
    Ok(Instruction {
        kind,
        span: line.span,
        text: one_line(&line.text),
    })
}

/// Returns the flags an instruction has, for suggestions.
fn known_flags(keyword: &str) -> &'static [&'static str] {
    match keyword {
        "FROM" => &["platform"],
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
        "EXPOSE" => {
            let words = arguments.rest.split(BLANKS).filter(|word| !word.is_empty());
            Kind::Expose(words.map(str::to_owned).collect())
        }
        "VOLUME" => Kind::Volume(parse_volume(arguments)?),
        "CMD" => Kind::Cmd(arguments.command()?),
        "ENTRYPOINT" => Kind::Entrypoint(arguments.command()?),
        "SHELL" => match arguments.json()? {
            Some(words) if !words.is_empty() => Kind::Shell(words),
            Some(_) => return Err(arguments.fault("SHELL requires at least one argument")),
            None => {
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
    if words.is_empty() {
        return Err(arguments.fault("VOLUME requires at least one argument"));
    }
    let words: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
    if words.iter().any(String::is_empty) {
        return Err(arguments.fault("VOLUME specified can not be an empty string"));
    }
    Ok(words)
}

/// Checks the trigger of `ONBUILD` and returns its text.
fn parse_onbuild(arguments: &Arguments<'_>) -> Result<String, Fault> {
    let trigger = arguments.rest;
    let keyword = trigger.split(BLANKS).next().unwrap_or_default();
    let upper = keyword.to_ascii_uppercase();
    if upper == "ONBUILD" {
        return Err(arguments.fault("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
    }
    if upper == "FROM" || upper == "MAINTAINER" {
        return Err(arguments.fault(format!("{upper} isn't allowed as an ONBUILD trigger")));
    }
    let mut text = trigger.to_owned();
    for document in &arguments.line.documents {
        text.push('\n');
        text.push_str(&document.body);
        text.push_str(&document.name);
    }
    parse_one(&text, arguments.escape).map_err(|fault| Fault {
        span: arguments.line.span,
        ..fault
    })?;
    Ok(text)
}

/// Returns text on one line, for messages and progress.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
