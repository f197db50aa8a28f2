//! Whether a text can be the name of an image (OCI distribution 1.1, Docker's reference grammar).
//!
//! ```text
//! [DOMAIN[:PORT]/]PATH[:TAG][@ALGORITHM:HEX]        PATH in lower case, parts between slashes
//! ```

/// Returns what is wrong with `reference`; only what no registry could take is.
pub(super) fn fault(reference: &str) -> Option<&'static str> {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Some("the digest must be an algorithm, a colon and hexadecimal digits");
    }
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Some(
            "the tag must be at most 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`",
        );
    }
    let path = match path.split_once('/') {
        Some((domain, path)) if is_domain(domain) => path,
        _ => path,
    };
    let is_part = |part: &str| {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(ends)
            && part.ends_with(ends)
            && part
                .chars()
                .all(|c| ends(c) || matches!(c, '.' | '_' | '-'))
    };
    if path.split('/').all(is_part) {
        None
    } else {
        Some("the name must be in lower case: letters, digits and single separators between them")
    }
}

/// Whether what stands before the first slash is a registry (Docker's rule).
fn is_domain(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost" || text.chars().any(|c| c.is_ascii_uppercase())
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(is_word)
        && text.chars().all(|c| is_word(c) || matches!(c, '.' | '-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let good = [
            "busybox",
            "busybox:1.36",
            "library/busybox:latest",
            "localhost/x",
            "localhost:5000/a/b_c__d--e.f:v_1.0-x",
            "ghcr.io/a/b",
            "HOST/x",
            "0123456789ab",
            "a-b.c",
        ];
        for name in good {
            assert_eq!(fault(name), None, "{name}");
            assert_eq!(fault(&format!("{name}{digest}")), None, "{name}");
        }
        for name in [
            "",
            "Bad",
            "a b",
            "a/",
            "/a",
            "a//b",
            "a/B",
            "-a",
            "a:",
            "a:-b",
            "a:b c",
            "a@x",
            "a@sha256:12",
            "x:::",
        ] {
            assert!(fault(name).is_some(), "{name}");
        }
    }
}
