//! A root file system tar becomes an image of one layer; [`Change`] says what a container of it runs.

use std::io::Read;

use super::error::ImageError;
use super::manifest::{
    Descriptor, Healthcheck, History, ImageConfig, OCI_LAYER, Platform, RunConfig,
};
use super::reference::Reference;
use super::store::{Image, LayerRecord, Store, StoreError};
use super::unpack::UnpackError;
use super::unpack::pipeline::{Outcome, PackedError, ReaderChunks, run};

/// A `--change`: a Dockerfile instruction applied to the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `CMD`.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`.
    Entrypoint(Vec<String>),
    /// `ENV`, in order.
    Env(Vec<(String, String)>),
    /// `LABEL`.
    Label(Vec<(String, String)>),
    /// `EXPOSE`: `80/tcp`.
    Expose(Vec<String>),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `USER`.
    User(String),
    /// `WORKDIR`; a relative one goes on from the one before.
    Workdir(String),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `ONBUILD`.
    OnBuild(String),
}

/// A `--change` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid change `{text}`: {rule}")]
pub struct ChangeError {
    text: String,
    rule: String,
}

impl Change {
    /// Parses `CMD ["sh"]`, `ENV A=b`, … (reference: Dockerfile instructions, of which `docker import` takes these).
    pub fn parse(text: &str) -> Result<Self, ChangeError> {
        let parsed = match text.trim().split_once(char::is_whitespace) {
            Some((keyword, rest)) => Self::instruction(keyword, rest.trim()),
            None => Err("an instruction and its arguments are needed".to_owned()),
        };
        parsed.map_err(|rule| ChangeError {
            text: text.to_owned(),
            rule,
        })
    }

    fn instruction(keyword: &str, rest: &str) -> Result<Self, String> {
        Ok(match keyword.to_ascii_uppercase().as_str() {
            "CMD" => Self::Cmd(command(rest)),
            "ENTRYPOINT" => Self::Entrypoint(command(rest)),
            "ENV" => Self::Env(pairs("ENV", rest)?),
            "LABEL" => Self::Label(pairs("LABEL", rest)?),
            "EXPOSE" => {
                let words = words(rest)?;
                let ports: Result<Vec<_>, _> = words.iter().map(|word| ports(word)).collect();
                Self::Expose(ports?.concat())
            }
            "VOLUME" => Self::Volume(match json(rest) {
                Some(paths) => paths,
                None => words(rest)?,
            }),
            "USER" => Self::User(one(rest)?),
            "WORKDIR" => Self::Workdir(one(rest)?),
            "STOPSIGNAL" => Self::StopSignal(one(rest)?),
            "HEALTHCHECK" => Self::Healthcheck(healthcheck(rest)?),
            "ONBUILD" => Self::OnBuild(rest.to_owned()),
            other => return Err(format!("`{other}` is not a valid change command")),
        })
    }

    pub(super) fn apply(&self, config: &mut RunConfig) {
        match self {
            Self::Cmd(args) => config.cmd = Some(args.clone()),
            Self::Entrypoint(args) => config.entrypoint = Some(args.clone()),
            Self::Env(pairs) => {
                for (name, value) in pairs {
                    let prefix = format!("{name}=");
                    let line = format!("{name}={value}");
                    match config
                        .env
                        .iter_mut()
                        .find(|known| known.starts_with(&prefix))
                    {
                        Some(known) => *known = line,
                        None => config.env.push(line),
                    }
                }
            }
            Self::Label(pairs) => config.labels.extend(pairs.iter().cloned()),
            Self::Expose(ports) => config.exposed_ports.extend(ports.iter().cloned()),
            Self::Volume(paths) => config.volumes.extend(paths.iter().cloned()),
            Self::User(user) => config.user.clone_from(user),
            Self::Workdir(path) => {
                let before = if config.working_dir.is_empty() {
                    "/"
                } else {
                    &config.working_dir
                };
                let joined = std::path::Path::new(before).join(path);
                config.working_dir = joined.to_string_lossy().into_owned();
            }
            Self::StopSignal(signal) => config.stop_signal.clone_from(signal),
            Self::Healthcheck(check) => config.healthcheck = Some(check.clone()),
            Self::OnBuild(instruction) => config.on_build.push(instruction.clone()),
        }
    }
}

/// What an image made of a root file system is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// `--change`s.
    pub changes: Vec<Change>,
    /// Its comment; `Imported from -` or from the URL where there is none.
    pub message: Option<String>,
    /// What it is to run on; this machine where there is none.
    pub platform: Option<Platform>,
}

