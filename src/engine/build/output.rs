//! `--output`, `--metadata-file` and `--push`: where a built image goes beside the store.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::options::{OptionError, fields, wrong};
use crate::engine::error::EngineError;
use crate::engine::{Engine, chain};
use crate::images::store::Image;

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// Its files, into a directory.
    Local(PathBuf),
    /// Its files, as a tar; to standard output where there is no path.
    Tar(Option<PathBuf>),
    /// An archive of the image that Docker and OCI tools read.
    Archive(Option<PathBuf>),
    /// The store, where it is anyhow.
    Store,
    /// Its registry.
    Registry,
}

/// Reads `--output`: a directory, `-` for a tar on standard output, or `type=…,dest=…` (docker/buildx `export.go`).
pub(super) fn parse(text: &str, directory: &Path) -> Result<Output, OptionError> {
    let option = "--output";
    if !text.contains('=') {
        return Ok(match text {
            "-" => Output::Tar(None),
            path => Output::Local(directory.join(path)),
        });
    }
    let (mut kind, mut path, mut push) = (String::new(), None, false);
    for (key, value) in fields(option, text)? {
        match key.as_str() {
            "type" => kind = value,
            "dest" | "output" => path = Some(value),
            "push" => push = value == "true",
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
        ("local", Some(path)) => Ok(Output::Local(path)),
        ("local", None) => Err(wrong(option, text, "it needs a dest")),
        ("tar", path) => Ok(Output::Tar(path)),
        ("docker" | "oci", Some(path)) => Ok(Output::Archive(Some(path))),
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
        image: &Image,
        names: &[String],
        output: &Output,
        out: &mut dyn Write,
    ) -> Result<(), EngineError> {
        let failed = |path: &Path, error: &dyn std::error::Error| {
            EngineError::file("write", path, std::io::Error::other(chain(error)))
        };
        match output {
            Output::Store | Output::Registry => Ok(()),
            Output::Local(path) => {
                let written = self.images.write_files(image, path);
                written.map_err(|error| failed(path, &error))
            }
            Output::Tar(path) => {
                let shown = path.clone().unwrap_or_else(|| PathBuf::from("-"));
                let mut sink = sink(path.as_deref(), out)?;
                let written = self.images.write_files_tar(image, &mut sink);
                written.map_err(|error| failed(&shown, &error))
            }
            Output::Archive(path) => {
                let mut asked = names.to_vec();
                if asked.is_empty() {
                    asked.push(image.id.to_string());
                }
                let mut sink = sink(path.as_deref(), out)?;
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
            ("out", Ok(Output::Local(at("out")))),
            ("-", Ok(Output::Tar(None))),
            ("type=local,dest=/a", Ok(Output::Local(at("/a")))),
            ("type=local", Err("it needs a dest")),
            ("type=tar,dest=-", Ok(Output::Tar(None))),
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
