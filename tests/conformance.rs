//! The reference loader's public cases: `../shared/conformance/config`, where that exists.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]
#![expect(clippy::print_stdout, reason = "says that it skips, and counts")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use stack::spec::{LoadFailure, LoadOptions, Loaded, ReadError, ReadFile, Severity, load, render};

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    tree: String,
    dir: String,
    files: Vec<PathBuf>,
    accept: bool,
    reason: Option<String>,
}

struct Disk;

impl ReadFile for Disk {
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ReadError::NotFound,
            _ => ReadError::Other(error.to_string()),
        })
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_link(&self, path: &Path) -> bool {
        path.is_symlink()
    }
}

fn run(root: &Path, case: &Case) -> Result<Loaded, LoadFailure> {
    let directory = root.join(&case.dir);
    let environment = [
        ("HOME", "/home/user".to_owned()),
        ("PWD", directory.display().to_string()),
        ("PATH", "/usr/bin:/bin".to_owned()),
    ];
    let options = LoadOptions {
        files: case.files.clone(),
        working_directory: directory,
        environment: environment
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        ..LoadOptions::default()
    };
    load(&options, &Disk)
}

fn messages(failure: &LoadFailure) -> Vec<String> {
    let diagnostics = failure.diagnostics.iter();
    diagnostics
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .map(|diagnostic| {
            let place = diagnostic.span.and_then(|span| failure.sources.place(span));
            let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
            format!("{place}{}", diagnostic.message)
        })
        .collect()
}

/// What is wrong with a case, if anything.
fn disagreement(root: &Path, case: &Case) -> Option<String> {
    let tree = root.join(&case.tree).display().to_string();
    match (run(root, case), case.accept) {
        (Ok(loaded), true) => {
            let expected =
                std::fs::read_to_string(root.join(format!("expected/{}.json", case.name))).unwrap();
            let expected: Value = serde_json::from_str(&expected.replace("$TREE", &tree)).unwrap();
            let got = render::render_json(&loaded.stack);
            (got != expected).then(|| format!("differs:\n  got      {got}\n  expected {expected}"))
        }
        (Ok(_), false) => Some(format!("accepted, but: {:?}", case.reason)),
        (Err(failure), true) => Some(messages(&failure).join("\n")),
        (Err(failure), false) => {
            let said = messages(&failure).join("\n");
            let reason = case.reason.clone().unwrap_or_default();
            let sense = SENSES
                .iter()
                .find(|sense| reason.contains(**sense))
                .unwrap();
            (!said.contains(sense)).then(|| format!("refused, but for {said}, not for {reason}"))
        }
    }
}

/// The part of a reason that ours must have too.
const SENSES: [&str; 5] = [
    "dependency cycle detected",
    "include cycle detected",
    "empty compose file",
    "services.nil must be a mapping",
    "not found",
];

#[test]
fn public_cases_agree_with_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/config");
    let Ok(cases) = std::fs::read_to_string(root.join("cases.json")) else {
        println!("skipped: there is no {}", root.display());
        return;
    };
    let root = root.canonicalize().unwrap();
    let cases: Vec<Case> = serde_json::from_str(&cases).unwrap();
    let unexpected: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, disagreement(&root, case)?)))
        .collect();
    println!(
        "{} of {} cases agree",
        cases.len() - unexpected.len(),
        cases.len()
    );
    assert!(unexpected.is_empty(), "\n{}", unexpected.join("\n"));
}
