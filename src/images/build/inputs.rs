//! What a build is given: the Dockerfile, the context, ignore rules, arguments.

use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::super::dockerfile::expand::Variables;
use super::super::dockerfile::instruction::Dockerfile;
use super::super::dockerfile::{DockerfileError, Fault};
use super::super::manifest::Platform;
use super::error::BuildError;
use super::pattern::IgnoreRules;
use super::stage::Given;
use super::{BuildRequest, DockerfileSource, plan};
use crate::sys::beneath;

/// Returns the context, without links.
pub(super) fn canonical_context(request: &BuildRequest) -> Result<PathBuf, BuildError> {
    canonical_directory(&request.context)
}

/// Returns a directory without links.
pub(super) fn canonical_directory(directory: &Path) -> Result<PathBuf, BuildError> {
    let wrong = |source| BuildError::Context {
        path: directory.to_owned(),
        source,
    };
    let path = fs_err::canonicalize(directory).map_err(wrong)?;
    if !fs_err::metadata(&path).map_err(wrong)?.is_dir() {
        return Err(wrong(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    Ok(path)
}

/// Returns the path of a Dockerfile as messages show it: without what needs no saying.
pub(super) fn shown(request: &BuildRequest, path: &Path) -> PathBuf {
    let from = if request.is_local {
        &request.shown_from
    } else {
        // Where it was fetched to is nobody's business.
        &request.context
    };
    let clean = |path: &Path| path.components().collect::<PathBuf>();
    let path = clean(path);
    match path.strip_prefix(clean(from)) {
        Ok(relative) if !relative.as_os_str().is_empty() => relative.to_owned(),
        _ => path,
    }
}

/// Reads the Dockerfile; returns its path, and its text.
pub(super) fn read_dockerfile(request: &BuildRequest) -> Result<(PathBuf, String), BuildError> {
    let path = match &request.dockerfile {
        DockerfileSource::Inline(text) => {
            return Ok((PathBuf::from("dockerfile_inline"), text.clone()));
        }
        DockerfileSource::Text { name, text } => return Ok((PathBuf::from(name), text.clone())),
        DockerfileSource::Path(path) => request.context.join(path),
    };
    // What strangers made must not show files of the machine.
    let context = Some(request.context.as_path());
    let stranger = context.filter(|context| !request.is_local && path.starts_with(context));
    let read = |path: &Path| match stranger {
        Some(context) => read_within(context, path),
        None => read_text(open_input(path)?),
    };
    if let Some(context) = stranger {
        check_within(context, &path)?;
    }
    let error = match read(&path) {
        Ok(text) => return Ok((path, text)),
        Err(error) => error,
    };
    // The name in lower case serves where the usual one is asked for and is not there.
    if error.kind() == io::ErrorKind::NotFound && path.file_name() == Some("Dockerfile".as_ref()) {
        let lower = path.with_file_name("dockerfile");
        if let Ok(text) = read(&lower) {
            return Ok((lower, text));
        }
    }
    Err(BuildError::Read {
        path,
        source: error,
    })
}

/// Fails where links lead from a file of a context out of it.
fn check_within(context: &Path, path: &Path) -> Result<(), BuildError> {
    let context = canonical_directory(context)?;
    match fs_err::canonicalize(path) {
        Ok(found) if !found.starts_with(&context) => Err(BuildError::Outside {
            path: path.to_owned(),
        }),
        // One that is not there, reading it says.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Reads a file of a context that strangers made: no link leads out of it, and a device of it is not even opened.
fn read_within(context: &Path, path: &Path) -> io::Result<String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(context, flags, rustix::fs::Mode::empty())?;
    let below = path.strip_prefix(context).unwrap_or(path);
    let found = beneath::in_root(root.as_fd(), below, OFlags::PATH)?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    if kind != rustix::fs::FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    let opened = Path::new("/proc/self/fd").join(found.as_raw_fd().to_string());
    read_text(open_input(&opened)?)
}

/// Bytes that a Dockerfile may have: none that anybody wrote comes near.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// Reads a Dockerfile. In a comment, bytes that are no UTF-8 do no harm; in an instruction they would be something else afterwards.
fn read_text(input: Input) -> io::Result<String> {
    let bytes = read_bytes(input)?;
    let wrong = |text: String| Err(io::Error::new(io::ErrorKind::InvalidData, text));
    let mut text = String::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match std::str::from_utf8(line) {
            Ok(line) => text.push_str(line),
            Err(_) if line.trim_ascii_start().starts_with(b"#") => {
                text.push_str(&String::from_utf8_lossy(line));
            }
            Err(_) => return wrong(format!("line {} is not UTF-8", index + 1)),
        }
    }
    Ok(text)
}

/// Reads a Dockerfile or ignore file.
fn read_bytes(input: Input) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_DOCKERFILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DOCKERFILE {
        let text = format!("it is larger than {} MiB", MAX_DOCKERFILE >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

/// How long a writer of a pipe may take to say something.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// A Dockerfile or ignore file that is read: a file, or what a process writes into a pipe (`-f <(…)`). A FIFO without a
/// writer, or with one that says nothing, is an error; reading it as a file would wait without end, deaf to interrupts.
struct Input {
    file: fs_err::File,
    is_pipe: bool,
    /// Whether anything came.
    began: bool,
}

/// Opens what may be anything.
fn open_input(path: &Path) -> io::Result<Input> {
    let file = fs_err::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let is_pipe = file.metadata()?.file_type().is_fifo();
    Ok(Input {
        file,
        is_pipe,
        began: false,
    })
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Ok(0) if self.is_pipe && !self.began => {
                    return Err(io::Error::other("it is a FIFO, and nobody writes to it"));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut watched = [PollFd::new(&self.file, PollFlags::IN)];
                    if poll(&mut watched, Some(&PATIENCE))? == 0 {
                        let text = format!("nothing came from it for {} s", PATIENCE.tv_sec);
                        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                    }
                }
                result => {
                    self.began = true;
                    return result;
                }
            }
        }
    }
}

/// Reads the ignore rules: those beside the Dockerfile and named after it, else those of the context.
pub(super) fn read_ignore(
    request: &BuildRequest,
    dockerfile: &Path,
) -> Result<IgnoreRules, BuildError> {
    let is_file = matches!(request.dockerfile, DockerfileSource::Path(_));
    read_ignore_of(&request.context, is_file.then_some(dockerfile))
}

/// Reads the ignore rules of a build that is not begun: what they leave out cannot change its result.
pub fn ignore_rules(
    context: &Path,
    dockerfile: &DockerfileSource,
) -> Result<IgnoreRules, BuildError> {
    match dockerfile {
        DockerfileSource::Path(path) => read_ignore_of(context, Some(&context.join(path))),
        DockerfileSource::Inline(_) | DockerfileSource::Text { .. } => {
            read_ignore_of(context, None)
        }
    }
}

/// Reads the ignore rules of a context and a Dockerfile.
pub(super) fn read_ignore_of(
    context: &Path,
    dockerfile: Option<&Path>,
) -> Result<IgnoreRules, BuildError> {
    let mut places = vec![context.join(".dockerignore")];
    if let Some(dockerfile) = dockerfile {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        places.insert(0, PathBuf::from(own));
    }
    for path in places {
        match open_input(&path).and_then(read_bytes) {
            Ok(bytes) => {
                return IgnoreRules::parse(&String::from_utf8_lossy(&bytes))
                    .map_err(|source| BuildError::Ignore { path, source });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BuildError::Read { path, source }),
        }
    }
    Ok(IgnoreRules::default())
}

/// Brings together what is given from outside.
pub(super) fn given(file: &Dockerfile, request: &BuildRequest) -> Result<Given, BuildError> {
    let arguments: Variables = request
        .args
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect();
    let automatic = automatic_variables(request);
    let globals = plan::global_variables(file, &automatic, &arguments)
        .map_err(|faults| dockerfile_error(file, faults))?;
    Ok(Given {
        arguments,
        globals,
        escape: file.escape,
    })
}

/// Returns the arguments that every build has (Dockerfile reference, "Automatic platform ARGs").
pub(super) fn automatic_variables(request: &BuildRequest) -> Variables {
    let mut variables = Variables::new();
    let host = Platform::host();
    for (prefix, platform) in [("TARGET", &request.platform), ("BUILD", &host)] {
        let variant = platform.variant.clone().unwrap_or_default();
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", variant),
        ] {
            variables.insert(format!("{prefix}{name}"), value);
        }
    }
    let target = request.target.clone();
    let target = target.unwrap_or_else(|| "default".to_owned());
    variables.insert("TARGETSTAGE".to_owned(), target);
    variables
}

/// Returns faults with what is needed to draw them.
pub(super) fn dockerfile_error(file: &Dockerfile, faults: Vec<Fault>) -> DockerfileError {
    DockerfileError {
        path: file.path.clone(),
        text: file.text.clone(),
        faults,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_dockerfile_is_shown_as_who_builds_would_name_it() {
        let request = |is_local, context: &str| BuildRequest {
            is_local,
            shown_from: PathBuf::from("/home/me"),
            ..BuildRequest::new(
                PathBuf::from(context),
                DockerfileSource::Path("Dockerfile".into()),
                jiff::Timestamp::UNIX_EPOCH,
            )
        };
        let table = [
            (
                request(true, "/home/me/."),
                "/home/me/./Dockerfile",
                "Dockerfile",
            ),
            (
                request(true, "/home/me/web"),
                "/home/me/web/Dockerfile",
                "web/Dockerfile",
            ),
            (
                request(true, "/home/me"),
                "/home/me/../you/Dockerfile",
                "../you/Dockerfile",
            ),
            (
                request(true, "/home/me"),
                "/elsewhere/Dockerfile",
                "/elsewhere/Dockerfile",
            ),
            (
                request(true, "/home/me"),
                "dockerfile_inline",
                "dockerfile_inline",
            ),
            (
                request(false, "/spool/x"),
                "/spool/x/sub/Dockerfile",
                "sub/Dockerfile",
            ),
        ];
        for (request, path, expected) in table {
            assert_eq!(
                shown(&request, Path::new(path)),
                Path::new(expected),
                "{path}"
            );
        }
    }

    #[test]
    fn a_strangers_dockerfile_shows_nothing_of_the_machine() {
        let temp = tempfile::tempdir().unwrap();
        let context = temp.path().join("context");
        fs_err::create_dir(&context).unwrap();
        fs_err::write(temp.path().join("secret"), "hidden").unwrap();
        fs_err::write(context.join("real"), "FROM a\n").unwrap();
        let link = |to: &str, name: &str| {
            fs_err::os::unix::fs::symlink(to, context.join(name)).unwrap();
        };
        link("../secret", "out");
        link("/real", "in");
        let fifo = context.join("fifo");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, 0o600.into(), 0).unwrap();
        let read =
            |name: &str| read_within(&context, &context.join(name)).map_err(|error| error.kind());
        assert_eq!(read("real"), Ok("FROM a\n".to_owned()));
        assert_eq!(read("in"), Ok("FROM a\n".to_owned()));
        assert_eq!(read("out"), Err(io::ErrorKind::NotFound));
        assert_eq!(read("fifo"), Err(io::ErrorKind::Other));
        // Nor does the name that serves where the usual one is not there.
        link("../secret", "dockerfile");
        let source = DockerfileSource::Path("Dockerfile".into());
        let request = BuildRequest {
            is_local: false,
            ..BuildRequest::new(context.clone(), source, jiff::Timestamp::UNIX_EPOCH)
        };
        let error = read_dockerfile(&request).unwrap_err();
        assert!(matches!(error, BuildError::Read { .. }), "{error}");
    }

    #[test]
    fn a_pipe_is_read_and_a_fifo_that_nobody_writes_to_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let fifo = temp.path().join("Dockerfile");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        let error = open_input(&fifo)
            .and_then(read_text)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "it is a FIFO, and nobody writes to it");
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let says = std::thread::spawn(move || {
            for line in ["FROM a\n", "RUN b\n"] {
                writer.write_all(line.as_bytes()).unwrap();
            }
        });
        assert_eq!(
            open_input(Path::new(&path)).and_then(read_text).unwrap(),
            "FROM a\nRUN b\n"
        );
        says.join().unwrap();
        // Ignore rules too, and none of them is endless.
        std::os::unix::fs::symlink("/dev/zero", temp.path().join(".dockerignore")).unwrap();
        let BuildError::Read { source, .. } = read_ignore_of(temp.path(), None).unwrap_err() else {
            panic!("another error");
        };
        assert_eq!(source.to_string(), "it is larger than 16 MiB");
    }
}
