//! Here-documents: which words open them, and their bodies.

use super::super::Fault;
use super::super::instruction::Document;
use super::{Logical, Physical};

/// Takes the bodies of the here-documents that `logical` opens, if it is an instruction that can.
pub(super) fn read_documents(lines: &mut Physical<'_>, logical: &mut Logical) -> Result<(), Fault> {
    if !logical.text.contains("<<") || !may_open(&logical.text) {
        return Ok(());
    }
    for word in split_raw(&logical.text) {
        let Some(mut document) = parse_opening(word) else {
            continue;
        };
        loop {
            let Some((_, line)) = lines.next()? else {
                let message = format!("unterminated heredoc: no line `{}`", document.name);
                return Err(Fault::new(logical.span, message));
            };
            let bare = line.trim_end_matches(['\n', '\r']);
            let terminator = if document.strip_tabs {
                bare.trim_start_matches('\t')
            } else {
                bare
            };
            if terminator == document.name {
                break;
            }
            document.body.push_str(line);
        }
        logical.documents.push(document);
    }
    Ok(())
}

/// Returns whether the instruction is one whose words may open here-documents: not where its arguments are JSON.
fn may_open(text: &str) -> bool {
    let (mut keyword, mut rest) = first_word(text);
    if keyword.eq_ignore_ascii_case("onbuild") {
        (keyword, rest) = first_word(rest);
    }
    let known = ["add", "copy", "run"];
    if !known.iter().any(|name| keyword.eq_ignore_ascii_case(name)) {
        return false;
    }
    while rest.starts_with("--") {
        (_, rest) = first_word(rest);
    }
    !(rest.starts_with('[') && serde_json::from_str::<Vec<serde_json::Value>>(rest).is_ok())
}

/// Splits off the first word; what follows begins with the next.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start())
}

/// Parses a word that opens a here-document: digits, `<<`, an optional `-`, a delimiter that may be quoted.
///
/// Quotes around any part of the delimiter mean that nothing in the body is expanded; a backslash does not, as in BuildKit.
pub fn parse_opening(word: &str) -> Option<Document> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let (rest, strip_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.contains('<') {
        return None;
    }
    let (name, is_quoted) = unquote(rest.trim())?;
    if name.is_empty() {
        return None;
    }
    Some(Document {
        expand: !is_quoted,
        name,
        body: String::new(),
        strip_tabs,
    })
}

/// Takes the quotes from one word and says whether it had any; nothing if it is several words, or a quote is not closed.
fn unquote(word: &str) -> Option<(String, bool)> {
    let mut text = String::new();
    let mut is_quoted = false;
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                is_quoted = true;
                let (inside, rest) = characters.as_str().split_once('\'')?;
                text.push_str(inside);
                characters = rest.chars();
            }
            '"' => {
                is_quoted = true;
                unquote_double(&mut characters, &mut text)?;
            }
            '\\' => text.extend(characters.next()),
            blank if blank.is_whitespace() => return None,
            other => text.push(other),
        }
    }
    Some((text, is_quoted))
}

/// Takes what stands up to a closing `"`.
fn unquote_double(characters: &mut std::str::Chars<'_>, text: &mut String) -> Option<()> {
    loop {
        match characters.next()? {
            '"' => return Some(()),
            '\\' => match characters.next()? {
                escaped @ ('"' | '$' | '\\') => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            other => text.push(other),
        }
    }
}

/// Splits at blanks that are not quoted; quotes and escapes stay. Nothing where a quote is not closed.
fn split_raw(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut quote = None;
    let mut start = 0;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            words.extend(text.get(start..at));
            start = at + character.len_utf8();
        } else if character == '\\' && quote != Some('\'') {
            characters.next();
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '"' | '\'') {
            quote = Some(character);
        }
    }
    if quote.is_some() {
        return Vec::new();
    }
    words.extend(text.get(start..));
    words.retain(|word| !word.is_empty());
    words
}
