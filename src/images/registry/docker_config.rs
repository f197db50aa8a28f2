//! Docker's `config.json`, changed: what a login adds and a logout takes away, and nothing else.
//!
//! Keys that we do not know stay. The file is replaced whole, where a symbolic link points to it in the directory that this one
//! names, with the mode and owner it had; a new one is for its owner alone (0600).

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::auth::{Credentials, CredentialsError, Secret, host_of_key, scope_of_key, server_of};
use super::{ClientEnvironment, helper};
use crate::sys::atomic::{self, Durability};

/// Where a secret was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Readable, in this file.
    File(PathBuf),
    /// By this helper.
    Helper(String),
}

/// Keeps the secret of a registry for later commands.
pub(super) fn keep(
    environment: &ClientEnvironment,
    host: &str,
    secret: &Secret,
) -> Result<Kept, CredentialsError> {
    let path = path_of(environment)?;
    let credentials = Credentials::read(environment)?;
    let server = server_of(host);
    let helper = credentials.helper(host).map(str::to_owned);
    let entry = match (&helper, secret) {
        // The entry says that there is one, as Docker's does.
        (Some(_), _) => json!({}),
        (None, Secret::Password { user, password }) => {
            let auth = format!("{user}:{password}");
            json!({ "auth": base64::engine::general_purpose::STANDARD.encode(auth) })
        }
        (None, Secret::Identity(token)) => json!({ "identitytoken": token }),
        (None, Secret::Bearer(token)) => json!({ "registrytoken": token }),
    };
    if let Some(name) = &helper {
        helper::store(name, &server, secret)?;
    }
    change(&path, |config| {
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        if let Some(auths) = auths.as_object_mut() {
            // Those for parts of the registry are other accounts.
            auths.retain(|key, _| scope_of_key(key) != host_of_key(host));
            auths.insert(server, entry);
        }
    })?;
    Ok(helper.map_or(Kept::File(path), Kept::Helper))
}

/// Forgets the secret of a registry; returns whether there was one.
pub(super) fn forget(
    environment: &ClientEnvironment,
    host: &str,
) -> Result<bool, CredentialsError> {
    let path = path_of(environment)?;
    let credentials = Credentials::read(environment)?;
    let mut found = false;
    if let Some(name) = credentials.helper(host) {
        found |= helper::get(name, &server_of(host))?.is_some();
        helper::erase(name, &server_of(host))?;
    }
    change(&path, |config| {
        if let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) {
            let before = auths.len();
            // Those for parts of the registry are other accounts.
            auths.retain(|key, _| scope_of_key(key) != host_of_key(host));
            found |= auths.len() < before;
        }
    })?;
    Ok(found)
}

fn path_of(environment: &ClientEnvironment) -> Result<PathBuf, CredentialsError> {
    let path = environment.docker_config.clone();
    path.ok_or(CredentialsError::NoPlace)
}

fn change(
    path: &Path,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), CredentialsError> {
    // What a link points to is replaced, not the link; one that points to nothing yet has its file made there.
    let target = match fs_err::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(link) => path.parent().unwrap_or(Path::new("/")).join(link),
            Err(_) => path.to_owned(),
        },
        Err(source) => {
            return Err(CredentialsError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let (before, stat) = match fs_err::read_to_string(&target) {
        Ok(text) => (text, fs_err::metadata(&target).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), None),
        Err(source) => {
            return Err(CredentialsError::Read {
                path: target,
                source,
            });
        }
    };
    let mut config = if before.trim().is_empty() {
        Map::new()
    } else {
        let parsed = serde_json::from_str(&before);
        parsed.map_err(|error| CredentialsError::Malformed {
            path: target.clone(),
            line: error.line(),
        })?
    };
    let old = config.clone();
    change(&mut config);
    if config == old {
        return Ok(());
    }
    let failed = |source: std::io::Error| CredentialsError::Write {
        path: target.clone(),
        source,
    };
    write(&target, &config, stat.as_ref()).map_err(failed)
}

