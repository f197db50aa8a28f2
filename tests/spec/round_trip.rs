//! What is rendered loads back to the same model: over every file of the examples and of the public cases.

use std::path::{Path, PathBuf};

use super::support::said;
use stack::spec::render::{Dollars, render_json, render_yaml, to_json};
use stack::spec::{LoadOptions, Loaded, ReadError, ReadFile, load};

/// The disk, with one file more.
pub(crate) struct Overlay {
    file: PathBuf,
    text: Option<String>,
}

impl ReadFile for Overlay {
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        match &self.text {
            Some(text) if path == self.file => Ok(text.clone().into_bytes()),
            _ => std::fs::read(path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => ReadError::NotFound,
                _ => ReadError::Other(error.to_string()),
            }),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_link(&self, path: &Path) -> bool {
        path.is_symlink()
    }
}

fn load_file(file: &Path, text: Option<String>) -> Result<Loaded, String> {
    let directory = file.parent().unwrap();
    let options = LoadOptions {
        files: vec![file.to_owned()],
        working_directory: directory.to_owned(),
        profiles: vec!["*".to_owned()],
        environment: [
            ("HOME".to_owned(), "/home/user".to_owned()),
            ("PWD".to_owned(), directory.display().to_string()),
        ]
        .into(),
        ..LoadOptions::default()
    };
    let overlay = Overlay {
        file: file.to_owned(),
        text,
    };
    let result = load(&options, &overlay);
    let words = said(&result);
    result.map_err(|_| words)
}

/// Whether both have the same model. What is zero, false or empty is not rendered, so that the trees may differ by that;
/// places differ always.
fn is_same(first: &Loaded, second: &Loaded) -> bool {
    let model = |loaded: &Loaded| serde_json::to_value(&loaded.stack).unwrap();
    model(first) == model(second) && render_json(&first.stack) == render_json(&second.stack)
}

/// Every Compose file beneath `root`, links not followed.
pub(crate) fn compose_files(root: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(root) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.is_symlink() {
            compose_files(&path, found);
            continue;
        }
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        let is_compose = std::fs::read_to_string(&path)
            .is_ok_and(|text| text.lines().any(|line| line.starts_with("services:")));
        if is_yaml && is_compose {
            found.push(path);
        }
    }
}

#[test]
fn what_is_rendered_loads_back_to_the_same_model() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    compose_files(&project.join("examples"), &mut files);
    let own = files.len();
    assert!(own > 0, "there are no examples");
    compose_files(
        &project.join("../shared/conformance/config/trees"),
        &mut files,
    );
    if files.len() == own {
        println!("skipped: there are no public cases");
    }
    let mut wrong = Vec::new();
    let mut compared = 0;
    for file in &files {
        let Ok(first) = load_file(file, None) else {
            continue;
        };
        let json = to_json(&render_json(&first.stack), Dollars::Doubled);
        for text in [render_yaml(&first.stack), json.to_string()] {
            match load_file(file, Some(text.clone())) {
                Ok(second) if is_same(&first, &second) => compared += 1,
                Ok(second) => wrong.push(format!(
                    "{}: differs\n{text}\n---\n{:?}\n{:?}",
                    file.display(),
                    serde_json::to_string(&first.stack),
                    serde_json::to_string(&second.stack)
                )),
                Err(said) => wrong.push(format!("{}: {said}\n{text}", file.display())),
            }
        }
    }
    println!("{compared} of {} renderings compared", files.len() * 2);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 0, "none loads");
}
