//! Logical lines to instructions (Dockerfile reference). Every fault of the text is found, not only the first.

use std::path::Path;

use super::instruction::{
    Argument, Command, Dockerfile, Document, Healthcheck, Instruction, Kind, Run, Stage, Transfer,
};
use super::lexer::{self, Logical};
use super::{DockerfileError, Fault, Span, nearest};

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

/// A logical line as its keyword, flags and the rest.
struct Words<'a> {
    /// As written.
    keyword: &'a str,
    /// After the keyword, trimmed.
    rest: &'a str,
    /// Where `rest` starts in the joined text.
    rest_at: usize,
}

impl<'a> Words<'a> {
    /// Splits a line.
    fn of(line: &'a Logical) -> Self {
        let text = line.text.as_str();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (keyword, after) = text.split_at(end);
        let rest = after.trim();
        Self {
            keyword,
            rest,
            rest_at: end + (after.len() - after.trim_start().len()),
        }
    }
}

/// A leading `--name=value`.
struct Flag {
    /// Without dashes.
    name: String,
    /// After `=`.
    value: Option<String>,
    /// Its place.
    span: Span,
}

/// Takes the flags at the start of `words.rest`; returns them and moves the rest behind them.
fn take_flags(line: &Logical, words: &mut Words<'_>, escape: char) -> Vec<Flag> {
    let mut flags = Vec::new();
    while words.rest.starts_with("--") {
        let (word, length) = unquoted_word(words.rest, escape);
        let span = line.place(words.rest_at, words.rest_at + length);
        let after = words.rest.get(length..).unwrap_or_default();
        words.rest_at += length + (after.len() - after.trim_start().len());
        words.rest = after.trim_start();
        let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            break;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        flags.push(Flag {
            name: name.to_owned(),
            value,
            span,
        });
    }
    flags
}

/// Returns the first word without its quotes and escapes, and its length in bytes as written.
fn unquoted_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            return (word, at);
        }
        if character == escape && quote != Some('\'') {
            word.extend(characters.next().map(|(_, escaped)| escaped));
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '"' | '\'') {
            quote = Some(character);
        } else {
            word.push(character);
        }
    }
    (word, text.len())
}

/// The flags of one instruction while they are taken up.
struct Flags(Vec<Flag>);

impl Flags {
    /// Takes a flag that has a value.
    fn value(&mut self, name: &str) -> Result<Option<String>, Fault> {
        let mut found = None;
        while let Some(at) = self.0.iter().position(|flag| flag.name == name) {
            let flag = self.0.remove(at);
            if found.is_some() {
                return Err(Fault::new(
                    flag.span,
                    format!("duplicate flag specified: --{name}"),
                ));
            }
            let missing = || Fault::new(flag.span, format!("missing a value on flag: --{name}"));
            found = Some(flag.value.ok_or_else(missing)?);
        }
        Ok(found)
    }

    /// Takes a flag that may be given often.
    fn values(&mut self, name: &str) -> Result<Vec<String>, Fault> {
        let mut found = Vec::new();
        while let Some(at) = self.0.iter().position(|flag| flag.name == name) {
            let flag = self.0.remove(at);
            let missing = || Fault::new(flag.span, format!("missing a value on flag: --{name}"));
            found.push(flag.value.ok_or_else(missing)?);
        }
        Ok(found)
    }

    /// Takes a flag that is on where it stands alone.
    fn switch(&mut self, name: &str) -> Result<bool, Fault> {
        let Some(at) = self.0.iter().position(|flag| flag.name == name) else {
            return Ok(false);
        };
        let flag = self.0.remove(at);
        match flag.value.as_deref() {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(Fault::new(
                flag.span,
                format!("invalid value `{other}` of flag --{name}: it is true or false"),
            )),
        }
    }

    /// Takes flags that this builder does not do yet, but for those that say nothing new.
    fn unsupported(&mut self, names: &[&str], harmless: &[(&str, &str)]) -> Option<(String, Span)> {
        let mut first = None;
        self.0.retain(|flag| {
            if !names.contains(&flag.name.as_str()) {
                return true;
            }
            let value = flag.value.as_deref().unwrap_or("true");
            if !harmless.contains(&(flag.name.as_str(), value)) && first.is_none() {
                first = Some((format!("--{}", flag.name), flag.span));
            }
            false
        });
        first
    }

