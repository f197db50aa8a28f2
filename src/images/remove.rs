//! What removing an image means: names first, the image with its last one (moby `daemon/images/image_delete.go`). Pure.

use super::reference::Reference;
use super::store::Known;

/// A container that was made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// As people see its id: 12 digits.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Names to take away.
    pub names: Vec<Reference>,
    /// `repository@digest` to take away.
    pub digests: Vec<Reference>,
    /// Remove the image too.
    pub forget: bool,
}

/// Why an image stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoveConflict {
    /// The only name of an image that a container uses.
    #[error(
        "conflict: unable to remove repository reference \"{asked}\" (must force) - container {container} is using its referenced image {image}"
    )]
    Name {
        /// As asked for.
        asked: String,
        /// Who uses it.
        container: String,
        /// 12 digits.
        image: String,
    },
    /// A container runs it.
    #[error(
        "conflict: unable to delete {image} (cannot be forced) - image is being used by running container {container}"
    )]
    Running {
        /// 12 digits.
        image: String,
        /// Who.
        container: String,
    },
    /// A container that does not run was made of it.
    #[error(
        "conflict: unable to delete {image} (must be forced) - image is being used by stopped container {container}"
    )]
    Stopped {
        /// 12 digits.
        image: String,
        /// Who.
        container: String,
    },
    /// A container of it is about to be made.
    #[error(
        "conflict: unable to delete {image} (cannot be forced) - a container is being made of the image"
    )]
    Wanted {
        /// 12 digits.
        image: String,
    },
    /// An id of an image that several repositories name.
    #[error(
        "conflict: unable to delete {image} (must be forced) - image is referenced in multiple repositories"
    )]
    Repositories {
        /// 12 digits.
        image: String,
    },
}

/// Decides on removing what `asked` names: a name of the image, or its id.
pub fn decide(
    known: &Known,
    asked: &str,
    force: bool,
    users: &[ImageUser],
) -> Result<Removal, RemoveConflict> {
    let name = Reference::parse(asked).ok();
    let name = name.filter(|name| known.names.contains(name) || known.digests.contains(name));
    match name {
        Some(name) => by_name(known, asked, &name, force, users),
        None => by_id(known, force, users),
    }
}

fn by_name(
    known: &Known,
    asked: &str,
    name: &Reference,
    force: bool,
    users: &[ImageUser],
) -> Result<Removal, RemoveConflict> {
    if let Some(user) = users.first()
        && !force
        && is_single(known)
    {
        return Err(RemoveConflict::Name {
            asked: asked.to_owned(),
            container: user.container.clone(),
            image: known.id.short().to_owned(),
        });
    }
    let mut removal = Removal {
        names: Vec::new(),
        digests: Vec::new(),
        forget: false,
    };
    if name.digest().is_some() {
        removal.digests.push(name.clone());
    } else {
        removal.names.push(name.clone());
        let repository = name.repository();
        let is_last = |other: &Reference| other == name || other.repository() != repository;
        if known.names.iter().all(is_last) {
            let digests = known.digests.iter();
            let digests = digests.filter(|digest| digest.repository() == repository);
            removal.digests.extend(digests.cloned());
        }
    }
    let left = known.names.len() + known.digests.len();
    let is_last = left == removal.names.len() + removal.digests.len();
    // Without a name, what a container was made of stays with it, unless it is stopped and this was forced.
    removal.forget = is_last && users.iter().all(|user| force && !user.running);
    Ok(removal)
}

fn by_id(known: &Known, force: bool, users: &[ImageUser]) -> Result<Removal, RemoveConflict> {
    let image = known.id.short().to_owned();
    if let Some(user) = users.iter().find(|user| user.running) {
        return Err(RemoveConflict::Running {
            image,
            container: user.container.clone(),
        });
    }
    if !force {
        if !is_single(known) {
            return Err(RemoveConflict::Repositories { image });
        }
        if let Some(user) = users.first() {
            return Err(RemoveConflict::Stopped {
                image,
                container: user.container.clone(),
            });
        }
    }
    Ok(Removal {
        names: known.names.clone(),
        digests: known.digests.clone(),
        forget: true,
    })
}

