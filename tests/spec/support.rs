//! Files in memory, and results as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use stack::spec::source::Sources;
use stack::spec::{
    Diagnostic, LoadFailure, LoadOptions, Loaded, Phase, ReadError, ReadFile, Severity, load,
    render,
};

/// Files by absolute path.
#[derive(Default)]
pub(crate) struct Files(pub(crate) BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    /// Files by their path beneath `/work/app`, or an absolute path.
    pub(crate) fn new<const N: usize>(files: [(&str, &str); N]) -> Self {
        let files =
            files.map(|(path, text)| (Path::new("/work/app").join(path), text.as_bytes().to_vec()));
        Self(files.into())
    }
}

impl ReadFile for Files {
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        self.0.get(path).cloned().ok_or(ReadError::NotFound)
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn is_link(&self, path: &Path) -> bool {
        path.ends_with("a-link")
    }
}

/// Options to load in `/work/app`, with `HOME`.
pub(crate) fn options() -> LoadOptions {
    LoadOptions {
        working_directory: "/work/app".into(),
        environment: [("HOME".to_owned(), "/home/user".to_owned())].into(),
        ..LoadOptions::default()
    }
}

/// Loads `text` as `compose.yaml`.
pub(crate) fn load_text(text: &str) -> Result<Loaded, LoadFailure> {
    load(&options(), &Files::new([("compose.yaml", text)]))
}

/// One diagnostic, a line each for itself, its notes and its hints.
pub(crate) fn show(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let place = |span| {
        sources
            .place(span)
            .map(|place| format!("{place}: "))
            .unwrap_or_default()
    };
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let at = diagnostic.span.map(place).unwrap_or_default();
    let mut out = format!("{at}{severity}: {}\n", diagnostic.message);
    if let Some(label) = &diagnostic.label {
        writeln!(out, "  label: {label}").unwrap();
    }
    for (span, text) in &diagnostic.notes {
        writeln!(out, "  note: {}{text}", place(*span)).unwrap();
    }
    for hint in &diagnostic.hints {
        writeln!(out, "  hint: {hint}").unwrap();
    }
    out
}

/// All diagnostics of a load.
pub(crate) fn said(result: &Result<Loaded, LoadFailure>) -> String {
    let (diagnostics, sources) = match result {
        Ok(loaded) => (&loaded.warnings, &loaded.sources),
        Err(failure) => (&failure.diagnostics, &failure.sources),
    };
    diagnostics
        .iter()
        .map(|diagnostic| show(diagnostic, sources))
        .collect()
}

/// What stands in the way of running all services of `text`, or a warning for each thing ignored.
pub(crate) fn blocked(text: &str, phase: Phase) -> String {
    let loaded = match load_text(text) {
        Ok(loaded) => loaded,
        Err(failure) => return said(&Err(failure)),
    };
    let services: Vec<_> = loaded.stack.services.keys().cloned().collect();
    let diagnostics = match loaded.usable(&services, phase) {
        Ok(warnings) => warnings,
        Err(failure) => failure.diagnostics,
    };
    diagnostics
        .iter()
        .map(|diagnostic| show(diagnostic, &loaded.sources))
        .collect()
}

/// The rendered YAML, or what was said instead.
pub(crate) fn yaml(result: &Result<Loaded, LoadFailure>) -> String {
    match result {
        Ok(loaded) => render::render_yaml(&loaded.stack),
        Err(_) => said(result),
    }
}
