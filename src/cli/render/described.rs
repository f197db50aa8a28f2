//! What a Dockerfile says: `--call check|outline|targets`, as docker/buildx prints it. Pure.

use base64::Engine as _;
use serde_json::{Value, json};

use super::diagnostic::Drawing;
use super::{diagnostic, table};
use crate::engine::event::Remark;
use crate::engine::{Described, Outline, Target};

/// Renders an answer for people.
pub(crate) fn render(described: &Described, drawing: Drawing) -> String {
    match described {
        Described::Check(remarks) => check(remarks, drawing),
        Described::Targets(targets) => table::render(
            &["TARGET", "DESCRIPTION"],
            &targets.iter().map(target_row).collect::<Vec<_>>(),
            0,
        ),
        Described::Outline(outline) => outline_text(outline),
    }
}

/// Renders an answer for programs.
pub(crate) fn render_json(described: &Described) -> String {
    let object = match described {
        Described::Check(remarks) => check_json(remarks),
        Described::Targets(targets) => {
            let targets: Vec<Value> = targets.iter().map(target_json).collect();
            json!({ "targets": targets })
        }
        Described::Outline(outline) => outline_json(outline),
    };
    format!("{object:#}\n")
}

fn check(remarks: &[Remark], drawing: Drawing) -> String {
    let mut text = match remarks.len() {
        0 => return "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        many => format!("Check complete, {many} warnings have been found!\n"),
    };
    for remark in remarks {
        text.push('\n');
        text.push_str(&diagnostic::render_finding(
            remark,
            &url(remark.rule),
            drawing,
        ));
    }
    text
}

/// Returns where a rule is explained.
fn url(rule: &str) -> String {
    let characters: Vec<char> = rule.chars().collect();
    let mut name = String::new();
    for (at, character) in characters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| characters.get(before));
        let after = characters.get(at + 1);
        let begins = character.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase() || after.is_some_and(|after| after.is_lowercase())
            });
        if begins {
            name.push('-');
        }
        name.extend(character.to_lowercase());
    }
    format!("https://docs.docker.com/go/dockerfile/rule/{name}/")
}

fn check_json(remarks: &[Remark]) -> Value {
    let mut sources: Vec<(String, &str)> = Vec::new();
    let mut warnings = Vec::new();
    for remark in remarks {
        let source = (remark.path.display().to_string(), remark.text.as_str());
        let index = sources.iter().position(|known| *known == source);
        let index = index.unwrap_or_else(|| {
            sources.push(source);
            sources.len() - 1
        });
        let inside = remark.text.get(remark.range.0..remark.range.1);
        let lines = inside.unwrap_or_default().trim_end().matches('\n').count();
        warnings.push(json!({
            "ruleName": remark.rule,
            "url": url(remark.rule),
            "detail": remark.message,
            "location": {
                "sourceIndex": index,
                "ranges": [{
                    "start": { "line": remark.line() },
                    "end": { "line": remark.line() + lines },
                }],
            },
        }));
    }
    let sources: Vec<Value> = sources
        .iter()
        .map(|(path, text)| {
            let data = base64::engine::general_purpose::STANDARD.encode(text);
            json!({ "filename": path, "language": "Dockerfile", "data": data })
        })
        .collect();
    json!({ "warnings": warnings, "sources": sources })
}

fn target_row(target: &Target) -> Vec<String> {
    let name = match (&target.name, target.is_default) {
        (None, true) => "(default)".to_owned(),
        (None, false) => String::new(),
        (Some(name), true) => format!("{name} (default)"),
        (Some(name), false) => name.clone(),
    };
    vec![name, target.description.clone().unwrap_or_default()]
}

fn target_json(target: &Target) -> Value {
    let mut object = serde_json::Map::new();
    let mut put = |key: &str, value: Option<&String>| {
        if let Some(value) = value {
            object.insert(key.to_owned(), json!(value));
        }
    };
    put("name", target.name.as_ref());
    put("description", target.description.as_ref());
    put("base", Some(&target.base));
    put("platform", target.platform.as_ref());
    if target.is_default {
        object.insert("default".to_owned(), json!(true));
    }
    object.insert(
        "location".to_owned(),
        json!({ "ranges": [{ "start": { "line": target.line } }] }),
    );
    Value::Object(object)
}

fn outline_text(outline: &Outline) -> String {
    let mut parts = Vec::new();
    let name = outline.name.as_deref().unwrap_or("(default)");
    let mut head = format!("TARGET:      {}\n", super::text::visible_line(name));
    if let Some(description) = &outline.description {
        let description = super::text::visible_line(description);
        head.extend(["DESCRIPTION: ", &description, "\n"]);
    }
    parts.push(head);
    let mut list = |header: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            parts.push(table::render(header, &rows, 0));
        }
    };
    let arguments = outline.arguments.iter().map(|argument| {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        vec![
            argument.name.clone(),
            text(&argument.value),
            text(&argument.description),
        ]
    });
    list(&["BUILD ARG", "VALUE", "DESCRIPTION"], arguments.collect());
    let required = |(id, required): (&String, &bool)| {
        let required = if *required { "true" } else { "" };
        vec![id.clone(), required.to_owned()]
    };
    let secrets = outline.secrets.iter().map(required);
    list(&["SECRET", "REQUIRED"], secrets.collect());
    let agents = outline.agents.iter().map(required);
    list(&["SSH", "REQUIRED"], agents.collect());
    let caches = outline.caches.iter().map(|id| vec![id.clone()]);
    list(&["CACHE MOUNT"], caches.collect());
    parts.join("\n")
}

fn outline_json(outline: &Outline) -> Value {
    let arguments = outline.arguments.iter().map(|argument| {
        json!({
            "name": argument.name,
            "value": argument.value,
            "description": argument.description,
        })
    });
    let required = |(id, required): (&String, &bool)| json!({ "name": id, "required": required });
    json!({
        "name": outline.name,
        "description": outline.description,
        "args": arguments.collect::<Vec<_>>(),
        "secrets": outline.secrets.iter().map(required).collect::<Vec<_>>(),
        "ssh": outline.agents.iter().map(required).collect::<Vec<_>>(),
        "cache": outline.caches.iter().map(|id| json!({ "ID": id })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_pages() {
        let table = [
            ("JSONArgsRecommended", "json-args-recommended"),
            ("FromAsCasing", "from-as-casing"),
            ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
        ];
        for (rule, page) in table {
            let expected = format!("https://docs.docker.com/go/dockerfile/rule/{page}/");
            assert_eq!(url(rule), expected);
        }
    }

    #[test]
    fn findings_are_counted_and_drawn() {
        let remark = Remark {
            rule: "StageNameCasing",
            message: "Stage name 'A' should be lowercase".to_owned(),
            path: "Dockerfile".into(),
            text: "FROM x AS A\n".to_owned(),
            range: (0, 11),
        };
        insta::assert_snapshot!(render(&Described::Check(vec![remark]), Drawing::plain()), @r"
        Check complete, 1 warning has been found!

        WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
        Stage name 'A' should be lowercase
        Dockerfile:1
        --------------------
           1 | >>> FROM x AS A
        --------------------
        ");
        assert_eq!(
            render(&Described::Check(Vec::new()), Drawing::plain()),
            "Check complete, no warnings found.\n"
        );
    }
}
