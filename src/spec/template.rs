//! Interpolation (compose-spec 12-interpolation.md).
//!
//! ```text
//! $$                    a literal $
//! $NAME   ${NAME}       the value; unset: blank, with a warning
//! ${NAME:-template}     the template where NAME is unset or empty      ${NAME-template}   where it is unset
//! ${NAME:+template}     the template where NAME is set and not empty   ${NAME+template}   where it is set
//! ${NAME:?template}     an error where NAME is unset or empty          ${NAME?template}   where it is unset
//! ```
//!
//! Any other `$` stays, but `${` that is none of these is an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// How deep templates may lie in each other.
const MAX_DEPTH: usize = 100;

/// Where values come from, and what is told about them.
pub(crate) trait Variables {
    /// Returns the value of `name`.
    fn value(&self, name: &str) -> Option<&str>;
    /// Takes note that the unset `name`, at these bytes of the text, became blank.
    fn unset(&mut self, name: &str, at: Range<usize>);
}

/// Why a text cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// The bytes at fault.
    pub(crate) at: Range<usize>,
    /// What is wrong with them.
    pub(crate) kind: TemplateErrorKind,
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TemplateErrorKind {
    /// `${` that starts nothing known.
    Invalid,
    /// More than [`MAX_DEPTH`] in each other.
    TooDeep,
    /// What it comes to is longer than there is room for.
    TooLong,
    /// `:?` or `?`, and there is no value.
    Required {
        /// The variable.
        name: String,
        /// The rest of it, filled in; may be empty.
        message: String,
    },
}

/// A variable that a text names, whether or not filling it in would come to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use<'a> {
    /// The variable.
    pub(crate) name: &'a str,
    /// The bytes of the text that name it, from the dollar sign to the last letter or brace.
    pub(crate) at: Range<usize>,
    /// `-`, `+` or `?`, and whether a colon stands before it.
    pub(crate) operator: Option<(char, bool)>,
    /// What stands behind the operator, not filled in.
    pub(crate) argument: &'a str,
    /// The byte of the text where that begins.
    pub(crate) argument_at: usize,
}

/// Returns the variables that `text` names, those within the braces of others left out; what is no template names none.
pub(crate) fn uses(text: &str) -> Vec<Use<'_>> {
    Uses::of(text).collect()
}

/// Finds the variables of a text one by one, in a time that grows with the text's length only.
struct Uses<'a> {
    text: &'a str,
    /// Where to go on.
    at: usize,
    /// Where the braces of the text are closed, by where they open; once that is asked for.
    closed: Option<BTreeMap<usize, usize>>,
}

impl<'a> Uses<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            closed: None,
        }
    }

    /// Returns where the brace that opens at `open` is closed.
    fn close(&mut self, open: usize) -> Option<usize> {
        let closed = self.closed.get_or_insert_with(|| closed_braces(self.text));
        closed.get(&open).copied()
    }
}

impl<'a> Iterator for Uses<'a> {
    type Item = Use<'a>;

    fn next(&mut self) -> Option<Use<'a>> {
        let text = self.text;
        while let Some(dollar) = text[self.at..].find('$') {
            let start = self.at + dollar;
            let after = &text[start + 1..];
            let length = name_length(after);
            self.at = start + 1 + length.max(usize::from(after.starts_with('$')));
            if length > 0 {
                return Some(Use {
                    name: &after[..length],
                    at: start..self.at,
                    operator: None,
                    argument: "",
                    argument_at: self.at,
                });
            }
            if after.starts_with('{')
                && let Some(close) = self.close(start + 1)
                && let Some(braced) = Braced::parse(&text[start + 2..close])
            {
                self.at = close + 1;
                return Some(Use {
                    name: braced.name,
                    at: start..self.at,
                    operator: braced
                        .operator
                        .map(|(operator, colon)| (char::from(operator), colon)),
                    argument: braced.argument,
                    argument_at: close - braced.argument.len(),
                });
            }
        }
        None
    }
}