fn write(
    target: &Path,
    config: &Map<String, Value>,
    stat: Option<&std::fs::Metadata>,
) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let directory = target.parent().unwrap_or(Path::new("/"));
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(config, &mut serializer)?;
    let mode = stat.map_or(0o600, |stat| stat.mode() & 0o7777);
    // Owned by us until it has its place, and for us alone: the old owner reads it from then on.
    let temporary = target.with_extension(format!("json{}", std::process::id()));
    let written = atomic::write(&temporary, &text, 0o600, Durability::Synced)
        .and_then(|()| match stat {
            Some(stat) => std::os::unix::fs::chown(&temporary, Some(stat.uid()), Some(stat.gid())),
            None => Ok(()),
        })
        .and_then(|()| fs_err::set_permissions(&temporary, std::fs::Permissions::from_mode(mode)))
        .and_then(|()| fs_err::rename(&temporary, target));
    if let Err(error) = written {
        return Err(match fs_err::remove_file(&temporary) {
            Err(left) if left.kind() != ErrorKind::NotFound => {
                std::io::Error::other(format!("{error}; and then: {left}"))
            }
            _ => error,
        });
    }
    atomic::sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(path: &Path) -> ClientEnvironment {
        ClientEnvironment {
            docker_config: Some(path.to_owned()),
            ..ClientEnvironment::system(None)
        }
    }

    fn mode(path: &Path) -> u32 {
        fs_err::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_login_changes_its_entry_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.json");
        let secret = Secret::Password {
            user: "u".to_owned(),
            password: "p".to_owned(),
        };
        let kept = keep(&environment(&path), "r.example:5000", &secret).unwrap();
        assert_eq!((kept, mode(&path)), (Kept::File(path.clone()), 0o600));
        assert_eq!(
            fs_err::read_to_string(&path).unwrap(),
            "{\n\t\"auths\": {\n\t\t\"r.example:5000\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t}\n}"
        );
        let real = directory.path().join("real.json");
        let text = r#"{"psFormat":"x","auths":{"https://index.docker.io/v1/":{"auth":"eDp5"},"o":{"auth":"eDp5"}},"deep":{"a":[1]}}"#;
        fs_err::write(&real, text).unwrap();
        fs_err::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&real, Some(3), Some(4)).unwrap();
        let link = directory.path().join("config.json");
        fs_err::os::unix::fs::symlink("real.json", &link).unwrap();
        let token = Secret::Identity("t".to_owned());
        keep(&environment(&link), "docker.io", &token).unwrap();
        let read = || -> Value { serde_json::from_slice(&fs_err::read(&real).unwrap()).unwrap() };
        assert_eq!(
            read(),
            json!({"psFormat": "x", "deep": {"a": [1]},
                "auths": {"https://index.docker.io/v1/": {"identitytoken": "t"}, "o": {"auth": "eDp5"}}})
        );
        assert!(fs_err::symlink_metadata(&link).unwrap().is_symlink());
        let stat = fs_err::metadata(&real).unwrap();
        assert_eq!((mode(&real), stat.uid(), stat.gid()), (0o640, 3, 4));
        assert!(forget(&environment(&link), "registry-1.docker.io").unwrap());
        assert!(!forget(&environment(&link), "docker.io").unwrap());
        assert_eq!(
            read(),
            json!({"psFormat": "x", "deep": {"a": [1]}, "auths": {"o": {"auth": "eDp5"}}})
        );
        let names = fs_err::read_dir(directory.path()).unwrap();
        assert_eq!(names.count(), 3, "nothing temporary is left");
    }

    #[test]
    fn accounts_of_a_part_of_the_registry_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let text = r#"{"auths":{"q.example/team":{"auth":"eDp5"},"q.example/v1/":{"auth":"eDp5"},"https://q.example":{}}}"#;
        fs_err::write(&path, text).unwrap();
        assert!(forget(&environment(&path), "q.example").unwrap());
        let left: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        assert_eq!(left, json!({"auths": {"q.example/team": {"auth": "eDp5"}}}));
    }

    #[test]
    fn what_is_malformed_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs_err::write(&path, "{\n,").unwrap();
        let token = Secret::Identity("t".to_owned());
        let error = keep(&environment(&path), "r", &token).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the credentials `{}` are malformed at line 2",
                path.display()
            )
        );
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "{\n,");
    }
}