/// Whether the image has at most one name, and digests of that repository only.
fn is_single(known: &Known) -> bool {
    if known.names.len() + known.digests.len() <= 1 {
        return true;
    }
    match known.names.as_slice() {
        [] => true,
        [name] => {
            let repository = name.repository();
            let mut digests = known.digests.iter();
            digests.all(|digest| digest.repository() == repository)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Descriptor, ImageConfig, OCI_MANIFEST};
    use super::super::reference::Digest;
    use super::super::store::Image;
    use super::*;

    fn known(names: &[&str]) -> Known {
        let digest = Digest::of(b"x");
        let parse =
            |text: &&str| Reference::parse(&text.replace("@D", &format!("@{digest}"))).unwrap();
        let references: Vec<Reference> = names.iter().map(parse).collect();
        let (digests, names) = references
            .into_iter()
            .partition(|name| name.digest().is_some());
        Known {
            id: digest.clone(),
            members: Vec::new(),
            image: Image {
                id: digest.clone(),
                manifest: digest.clone(),
                config: ImageConfig::default(),
                layers: Vec::new(),
            },
            descriptor: Descriptor::new(OCI_MANIFEST, digest, 1),
            names,
            digests,
            size_bytes: 0,
            tagged: None,
        }
    }

    /// Who uses it: `r` a container that runs, `s` one that does not.
    fn check(names: &[&str], asked: &str, force: bool, users: &str, expected: &str) {
        let known = known(names);
        let digest = known.id.to_string();
        let users: Vec<ImageUser> = users
            .chars()
            .map(|kind| ImageUser {
                container: "c".to_owned(),
                running: kind == 'r',
            })
            .collect();
        let asked = asked.replace("@D", &format!("@{digest}"));
        let shown = match decide(&known, &asked, force, &users) {
            Ok(removal) => {
                let gone = removal.names.iter().chain(&removal.digests);
                let mut shown: Vec<String> = gone.map(Reference::familiar).collect();
                shown.extend(removal.forget.then(|| "image".to_owned()));
                shown.join(" ")
            }
            Err(error) => error.to_string(),
        };
        let shown = shown.replace(&digest, "D").replace(known.id.short(), "ID");
        assert_eq!(shown, expected, "{names:?} {asked} {force} {users:?}");
    }

    #[test]
    fn names_go_first_and_the_image_with_the_last() {
        check(&["a", "b"], "a", false, "r", "a:latest");
        check(&["a"], "a", false, "", "a:latest image");
        check(&["a", "a@D"], "a", false, "", "a:latest a@D image");
        check(&["a", "a:2", "a@D"], "a", false, "", "a:latest");
        check(&["a", "b@D"], "a", false, "", "a:latest");
        check(&["a", "a@D"], "a@D", false, "", "a@D");
        check(
            &["a", "a:2"],
            "2d711642b726",
            true,
            "",
            "a:latest a:2 image",
        );
        check(
            &["a", "a@D"],
            "2d711642b726",
            false,
            "",
            "a:latest a@D image",
        );
        check(&[], "2d711642b726", false, "", "image");
    }

    #[test]
    fn what_containers_use_stays() {
        let name = "conflict: unable to remove repository reference \"a\" (must force) - container c is using its referenced image ID";
        check(&["a"], "a", false, "s", name);
        check(&["a"], "a", false, "r", name);
        check(&["a"], "a", true, "s", "a:latest image");
        check(&["a"], "a", true, "r", "a:latest");
        let running = "conflict: unable to delete ID (cannot be forced) - image is being used by running container c";
        check(&["a"], "2d711642b726", true, "r", running);
        check(&["a"], "2d711642b726", false, "rs", running);
        let stopped = "conflict: unable to delete ID (must be forced) - image is being used by stopped container c";
        check(&["a"], "2d711642b726", false, "s", stopped);
        check(&["a"], "2d711642b726", true, "s", "a:latest image");
        let many = "conflict: unable to delete ID (must be forced) - image is referenced in multiple repositories";
        check(&["a", "b"], "2d711642b726", false, "", many);
        check(&["a", "b@D"], "2d711642b726", false, "", many);
        check(
            &["a", "b"],
            "2d711642b726",
            true,
            "",
            "a:latest b:latest image",
        );
    }
}
