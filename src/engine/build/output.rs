//! `--output`, `--metadata-file` and `--push`: where a built image goes beside the store.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::options::{OptionError, fields, truth, wrong};
use super::{BuildEvents, ImageBuild};
use crate::engine::error::EngineError;
use crate::engine::{Engine, chain};
use crate::images::build::Built;
use crate::images::store::Image;
use crate::images::{Platform, Reference};

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// Its files, into a directory; of several platforms into one each within it, unless they are not to be split.
    Local(PathBuf, Split),
    /// Its files, as a tar; to standard output where there is no path.
    Tar(Option<PathBuf>, Split),
    /// An archive of the image that Docker and OCI tools read.
    Archive(Option<PathBuf>),
    /// The same, for one platform.
    DockerArchive(Option<PathBuf>),
    /// The store, where it is also without any output.
    Store,
    /// Its registry.
    Registry,
}

/// Whether the files of several platforms go into directories of their own (`platform-split`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// Where there are several.
    Several,
    /// Also where there is one.
    Always,
    /// Not at all.
    Never,
}

impl Split {
    /// Returns the directory of a platform (BuildKit `exporter/local`).
    fn directory(self, platform: &Platform, is_several: bool) -> String {
        let is_split = match self {
            Self::Several => is_several,
            Self::Always => true,
            Self::Never => false,
        };
        let name = || platform.to_string().replace('/', "_");
        is_split.then(name).unwrap_or_default()
    }
}

impl Output {
    /// Refuses what cannot hold images of these platforms.
    pub(super) fn check(&self, platforms: &[Platform]) -> Result<(), OptionError> {
        match self {
            Self::DockerArchive(path) if platforms.len() > 1 => Err(wrong(
                "--output",
                &format!("type=docker,dest={}", shown(path.as_deref())),
                "docker exporter does not currently support exporting manifest lists: use type=oci",
            )),
            _ => Ok(()),
        }
    }

    /// Whether the image itself goes there, and not only its files.
    pub(super) fn is_image(&self) -> bool {
        !matches!(self, Self::Local(..) | Self::Tar(..))
    }

    /// Whether it goes to standard output.
    pub(super) fn is_stream(&self) -> bool {
        let path = match self {
            Self::Tar(path, _) | Self::Archive(path) | Self::DockerArchive(path) => path,
            Self::Local(..) | Self::Store | Self::Registry => return false,
        };
        path.is_none()
    }

    /// Returns BuildKit's words for what is done; nothing where the builder itself does it.
    fn exporting(&self) -> Option<&'static str> {
        match self {
            Self::Local(..) => Some("exporting to client directory"),
            Self::Tar(..) => Some("exporting to client tarball"),
            Self::Archive(_) => Some("exporting to oci image format"),
            Self::DockerArchive(_) => Some("exporting to docker image format"),
            Self::Store | Self::Registry => None,
        }
    }
}

/// Whether the image is in the store in the end: without an output, or where one is of the store or the registry (docker/buildx
/// `build/opt.go`: whatever else is asked for goes past the images of the daemon). `asked` is `--load` or `--push`.
pub(super) fn is_stored(outputs: &[Output], asked: bool) -> bool {
    let is_store = |output: &Output| matches!(output, Output::Store | Output::Registry);
    asked || outputs.is_empty() || outputs.iter().any(is_store)
}

/// Shows where something is written to.
fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
}

/// Reads `--output`: a directory, `-` for a tar on standard output, or `type=…,dest=…` (docker/buildx `export.go`).
pub(super) fn parse(text: &str, directory: &Path) -> Result<Output, OptionError> {
    let option = "--output";
    if !text.contains('=') {
        return Ok(match text {
            "-" => Output::Tar(None, Split::Several),
            path => Output::Local(directory.join(path), Split::Several),
        });
    }
    let (mut kind, mut path, mut push) = (String::new(), None, false);
    let mut split = Split::Several;
    for (key, value) in fields(option, text)? {
        match key.as_str() {
            "type" => kind = value,
            "dest" | "output" => path = Some(value),
            "push" => {
                push = truth(option, text, ("push", &value))?;
            }
            "platform-split" => {
                split = if truth(option, text, ("platform-split", &value))? {
                    Split::Always
                } else {
                    Split::Never
                };
            }
            _ => {
                return Err(wrong(
                    option,
                    text,
                    format!("not supported yet: key `{key}`"),
                ));
            }
        }
    }
    let has_dest = path.is_some();
    let path = path
        .filter(|path| path != "-")
        .map(|path| directory.join(path));
    match (kind.as_str(), path) {
        ("local", Some(path)) => Ok(Output::Local(path, split)),
        ("local", None) if has_dest => {
            let message = "dest cannot be stdout for local exporter";
            Err(wrong(option, text, message))
        }
        ("local", None) => Err(wrong(option, text, "it needs a dest")),
        ("tar", path) => Ok(Output::Tar(path, split)),
        ("docker", path) if has_dest => Ok(Output::DockerArchive(path)),
        ("oci", path) => Ok(Output::Archive(path)),
        ("registry", _) => Ok(Output::Registry),
        ("docker" | "image", None) if push => Ok(Output::Registry),
        ("docker" | "image", None) => Ok(Output::Store),
        _ => Err(wrong(
            option,
            text,
            "type must be local, tar, oci, docker, image or registry",
        )),
    }
}

