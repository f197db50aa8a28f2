//! Go templates over JSON: `--format '{{.Config.Env}}'`, as Docker's commands take them (Go `text/template`, docker/cli
//! `templates`). Pure.
//!
//! ```text
//! text ─lex─> pieces: text | tokens of an action ─parse─> Node… ─eval─> text
//! ```
//!
//! All of the language but templates within templates (`define`, `template`, `block`), which say that they are not supported. Functions:
//! Go's (`and or not len index slice print printf println html js urlquery eq ne lt le gt ge`) and Docker's
//! (`json split join title lower upper pad truncate`).
//!
//! Reading order: `lex`, `parse`, `eval`, `functions`, `print` (how Go writes values).

mod eval;
mod functions;
mod lex;
mod parse;
mod print;
#[cfg(test)]
mod tests;

use super::document::Value;
use parse::Node;

/// A template that cannot be read, or does not fit what it is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: template: :{line}:{column}: {message}")]
pub(crate) struct TemplateError {
    /// From 1.
    line: usize,
    /// Bytes from the line's start, as Go counts them.
    column: usize,
    /// What is wrong.
    message: String,
}

impl TemplateError {
    /// Makes an error of what stands at `offset` of `text`.
    fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.len() - start,
            message: message.into(),
        }
    }
}

/// A template that has been read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<Node>,
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            nodes: parse::parse(text)?,
            text: text.to_owned(),
        })
    }

    /// Renders `value`.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        eval::render(&self.text, &self.nodes, value)
    }
}
