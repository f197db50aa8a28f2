//! `RUN` steps: what the command is, and what is kept out of its layer.
//!
//! # Mount points
//!
//! A step gets `/proc`, `/sys`, `/dev` and an `/etc/hosts` and `/etc/resolv.conf` mounted over those of the image; `/etc/hostname` is the
//! image's own. Where the image lacks one, the runtime has to make it, and what it makes would be in the upper directory and so in
//! the layer. Looking for such remains afterwards is guessing (an empty `/etc/hosts` may be the step's own work), so that they never
//! come to be:
//!
//! - Missing *files*, and their parents as the image has them, are put into a directory that becomes the top-most *lower*
//!   directory of the step. The runtime finds them in place; the upper directory has only what the step did, and `/etc` keeps its times.
//! - Missing *directories* are made in the upper directory before the step, 0755 root: Docker's images have them from their first `RUN`
//!   on (`conformance/build`), and a container with a read-only root needs them.

use std::io;
use std::path::{Path, PathBuf};

use super::super::dockerfile::instruction::{Command, Run};
use super::copy::{Destination, Filling, Owner, Style};
use super::tree::{Last, Tree};

/// Directories that the runtime mounts over.
const DIRECTORIES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Files that the runtime mounts over.
const FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Makes the mount points that `layers` (top first) lack: directories in `upper`, files in `points` (missing or empty).
/// Returns whether there is anything in `points`, which is then to be the top-most lower directory.
///
/// `more` are the places of the step's own mounts, and whether each is a directory; one below another one is made by whoever mounts it.
pub fn make_mount_points(
    upper: &Path,
    points: &Path,
    layers: &[PathBuf],
    more: &[(PathBuf, bool)],
) -> io::Result<bool> {
    let mut directories = Filling::new(upper, layers);
    let has_mounts = |path: &Path| {
        more.iter()
            .any(|(mount, _)| mount != path && mount.starts_with(path))
    };
    // What BuildKit takes away with a mount's own place is not in its layer: there the runtime makes it.
    let kept = DIRECTORIES
        .iter()
        .filter(|path| !has_mounts(Path::new(path)));
    for path in kept {
        match directories.make_directory(Path::new(path), Owner::ROOT) {
            Ok(_) => {}
            // The runtime will say what is wrong with an image whose /proc is a file.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
    }
    directories.finish()?;
    let tree = Tree::layers(layers.to_vec());
    let mut missing = Vec::new();
    let gone = DIRECTORIES.iter().map(|path| (Path::new(path), true));
    let gone = gone.filter(|(path, _)| has_mounts(path));
    let files = FILES.iter().map(|path| (Path::new(path), false));
    let own = more.iter().enumerate();
    let own = own.filter(|(at, (path, _))| {
        let is_below = |other: &Path| path != other && path.starts_with(other);
        let above = more.get(..*at).unwrap_or_default();
        !above.iter().any(|(other, _)| is_below(other))
            && !DIRECTORIES.iter().any(|other| is_below(Path::new(other)))
    });
    let own = own.map(|(_, (path, is_directory))| (path.as_path(), *is_directory));
    for (path, is_directory) in files.chain(gone).chain(own) {
        // Through links, as the runtime goes: Debian's /etc/resolv.conf may lead to a file below /run.
        match tree.resolve(path, Last::Follow) {
            Ok(resolved) if resolved.node.is_none() => missing.push((resolved.path, is_directory)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
    }
    if missing.is_empty() {
        return Ok(false);
    }
    fs_err::create_dir_all(points)?;
    let mut filling = Filling::new(points, layers);
    let style = Style {
        owner: Some(Owner::ROOT),
        mode: None,
    };
    for (path, is_directory) in missing {
        if is_directory {
            filling.make_directory(&Path::new("/").join(&path), Owner::ROOT)?;
            continue;
        }
        let destination = Destination {
            path,
            is_directory: false,
        };
        filling.document("", "", &destination, &style)?;
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
    if let Some(script) = run.script() {
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
///
/// Of what a step writes, the first [`MAX_HEARD`] bytes are heard, as with BuildKit (`BUILDKIT_STEP_LOG_MAX_SIZE`); the last lines are
/// kept of all of it.
pub struct Lines<'a> {
    /// Hears each line.
    hear: &'a mut dyn FnMut(&[u8]),
    /// The begun line.
    partial: Vec<u8>,
    /// The last lines that were heard.
    tail: std::collections::VecDeque<String>,
    /// Bytes of the lines that were heard.
    heard: usize,
    /// The last bytes of what is heard no more.
    unheard: Vec<u8>,
}

/// Bytes after which a line without an end is passed on.
const MAX_LINE: usize = 64 * 1024;

/// Bytes of a step's output that are passed on.
const MAX_HEARD: usize = 2 << 20;

/// Bytes that are kept of what is not passed on, and as many again before they are cut to that.
const MAX_UNHEARD: usize = 64 * 1024;

/// What is heard in place of the rest (BuildKit `util/progress/logs`).
const CLIPPED: &str = "[output clipped, log limit 2MiB reached]";

impl<'a> Lines<'a> {
    /// Starts with nothing.
    pub fn new(hear: &'a mut dyn FnMut(&[u8])) -> Self {
        Self {
            hear,
            partial: Vec::new(),
            tail: std::collections::VecDeque::new(),
            heard: 0,
            unheard: Vec::new(),
        }
    }

    /// Takes a piece of output.
    pub fn take(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while self.heard < MAX_HEARD {
            let Some(part) = rest.split_inclusive(|byte| *byte == b'\n').next() else {
                return;
            };
            rest = rest.get(part.len()..).unwrap_or_default();
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") || self.partial.len() >= MAX_LINE {
                self.end_line();
            }
            if self.heard >= MAX_HEARD {
                (self.hear)(CLIPPED.as_bytes());
            }
        }
        // No line of it is looked at before the end: a step may write without end.
        let kept = rest.len().saturating_sub(MAX_UNHEARD);
        self.unheard
            .extend_from_slice(rest.get(kept..).unwrap_or_default());
        if self.unheard.len() > 2 * MAX_UNHEARD {
            self.unheard.drain(..self.unheard.len() - MAX_UNHEARD);
        }
    }

    /// Ends the output; returns its last lines.
    pub fn finish(mut self) -> Vec<String> {
        self.flush();
        let unheard = std::mem::take(&mut self.unheard);
        if self.heard >= MAX_HEARD {
            let lines = unheard.strip_suffix(b"\n").unwrap_or(&unheard);
            for line in lines
                .split(|byte| *byte == b'\n')
                .filter(|_| !unheard.is_empty())
            {
                self.keep(line);
            }
        }
        std::mem::take(&mut self.tail).into()
    }

    /// Passes on the begun line, if one is.
    fn flush(&mut self) {
        if self.heard < MAX_HEARD && !self.partial.is_empty() {
            self.end_line();
        }
    }

    /// Passes on the begun line.
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.partial);
        self.heard += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (self.hear)(line);
        self.keep(line);
    }

    /// Keeps a line as the last one.
    fn keep(&mut self, line: &[u8]) {
        if self.tail.len() == super::TAIL_LINES {
            self.tail.pop_front();
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.tail
            .push_back(String::from_utf8_lossy(line).into_owned());
    }
}

impl Drop for Lines<'_> {
    /// What a step that was cut off had written is heard.
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::super::super::dockerfile::instruction::{Document, RunNetwork, RunSecurity};
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
                mounts: Vec::new(),
                network: RunNetwork::Default,
                security: RunSecurity::Sandbox,
                devices: Vec::new(),
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
        let path = |name: &str| temp.path().join(name);
        let (image, points, upper) = (path("image"), path("points"), path("upper"));
        for directory in [&image.join("etc"), &image.join("proc"), &upper] {
            fs_err::create_dir_all(directory).unwrap();
        }
        fs_err::set_permissions(image.join("etc"), PermissionsExt::from_mode(0o700)).unwrap();
        fs_err::File::create(image.join("etc/other")).unwrap();
        std::os::unix::fs::symlink("../run/dns", image.join("etc/resolv.conf")).unwrap();
        assert!(
            make_mount_points(
                &upper,
                &points,
                std::slice::from_ref(&image),
                &[
                    (PathBuf::from("/mnt/cache"), true),
                    (PathBuf::from("/mnt/cache/below"), true),
                    (PathBuf::from("/dev/pipes/E"), false),
                ]
            )
            .unwrap()
        );
        let names = |root: &Path| {
            let wanted = "dev dev/pipes etc etc/hostname etc/hosts etc/resolv.conf mnt/cache mnt/cache/below proc run/dns sys";
            let found = wanted
                .split(' ')
                .filter(|name| root.join(name).symlink_metadata().is_ok());
            found.collect::<Vec<_>>().join(" ")
        };
        // `/dev` is made for the sake of a mount below it, and goes with that.
        assert_eq!(names(&points), "dev etc etc/hosts mnt/cache run/dns");
        assert_eq!(names(&upper), "sys");
        let facts = |path: &Path| {
            let metadata = fs_err::metadata(path).unwrap();
            (metadata.mode(), metadata.mtime(), metadata.mtime_nsec())
        };
        assert_eq!(facts(&points.join("etc")), facts(&image.join("etc")));
        let (again, empty) = (path("again"), path("empty"));
        fs_err::create_dir(&empty).unwrap();
        assert!(!make_mount_points(&empty, &again, &[upper, points, image], &[]).unwrap());
        assert!(!again.exists());
        assert_eq!(names(&empty), "");
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

    #[test]
    fn much_output_is_clipped_and_its_end_is_kept() {
        let mut heard = Vec::new();
        let mut hear = |line: &[u8]| heard.push(String::from_utf8_lossy(line).into_owned());
        let mut lines = Lines::new(&mut hear);
        let piece = "0123456789abcde\n".repeat(2048);
        for _ in 0..1000 {
            lines.take(piece.as_bytes());
        }
        assert!(lines.unheard.capacity() < 1 << 20);
        for number in 0..100 {
            lines.take(format!("line {number}\n").as_bytes());
        }
        let tail = lines.finish();
        let last: Vec<String> = (80..100).map(|number| format!("line {number}")).collect();
        assert_eq!(tail, last);
        assert_eq!(heard.len(), MAX_HEARD / 16 + 1);
        assert_eq!(heard.last().map(String::as_str), Some(CLIPPED));
    }
}
