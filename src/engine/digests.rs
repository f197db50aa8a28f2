//! Digests that commands ask for without an instance: of images in their registries, of services, of contents.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use futures_util::stream::StreamExt;
use sha2::Digest;

use super::error::EngineError;
use crate::images::{ClientEnvironment, Reference, remote_digest};
use crate::plan::options::UpOptions;
use crate::plan::{fingerprint, naming};
use crate::spec::model::Stack;
use crate::spec::model::volume::FileObject;

/// How many registries are asked at once.
const AT_ONCE: usize = 8;

/// Asks the registry of each image for its digest; returns each as it was given with the whole reference that pins it,
/// `docker.io/library/busybox:latest@sha256:…`. One that has a digest already is not asked for.
///
/// All are asked for, and every one that cannot be had is told of.
pub async fn pin(
    images: &BTreeSet<String>,
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Vec<EngineError>> {
    let client = client_environment(environment);
    let asked = images.iter().map(|image| pinned(image, &client));
    let answers: Vec<_> = futures_util::stream::iter(asked)
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut pins = BTreeMap::new();
    let mut failures = Vec::new();
    for answer in answers {
        match answer {
            Ok((image, whole)) => {
                pins.insert(image, whole);
            }
            Err(error) => failures.push(error),
        }
    }
    if failures.is_empty() {
        Ok(pins)
    } else {
        Err(failures)
    }
}

async fn pinned(image: &str, client: &ClientEnvironment) -> Result<(String, String), EngineError> {
    let reference = Reference::parse(image)?;
    let repository = reference.repository();
    let whole = if let Some(digest) = reference.digest() {
        format!("{repository}@{digest}")
    } else {
        let digest = remote_digest(client, &reference).await?;
        let tag = reference.tag().unwrap_or("latest");
        format!("{repository}:{tag}@{digest}")
    };
    Ok((image.to_owned(), whole))
}

/// Returns the hash of each enabled service: the digest of all that its containers are compared by, which their label
/// `com.docker.compose.config-hash` has. It changes exactly when `up` would have something to change.
pub fn config_hashes(
    stack: &Stack,
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, EngineError> {
    let options = with_digests(stack, environment, &UpOptions::default())?;
    let hash = |service| naming::config_hash(&fingerprint::service(stack, service, &options));
    let hashes = stack.services.iter();
    Ok(hashes
        .map(|(name, service)| (name.to_string(), hash(service)))
        .collect())
}

/// Returns where registries and credentials are configured.
pub(super) fn client_environment(environment: &BTreeMap<String, String>) -> ClientEnvironment {
    let docker_config = environment.get("DOCKER_CONFIG").map(PathBuf::from);
    let docker_config = docker_config.or_else(|| {
        let home = environment.get("HOME");
        home.map(|home| Path::new(home).join(".docker"))
    });
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let containers_auth = set("REGISTRY_AUTH_FILE").map(PathBuf::from).or_else(|| {
        let runtime = set("XDG_RUNTIME_DIR");
        runtime.map(|directory| Path::new(directory).join("containers/auth.json"))
    });
    ClientEnvironment {
        docker_auth_config: set("DOCKER_AUTH_CONFIG").cloned(),
        containers_auth,
        ..ClientEnvironment::system(docker_config.as_deref())
    }
}

/// Adds the digests of what secrets and configs contain, so that a changed content is seen.
pub(super) fn with_digests(
    stack: &Stack,
    environment: &BTreeMap<String, String>,
    options: &UpOptions,
) -> Result<UpOptions, EngineError> {
    let digests = |objects: &BTreeMap<String, FileObject>| -> Result<BTreeMap<_, _>, EngineError> {
        objects
            .iter()
            .map(|(key, object)| Ok((key.clone(), content_digest(object, environment)?)))
            .collect()
    };
    Ok(UpOptions {
        secret_digests: digests(&stack.secrets)?,
        config_digests: digests(&stack.configs)?,
        ..options.clone()
    })
}

/// Returns a digest of a secret's or config's content; a missing one shows when it is used.
fn content_digest(
    object: &FileObject,
    environment: &BTreeMap<String, String>,
) -> Result<String, EngineError> {
    let mut digest = sha2::Sha256::new();
    match object {
        FileObject::File(path) => {
            let hashed = match fs_err::metadata(path) {
                // What a directory or a device holds is seen through the mount.
                Ok(found) if !found.is_file() => Ok(()),
                Ok(_) => hash_file(path, &mut digest),
                Err(error) => Err(error),
            };
            match hashed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(EngineError::file("read", path, error));
                }
                _ => {}
            }
        }
        FileObject::Environment(name) => {
            digest.update(environment.get(name).map_or("", String::as_str));
        }
        FileObject::Content(text) => digest.update(text),
    }
    let digest = digest.finalize();
    let hex = digest.iter().fold(String::from("sha256:"), |text, byte| {
        text + &format!("{byte:02x}")
    });
    Ok(hex)
}

/// Adds a file's content to a digest.
fn hash_file(path: &Path, digest: &mut sha2::Sha256) -> std::io::Result<()> {
    let mut file = fs_err::File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => digest.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}
