//! `--chown` and `USER`: names and numbers to numbers, through the image's own `/etc/passwd` and `/etc/group`.

use std::io;
use std::path::Path;

use super::copy::Owner;
use super::tree::{Last, Tree};

/// An owner that the image does not know.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// No line of that name.
    #[error("unable to find {kind} `{name}` in `{file}` of the image")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// As written.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// Nothing, or a colon alone.
    #[error("invalid owner `{0}`: it must be user or user:group")]
    Format(String),
    /// A file of the image that cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Largest file that is read for names.
const MAX_BYTES: u64 = 4 << 20;

/// `user[:group]`: names or numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerName {
    user: String,
    group: Option<String>,
}

impl OwnerName {
    /// Parses it; what the names stand for is not looked at.
    pub fn parse(text: &str) -> Result<Self, OwnerError> {
        if text.is_empty() || text == ":" {
            return Err(OwnerError::Format(text.to_owned()));
        }
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            user: user.to_owned(),
            group,
        })
    }

    /// Finds the numbers. A user's number alone is the group's too; a name alone has the group of its line.
    pub fn find(&self, tree: &Tree) -> Result<Owner, OwnerError> {
        // Half an owner is one for BuildKit: what the colon leaves open is root, and not the group of the user.
        let (uid, own_gid) = if self.user.is_empty() {
            (0, 0)
        } else if let Some(uid) = number(&self.user) {
            (uid, uid)
        } else {
            find_user(tree, &self.user)?
        };
        let gid = match self.group.as_deref() {
            None => own_gid,
            Some("") => 0,
            Some(group) => match number(group) {
                Some(gid) => gid,
                None => find_group(tree, group)?,
            },
        };
        Ok(Owner { uid, gid })
    }
}

/// Finds the numbers of `user[:group]`.
pub fn find(text: &str, tree: &Tree) -> Result<Owner, OwnerError> {
    OwnerName::parse(text)?.find(tree)
}

/// Looks for a user by name; root is one also of an image that knows no users, like those from `scratch`.
fn find_user(tree: &Tree, user: &str) -> Result<(u32, u32), OwnerError> {
    let fields = match line_of(tree, "user", "/etc/passwd", user) {
        Err(OwnerError::Unknown { .. }) if user == "root" => return Ok((0, 0)),
        fields => fields?,
    };
    let field = |index: usize| fields.get(index).and_then(|field| number(field));
    match (field(2), field(3)) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => Err(unknown("user", user, "/etc/passwd")),
    }
}

/// Looks for a group by name, root as for users.
fn find_group(tree: &Tree, group: &str) -> Result<u32, OwnerError> {
    let fields = match line_of(tree, "group", "/etc/group", group) {
        Err(OwnerError::Unknown { .. }) if group == "root" => return Ok(0),
        fields => fields?,
    };
    let gid = fields.get(2).and_then(|field| number(field));
    gid.ok_or_else(|| unknown("group", group, "/etc/group"))
}

/// Parses a number; a sign is none, and the largest one is nobody's: the kernel takes it for "as it is".
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.filter(|number| *number != u32::MAX)
}

/// Returns the fields of the line of `name`.
fn line_of(
    tree: &Tree,
    kind: &'static str,
    file: &'static str,
    name: &str,
) -> Result<Vec<String>, OwnerError> {
    let node = tree.resolve(Path::new(file), Last::Follow)?.node;
    let Some(node) = node.filter(|n| n.metadata.is_file() && n.metadata.len() <= MAX_BYTES) else {
        return Err(unknown(kind, name, file));
    };
    let bytes = fs_err::read(&node.host)?;
    let text = String::from_utf8_lossy(&bytes);
    let found = text
        .lines()
        .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
        .find(|fields| fields.first().is_some_and(|field| field == name));
    found.ok_or_else(|| unknown(kind, name, file))
}

/// Says that there is no such line.
fn unknown(kind: &'static str, name: &str, file: &'static str) -> OwnerError {
    OwnerError::Unknown {
        kind,
        name: name.to_owned(),
        file,
    }
}

#[cfg(test)]
mod tests {
    use crate::sys::atomic::{self, Durability};

    use super::*;

    #[test]
    fn owners_are_found_in_the_image() {
        let temp = tempfile::tempdir().unwrap();
        fs_err::create_dir(temp.path().join("etc")).unwrap();
        for (file, text) in [
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/sh\napp:x:1001:1002::/:/x\nbad:x:y\n",
            ),
            ("etc/group", "root:x:0:\nstaff:x:50:app\n"),
        ] {
            let path = temp.path().join(file);
            atomic::write(&path, text.as_bytes(), 0o644, Durability::Cached).unwrap();
        }
        let tree = Tree::directory(temp.path());
        let table = [
            ("5", "5:5"),
            ("5:6", "5:6"),
            ("app", "1001:1002"),
            ("app:staff", "1001:50"),
            ("5:staff", "5:50"),
            (
                "nobody",
                "unable to find user `nobody` in `/etc/passwd` of the image",
            ),
            (
                "bad",
                "unable to find user `bad` in `/etc/passwd` of the image",
            ),
            (
                "5:wheel",
                "unable to find group `wheel` in `/etc/group` of the image",
            ),
            (":5", "0:5"),
            ("5:", "5:0"),
            ("app:", "1001:0"),
            ("5:root", "5:0"),
            ("4294967294", "4294967294:4294967294"),
            (
                "4294967295",
                "unable to find user `4294967295` in `/etc/passwd` of the image",
            ),
            (":", "invalid owner `:`: it must be user or user:group"),
            ("", "invalid owner ``: it must be user or user:group"),
        ];
        for (text, expected) in table {
            let got = match find(text, &tree) {
                Ok(Owner { uid, gid }) => format!("{uid}:{gid}"),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn root_is_known_where_nobody_is() {
        let temp = tempfile::tempdir().unwrap();
        let tree = Tree::directory(temp.path());
        for text in ["root", "root:root", ":root", "0:root"] {
            assert_eq!(find(text, &tree).unwrap(), Owner::ROOT, "{text}");
        }
        find("app", &tree).unwrap_err();
        find("root:app", &tree).unwrap_err();
    }
}
