//! How an instruction is shown while it is done.

use super::super::super::dockerfile::lint::is_secret;
use super::StageState;

impl StageState {
    /// Returns an instruction as it is shown: with the values of its variables, as BuildKit shows it, but for those whose names speak of
    /// secrets. What is quoted, unknown or more than a name stays as written.
    pub fn shown(&self, text: &str) -> String {
        let mut shown = String::new();
        let mut rest = text;
        let mut is_quoted = false;
        while let Some(character) = rest.chars().next() {
            let (kept, after) = rest.split_at(character.len_utf8());
            match character {
                '$' if !is_quoted => {
                    let (name, beyond) = variable_name(after);
                    if let Some(value) = self.shown_value(name) {
                        shown.push_str(value);
                        rest = beyond;
                        continue;
                    }
                }
                '\\' if !is_quoted && after.starts_with('$') => {
                    shown.push_str("\\$");
                    rest = after.get(1..).unwrap_or_default();
                    continue;
                }
                '\'' => is_quoted = !is_quoted,
                _ => {}
            }
            shown.push_str(kept);
            rest = after;
        }
        shown
    }

    /// Returns the value of a variable that may be shown, if it fits on a line.
    fn shown_value(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).filter(|_| !is_secret(name))?;
        (!value.contains('\n')).then_some(value)
    }
}

/// Splits what follows a `$` into the name of a plain `$NAME` or `${NAME}`, empty where it is neither, and what comes after.
fn variable_name(text: &str) -> (&str, &str) {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let end = inner.find(|c| !is_part(c)).unwrap_or(inner.len());
    let (name, beyond) = inner.split_at(end);
    match (inner.len() < text.len(), beyond.strip_prefix('}')) {
        (false, _) => (name, beyond),
        (true, Some(beyond)) => (name, beyond),
        (true, None) => ("", text),
    }
}