/// Whether filling `text` in would come to a variable.
pub(crate) fn names_variable(text: &str) -> bool {
    Uses::of(text).next().is_some()
}

/// Fills `text` in; what that comes to may have `room` bytes.
pub(crate) fn substitute<'a>(
    text: &'a str,
    variables: &mut dyn Variables,
    room: usize,
) -> Result<Cow<'a, str>, TemplateError> {
    if !text.contains('$') {
        return Ok(text.into());
    }
    let mut out = Filled {
        text: String::new(),
        room,
    };
    fill(text, 0, 0, variables, &mut out)?;
    Ok(out.text.into())
}

/// A text that grows no further than there is room for it.
struct Filled {
    text: String,
    room: usize,
}

impl Filled {
    /// Adds what the bytes `at` of the template come to.
    fn push(&mut self, text: &str, at: impl FnOnce() -> Range<usize>) -> Result<(), TemplateError> {
        if self.text.len() + text.len() > self.room {
            return Err(TemplateError {
                at: at(),
                kind: TemplateErrorKind::TooLong,
            });
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// Fills the part of the text that begins at byte `offset` of the whole.
fn fill(
    text: &str,
    offset: usize,
    depth: usize,
    variables: &mut dyn Variables,
    out: &mut Filled,
) -> Result<(), TemplateError> {
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let start = offset + (text.len() - rest.len()) + dollar;
        out.push(&rest[..dollar], || start - dollar..start)?;
        let after = &rest[dollar + 1..];
        let name_length = name_length(after);
        if let Some(literal) = after.strip_prefix('$') {
            out.push("$", || start..start + 2)?;
            rest = literal;
        } else if name_length > 0 {
            let name = &after[..name_length];
            match variables.value(name) {
                Some(value) => out.push(value, || start..start + 1 + name_length)?,
                None => variables.unset(name, start..start + 1 + name_length),
            }
            rest = &after[name_length..];
        } else if after.starts_with('{') {
            let invalid = |end: usize| TemplateError {
                at: start..end,
                kind: TemplateErrorKind::Invalid,
            };
            if depth >= MAX_DEPTH {
                return Err(TemplateError {
                    kind: TemplateErrorKind::TooDeep,
                    ..invalid(start + 2)
                });
            }
            let close = closing_brace(after).ok_or_else(|| invalid(start + 1 + after.len()))?;
            let braced =
                Braced::parse(&after[1..close]).ok_or_else(|| invalid(start + close + 2))?;
            braced.fill(start, depth, variables, out)?;
            rest = &after[close + 1..];
        } else {
            out.push("$", || start..start + 1)?;
            rest = after;
        }
    }
    let end = offset + text.len();
    out.push(rest, || end - rest.len()..end)
}

/// Returns the length of the variable's name that `text` starts with.
fn name_length(text: &str) -> usize {
    let is_name = |(at, b): (usize, u8)| {
        b == b'_' || b.is_ascii_alphabetic() || (at > 0 && b.is_ascii_digit())
    };
    text.bytes()
        .enumerate()
        .take_while(|&byte| is_name(byte))
        .count()
}

/// Returns where each brace of `text` is closed, by where it opens; those that are not are left out.
fn closed_braces(text: &str) -> BTreeMap<usize, usize> {
    let mut open = Vec::new();
    let mut closed = BTreeMap::new();
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'{' => open.push(at),
            b'}' => closed.extend(open.pop().map(|open| (open, at))),
            _ => {}
        }
    }
    closed
}

/// Returns where the brace that `text` starts with is closed.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'{' => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// What stands between the braces.
struct Braced<'a> {
    name: &'a str,
    /// `-`, `+` or `?`, and whether a colon stands before it.
    operator: Option<(u8, bool)>,
    argument: &'a str,
}

impl<'a> Braced<'a> {
    fn parse(body: &'a str) -> Option<Self> {
        let (name, rest) = body.split_at(name_length(body));
        if name.is_empty() {
            return None;
        }
        let (operator, argument) = match rest.as_bytes() {
            [] => (None, rest),
            [b':', op @ (b'-' | b'+' | b'?'), ..] => (Some((*op, true)), &rest[2..]),
            [op @ (b'-' | b'+' | b'?'), ..] => (Some((*op, false)), &rest[1..]),
            _ => return None,
        };
        Some(Self {
            name,
            operator,
            argument,
        })
    }