/// Makes an image of a root file system tar (plain, gzip or zstd). `from` is a URL, or `-`.
pub(super) fn import_from(
    store: &Store,
    reader: impl Read + Send,
    from: &str,
    reference: Option<&Reference>,
    options: &ImportOptions,
) -> Result<Image, ImageError> {
    let staging = store.staging()?;
    let path = staging.directory().join("blob");
    let mut blob = fs_err::File::create(&path).map_err(StoreError::io("make", &path))?;
    let outcome = run(ReaderChunks(reader), &mut blob, &staging.diff(), u64::MAX);
    let (packed, unpacked) = match outcome {
        Outcome {
            packed: Err(PackedError::Read(error)),
            ..
        } => return Err(ImageError::Import(UnpackError::Read(error))),
        Outcome {
            packed: Err(PackedError::Write(error)),
            ..
        } => return Err(StoreError::io("write", &path)(error).into()),
        Outcome {
            packed: Ok(packed),
            unpacked,
        } => (packed, unpacked.map_err(ImageError::Import)?),
    };
    let media_type = format!("{OCI_LAYER}{}", packed.compression);
    let descriptor = Descriptor::new(&media_type, packed.digest, packed.size_bytes);
    let record = LayerRecord::new(unpacked.diff_id, descriptor, unpacked.report);
    let record = store.place_layer(&staging, Some(&path), record)?;
    let mut config = ImageConfig::new(&options.platform.clone().unwrap_or_else(Platform::host));
    let now = jiff::Timestamp::now().to_string();
    for change in &options.changes {
        change.apply(&mut config.config);
    }
    config.history = vec![History {
        created: Some(now.clone()),
        comment: Some(match &options.message {
            Some(message) => message.clone(),
            None => format!("Imported from {from}"),
        }),
        ..History::default()
    }];
    config.created = Some(now);
    let image = store.put_image(config, &[record.diff_id])?;
    if let Some(reference) = reference {
        store.tag(&image, reference)?;
    }
    Ok(image)
}

/// As [`import_from`], with changes alone.
#[cfg(test)]
pub(super) fn import(
    store: &Store,
    reader: impl Read + Send,
    reference: Option<&Reference>,
    changes: &[Change],
) -> Result<Image, ImageError> {
    let options = ImportOptions {
        changes: changes.to_vec(),
        ..ImportOptions::default()
    };
    import_from(store, reader, "-", reference, &options)
}

/// A command: JSON as it is, else a line for the shell.
fn command(text: &str) -> Vec<String> {
    let shell = || vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()];
    json(text).unwrap_or_else(shell)
}

fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())?
}

fn one(text: &str) -> Result<String, String> {
    let joined = words(text)?.join(" ");
    if joined.is_empty() {
        Err("an argument is needed".to_owned())
    } else {
        Ok(joined)
    }
}

/// `NAME=value …`, or `NAME value` to the end of the line.
fn pairs(keyword: &str, text: &str) -> Result<Vec<(String, String)>, String> {
    let words = words(text)?;
    if let Some((name, value)) = text.split_once(char::is_whitespace)
        && !name.contains('=')
    {
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{keyword} needs `NAME=value`, not `{word}`")),
    };
    words.iter().map(pair).collect()
}

/// Splits at blanks; quotes keep them and are taken away, a backslash keeps what follows.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some('"') | None, '\\') => {
                let kept = characters.next().unwrap_or('\\');
                word.get_or_insert_default().push(kept);
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match quote {
        Some(quote) => Err(format!("the quote {quote} is not closed")),
        None => Ok(words),
    }
}

/// `80`, `80/tcp`, `8000-8010/udp`.
fn ports(word: &str) -> Result<Vec<String>, String> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let known = matches!(protocol.as_str(), "tcp" | "udp" | "sctp");
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if known && 0 < first && first <= last => Ok((first..=last)
            .map(|port| format!("{port}/{protocol}"))
            .collect()),
        _ => Err(format!("invalid port `{word}`")),
    }
}

/// `[--interval=30s …] CMD …`, or `NONE`.
fn healthcheck(text: &str) -> Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option
            .split_once(char::is_whitespace)
            .unwrap_or((option, ""));
        rest = after.trim_start();
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "interval" => check.interval_ns = duration_ns(value)?,
            "timeout" => check.timeout_ns = duration_ns(value)?,
            "start-period" => check.start_period_ns = duration_ns(value)?,
            "start-interval" => check.start_interval_ns = duration_ns(value)?,
            "retries" => {
                let retries = value
                    .parse::<u32>()
                    .map_err(|_| format!("invalid number of retries `{value}`"))?;
                check.retries = retries.into();
            }
            _ => return Err(format!("unknown option `--{name}`")),
        }
    }
    let (kind, args) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let args = args.trim();
    check.test = match (kind.to_ascii_uppercase().as_str(), json(args)) {
        ("NONE", _) if args.is_empty() => vec!["NONE".to_owned()],
        ("CMD", _) if args.is_empty() => {
            return Err("missing command after HEALTHCHECK CMD".to_owned());
        }
        ("CMD", Some(mut args)) => {
            args.insert(0, "CMD".to_owned());
            args
        }
        ("CMD", None) => vec!["CMD-SHELL".to_owned(), args.to_owned()],
        (other, _) => return Err(format!("unknown type `{other}` in HEALTHCHECK (try CMD)")),
    };
    Ok(check)
}