    /// Ends the taking: what is left is unknown.
    fn finish(self, known: &[&str]) -> Result<(), Fault> {
        let Some(flag) = self.0.first() else {
            return Ok(());
        };
        let fault = Fault::new(flag.span, format!("unknown flag: --{}", flag.name));
        Err(match nearest(&flag.name, known.iter().copied()) {
            Some(known) => fault.with_hint(format!("did you mean `--{known}`?")),
            None => fault,
        })
    }
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

/// What follows the keyword and the flags.
struct Arguments<'a> {
    /// In upper case.
    keyword: &'a str,
    /// The text, trimmed.
    rest: &'a str,
    /// Where it starts in the joined text.
    rest_at: usize,
    /// The whole line.
    line: &'a Logical,
    /// The escape character.
    escape: char,
}

impl Arguments<'_> {
    /// Returns a fault of the whole instruction.
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.line.span, message)
    }

    /// Returns the place of `part`, which is a slice of `rest` found by value.
    fn place_of(&self, part: &str) -> Span {
        let at = self.rest_at + self.rest.find(part).unwrap_or_default();
        self.line.place(at, at + part.len())
    }

    /// Parses a JSON array of strings; `None` if the text is not JSON, and so is in the other form.
    fn json(&self) -> Result<Option<Vec<String>>, Fault> {
        if !self.rest.starts_with('[') {
            return Ok(None);
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(self.rest) else {
            return Ok(None);
        };
        let strings: Option<Vec<String>> = values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Some(text),
                _ => None,
            })
            .collect();
        match strings {
            Some(strings) => Ok(Some(strings)),
            None => Err(self
                .fault("when using JSON array syntax, arrays must be comprised of strings only")),
        }
    }

    /// Parses a command in either form.
    fn command(&self) -> Result<Command, Fault> {
        Ok(match self.json()? {
            Some(words) => Command::Exec(words),
            None => Command::Shell(self.rest.to_owned()),
        })
    }

    /// Parses words in either form; quotes stay for the expansion.
    fn words(&self) -> Result<Vec<String>, Fault> {
        Ok(match self.json()? {
            // JSON words are expanded too, but their quotes and blanks are text already.
            Some(words) => words
                .iter()
                .map(|word| protect(word, self.escape))
                .collect(),
            None => self.rest.split_whitespace().map(str::to_owned).collect(),
        })
    }

    /// Splits at blanks that are not quoted; quotes and escapes stay.
    fn quoted_words(&self) -> Vec<&str> {
        let mut words = Vec::new();
        let mut rest = self.rest;
        while !rest.is_empty() {
            let (_, length) = unquoted_word(rest, self.escape);
            let (word, after) = rest.split_at(length);
            words.push(word);
            rest = after.trim_start();
        }
        words
    }

    /// Parses `name=value …`, or the old form `name value to the end`.
    fn pairs(&self) -> Result<Vec<(String, String)>, Fault> {
        let words = self.quoted_words();
        if !words.first().is_some_and(|first| first.contains('=')) {
            let Some((name, value)) = self.rest.split_once(char::is_whitespace) else {
                return Err(self.fault(format!("{} must have two arguments", self.keyword)));
            };
            return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
        }
        words
            .into_iter()
            .map(|word| match word.split_once('=') {
                Some(("", _)) => Err(Fault::new(
                    self.place_of(word),
                    format!("{} names can not be blank", self.keyword),
                )),
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(Fault::new(
                    self.place_of(word),
                    format!("can't find = in `{word}`: must be of the form name=value"),
                )),
            })
            .collect()
    }
}

