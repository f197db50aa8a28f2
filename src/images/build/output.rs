//! A built image's files, outside of the store: `--output type=local` and `type=tar`.

use std::io::Write;
use std::path::Path;

use super::super::Images;
use super::super::stop::Stop;
use super::super::store::Image;
use super::super::unpack::writer::write_layer;
use super::context::Origin;
use super::copy::{Destination, Filling, Style};
use super::error::StepFailure;
use super::pattern::IgnoreRules;
use super::tree::Tree;

impl Images {
    /// Copies all files of an image into a directory, which is made if missing; what is there already stays, but for files of the same
    /// name.
    pub fn write_files(&self, image: &Image, directory: &Path) -> Result<(), StepFailure> {
        fs_err::create_dir_all(directory)?;
        if image.layers.is_empty() {
            return Ok(());
        }
        let tree = Tree::layers(self.layer_directories(image));
        let origin = Origin {
            tree: &tree,
            ignore: &IgnoreRules::default(),
            name: "the image",
            stop: &Stop::default(),
        };
        let keeping = Style {
            owner: None,
            mode: None,
        };
        let destination = Destination {
            path: "/".into(),
            is_directory: true,
        };
        let mut filling = Filling::new(directory, &[]);
        for selected in origin.select(".", &IgnoreRules::default())? {
            filling.copy(&selected, &destination, &keeping)?;
        }
        Ok(filling.finish()?)
    }

    /// Writes all files of images as one tar, each within a directory of that name, which may be empty.
    pub fn write_files_tar(
        &self,
        images: &[(String, &Image)],
        sink: &mut impl Write,
    ) -> Result<(), StepFailure> {
        let staging = self.store().staging()?;
        for (directory, image) in images {
            self.write_files(image, &staging.diff().join(directory))?;
        }
        let written = write_layer(&staging.diff(), sink);
        written.map_err(std::io::Error::other)?;
        sink.flush()?;
        Ok(())
    }
}
