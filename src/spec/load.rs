//! The loading pipeline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::model::Stack;
use super::source::Sources;

/// How the loader reads files; the only way anything reaches it.
pub trait ReadFile {
    /// Returns a file's bytes.
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError>;
    /// Whether `path` names anything.
    fn exists(&self, path: &Path) -> bool;
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("no such file or directory")]
    NotFound,
    /// Anything else, in the system's words.
    #[error("{0}")]
    Other(String),
}

/// What to load and with what.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `-f`: in this order, `-` for standard input; `COMPOSE_FILE` or the standard names, searched upward, where empty.
    pub files: Vec<PathBuf>,
    /// What standard input holds, where `-` is among the files.
    pub stdin: Option<Vec<u8>>,
    /// Absolute path that the command runs in.
    pub working_directory: PathBuf,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--profile`; `COMPOSE_PROFILES` where empty.
    pub profiles: Vec<String>,
    /// `--env-file`; `.env` where empty.
    pub env_files: Vec<PathBuf>,
    /// The environment of the command.
    pub environment: BTreeMap<String, String>,
    /// Whether variables are filled in (`--no-interpolate` turns it off).
    pub interpolate: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            stdin: None,
            working_directory: PathBuf::from("/"),
            project_directory: None,
            project_name: None,
            profiles: Vec::new(),
            env_files: Vec::new(),
            environment: BTreeMap::new(),
            interpolate: true,
        }
    }
}

/// A project that loads.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The project.
    pub stack: Stack,
    /// What to say all the same.
    pub warnings: Vec<Diagnostic>,
    /// Every file read.
    pub sources: Sources,
    /// The command's environment with `.env` beneath it.
    pub environment: BTreeMap<String, String>,
}

/// A project that does not load.
#[derive(Debug, Clone)]
pub struct LoadFailure {
    /// Every error of every file, warnings among them, in the order of the places.
    pub diagnostics: Vec<Diagnostic>,
    /// Every file read.
    pub sources: Sources,
}

/// Loads a project.
pub fn load(_options: &LoadOptions, _files: &dyn ReadFile) -> Result<Loaded, LoadFailure> {
    Err(LoadFailure {
        diagnostics: vec![Diagnostic::error_without_place(
            "loading is not written yet",
        )],
        sources: Sources::default(),
    })
}
