//! The variables that a project names, whether or not they are set (`config --variables`).

use std::collections::BTreeMap;

use super::load::Loaded;
use super::template;
use super::tree::{Node, Value};

/// One variable, over all places that name it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether one of the places refuses to load without it.
    pub required: bool,
    /// The first default (`-` or `:-`); empty where there is none.
    pub default: String,
    /// The first alternate (`+` or `:+`); empty where there is none.
    pub alternate: String,
}

/// Returns the variables of a project that was loaded without filling them in, by name.
pub fn of(loaded: &Loaded) -> BTreeMap<String, Variable> {
    let mut found = BTreeMap::new();
    let document = loaded.stack.document.as_mapping();
    for entry in document.into_iter().flat_map(super::tree::Mapping::entries) {
        // The name is filled in always: what is written comes from the file.
        match loaded.trace.written_name(&loaded.sources) {
            Some(written) if &*entry.key == "name" => text(written, 0, &mut found),
            _ => node(&entry.value, &mut found),
        }
    }
    found
}

fn node(at: &Node, found: &mut BTreeMap<String, Variable>) {
    match &at.value {
        Value::String(written) => text(written, 0, found),
        Value::Sequence(items) => items.iter().for_each(|item| node(item, found)),
        Value::Mapping(mapping) => {
            for entry in mapping.entries() {
                node(&entry.value, found);
            }
        }
        _ => {}
    }
}

/// How deep variables within the braces of others are looked for: deeper ones are refused when they are filled in.
const MAX_DEPTH: usize = 100;

fn text(written: &str, depth: usize, found: &mut BTreeMap<String, Variable>) {
    if depth > MAX_DEPTH {
        return;
    }
    for one in template::uses(written) {
        let variable = found.entry(one.name.to_owned()).or_default();
        one.name.clone_into(&mut variable.name);
        let kept = match one.operator {
            Some(('?', _)) => {
                variable.required = true;
                None
            }
            Some(('-', _)) => Some(&mut variable.default),
            Some(('+', _)) => Some(&mut variable.alternate),
            _ => None,
        };
        if let Some(kept) = kept.filter(|kept| kept.is_empty()) {
            one.argument.clone_into(kept);
        }
        text(one.argument, depth + 1, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_put_together() {
        let rows = [
            ("$A ${B} $$C", "A false [] [] | B false [] []"),
            ("${A:-x} ${A:?m} ${A-y}", "A true [x] []"),
            ("${A:+x} ${A}", "A false [] [x]"),
            (
                "${A:-${B:-$C}}",
                "A false [${B:-$C}] [] | B false [$C] [] | C false [] []",
            ),
            ("${A:?${B}}", "A true [] [] | B false [] []"),
            ("${A ${} a$", ""),
        ];
        for (written, expected) in rows {
            let mut found = BTreeMap::new();
            text(written, 0, &mut found);
            let shown: Vec<String> = found
                .values()
                .map(|v| {
                    format!(
                        "{} {} [{}] [{}]",
                        v.name, v.required, v.default, v.alternate
                    )
                })
                .collect();
            assert_eq!(shown.join(" | "), expected, "{written}");
        }
    }
}
