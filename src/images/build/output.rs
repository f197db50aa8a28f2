//! A built image's files, outside of the store: `--output type=local` and `type=tar`.

use std::io::Write;
use std::path::Path;

use super::super::Images;
use super::super::stop::Stop;
use super::super::store::Image;
use super::super::unpack::writer;
use super::context::{Origin, Selected};
use super::copy::{Destination, Filling, Style};
use super::deliver::Delivery;
use super::error::StepFailure;
use super::pattern::IgnoreRules;
use super::tree::Tree;

impl Images {
    /// Copies all files of an image into `below` (a name, or nothing) in a directory, both made if missing; what is there already stays,
    /// but for files of the same name. Others may write there meanwhile, see [`Delivery`].
    pub fn write_files(
        &self,
        image: &Image,
        directory: &Path,
        below: &str,
    ) -> Result<(), StepFailure> {
        let mut delivery = Delivery::into(directory, below)?;
        for selected in self.files_of(image)? {
            for entry in &selected.entries {
                delivery.put(entry)?;
            }
        }
        Ok(delivery.finish()?)
    }

    /// Lists all files of an image.
    fn files_of(&self, image: &Image) -> Result<Vec<Selected>, StepFailure> {
        if image.layers.is_empty() {
            return Ok(Vec::new());
        }
        let tree = Tree::layers(self.layer_directories(image));
        let origin = Origin {
            tree: &tree,
            ignore: &IgnoreRules::default(),
            name: "the image",
            stop: &Stop::default(),
        };
        Ok(origin.select(".", &IgnoreRules::default())?)
    }

    /// Copies all files of an image into a directory of the store's own.
    fn stage_files(&self, image: &Image, directory: &Path) -> Result<(), StepFailure> {
        fs_err::create_dir_all(directory)?;
        let keeping = Style {
            owner: None,
            mode: None,
        };
        let destination = Destination {
            path: "/".into(),
            is_directory: true,
        };
        let mut filling = Filling::plain(directory);
        for selected in self.files_of(image)? {
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
            self.stage_files(image, &staging.diff().join(directory))?;
        }
        let written = writer::write_files(&staging.diff(), sink);
        written.map_err(std::io::Error::other)?;
        sink.flush()?;
        Ok(())
    }
}
