//! The short form of a mount (compose-spec 05-services.md#volumes).
//!
//! ```text
//! [SOURCE:]TARGET[:OPTION,…]      a source that starts with . / ~ or a drive letter is a path, any other a volume's name
//! ```

/// A mount in its short form, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountSpec<'a> {
    /// Path or volume; anonymous volume where there is none.
    pub(crate) source: Option<&'a str>,
    /// Path in the container.
    pub(crate) target: &'a str,
    /// `ro`.
    pub(crate) read_only: bool,
    /// `nocopy`.
    pub(crate) no_copy: bool,
    /// `rprivate` and its like.
    pub(crate) propagation: Option<&'a str>,
    /// `z` or `Z`.
    pub(crate) selinux: Option<&'a str>,
    /// Options that nothing knows, which Docker Compose ignores.
    pub(crate) unknown: Vec<&'a str>,
}

/// The options of the short form.
pub(crate) const OPTIONS: [&str; 11] = [
    "ro", "rw", "nocopy", "private", "rprivate", "shared", "rshared", "slave", "rslave", "z", "Z",
];

/// Takes the short form apart.
pub(crate) fn parse(text: &str) -> Result<MountSpec<'_>, &'static str> {
    if text.is_empty() {
        return Err("empty volume");
    }
    // Two characters are a target, whatever they are.
    let parts = if text.len() <= 2 {
        vec![text]
    } else {
        sections(text)
    };
    if parts.iter().any(|part| part.is_empty()) {
        return Err("empty section between colons");
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err("too many colons"),
    };
    let mut spec = MountSpec {
        source,
        target,
        ..MountSpec::default()
    };
    for option in options.split(',') {
        match option {
            "ro" => spec.read_only = true,
            "rw" => spec.read_only = false,
            "nocopy" => spec.no_copy = true,
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                spec.propagation = Some(option);
            }
            "z" | "Z" => spec.selinux = Some(option),
            "" => {}
            unknown => spec.unknown.push(unknown),
        }
    }
    Ok(spec)
}

/// Splits at colons, but not at that of a drive letter (`C:\data`, `C:/data:/in/container`).
///
/// To Docker Compose every single letter before a colon is a drive; a volume of one letter (`d:/data`) can be one here.
fn sections(text: &str) -> Vec<&str> {
    let mut sections = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(':') {
        let letter = &text[start..at];
        let is_drive = letter.len() == 1
            && letter.starts_with(|c: char| c.is_ascii_alphabetic())
            && (text[at + 1..].starts_with('\\')
                || (text[at + 1..].starts_with('/') && text[at + 1..].contains(":/")));
        if !is_drive && at >= start {
            sections.push(letter);
            start = at + 1;
        }
    }
    sections.push(&text[start..]);
    sections
}

/// Whether a source is a path.
pub(crate) fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || has_drive(source)
}

/// Whether a path begins with a drive letter.
pub(crate) fn has_drive(source: &str) -> bool {
    let head = source.as_bytes().get(..3);
    head.is_some_and(|head| {
        head[0].is_ascii_alphabetic() && head[1] == b':' && matches!(head[2], b'\\' | b'/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        let named = |source, target| MountSpec {
            source: Some(source),
            target,
            ..MountSpec::default()
        };
        let rows = [
            (
                "/data",
                Ok(MountSpec {
                    target: "/data",
                    ..MountSpec::default()
                }),
            ),
            ("db:/data", Ok(named("db", "/data"))),
            ("./a:/b", Ok(named("./a", "/b"))),
            ("./a:/b:rw", Ok(named("./a", "/b"))),
            (
                "./a:/b:future,ro,,zz",
                Ok(MountSpec {
                    read_only: true,
                    unknown: vec!["future", "zz"],
                    ..named("./a", "/b")
                }),
            ),
            (
                "~/a:/b:ro,Z,rslave",
                Ok(MountSpec {
                    read_only: true,
                    propagation: Some("rslave"),
                    selinux: Some("Z"),
                    ..named("~/a", "/b")
                }),
            ),
            (
                "db:/data:nocopy",
                Ok(MountSpec {
                    no_copy: true,
                    ..named("db", "/data")
                }),
            ),
            ("C:\\a:/b", Ok(named("C:\\a", "/b"))),
            ("x:/b", Ok(named("x", "/b"))),
            (
                "x:/b:ro",
                Ok(MountSpec {
                    read_only: true,
                    ..named("x", "/b")
                }),
            ),
            (
                "c:/a:/b:ro",
                Ok(MountSpec {
                    read_only: true,
                    ..named("c:/a", "/b")
                }),
            ),
            ("", Err("empty volume")),
            (":/b", Err("empty section between colons")),
            ("ab:", Err("empty section between colons")),
            (
                "::",
                Ok(MountSpec {
                    target: "::",
                    ..MountSpec::default()
                }),
            ),
            ("a::ro", Err("empty section between colons")),
            ("a:/b:ro:x", Err("too many colons")),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn every_option() {
        for option in OPTIONS {
            let text = format!("v:/d:{option}");
            let of = |set: &[&str]| set.contains(&option).then_some(option);
            let propagations = [
                "private", "rprivate", "shared", "rshared", "slave", "rslave",
            ];
            let expected = MountSpec {
                source: Some("v"),
                target: "/d",
                read_only: option == "ro",
                no_copy: option == "nocopy",
                propagation: of(&propagations),
                selinux: of(&["z", "Z"]),
                unknown: Vec::new(),
            };
            assert_eq!(parse(&text), Ok(expected), "{option}");
        }
    }

    #[test]
    fn sources_that_are_paths() {
        let paths = [
            (".", true),
            ("..", true),
            ("~/a", true),
            ("c:/a", true),
            ("./a", true),
            ("/a", true),
            ("~", true),
            ("C:\\a", true),
            ("a", false),
            ("a/b", false),
        ];
        for (source, expected) in paths {
            assert_eq!(is_path(source), expected, "{source}");
        }
    }
}