/// Go's durations: `1m30s`, `500ms`, `1.5h`.
fn duration_ns(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration `{text}`");
    let mut rest = text;
    let mut total_ns = 0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ns = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        total_ns += number.parse::<f64>().map_err(|_| invalid())? * unit_ns;
        rest = after;
    }
    // A year is enough, and exact to the nanosecond for all that people write.
    if text.is_empty() || total_ns > 3.2e16 || (total_ns > 0.0 && total_ns < 1e6) {
        return Err(invalid());
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    let total_ns = total_ns.round() as i64;
    Ok(total_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match Change::parse(text) {
            Ok(change) => {
                let mut config = RunConfig {
                    env: vec!["A=old".to_owned()],
                    working_dir: "/w".to_owned(),
                    ..RunConfig::default()
                };
                change.apply(&mut config);
                serde_json::to_string(&config).unwrap()
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn applies_instructions() {
        let base = r#""Env":["A=old"]"#;
        check(
            r#"CMD ["sh","-c"]"#,
            &format!(r#"{{{base},"Cmd":["sh","-c"],"WorkingDir":"/w"}}"#),
        );
        check(
            "cmd echo $A",
            &format!(r#"{{{base},"Cmd":["/bin/sh","-c","echo $A"],"WorkingDir":"/w"}}"#),
        );
        check(
            r#"ENTRYPOINT ["/x"]"#,
            &format!(r#"{{{base},"Entrypoint":["/x"],"WorkingDir":"/w"}}"#),
        );
        check(
            r#"ENV A=1 B="two words" C=a\ b"#,
            r#"{"Env":["A=1","B=two words","C=a b"],"WorkingDir":"/w"}"#,
        );
        check(
            "ENV A one two",
            r#"{"Env":["A=one two"],"WorkingDir":"/w"}"#,
        );
        check(
            "LABEL a=b",
            &format!(r#"{{{base},"WorkingDir":"/w","Labels":{{"a":"b"}}}}"#),
        );
        check(
            "EXPOSE 80 53-54/UDP",
            &format!(
                r#"{{"ExposedPorts":{{"53/udp":{{}},"54/udp":{{}},"80/tcp":{{}}}},{base},"WorkingDir":"/w"}}"#
            ),
        );
        check(
            r#"VOLUME ["/a"]"#,
            &format!(r#"{{{base},"Volumes":{{"/a":{{}}}},"WorkingDir":"/w"}}"#),
        );
        check(
            "USER 1:2",
            &format!(r#"{{"User":"1:2",{base},"WorkingDir":"/w"}}"#),
        );
        check("WORKDIR x", &format!(r#"{{{base},"WorkingDir":"/w/x"}}"#));
        check(
            "STOPSIGNAL SIGINT",
            &format!(r#"{{{base},"WorkingDir":"/w","StopSignal":"SIGINT"}}"#),
        );
        check(
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=2 CMD true",
            &format!(
                r#"{{{base},"Healthcheck":{{"Test":["CMD-SHELL","true"],"Interval":90000000000,"Timeout":1500000000,"Retries":2}},"WorkingDir":"/w"}}"#
            ),
        );
        check(
            "HEALTHCHECK NONE",
            &format!(r#"{{{base},"Healthcheck":{{"Test":["NONE"]}},"WorkingDir":"/w"}}"#),
        );
    }

    #[test]
    fn refuses_what_is_none() {
        check(
            "RUN x",
            "invalid change `RUN x`: `RUN` is not a valid change command",
        );
        check(
            "CMD",
            "invalid change `CMD`: an instruction and its arguments are needed",
        );
        check(
            "ENV A",
            "invalid change `ENV A`: ENV needs `NAME=value`, not `A`",
        );
        check("EXPOSE 0", "invalid change `EXPOSE 0`: invalid port `0`");
        check(
            "USER \"x",
            "invalid change `USER \"x`: the quote \" is not closed",
        );
        check(
            "HEALTHCHECK --interval=1 CMD x",
            "invalid change `HEALTHCHECK --interval=1 CMD x`: invalid duration `1`",
        );
        check(
            "HEALTHCHECK x",
            "invalid change `HEALTHCHECK x`: unknown type `X` in HEALTHCHECK (try CMD)",
        );
    }
}
