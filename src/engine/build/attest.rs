//! `--provenance`, `--sbom` and `--attest` (docker/buildx `util/buildflags/attests.go`).

use super::options::{OptionError, fields, truth, wrong};
use crate::images::boolean::parse_bool;
use crate::images::build::{Provenance, Scanner};

/// Reads what is asked to be attested: pairs of `provenance`, `sbom` or `attest` and what is said of it, the last of a kind counts.
pub(super) fn parse(
    asked: &[(&'static str, String)],
) -> Result<(Option<Provenance>, Option<Scanner>), OptionError> {
    let mut provenance = None;
    let mut scanner = None;
    for (option, text) in asked.iter().filter(|(_, text)| !text.is_empty()) {
        let (kind, fields) = read(option, text)?;
        match kind.as_str() {
            "provenance" => provenance = of_provenance(option, text, fields)?,
            "sbom" => scanner = of_bill(option, text, fields)?,
            _ => return Err(wrong(option, text, "type is `provenance` or `sbom`")),
        }
    }
    Ok((provenance, scanner))
}

/// What is attested, and what is said of it.
type Asked = (String, Vec<(String, String)>);

fn read(option: &'static str, text: &str) -> Result<Asked, OptionError> {
    if option == "attest" {
        let mut kind = String::new();
        let mut rest = fields(option, text)?;
        rest.retain(|(key, value)| {
            if key == "type" {
                kind.clone_from(value);
            }
            key != "type"
        });
        return Ok((kind, rest));
    }
    let rest = match parse_bool(text) {
        Some(wanted) => vec![("disabled".to_owned(), (!wanted).to_string())],
        None => fields(option, text)?,
    };
    Ok((option.to_owned(), rest))
}

fn of_provenance(
    option: &'static str,
    text: &str,
    fields: Vec<(String, String)>,
) -> Result<Option<Provenance>, OptionError> {
    if is_disabled(option, text, &fields)? {
        return Ok(None);
    }
    let mut provenance = Provenance::default();
    for (key, value) in fields {
        match (key.as_str(), value.as_str()) {
            ("mode", "min") => provenance.max = false,
            ("mode", "max") => provenance.max = true,
            ("mode", _) => return Err(wrong(option, text, "mode is `min` or `max`")),
            ("version", "v1") | ("disabled", _) => {}
            ("version", _) => {
                return Err(wrong(
                    option,
                    text,
                    "not supported: a version other than v1",
                ));
            }
            ("builder-id", _) => provenance.builder_id = value,
            ("reproducible", _) => {
                provenance.reproducible = truth(option, text, ("reproducible", &value))?;
            }
            _ => {
                return Err(wrong(
                    option,
                    text,
                    format!("not supported yet: key `{key}`"),
                ));
            }
        }
    }
    Ok(Some(provenance))
}

fn of_bill(
    option: &'static str,
    text: &str,
    fields: Vec<(String, String)>,
) -> Result<Option<Scanner>, OptionError> {
    if is_disabled(option, text, &fields)? {
        return Ok(None);
    }
    let mut scanner = Scanner::default();
    for (key, value) in fields {
        match key.as_str() {
            "disabled" => {}
            "generator" if value.is_empty() => {}
            "generator" => scanner.image = value,
            // Names are read in any case; what they become is a variable's.
            _ => scanner.settings.push((key.to_uppercase(), value)),
        }
    }
    Ok(Some(scanner))
}

fn is_disabled(
    option: &'static str,
    text: &str,
    fields: &[(String, String)],
) -> Result<bool, OptionError> {
    let Some((_, value)) = fields.iter().find(|(key, _)| key == "disabled") else {
        return Ok(false);
    };
    truth(option, text, ("disabled", value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attestations_read() {
        let shown = |asked: &[(&'static str, &str)]| {
            let owned: Vec<_> = asked.iter().map(|(o, t)| (*o, (*t).to_owned())).collect();
            match parse(&owned) {
                Err(error) => error.message,
                Ok((provenance, scanner)) => {
                    let provenance = provenance.map(|p| {
                        let Provenance {
                            max,
                            builder_id,
                            reproducible,
                        } = p;
                        format!("{max} {builder_id:?} {reproducible}")
                    });
                    let scanner = scanner.map(|s| format!("{} {:?}", s.image, s.settings));
                    format!("{provenance:?} {}", scanner.unwrap_or_default())
                }
            }
        };
        let table: [(&[(&'static str, &str)], &str); 15] = [
            (&[], "None "),
            (&[("provenance", "")], "None "),
            (&[("provenance", "false")], "None "),
            (&[("provenance", "true")], r#"Some("false \"\" false") "#),
            (&[("provenance", "mode=max")], r#"Some("true \"\" false") "#),
            (
                &[(
                    "attest",
                    "type=provenance,mode=max,builder-id=b,reproducible=true",
                )],
                r#"Some("true \"b\" true") "#,
            ),
            (
                &[
                    ("attest", "type=provenance"),
                    ("attest", "type=provenance,disabled=true"),
                ],
                "None ",
            ),
            (&[("provenance", "mode=x")], "mode is `min` or `max`"),
            (
                &[("provenance", "version=v0.2")],
                "not supported: a version other than v1",
            ),
            (
                &[("provenance", "mode=max,reproducible=yes")],
                "reproducible is `true` or `false`",
            ),
            (
                &[("provenance", "disabled=maybe")],
                "disabled is `true` or `false`",
            ),
            (&[("attest", "mode=max")], "type is `provenance` or `sbom`"),
            (
                &[("sbom", "true")],
                "None docker/buildkit-syft-scanner:stable-1 []",
            ),
            (
                &[("sbom", "generator=own/scanner,EXTRA=1")],
                r#"None own/scanner [("EXTRA", "1")]"#,
            ),
            (
                &[
                    ("attest", "type=sbom,generator=own/scanner"),
                    ("sbom", "false"),
                ],
                "None ",
            ),
        ];
        for (asked, expected) in table {
            assert_eq!(shown(asked), expected, "{asked:?}");
        }
    }
}
