//! A template's text to pieces.

use super::TemplateError;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// As it is.
    Text(String),
    /// Between `{{` and `}}`.
    Action {
        /// Where it begins.
        offset: usize,
        /// What it says.
        tokens: Vec<Token>,
    },
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    /// What it is.
    pub(super) kind: Kind,
    /// Where it begins.
    pub(super) offset: usize,
    /// Whether it follows the one before without a space.
    pub(super) joined: bool,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// `.` alone.
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    /// A keyword, a function, `true`, `nil`.
    Word(String),
    /// A string or a raw string.
    Text(String),
    /// A whole number, or a character.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// Splits a template into text and actions; `{{-` and `-}}` trim the text beside them.
pub(super) fn lex(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut position = 0;
    let mut trims = false;
    while let Some(rest) = text.get(position..) {
        let Some(found) = rest.find("{{") else {
            push_text(&mut pieces, rest, trims, false);
            break;
        };
        let open = position + found;
        let mut inner = open + 2;
        let after = text.get(inner..).unwrap_or_default();
        let trims_left =
            after.starts_with("- ") || after.starts_with("-\n") || after.starts_with("-\t");
        push_text(
            &mut pieces,
            rest.get(..found).unwrap_or_default(),
            trims,
            trims_left,
        );
        inner += usize::from(trims_left);
        let body = text.get(inner..).unwrap_or_default();
        if body.trim_start().starts_with("/*") {
            let end = body
                .find("*/")
                .ok_or_else(|| TemplateError::at(text, open, "unclosed comment"))?;
            let tail = body.get(end + 2..).unwrap_or_default();
            let dash = tail.trim_start().starts_with("-}}");
            let close = tail.find("}}").filter(|close| {
                let between = tail.get(..*close).unwrap_or_default().trim();
                between.is_empty() || between == "-"
            });
            let close = close.ok_or_else(|| {
                TemplateError::at(text, open, "comment ends before closing delimiter")
            })?;
            trims = dash;
            position = inner + end + 2 + close + 2;
            continue;
        }
        let (tokens, end, trims_right) = action(text, inner)?;
        pieces.push(Piece::Action {
            offset: inner,
            tokens,
        });
        trims = trims_right;
        position = end;
    }
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trims_start: bool, trims_end: bool) {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let text = if trims_start {
        text.trim_start_matches(blank)
    } else {
        text
    };
    let text = if trims_end {
        text.trim_end_matches(blank)
    } else {
        text
    };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Reads an action from `start` to behind its `}}`; returns that place and whether it trims what follows.
fn action(text: &str, start: usize) -> Result<(Vec<Token>, usize, bool), TemplateError> {
    let mut tokens = Vec::new();
    let mut position = start;
    let mut joined = false;
    loop {
        let rest = text.get(position..).unwrap_or_default();
        let Some(first) = rest.chars().next() else {
            return Err(TemplateError::at(text, start, "unclosed action"));
        };
        if rest.starts_with("}}") {
            return Ok((tokens, position + 2, false));
        }
        if !joined && rest.starts_with("-}}") {
            return Ok((tokens, position + 3, true));
        }
        if first.is_whitespace() {
            position += first.len_utf8();
            joined = false;
            continue;
        }
        let (kind, length) =
            token(rest).map_err(|message| TemplateError::at(text, position, message))?;
        tokens.push(Token {
            kind,
            offset: position,
            joined,
        });
        position += length;
        joined = true;
    }
}

fn token(rest: &str) -> Result<(Kind, usize), String> {
    let mut characters = rest.chars();
    let first = characters.next().unwrap_or_default();
    let second = characters.next().unwrap_or_default();
    let single = |kind| Ok((kind, 1));
    match first {
        '|' => single(Kind::Pipe),
        '(' => single(Kind::Open),
        ')' => single(Kind::Close),
        ',' => single(Kind::Comma),
        ':' if second == '=' => Ok((Kind::Declare, 2)),
        '=' => single(Kind::Assign),
        '"' => quoted(rest),
        '`' => {
            let end = rest.get(1..).and_then(|raw| raw.find('`'));
            let end = end.ok_or("unterminated raw quoted string")?;
            let raw = rest.get(1..=end).unwrap_or_default();
            Ok((Kind::Text(raw.to_owned()), end + 2))
        }
        '\'' => {
            let (value, length) = unescape(rest.get(1..).unwrap_or_default(), '\'')?;
            let mut inner = value.chars();
            match (inner.next(), inner.next()) {
                (Some(c), None) => Ok((Kind::Int(i64::from(u32::from(c))), length + 1)),
                _ => Err("malformed character constant".to_owned()),
            }
        }
        '$' => {
            let name = name(rest.get(1..).unwrap_or_default());
            Ok((Kind::Variable(format!("${name}")), 1 + name.len()))
        }
        '.' if !second.is_ascii_digit() => {
            let name = name(rest.get(1..).unwrap_or_default());
            if name.is_empty() {
                single(Kind::Dot)
            } else {
                Ok((Kind::Field(name.to_owned()), 1 + name.len()))
            }
        }
        _ if first.is_ascii_digit()
            || (matches!(first, '+' | '-' | '.') && second.is_ascii_digit()) =>
        {
            number(rest)
        }
        _ if first.is_alphabetic() || first == '_' => {
            let name = name(rest);
            Ok((Kind::Word(name.to_owned()), name.len()))
        }
        other => Err(format!("unexpected {other:?} in command")),
    }
}

fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

fn number(rest: &str) -> Result<(Kind, usize), String> {
    let sign = usize::from(rest.starts_with(['+', '-']));
    let body = rest.get(sign..).unwrap_or_default();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    let mut length = body.find(|c: char| !is_part(c)).unwrap_or(body.len());
    // The sign of an exponent.
    let hex = body.starts_with("0x") || body.starts_with("0X");
    let exponent = body
        .get(..length)
        .is_some_and(|number| number.ends_with(['e', 'E']));
    if !hex
        && exponent
        && body
            .get(length..)
            .is_some_and(|rest| rest.starts_with(['+', '-']))
    {
        let more = body.get(length + 1..).unwrap_or_default();
        length += 1 + more
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(more.len());
    }
    let text = rest.get(..sign + length).unwrap_or_default();
    let plain = text.replace('_', "");
    let whole = plain.trim_start_matches(['+', '-']);
    let negative = plain.starts_with('-');
    let radix = |prefix: &str, radix| {
        let digits = whole.strip_prefix(prefix)?;
        i64::from_str_radix(digits, radix).ok()
    };
    let int = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2));
    let kind = match int {
        Some(int) => Kind::Int(if negative { -int } else { int }),
        None => match (plain.parse::<i64>(), plain.parse::<f64>()) {
            (Ok(int), _) => Kind::Int(int),
            (_, Ok(float)) => Kind::Float(float),
            _ => return Err(format!("bad number syntax: {text:?}")),
        },
    };
    Ok((kind, sign + length))
}