impl ImageBuild {
    /// Refuses outputs that would go to a terminal, a push of nothing, and files alone where the image's ID is to be written (docker/buildx).
    pub fn check_outputs(&self, wants_id: bool, is_terminal: bool) -> Result<(), OptionError> {
        let untagged = "a tag is needed when pushing to a registry";
        if self.push && self.tags.is_empty() {
            return Err(wrong("--push", "true", untagged));
        }
        for text in &self.outputs {
            let output = parse(text, &self.directory)?;
            if output == Output::Registry && self.tags.is_empty() {
                return Err(wrong("--output", text, untagged));
            }
            if wants_id && !output.is_image() {
                let message = "local and tar exporters are incompatible with image ID file";
                return Err(wrong("--output", text, message));
            }
            if is_terminal && output.is_stream() {
                let message = "it needs a dest: refusing to write to a terminal";
                return Err(wrong("--output", text, message));
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Writes an image where an output says; not to a registry.
    pub(super) fn write_output(
        &self,
        built: &Built,
        names: &[Reference],
        output: &Output,
        (out, progress): (&mut dyn Write, &BuildEvents<'_>),
    ) -> Result<(), EngineError> {
        let Some(what) = output.exporting() else {
            return Ok(());
        };
        progress.export(what, |_| self.write_to(built, names, output, out))
    }

    fn write_to(
        &self,
        built: &Built,
        names: &[Reference],
        output: &Output,
        out: &mut dyn Write,
    ) -> Result<(), EngineError> {
        let failed = |path: &Path, error: &dyn std::error::Error| {
            EngineError::file("write", path, std::io::Error::other(chain(error)))
        };
        let is_several = built.images.len() > 1;
        let places = |split: Split| -> Vec<(String, &Image)> {
            let images = built.images.iter();
            images
                .map(|(platform, image)| (split.directory(platform, is_several), image))
                .collect()
        };
        match output {
            Output::Store | Output::Registry => Ok(()),
            Output::Local(path, split) => {
                for (directory, image) in places(*split) {
                    let written = self.images.write_files(image, path, &directory);
                    written.map_err(|error| failed(&path.join(directory), &error))?;
                }
                Ok(())
            }
            Output::Tar(path, split) => {
                let to = PathBuf::from(shown(path.as_deref()));
                let mut sink = sink(path.as_deref(), out)?;
                let written = self.images.write_files_tar(&places(*split), &mut sink);
                written.map_err(|error| failed(&to, &error))
            }
            Output::Archive(path) | Output::DockerArchive(path) => {
                let mut sink = sink(path.as_deref(), out)?;
                Ok(self.images.save_built(built, names, &mut sink)?)
            }
        }
    }
}

/// Opens where something is written to.
fn sink<'a>(
    path: Option<&Path>,
    out: &'a mut dyn Write,
) -> Result<Box<dyn Write + 'a>, EngineError> {
    match path {
        None => Ok(Box::new(out)),
        Some(path) => {
            let file = fs_err::File::create(path);
            let file = file.map_err(|error| EngineError::file("write", path, error))?;
            Ok(Box::new(std::io::BufWriter::new(file)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_read() {
        let at = |path: &str| PathBuf::from("/w").join(path);
        let table = [
            ("out", Ok(Output::Local(at("out"), Split::Several))),
            ("-", Ok(Output::Tar(None, Split::Several))),
            (
                "type=local,dest=/a,platform-split=false",
                Ok(Output::Local(at("/a"), Split::Never)),
            ),
            (
                "type=docker,dest=x.tar",
                Ok(Output::DockerArchive(Some(at("x.tar")))),
            ),
            ("type=local", Err("it needs a dest")),
            ("type=tar,dest=-", Ok(Output::Tar(None, Split::Several))),
            (
                "type=oci,dest=x.tar",
                Ok(Output::Archive(Some(at("x.tar")))),
            ),
            ("type=docker", Ok(Output::Store)),
            ("type=docker,dest=-", Ok(Output::DockerArchive(None))),
            ("type=oci", Ok(Output::Archive(None))),
            (
                "type=local,dest=-",
                Err("dest cannot be stdout for local exporter"),
            ),
            ("type=image,push=x", Err("push is `true` or `false`")),
            ("type=image,push=true", Ok(Output::Registry)),
            (
                "type=x",
                Err("type must be local, tar, oci, docker, image or registry"),
            ),
        ];
        for (text, expected) in table {
            let found = parse(text, Path::new("/w")).map_err(|error| error.message);
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_goes_elsewhere_is_not_in_the_store() {
        let table = [
            (&[][..], false, true),
            (&["out"], false, false),
            (&["type=oci,dest=x", "-"], false, false),
            (&["type=docker,dest=x"], false, false),
            (&["type=docker"], false, true),
            (&["out", "type=image"], false, true),
            (&["type=registry"], false, true),
            (&["out"], true, true),
        ];
        for (texts, asked, expected) in table {
            let outputs = texts
                .iter()
                .map(|text| parse(text, Path::new("/w")).unwrap());
            let outputs: Vec<Output> = outputs.collect();
            assert_eq!(is_stored(&outputs, asked), expected, "{texts:?} {asked}");
        }
    }
}
