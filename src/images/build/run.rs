//! `RUN` steps: what the command is, and what is kept out of its layer.
//!
//! # Mount points
//!
//! A container gets `/proc`, `/sys`, `/dev` and its own `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` mounted over those of
//! the image. Where the image lacks one, the runtime has to make it, and what it makes would be in the upper directory and so in
//! the layer. Instead of looking for such remains afterwards (an empty `/etc/hosts` may be the step's own work) they never
//! come to be: a directory with exactly the missing mount points, and their parents as the image has them, becomes the top-most
//! *lower* directory of the step. The runtime finds everything in place, and the upper directory has only what the step did.

use std::io;
use std::path::{Path, PathBuf};

use super::super::dockerfile::instruction::{Command, Run};
use super::super::dockerfile::lexer;
use super::copy::{Destination, Filling, Owner, Style};
use super::tree::{Last, Tree};

/// What the runtime mounts, and whether each is a directory.
const MOUNT_POINTS: [(&str, bool); 6] = [
    ("/proc", true),
    ("/sys", true),
    ("/dev", true),
    ("/etc/hosts", false),
    ("/etc/hostname", false),
    ("/etc/resolv.conf", false),
];

/// Makes in `directory` (missing or empty) the mount points that `layers` (top first) lack; returns whether there are any.
pub fn make_mount_points(directory: &Path, layers: &[PathBuf]) -> io::Result<bool> {
    let tree = Tree::layers(layers.to_vec());
    let mut missing = Vec::new();
    for (path, is_directory) in MOUNT_POINTS {
        // Through links, as the runtime goes: Debian's /etc/resolv.conf may lead to a file below /run.
        let resolved = match tree.resolve(Path::new(path), Last::Follow) {
            Ok(resolved) => resolved,
            // The runtime will say what is wrong with an image whose /etc is a file.
            Err(_) => continue,
        };
        if resolved.node.is_none() {
            missing.push((Path::new("/").join(resolved.path), is_directory));
        }
    }
    if missing.is_empty() {
        return Ok(false);
    }
    fs_err::create_dir_all(directory)?;
    let mut filling = Filling::new(directory, layers);
    let style = Style {
        owner: Some(Owner::ROOT),
        mode: None,
    };
    for (path, is_directory) in missing {
        if is_directory {
            filling.make_directory(&path, Owner::ROOT)?;
        } else {
            let destination = Destination {
                path,
                is_directory: false,
            };
            filling.document("", "", &destination, &style)?;
        }
    }
    filling.finish()?;
    Ok(true)
}

/// Returns the command of a `RUN` with its here-documents in it.
///
/// A here-document that stands alone is the script itself; in any other place the shell reads it, and gets the text as written.
pub fn command_of(run: &Run) -> Command {
    let Command::Shell(text) = &run.command else {
        return run.command.clone();
    };
    if let [script] = run.documents.as_slice()
        && lexer::parse_opening(text).is_some()
    {
        return Command::Shell(script.content());
    }
    let mut whole = text.clone();
    for document in &run.documents {
        whole.push('\n');
        whole.push_str(&document.body);
        whole.push_str(&document.name);
    }
    Command::Shell(whole)
}

/// Splits output into lines, and keeps the last of them.
pub struct Lines<'a> {
    /// Hears each line.
    hear: &'a mut dyn FnMut(&[u8]),
    /// The begun line.
    partial: Vec<u8>,
    /// The last lines.
    tail: std::collections::VecDeque<String>,
}

/// Bytes after which a line without an end is passed on.
const MAX_LINE: usize = 64 * 1024;

impl<'a> Lines<'a> {
    /// Starts with nothing.
    pub fn new(hear: &'a mut dyn FnMut(&[u8])) -> Self {
        Self {
            hear,
            partial: Vec::new(),
            tail: std::collections::VecDeque::new(),
        }
    }

    /// Takes a piece of output.
    pub fn take(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") || self.partial.len() >= MAX_LINE {
                self.end_line();
            }
        }
    }

    /// Ends the output; returns its last lines.
    pub fn finish(mut self) -> Vec<String> {
        if !self.partial.is_empty() {
            self.end_line();
        }
        self.tail.into()
    }

    /// Passes on the begun line.
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.partial);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (self.hear)(line);
        if self.tail.len() == super::TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail
            .push_back(String::from_utf8_lossy(line).into_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::super::super::dockerfile::instruction::Document;
    use super::*;

    #[test]
    fn here_documents_become_commands() {
        let document = |name: &str, body: &str, strip_tabs| Document {
            name: name.to_owned(),
            body: body.to_owned(),
            expand: true,
            strip_tabs,
        };
        let table = [
            ("echo a", vec![], "echo a"),
            ("<<E", vec![document("E", "a\nb\n", false)], "a\nb\n"),
            ("<<-E", vec![document("E", "\ta\n", true)], "a\n"),
            (
                "<<-'E' cat > x",
                vec![document("E", "\ta\n", true)],
                "<<-'E' cat > x\n\ta\nE",
            ),
            (
                "cat <<A <<B",
                vec![document("A", "1\n", false), document("B", "2\n", false)],
                "cat <<A <<B\n1\nA\n2\nB",
            ),
        ];
        for (text, documents, expected) in table {
            let run = Run {
                command: Command::Shell(text.to_owned()),
                documents,
            };
            assert_eq!(
                command_of(&run),
                Command::Shell(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn missing_mount_points_are_made_above_the_image() {
        let temp = tempfile::tempdir().unwrap();
        let (image, points) = (temp.path().join("image"), temp.path().join("points"));
        for directory in ["etc", "proc", "dev"] {
            fs_err::create_dir_all(image.join(directory)).unwrap();
        }
        fs_err::set_permissions(image.join("etc"), PermissionsExt::from_mode(0o700)).unwrap();
        fs_err::File::create(image.join("etc/hosts")).unwrap();
        std::os::unix::fs::symlink("../run/dns", image.join("etc/resolv.conf")).unwrap();
        assert!(make_mount_points(&points, std::slice::from_ref(&image)).unwrap());
        let mut found: Vec<_> = [
            "etc",
            "etc/hostname",
            "etc/hosts",
            "etc/resolv.conf",
            "run/dns",
            "sys",
            "proc",
            "dev",
        ]
        .into_iter()
        .filter(|path| points.join(path).symlink_metadata().is_ok())
        .collect();
        found.sort_unstable();
        assert_eq!(found, ["etc", "etc/hostname", "run/dns", "sys"]);
        let (below, above) = (image.join("etc"), points.join("etc"));
        let facts = |path: &Path| {
            let metadata = fs_err::metadata(path).unwrap();
            (metadata.mode(), metadata.mtime(), metadata.mtime_nsec())
        };
        assert_eq!(facts(&above), facts(&below));
        let again = temp.path().join("again");
        assert!(!make_mount_points(&again, &[points, image]).unwrap());
        assert!(!again.exists());
    }

    #[test]
    fn output_is_heard_by_the_line() {
        let mut heard = Vec::new();
        let mut hear = |line: &[u8]| heard.push(String::from_utf8_lossy(line).into_owned());
        let mut lines = Lines::new(&mut hear);
        for piece in ["a", "b\r\nc", "\n\nlast"] {
            lines.take(piece.as_bytes());
        }
        let tail = lines.finish();
        assert_eq!(
            (heard, tail.len()),
            (
                vec!["ab".into(), "c".into(), String::new(), "last".into()],
                4
            )
        );
    }
}
