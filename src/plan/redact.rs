//! Shows changes without showing secrets.
//!
//! A value is hidden when its name looks like a secret's, or when it looks like one itself. Too much hidden is the better
//! error: the path that changed is always shown.

use std::fmt;

use serde_json::Value;

use super::fingerprint::Change;

/// Several changes on one line: `environment.LOG_LEVEL debug → info, command unset → ["serve"]`.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a>(pub &'a [Change]);

/// Characters of a value shown before `…`.
const SHOWN_CHARACTERS: usize = 60;

/// Parts of names, in lower case, whose values are hidden.
const SECRET_NAMES: &[&str] = &[
    "pass", // password, passwd, passphrase
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "private",
    "auth",
    "salt",
    "cookie",
    "signature",
    "dsn",
];

/// Beginnings of values that are secrets whatever their name.
const SECRET_VALUES: &[&str] = &[
    "-----BEGIN", // PEM
    "eyJ",        // a JSON web token
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "AKIA",
    "ASIA",
    "sk-",
    "sk_live_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "npm_",
    "dckr_pat_",
];

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, change) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_hidden_path(&self.path) {
            return match (&self.old, &self.new) {
                (None, _) => write!(f, "{} set (value not shown)", self.path),
                (_, None) => write!(f, "{} no longer set", self.path),
                _ => write!(f, "{} changed (value not shown)", self.path),
            };
        }
        let (old, new) = (shown(self.old.as_ref()), shown(self.new.as_ref()));
        if old == new {
            // Both were cut or hidden at the same place.
            return write!(f, "{} changed", self.path);
        }
        write!(f, "{} {old} → {new}", self.path)
    }
}

/// Whether a name looks like a secret's: `DB_PASSWORD`, `api-key`.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Returns `text` with what looks like a secret in it replaced by `***`.
pub fn redact_value(text: &str) -> String {
    if SECRET_VALUES.iter().any(|start| text.starts_with(start)) {
        return "***".to_owned();
    }
    if let Some((name, value)) = text.split_once('=')
        && !value.is_empty()
        && !name.contains(char::is_whitespace)
        && is_secret_name(name)
    {
        return format!("{name}=***");
    }
    redact_url(text)
}

/// Hides passwords of URLs: `postgres://user:***@host/db`.
fn redact_url(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let authority = after
            .find(['/', '?', '#', ' ', '\'', '"'])
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(authority);
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let user = user.split_once(':').map_or(user, |(user, _)| user);
                shown.extend([user, ":***@", host]);
            }
            None => shown.push_str(authority),
        }
        rest = tail;
    }
    shown.push_str(rest);
    shown
}

/// Whether the value at a dotted path is hidden whatever it is: names that the file's author chose, and contents.
fn is_hidden_path(path: &str) -> bool {
    match path.split_once('.') {
        Some(("environment" | "labels", name)) => is_secret_name(name),
        Some(("secrets" | "configs", rest)) => rest.ends_with(".content"),
        _ => false,
    }
}

/// Renders a value: bare text where it reads well, `unset` where there is none.
fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "unset".to_owned(),
        Some(Value::String(text)) => {
            let text = redact_value(text);
            if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                Value::from(text).to_string()
            } else {
                text
            }
        }
        Some(Value::Array(items)) => redact_list(items).to_string(),
        Some(other) => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Redacts each element, and the one after a flag such as `--password`.
fn redact_list(items: &[Value]) -> Value {
    let mut after_flag = false;
    let redacted = items.iter().map(|item| {
        let Value::String(text) = item else {
            return item.clone();
        };
        let hidden = std::mem::take(&mut after_flag);
        after_flag = text.starts_with('-') && !text.contains('=') && is_secret_name(text);
        if hidden && !text.starts_with('-') {
            return Value::from("***");
        }
        Value::from(redact_value(text))
    });
    Value::Array(redacted.collect())
}
