//! A container's name changes.

use crate::runtime::bundle::{self, BundleError};
use crate::runtime::config::ContainerId;
use crate::runtime::record;
use crate::runtime::remove;
use crate::runtime::{Runtime, RuntimeError};
use crate::sys::atomic::Durability;

impl Runtime {
    /// Gives a container another name, which must be free; one that has it already is left as it is.
    ///
    /// The new name is linked first and the old one unlinked last: killed in between, the container answers to both, and
    /// the next call goes on.
    pub fn rename(
        &self,
        id: &ContainerId,
        to: &str,
        durability: Durability,
    ) -> Result<(), RuntimeError> {
        if !bundle::is_name(to) {
            return Err(RuntimeError::BadName(to.to_owned()));
        }
        let _lock = self.lock_containers()?;
        let _record_lock = self.lock_record(id)?;
        let mut record = self.record(id)?;
        let layout = &self.layout;
        match layout.named(to)? {
            Some(holder) if holder != *id => {
                let name = to.to_owned();
                return Err(RuntimeError::NameInUse { name, holder });
            }
            Some(_) => {}
            None => {
                let link = layout.name(to);
                // A dangling link is what a killed creation left.
                let mut errors = Vec::new();
                remove::file(&link, &mut errors);
                std::os::unix::fs::symlink(id.as_str(), &link)
                    .map_err(|error| RuntimeError::Bundle(BundleError::Make(link, error)))?;
            }
        }
        let from = std::mem::replace(&mut record.config.name, to.to_owned());
        record::write(&layout.record(id), &record, durability)?;
        if from != to {
            let mut errors = Vec::new();
            remove::file(&layout.name(&from), &mut errors);
            if let Some(error) = errors.pop() {
                return Err(RuntimeError::Directory(
                    layout.name(&from),
                    std::io::Error::other(error),
                ));
            }
        }
        Ok(())
    }
}
