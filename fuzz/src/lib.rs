//! What the fuzz targets run: each takes any bytes, and panics where something that must hold does not.

#[path = "../../src/images/dockerfile/mod.rs"]
#[allow(dead_code, unreachable_pub)]
pub mod dockerfile;
#[path = "../../src/spec/mod.rs"]
#[allow(dead_code, unreachable_pub)]
pub mod spec;
#[allow(dead_code, unreachable_pub)]
mod sys;
#[allow(dead_code, unreachable_pub)]
mod unpack;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use dockerfile::{Span, expand, parser};
use spec::canonical::{mounts, ports};
use spec::dotenv::{self, Format, Outside};
use spec::template::{self, Variables};
use spec::{LoadOptions, ReadError, ReadFile, load, render, units, words};
use unpack::extract::{self, Limits};

/// One Compose file, and a dotenv file beside it that includes and extensions of the file can name.
struct Files<'a> {
    compose: &'a [u8],
    dotenv: &'a [u8],
}

impl ReadFile for Files<'_> {
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("compose.yaml") => Ok(self.compose.to_vec()),
            Some(".env") => Ok(self.dotenv.to_vec()),
            _ => Err(ReadError::NotFound),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        matches!(path.to_str(), Some("/w/compose.yaml" | "/w/.env"))
    }

    fn is_link(&self, _: &Path) -> bool {
        false
    }
}

/// Loads a project; what loads is printed, and loads again to the same model.
///
/// Bytes after the first zero byte are the dotenv file.
pub fn stack_file(data: &[u8]) {
    let (compose, dotenv) = match data.iter().position(|byte| *byte == 0) {
        Some(at) if !data.starts_with(&[0xff]) && !data.starts_with(&[0xfe]) => {
            (&data[..at], &data[at + 1..])
        }
        _ => (data, &[][..]),
    };
    let options = LoadOptions {
        working_directory: "/w".into(),
        project_name: Some("fuzz".to_owned()),
        environment: BTreeMap::from([
            ("HOME".to_owned(), "/home/user".to_owned()),
            ("A".to_owned(), "a value".to_owned()),
        ]),
        ..LoadOptions::default()
    };
    let loaded = match load(&options, &Files { compose, dotenv }) {
        Ok(loaded) => loaded,
        Err(failure) => {
            assert!(!failure.diagnostics.is_empty(), "a failure that says nothing");
            for diagnostic in &failure.diagnostics {
                if let Some(span) = diagnostic.span {
                    assert!(failure.sources.place(span).is_some());
                }
            }
            return;
        }
    };
    let printed = render::render_yaml(&loaded.stack);
    let again = Files {
        compose: printed.as_bytes(),
        dotenv: &[],
    };
    match load(&options, &again) {
        Ok(again) => assert_eq!(model(&again), model(&loaded), "{printed}"),
        // A default that is written out may be of an attribute that is not supported yet.
        Err(failure) => {
            let mut rest = failure.diagnostics.iter();
            let is_told = |message: &str| message.contains("not supported yet");
            let other = rest.find(|diagnostic| !is_told(&diagnostic.message));
            assert_eq!(other, None, "{printed}");
        }
    }
}

/// The model, which places are no part of.
fn model(loaded: &spec::Loaded) -> serde_json::Value {
    serde_json::to_value(&loaded.stack).unwrap_or_default()
}

struct Fixed;

impl Variables for Fixed {
    fn value(&self, name: &str) -> Option<&str> {
        match name {
            "A" => Some("a value"),
            "B" => Some("$A ${"),
            "E" => Some(""),
            _ => None,
        }
    }

    fn unset(&mut self, name: &str, at: Range<usize>) {
        assert!(self.value(name).is_none(), "{name} is set");
        assert!(at.start < at.end);
    }
}

/// Fills a text in.
pub fn interpolation(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    const ROOM: usize = 1 << 20;
    match template::substitute(text, &mut Fixed, ROOM) {
        Ok(Cow::Borrowed(same)) => assert_eq!(same, text),
        Ok(Cow::Owned(filled)) => assert!(filled.len() <= ROOM),
        Err(error) => assert!(text.get(error.at.clone()).is_some(), "{error:?}"),
    }
    let doubled = text.replace('$', "$$");
    let literal = template::substitute(&doubled, &mut Fixed, ROOM);
    assert_eq!(literal.as_deref(), Ok(text), "a doubled dollar is a dollar");
}

/// Reads a dotenv file in both formats.
pub fn dotenv(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let environment = |name: &str| (name == "A").then_some("a value");
    for format in [Format::Dotenv, Format::Raw] {
        match dotenv::parse(text, format, Outside::environment(&environment), 1 << 20) {
            Ok(variables) => {
                for (key, variable) in variables {
                    assert!(text[variable.at..].starts_with(&key), "{key}");
                }
            }
            Err(error) => assert!(text.get(error.at.clone()).is_some(), "{error:?}"),
        }
    }
}

