//! A file that a command writes: whole under its name, or not at all.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::super::context::Context;
use super::super::failure::CliError;

/// Fails where an archive would go to a terminal, as Docker does.
pub(super) fn refuse_terminal(context: &Context, attempted: &str) -> Result<(), CliError> {
    if context.printer.out_look.terminal {
        return Err(CliError::Refused(format!(
            "cowardly refusing to {attempted} to a terminal. Use the -o flag or redirect"
        )));
    }
    Ok(())
}

/// A file under construction. A regular one is written beside its name and renamed; a pipe or device is written as it is.
#[derive(Debug)]
pub(super) struct Output {
    file: BufWriter<fs_err::File>,
    shown: PathBuf,
    /// The temporary file, and what it is to be.
    rename: Option<(Temporary, PathBuf)>,
}

/// A path that is removed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs_err::remove_file(&self.0) {
            // Renamed; or nothing that could still be done about it.
            Ok(()) | Err(_) => {}
        }
    }
}

impl Output {
    /// Opens what will be `path`, relative to the command's directory.
    pub(super) fn create(context: &Context, path: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::File {
            attempted: "write",
            path: path.to_owned(),
            source,
        };
        let full = context.directory.join(path);
        let is_other = std::fs::metadata(&full).is_ok_and(|stat| !stat.is_file());
        if is_other {
            let mut options = fs_err::OpenOptions::new();
            let file = options.write(true).open(&full).map_err(failed)?;
            return Ok(Self {
                file: BufWriter::with_capacity(1 << 20, file),
                shown: path.to_owned(),
                rename: None,
            });
        }
        let invalid = || failed(io::ErrorKind::InvalidInput.into());
        let name = full.file_name().ok_or_else(invalid)?.to_string_lossy();
        // A link stays one: what it points to is replaced.
        let full = std::fs::canonicalize(&full).unwrap_or_else(|_| full.clone());
        let temporary = full.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let file = fs_err::File::create(&temporary).map_err(failed)?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            shown: path.to_owned(),
            rename: Some((Temporary(temporary), full)),
        })
    }

    /// Returns where the content goes.
    pub(super) fn writer(&mut self) -> &mut impl Write {
        &mut self.file
    }

    /// Gives it its name.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        let done = self.file.flush().and_then(|()| match &self.rename {
            Some((temporary, full)) => fs_err::rename(&temporary.0, full),
            None => Ok(()),
        });
        done.map_err(|source| CliError::File {
            attempted: "write",
            path: self.shown.clone(),
            source,
        })
    }
}