    /// Fills in the value; `start` is the byte of the dollar sign.
    fn fill(
        &self,
        start: usize,
        depth: usize,
        variables: &mut dyn Variables,
        out: &mut Filled,
    ) -> Result<(), TemplateError> {
        let value = variables.value(self.name);
        let Some((operator, colon)) = self.operator else {
            match value {
                Some(value) => out.push(value, || start..start + self.name.len() + 3)?,
                None => variables.unset(self.name, start..start + self.name.len() + 3),
            }
            return Ok(());
        };
        let argument_start = start + 2 + self.name.len() + 1 + usize::from(colon);
        let present = value.is_some_and(|value| !(colon && value.is_empty()));
        match (operator, present) {
            (b'+', true) | (b'-', false) => {
                fill(self.argument, argument_start, depth + 1, variables, out)
            }
            (b'?', false) => {
                let mut message = Filled {
                    text: String::new(),
                    room: out.room,
                };
                fill(
                    self.argument,
                    argument_start,
                    depth + 1,
                    variables,
                    &mut message,
                )?;
                Err(TemplateError {
                    at: start..argument_start + self.argument.len() + 1,
                    kind: TemplateErrorKind::Required {
                        name: self.name.to_owned(),
                        message: message.text,
                    },
                })
            }
            _ => out.push(value.unwrap_or_default(), || {
                start..argument_start + self.argument.len() + 1
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fixed(Vec<String>);

    impl Variables for Fixed {
        fn value(&self, name: &str) -> Option<&str> {
            match name {
                "FOO" => Some("foo"),
                "BAR" => Some("bar"),
                "EMPTY" => Some(""),
                _ => None,
            }
        }
        fn unset(&mut self, name: &str, at: Range<usize>) {
            self.0.push(format!("{name}@{}..{}", at.start, at.end));
        }
    }

    #[test]
    fn every_form() {
        let rows = [
            ("plain", "plain"),
            ("$FOO", "foo"),
            ("${FOO}", "foo"),
            ("$FOO-bar", "foo-bar"),
            ("${FOO}bar", "foobar"),
            ("$FOO$BAR", "foobar"),
            ("$$FOO", "$FOO"),
            ("$$$FOO", "$foo"),
            ("$${FOO}", "${FOO}"),
            ("$UNSET", ""),
            ("${UNSET:-d}", "d"),
            ("${UNSET-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${FOO:-d}", "foo"),
            ("${FOO:+a}", "a"),
            ("${FOO+a}", "a"),
            ("${EMPTY:+a}", ""),
            ("${EMPTY+a}", "a"),
            ("${UNSET:+a}", ""),
            ("${UNSET+a}", ""),
            ("${FOO:?msg}", "foo"),
            ("${EMPTY?msg}", ""),
            ("${UNSET:-}", ""),
            ("${UNSET:-${UNSET2:-${FOO}}}", "foo"),
            ("${UNSET:-$BAR x}", "bar x"),
            ("${UNSET:-{\"a\": {}}}", "{\"a\": {}}"),
            ("${UNSET:-a}b}", "ab}"),
            ("${UNSET:-$$x}", "$x"),
            ("${UNSET:-:-?+}", ":-?+"),
            ("${UNSET:-a:b/c}", "a:b/c"),
            ("${UNSET:-a}$BAR", "abar"),
            ("${FOO-d}", "foo"),
            ("${FOO:+${BAR}-$FOO}", "bar-foo"),
            ("${FOO?msg}", "foo"),
            ("${UNSET-}", ""),
            ("${_a1:-d}${a_B-e}", "de"),
            ("$FOO.$BAR/$1", "foo.bar/$1"),
            ("^a$", "^a$"),
            ("$}", "$}"),
            ("a $ b", "a $ b"),
            ("$1", "$1"),
            ("100 $ and ${FOO} €$é", "100 $ and foo €$é"),
        ];
        for (text, expected) in rows {
            let mut variables = Fixed::default();
            assert_eq!(
                substitute(text, &mut variables, 1000).unwrap(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn variables_are_found_with_their_places() {
        /// Name, place and default.
        type Found<'a> = (&'a str, Range<usize>, &'a str);
        let rows: [(&str, &[Found<'_>]); 7] = [
            (
                "a $FOO$$BAR ${BAR:-x}",
                &[("FOO", 2..6, ""), ("BAR", 12..21, "x")],
            ),
            ("${A:-${B}}${C}", &[("A", 0..10, "${B}"), ("C", 10..14, "")]),
            ("} ${A:-{}}", &[("A", 2..10, "{}")]),
            ("${ ${A}", &[("A", 3..7, "")]),
            ("${!${A}}", &[("A", 3..7, "")]),
            ("${A", &[]),
            ("$ $1 ${}", &[]),
        ];
        for (text, expected) in rows {
            let found = uses(text);
            let shown: Vec<_> = found
                .iter()
                .map(|one| (one.name, one.at.clone(), one.argument))
                .collect();
            assert_eq!(shown, expected, "{text}");
            for one in &found {
                let end = one.argument_at + one.argument.len();
                assert_eq!(&text[one.argument_at..end], one.argument, "{text}");
            }
            assert_eq!(names_variable(text), !expected.is_empty(), "{text}");
        }
    }

    /// Where each brace is looked for on its own, this does not end.
    #[test]
    fn a_million_braces_that_name_nothing_take_no_time() {
        let count = 1 << 20;
        for text in ["${".repeat(count), "${!".repeat(count) + &"}".repeat(count)] {
            assert!(!names_variable(&text));
            assert_eq!(uses(&text), []);
        }
    }

    #[test]
    fn only_a_used_unset_variable_is_noted_with_its_place() {
        let mut variables = Fixed::default();
        substitute(
            "x$UNSET ${NONE} ${FOO:-$NO} ${UNSET2:-${DEEP}}",
            &mut variables,
            1000,
        )
        .unwrap();
        assert_eq!(variables.0, ["UNSET@1..7", "NONE@8..15", "DEEP@38..45"]);
    }

    #[test]
    fn errors_have_a_place() {
        let required = |name: &str, message: &str| TemplateErrorKind::Required {
            name: name.to_owned(),
            message: message.to_owned(),
        };
        let rows = [
            ("a ${", 2..4, TemplateErrorKind::Invalid),
            ("${}", 0..3, TemplateErrorKind::Invalid),
            ("${ a}", 0..5, TemplateErrorKind::Invalid),
            ("${a!}", 0..5, TemplateErrorKind::Invalid),
            ("${FOO/a/b}", 0..10, TemplateErrorKind::Invalid),
            ("${#FOO}", 0..7, TemplateErrorKind::Invalid),
            ("${FOO", 0..5, TemplateErrorKind::Invalid),
            ("${UNSET:-${}}", 9..12, TemplateErrorKind::Invalid),
            ("x ${UNSET:?say $FOO}", 2..20, required("UNSET", "say foo")),
            ("${EMPTY:?}", 0..10, required("EMPTY", "")),
            ("${UNSET?}", 0..9, required("UNSET", "")),
            ("${UNSET?msg}", 0..12, required("UNSET", "msg")),
            ("${EMPTY:?msg}", 0..13, required("EMPTY", "msg")),
            ("${1A}", 0..5, TemplateErrorKind::Invalid),
        ];
        for (text, at, kind) in rows {
            let error = substitute(text, &mut Fixed::default(), 1000).unwrap_err();
            assert_eq!(error, TemplateError { at, kind }, "{text}");
        }
        let deep = format!("{}{}", "${A:-".repeat(200), "}".repeat(200));
        let error = substitute(&deep, &mut Fixed::default(), 1000).unwrap_err();
        assert_eq!(error.kind, TemplateErrorKind::TooDeep);
    }
}