/// Reads a text as everything that a scalar of a Compose file can be.
pub fn grammars(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(split) = words::split(text) {
        assert!(split.cut.is_none_or(|cut| text.is_char_boundary(cut)));
    }
    if let Some(duration) = units::parse_duration(text) {
        let written = units::format_duration(duration);
        let read = units::parse_duration(&written);
        assert_eq!(read, Some(duration), "{text} {written}");
        assert!(duration <= Duration::from_nanos(i64::MAX.unsigned_abs()));
    }
    if let Some(bytes) = units::parse_bytes(text) {
        assert_eq!(units::parse_bytes(&bytes.to_string()), Some(bytes), "{text}");
    }
    if let Some(mode) = units::parse_mode(text) {
        assert_eq!(units::parse_mode(&format!("0{mode:o}")), Some(mode), "{text}");
    }
    for spec in ports::parse(text).unwrap_or_default() {
        assert_ne!(spec.target, 0, "{text}");
        let published = spec.published.as_deref().map(ports::range);
        assert_ne!(published, Some(None), "{text}");
    }
    if let Ok(mount) = mounts::parse(text) {
        assert!(!mount.target.is_empty(), "{text}");
    }
}

/// Parses a Dockerfile, and expands the text as a word and as a here-document.
pub fn dockerfile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let within = |span: Span| text.get(span.start..span.end).is_some();
    match parser::parse(Path::new("Dockerfile"), text) {
        Ok(file) => {
            assert!(!file.stages.is_empty());
            for written in &file.written {
                assert!(within(written.span), "{written:?}");
            }
        }
        Err(error) => {
            assert!(!error.faults.is_empty(), "a failure that says nothing");
            for fault in &error.faults {
                assert!(within(fault.span), "{fault:?}");
            }
            assert!(!error.to_string().is_empty());
        }
    }
    let variables = BTreeMap::from([
        ("A".to_owned(), "a value xx".to_owned()),
        ("E".to_owned(), String::new()),
    ]);
    for escape in ['\\', '`'] {
        drop(parser::parse_one(text, escape));
        drop(expand::expand(text, escape, &variables));
        drop(expand::expand_words(text, escape, &variables));
    }
    drop(expand::expand_heredoc(text, &variables));
}

/// What an archive must not touch.
fn canary(outside: &Path) -> (Vec<u8>, u64, u32, i64, usize) {
    let file = outside.join("canary/file");
    let stat = std::fs::metadata(&file).expect("the canary is there");
    let beside = std::fs::read_dir(outside).expect("readable").count();
    let within = std::fs::read_dir(outside.join("canary")).expect("readable");
    (
        std::fs::read(file).expect("readable"),
        stat.nlink(),
        stat.mode(),
        stat.mtime_nsec(),
        beside * 100 + within.count(),
    )
}

/// Unpacks bytes, the headers' checksums put right, beside a canary; on a tmpfs where there is one.
pub fn unpack(data: &[u8]) {
    let mut archive = data.to_vec();
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + 512) {
        at += 512;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = header[124..136].iter().take_while(|byte| byte.is_ascii_digit());
        let size = digits.fold(0_usize, |size, digit| {
            size.saturating_mul(8).saturating_add(usize::from(*digit & 7))
        });
        at = at.saturating_add(size.min(1 << 20).next_multiple_of(512));
    }
    let memory = Path::new("/dev/shm");
    let beneath = if memory.is_dir() { memory } else { Path::new("/tmp") };
    let outside = tempfile::Builder::new().prefix("stack-fuzz-").tempdir_in(beneath);
    let outside = outside.expect("a directory");
    let root = outside.path().join("layer");
    std::fs::create_dir(&root).expect("made");
    std::fs::create_dir(outside.path().join("canary")).expect("made");
    std::fs::write(outside.path().join("canary/file"), "alive").expect("written");
    let before = canary(outside.path());
    let limits = Limits {
        entries: 64,
        bytes: 1 << 20,
        apparent_bytes: 1 << 40,
    };
    let result = extract::unpack(archive.as_slice(), &root, limits);
    assert_eq!(canary(outside.path()), before, "{result:?}");
    if let Ok(report) = result {
        assert!(report.size_bytes <= limits.bytes);
    }
    no_overlay(&root);
}

/// Checks that nothing in the tree has an attribute of overlayfs but the mark of an opaque directory.
fn no_overlay(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        let mut names = vec![0_u8; 65_536];
        let length = rustix::fs::llistxattr(&path, &mut names).unwrap_or(0);
        for name in names[..length].split(|byte| *byte == 0) {
            let overlay = name.windows(8).any(|part| part == b"overlay.");
            let opaque = name == extract::OPAQUE_XATTR.as_bytes();
            assert!(!overlay || opaque, "{:?}", OsStr::from_bytes(name));
        }
        if std::fs::symlink_metadata(&path).is_ok_and(|stat| stat.is_dir()) {
            no_overlay(&path);
        }
    }
}