fn quoted(rest: &str) -> Result<(Kind, usize), String> {
    let (value, length) = unescape(rest.get(1..).unwrap_or_default(), '"')?;
    Ok((Kind::Text(value), length + 1))
}

/// Reads up to the closing `quote`; returns the text and how many bytes that took, the quote included.
fn unescape(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((offset, character)) = characters.next() {
        match character {
            _ if character == quote => return Ok((value, offset + 1)),
            '\n' => break,
            '\\' => {
                let escape = characters.next().map(|(_, escape)| escape);
                let digits = match escape {
                    Some('n') => {
                        value.push('\n');
                        0
                    }
                    Some('t') => {
                        value.push('\t');
                        0
                    }
                    Some('r') => {
                        value.push('\r');
                        0
                    }
                    Some('x') => 2,
                    Some('u') => 4,
                    Some('U') => 8,
                    Some(plain @ ('\\' | '"' | '\'')) => {
                        value.push(plain);
                        0
                    }
                    _ => return Err("invalid syntax".to_owned()),
                };
                let hex: String = characters
                    .by_ref()
                    .take(digits)
                    .map(|(_, digit)| digit)
                    .collect();
                if digits > 0 {
                    let code = u32::from_str_radix(&hex, 16)
                        .ok()
                        .filter(|_| hex.len() == digits);
                    value.push(code.and_then(char::from_u32).ok_or("invalid syntax")?);
                }
            }
            other => value.push(other),
        }
    }
    Err("unterminated quoted string".to_owned())
}
