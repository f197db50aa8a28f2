//! Relative paths into absolute ones, without looking at a file system.

use std::path::Path;

/// What paths are relative to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathBase<'a> {
    /// Absolute directory.
    pub(crate) directory: &'a Path,
    /// What `~` stands for; it stays where unknown.
    pub(crate) home: Option<&'a str>,
    /// Whether relative paths become absolute at all.
    pub(crate) resolves: bool,
}

impl PathBase<'_> {
    /// Makes `text` absolute. One that is absolute already stays as it is written.
    pub(crate) fn resolve(&self, text: &str) -> String {
        if !self.resolves {
            return text.to_owned();
        }
        match (text.strip_prefix('~'), self.home) {
            // Whoever follows it, as Docker Compose does: nobody's home is looked up.
            (Some(rest), Some(home)) => clean(&format!("{home}/{rest}")),
            _ if text.starts_with('/') => text.to_owned(),
            _ => clean(&format!("{}/{text}", self.directory.display())),
        }
    }

    /// Makes the source of a bind mount absolute; one of another system stays.
    pub(crate) fn resolve_bind(&self, text: &str) -> String {
        if text.starts_with("\\\\") || super::mounts::has_drive(text) {
            text.to_owned()
        } else {
            self.resolve(text)
        }
    }

    /// Makes `text` absolute unless it is a URL.
    pub(crate) fn resolve_context(&self, text: &str) -> String {
        // No text stays none: it is the project's directory to whoever builds.
        if is_remote(text) || text.is_empty() {
            text.to_owned()
        } else {
            self.resolve(text)
        }
    }
}

/// Whether a build context is fetched from elsewhere.
pub(crate) fn is_remote(context: &str) -> bool {
    context.contains("://") || context.starts_with("github.com/") || context.starts_with("git@")
}

/// Takes `.`, `..`, double and trailing slashes out of a path (Go's `path.Clean`).
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if absolute => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_become_absolute() {
        let base = PathBase {
            directory: Path::new("/project/sub"),
            home: Some("/home/user"),
            resolves: true,
        };
        let rows = [
            (".", "/project/sub"),
            ("./", "/project/sub"),
            ("..", "/project"),
            ("../../../x", "/x"),
            ("a//b/./c/", "/project/sub/a/b/c"),
            ("/abs/../x/", "/abs/../x/"),
            ("~", "/home/user"),
            ("~/x", "/home/user/x"),
            ("~user/x", "/home/user/user/x"),
            ("", "/project/sub"),
        ];
        for (text, expected) in rows {
            assert_eq!(base.resolve(text), expected, "{text}");
        }
        assert_eq!(
            base.resolve_context("https://x/y.git#main:sub"),
            "https://x/y.git#main:sub"
        );
        assert_eq!(base.resolve_context(""), "");
        assert_eq!(clean("a/../.."), "..");
    }
}
