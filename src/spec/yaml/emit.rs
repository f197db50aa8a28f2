//! JSON values as YAML, in the style of Docker Compose: two spaces, lists indented beneath their key, keys in the order
//! given, and quotes exactly where a reader would otherwise take text for something else (YAML 1.1 readers among them).

use std::fmt::Write as _;

use serde_json::Value;

use super::resolve::reads_as_text;

/// Renders `value`, ending with a newline.
pub(crate) fn emit(value: &Value) -> String {
    let mut out = String::new();
    node(value, 0, &mut out, true);
    out
}

/// Writes a node; `fresh` where the cursor is already at the column of the node's first line.
fn node(value: &Value, indent: usize, out: &mut String, fresh: bool) {
    let mut first = fresh;
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, item) in map {
                start_line(&mut first, indent, out);
                *out += &text(key, indent, true);
                out.push(':');
                entry(item, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                start_line(&mut first, indent, out);
                out.push('-');
                match scalar(item, indent + 2) {
                    Some(scalar) => line(&scalar, out),
                    None => {
                        out.push(' ');
                        node(item, indent + 2, out, true);
                    }
                }
            }
        }
        other => {
            *out += &scalar(other, indent).unwrap_or_default();
            out.push('\n');
        }
    }
}

fn start_line(first: &mut bool, indent: usize, out: &mut String) {
    if !std::mem::take(first) {
        out.extend(std::iter::repeat_n(' ', indent));
    }
}

fn line(scalar: &str, out: &mut String) {
    out.push(' ');
    *out += scalar;
    out.push('\n');
}

fn entry(value: &Value, indent: usize, out: &mut String) {
    match scalar(value, indent) {
        Some(scalar) => line(&scalar, out),
        None => {
            out.push('\n');
            node(value, indent, out, false);
        }
    }
}

/// Returns what fits on the key's line.
fn scalar(value: &Value, indent: usize) -> Option<String> {
    Some(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => text(value, indent, false),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        _ => return None,
    })
}

/// How a text can be written.
struct Forms {
    plain: bool,
    single_quoted: bool,
    block: bool,
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{D7FF}' | '\u{E000}'..='\u{FEFE}' | '\u{FF00}'..='\u{FFFD}'
        | '\u{10000}'..='\u{10FFFF}')
}

/// Finds the forms that a text may take (libyaml's `yaml_emitter_analyze_scalar`).
fn forms(text: &str) -> Forms {
    let all_printable = text.chars().all(is_printable);
    let breaks = text.contains(is_break);
    let other_break = text.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']);
    let edge_space = text.starts_with(' ') || text.ends_with(' ');
    let edge_break = text.starts_with(is_break) || text.ends_with(is_break);
    let pairs = || text.chars().zip(text.chars().skip(1));
    let space_then_break = pairs().any(|(a, b)| a == ' ' && is_break(b));
    let break_then_space = pairs().any(|(a, b)| is_break(a) && b == ' ');
    let safe = all_printable && !space_then_break;
    Forms {
        plain: safe
            && !text.is_empty()
            && !breaks
            && !edge_space
            && !edge_break
            && !has_indicator(text),
        single_quoted: safe && !breaks && !break_then_space,
        block: all_printable && !other_break && !space_then_break && !text.ends_with(' '),
    }
}

/// Whether something in `text` would be read as syntax.
fn has_indicator(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let blank = |c: Option<char>| c.is_none_or(|c| c == ' ' || c == '\t' || is_break(c));
    let mut before_is_blank = true;
    let mut characters = text.chars().peekable();
    let mut first = true;
    while let Some(c) = characters.next() {
        let before_blank = blank(characters.peek().copied());
        let indicator = if first {
            matches!(
                c,
                '#' | ','
                    | '['
                    | ']'
                    | '{'
                    | '}'
                    | '&'
                    | '*'
                    | '!'
                    | '|'
                    | '>'
                    | '\''
                    | '"'
                    | '%'
                    | '@'
                    | '`'
            ) || (matches!(c, '?' | ':' | '-') && before_blank)
        } else {
            (c == ':' && before_blank) || (c == '#' && before_is_blank)
        };
        if indicator {
            return true;
        }
        before_is_blank = blank(Some(c));
        first = false;
    }
    false
}

/// Whether a YAML 1.1 reader takes `text` for a number in base 60, such as `22:22`.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let Some((first, rest)) = unsigned.split_once(':') else {
        return false;
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !first.starts_with(|c: char| c.is_ascii_digit()) || !digits(first) {
        return false;
    }
    let (rest, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    digits(fraction)
        && rest.split(':').all(|part| match part.as_bytes() {
            [unit] => unit.is_ascii_digit(),
            [ten, unit] => (b'0'..=b'5').contains(ten) && unit.is_ascii_digit(),
            _ => false,
        })
}

/// Whether a YAML 1.1 reader takes `text` for a boolean, a date, or the value key.
fn is_old_word(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "yes", "on", "n", "no", "off", "true", "false", "null"];
    text == "=" || WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// Writes a text, as a key or as a value whose lines would stand at `indent`.
fn text(text: &str, indent: usize, is_key: bool) -> String {
    let forms = forms(text);
    let typed = !reads_as_text(text) || is_base_60(text) || is_old_word(text);
    if text.contains('\n') && forms.block && !is_key {
        return block(text, indent);
    }
    if forms.plain && !typed {
        return text.to_owned();
    }
    if forms.single_quoted && !typed {
        return format!("'{}'", text.replace('\'', "''"));
    }
    double_quoted(text)
}

fn block(text: &str, indent: usize) -> String {
    let hint = if text.starts_with([' ', '\n']) {
        "2"
    } else {
        ""
    };
    let chomping = if !text.ends_with('\n') {
        "-"
    } else if text.ends_with("\n\n") || text == "\n" {
        "+"
    } else {
        ""
    };
    let mut out = format!("|{hint}{chomping}");
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out += line;
        }
    }
    out
}

fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            '\0' => out += "\\0",
            '\u{7}' => out += "\\a",
            '\u{8}' => out += "\\b",
            '\u{b}' => out += "\\v",
            '\u{c}' => out += "\\f",
            '\u{1b}' => out += "\\e",
            '\u{85}' => out += "\\N",
            '\u{a0}' => out += "\\_",
            '\u{2028}' => out += "\\L",
            '\u{2029}' => out += "\\P",
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                // Writing to a String cannot fail.
                let _ = match code {
                    0..0x100 => write!(out, "\\x{code:02X}"),
                    0x100..0x10000 => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
            }
        }
    }
    out.push('"');
    out
}
