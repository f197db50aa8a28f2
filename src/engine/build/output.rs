//! `--output`, `--metadata-file` and `--push`: where a built image goes beside the store.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::options::{OptionError, fields, wrong};
use crate::engine::error::EngineError;
use crate::engine::{Engine, chain};
use crate::images::Platform;
use crate::images::build::Built;
use crate::images::store::Image;

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
    DockerArchive(PathBuf),
    /// The store, where it is anyhow.
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
                &format!("type=docker,dest={}", path.display()),
                "docker exporter does not currently support exporting manifest lists: use type=oci",
            )),
            _ => Ok(()),
        }
    }
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
                push = match value.as_str() {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(wrong(option, text, "push is `true` or `false`")),
                }
            }
            "platform-split" => {
                split = match value.as_str() {
                    "true" | "1" => Split::Always,
                    "false" | "0" => Split::Never,
                    _ => return Err(wrong(option, text, "platform-split is `true` or `false`")),
                }
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
    let path = path
        .filter(|path| path != "-")
        .map(|path| directory.join(path));
    match (kind.as_str(), path) {
        ("local", Some(path)) => Ok(Output::Local(path, split)),
        ("local", None) => Err(wrong(option, text, "it needs a dest")),
        ("tar", path) => Ok(Output::Tar(path, split)),
        ("docker", Some(path)) => Ok(Output::DockerArchive(path)),
        ("oci", Some(path)) => Ok(Output::Archive(Some(path))),
        ("oci", None) => Ok(Output::Archive(None)),
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

impl Engine {
    /// Writes an image where an output says; not to a registry.
    pub(super) fn write_output(
        &self,
        built: &Built,
        names: &[String],
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
                let shown = path.clone().unwrap_or_else(|| PathBuf::from("-"));
                let mut sink = sink(path.as_deref(), out)?;
                let written = self.images.write_files_tar(&places(*split), &mut sink);
                written.map_err(|error| failed(&shown, &error))
            }
            Output::Archive(_) | Output::DockerArchive(_) => {
                let path = match output {
                    Output::Archive(path) => path.as_deref(),
                    Output::DockerArchive(path) => Some(path.as_path()),
                    _ => None,
                };
                let mut asked = names.to_vec();
                if asked.is_empty() {
                    let is_index = built.target.is_index();
                    let id = if is_index {
                        &built.target.digest
                    } else {
                        &built.image.id
                    };
                    asked.push(id.to_string());
                }
                let mut sink = sink(path, out)?;
                self.save_images(&asked, None, &mut sink)
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
                Ok(Output::DockerArchive(at("x.tar"))),
            ),
            ("type=local", Err("it needs a dest")),
            ("type=tar,dest=-", Ok(Output::Tar(None, Split::Several))),
            (
                "type=oci,dest=x.tar",
                Ok(Output::Archive(Some(at("x.tar")))),
            ),
            ("type=docker", Ok(Output::Store)),
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
}