/// Escapes the quotes and escapes of a JSON word, so that expansion gives them back.
fn protect(word: &str, escape: char) -> String {
    let mut protected = String::new();
    for character in word.chars() {
        if character == '"' || character == '\'' {
            protected.push(escape);
        }
        protected.push(character);
    }
    protected
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The instructions of the only stage.
    fn stage(body: &str) -> Vec<Kind> {
        let file = parse(Path::new("Dockerfile"), &format!("FROM a\n{body}")).unwrap();
        let kinds = file.stages[0].instructions.iter();
        kinds.map(|instruction| instruction.kind.clone()).collect()
    }

    /// The faults as text.
    fn faults(text: &str) -> String {
        parse(Path::new("Dockerfile"), text)
            .unwrap_err()
            .to_string()
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn pairs(words: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = words
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        owned.collect()
    }

    fn transfer(sources: &[&str], destination: &str) -> Transfer {
        Transfer {
            sources: strings(sources),
            destination: destination.to_owned(),
            ..Transfer::default()
        }
    }

    #[test]
    fn instructions_parse() {
        let shell = |text: &str| Command::Shell(text.to_owned());
        let exec = |words: &[&str]| Command::Exec(strings(words));
        let run = |command| {
            Kind::Run(Run {
                command,
                documents: Vec::new(),
            })
        };
        let table = [
            (
                "ENV a=1 b=\"x y\" c=z\\ w",
                Kind::Env(pairs(&[("a", "1"), ("b", "\"x y\""), ("c", "z\\ w")])),
            ),
            (
                "ENV old style  value",
                Kind::Env(pairs(&[("old", "style  value")])),
            ),
            ("LABEL \"a b\"=c", Kind::Label(pairs(&[("\"a b\"", "c")]))),
            ("run echo  hi # x", run(shell("echo  hi # x"))),
            ("RUN [\"a\", \"b c\"]", run(exec(&["a", "b c"]))),
            ("RUN ['a']", run(shell("['a']"))),
            ("RUN --network=default x", run(shell("x"))),
            ("CMD []", Kind::Cmd(exec(&[]))),
            ("ENTRYPOINT top -b", Kind::Entrypoint(shell("top -b"))),
            ("COPY a b /c/", Kind::Copy(transfer(&["a", "b"], "/c/"))),
            (
                "COPY [\"a b\", \"/c d\"]",
                Kind::Copy(transfer(&["a b"], "/c d")),
            ),
            (
                "COPY --from=x --chown=\"1:2\" a b",
                Kind::Copy(Transfer {
                    from: Some("x".to_owned()),
                    chown: Some("1:2".to_owned()),
                    ..transfer(&["a"], "b")
                }),
            ),
            (
                "ADD --link a /b",
                Kind::Add(Transfer {
                    link: true,
                    ..transfer(&["a"], "/b")
                }),
            ),
            (
                "EXPOSE 80 443/tcp",
                Kind::Expose(strings(&["80", "443/tcp"])),
            ),
            ("VOLUME [\"/a b\"]", Kind::Volume(strings(&["/a b"]))),
            (
                "SHELL [\"/bin/bash\", \"-c\"]",
                Kind::Shell(strings(&["/bin/bash", "-c"])),
            ),
            ("ONBUILD RUN x", Kind::Onbuild("RUN x".to_owned())),
            ("WORKDIR $D/x y", Kind::Workdir("$D/x y".to_owned())),
            (
                "HEALTHCHECK --interval=1m30s --retries=3 CMD [\"x\"]",
                Kind::Healthcheck(Healthcheck {
                    command: Some(exec(&["x"])),
                    interval_ns: 90_000_000_000,
                    timeout_ns: 0,
                    start_period_ns: 0,
                    start_interval_ns: 0,
                    retries: 3,
                }),
            ),
        ];
        for (line, expected) in table {
            assert_eq!(stage(line), [expected], "{line}");
        }
    }

    #[test]
    fn stages_and_global_arguments() {
        let text = "ARG V=1\nFROM --platform=$P a:$V AS Build\nRUN x\nFROM build";
        let file = parse(Path::new("D"), text).unwrap();
        let stages: Vec<_> = file
            .stages
            .iter()
            .map(|s| {
                (
                    s.base.as_str(),
                    s.platform.as_deref(),
                    s.name.as_deref(),
                    s.instructions.len(),
                )
            })
            .collect();
        assert_eq!(
            stages,
            [
                ("a:$V", Some("$P"), Some("build"), 1),
                ("build", None, None, 0)
            ]
        );
        assert_eq!(file.arguments[0].default.as_deref(), Some("1"));
    }

    #[test]
    fn heredocs_are_not_sources() {
        let kinds = stage("COPY <<A x <<-'B' /d/\n1\nA\n\t2\n\tB\n");
        let Kind::Copy(copy) = &kinds[0] else {
            panic!("{kinds:?}")
        };
        let contents: Vec<_> = copy.documents.iter().map(Document::content).collect();
        assert_eq!(
            (copy.sources.as_slice(), copy.destination.as_str(), contents),
            (strings(&["x"]).as_slice(), "/d/", strings(&["1\n", "2\n"]))
        );
    }

    #[test]
    fn what_is_not_built_yet_is_marked_with_its_place() {
        let text = "FROM a\nRUN --mount=type=cache,target=/c make\nCOPY --parents a b";
        let file = parse(Path::new("D"), text).unwrap();
        let marked: Vec<_> = file.stages[0]
            .instructions
            .iter()
            .filter_map(|i| i.unsupported.as_ref())
            .map(|(what, span)| (what.as_str(), &text[span.start..span.end]))
            .collect();
        assert_eq!(
            marked,
            [
                ("--mount", "--mount=type=cache,target=/c"),
                ("--parents", "--parents")
            ]
        );
    }

    #[test]
    fn every_fault_is_said_with_its_place() {
        let table = [
            ("", "Dockerfile:1:1: the Dockerfile has no instructions"),
            (
                "# nothing\n",
                "Dockerfile:1:1: the Dockerfile has no instructions",
            ),
            (
                "ARG a",
                "Dockerfile:1:1: the Dockerfile has no stages to build: `FROM` is missing",
            ),
            (
                "FROM busybox\nFOO bar\n  RNU x\n",
                "Dockerfile:2:1: unknown instruction: FOO (did you mean `FROM`?)\n\
                 Dockerfile:3:3: unknown instruction: RNU (did you mean `RUN`?)",
            ),
            (
                "RUN x",
                "Dockerfile:1:1: no build stage before `RUN` (only `ARG` may stand before the first `FROM`)",
            ),
            (
                "FROM a b",
                "Dockerfile:1:1: FROM requires either one or three arguments: `FROM image [AS name]`",
            ),
            (
                "FROM a\nCOPY x",
                "Dockerfile:2:1: COPY requires at least two arguments, but only one was provided: the destination could not be determined",
            ),
            (
                "FROM a\nCOPY --form=x a b",
                "Dockerfile:2:6: unknown flag: --form (did you mean `--from`?)",
            ),
            (
                "FROM a\nCOPY --from=$x a b",
                "Dockerfile:2:6: variable expansion is not supported for --from (define a new stage with FROM using ARG from global scope, and copy from that)",
            ),
            (
                "FROM a\nCOPY --from=x --from=y a b",
                "Dockerfile:2:15: duplicate flag specified: --from",
            ),
            (
                "FROM a\nENV a",
                "Dockerfile:2:1: ENV must have two arguments",
            ),
            (
                "FROM a\nENV a=1 b",
                "Dockerfile:2:9: can't find = in `b`: must be of the form name=value",
            ),
            (
                "FROM a\nRUN",
                "Dockerfile:2:1: RUN requires at least one argument",
            ),
            (
                "FROM a\nRUN [1]",
                "Dockerfile:2:1: when using JSON array syntax, arrays must be comprised of strings only",
            ),
            (
                "FROM a\nSHELL sh",
                "Dockerfile:2:1: SHELL requires the arguments to be in JSON form",
            ),
            (
                "FROM a\nHEALTHCHECK X",
                "Dockerfile:2:1: unknown type `X` in HEALTHCHECK (try CMD)",
            ),
            (
                "FROM a\nHEALTHCHECK --interval=1us CMD x",
                "Dockerfile:2:1: --interval cannot be less than 1ms: `1us`",
            ),
            (
                "FROM a\nONBUILD ONBUILD RUN x",
                "Dockerfile:2:1: chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            ),
            (
                "# syntax=r2d4/mopy\nFROM a",
                "Dockerfile:1:1: not supported yet: the frontend image `r2d4/mopy`",
            ),
            (
                "FROM a AS 1x",
                "Dockerfile:1:1: invalid name for build stage: `1x` (a letter, then letters, digits, `-`, `_` and `.`)",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(faults(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_parse() {
        let table = [
            ("0", Some(0)),
            ("1.5s", Some(1_500_000_000)),
            ("1h2m", Some(3_720_000_000_000)),
            ("5", None),
            ("", None),
            ("1x", None),
            (".s", None),
            ("99999999999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }
}
