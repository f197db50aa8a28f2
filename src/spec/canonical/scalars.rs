//! Single values: words, booleans, numbers, sizes, durations and modes.

use std::sync::Arc;

use super::{Canonical, Canonicalizer, scalar_text, text_node};
use crate::spec::diagnostic::Diagnostic;
use crate::spec::tree::{Node, Value};
use crate::spec::units;

impl Canonicalizer<'_> {
    pub(super) fn text_or_number(&mut self, node: &Arc<Node>) -> Canonical {
        match (&node.value, scalar_text(node)) {
            (Value::String(_), _) => Some(Arc::clone(node)),
            (Value::Bool(_), _) | (_, None) => self.must_be(node, "a string or a number"),
            (_, Some(text)) => Some(text_node(node, text)),
        }
    }

    pub(super) fn word(&mut self, node: &Arc<Node>, words: &[&str]) -> Canonical {
        let Some(text) = node.as_str() else {
            return self.must_be(node, "a string");
        };
        if words.contains(&text) {
            return Some(Arc::clone(node));
        }
        let place = self.place();
        let one_of = words.join(", ");
        self.diagnostics.push(
            Diagnostic::error(node.span, format!("{place} must be one of {one_of}"))
                .suggest(text, words.iter().copied()),
        );
        None
    }

    pub(super) fn boolean(&mut self, node: &Arc<Node>) -> Canonical {
        let text = match &node.value {
            Value::Bool(_) => return Some(Arc::clone(node)),
            Value::String(text) => text,
            _ => return self.must_be(node, "a boolean"),
        };
        let Some((value, old)) = units::parse_boolean(text) else {
            return self.must_be(node, "a boolean");
        };
        if old {
            self.diagnostics.push(Diagnostic::warning(
                node.span,
                format!(
                    "\"{text}\" for boolean is not supported by YAML 1.2, please use `{value}`"
                ),
            ));
        }
        Some(Arc::new(Node::new(node.span, Value::Bool(value))))
    }

    pub(super) fn integer(&mut self, node: &Arc<Node>, low: i64, high: i64) -> Canonical {
        let value = match &node.value {
            Value::Integer(value) => Some(*value),
            Value::Float(value) => whole(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match value {
            None => self.must_be(node, "an integer"),
            Some(value) if value < low => {
                self.must_be_in_range(node, &format!("greater than or equal to {low}"))
            }
            Some(value) if value > high => {
                self.must_be_in_range(node, &format!("less than or equal to {high}"))
            }
            Some(_) if matches!(node.value, Value::Integer(_)) => Some(Arc::clone(node)),
            Some(value) => Some(Arc::new(Node::new(node.span, Value::Integer(value)))),
        }
    }

    /// A number without what follows its point, as Docker Compose reads it.
    pub(super) fn cut(&mut self, node: &Arc<Node>, low: i64, high: i64) -> Canonical {
        let cut = match &node.value {
            Value::Float(value) => whole(value.trunc()),
            _ => return self.integer(node, low, high),
        };
        match cut {
            Some(value) => {
                let value = Arc::new(Node::new(node.span, Value::Integer(value)));
                self.integer(&value, low, high)
            }
            None => self.must_be(node, "an integer"),
        }
    }

    pub(super) fn must_be_in_range(&mut self, node: &Node, range: &str) -> Canonical {
        let place = self.place();
        self.diagnostics
            .error(node.span, format!("{place} must be {range}"));
        None
    }

    pub(super) fn number(&mut self, node: &Arc<Node>) -> Canonical {
        let value = match &node.value {
            #[expect(
                clippy::cast_precision_loss,
                reason = "Go reads these numbers as floats too"
            )]
            Value::Integer(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match value {
            Some(value) if value.is_finite() && value < 0.0 => {
                self.must_be_in_range(node, "greater than or equal to 0")
            }
            Some(value) if value.is_finite() => {
                let value = whole(value).map_or(Value::Float(value), Value::Integer);
                Some(Arc::new(Node::new(node.span, value)))
            }
            _ => self.must_be(node, "a number"),
        }
    }

    pub(super) fn bytes(&mut self, node: &Arc<Node>) -> Canonical {
        let bytes = match &node.value {
            Value::Integer(bytes) => Some(*bytes),
            Value::Float(bytes) if bytes.is_finite() && bytes.fract() != 0.0 => {
                self.warn_of_fraction(node);
                Some(0)
            }
            Value::Float(bytes) => whole(*bytes),
            Value::String(text) => units::parse_bytes(text),
            _ => return self.must_be(node, "a number of bytes"),
        };
        let Some(bytes) = bytes else {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::error(node.span, format!("{place}: invalid size"))
                    .hint("write a number with b, k, m, g or t after it, such as 512m"),
            );
            return None;
        };
        Some(text_node(node, bytes.to_string()))
    }

    /// A number with a fraction is no size: Docker Compose goes on as if it were not there.
    pub(super) fn warn_of_fraction(&mut self, node: &Node) {
        let place = self.place();
        let written = scalar_text(node).unwrap_or_default();
        self.diagnostics.push(
            Diagnostic::warning(
                node.span,
                format!("{place}: {written} is no whole number of bytes; it is ignored"),
            )
            .hint("write a number with b, k, m, g or t after it, such as 512m"),
        );
    }

    pub(super) fn duration(&mut self, node: &Arc<Node>) -> Canonical {
        let Some(text) = node.as_str() else {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::error(node.span, format!("{place} must be a string"))
                    .hint("write a number with a unit, such as 30s or 1m30s"),
            );
            return None;
        };
        // A negative one is refused only where it is used.
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text),
        };
        let Some(duration) = units::parse_duration(digits) else {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::error(node.span, format!("{place}: invalid duration `{text}`"))
                    .hint("write a number with a unit, such as 30s or 1m30s"),
            );
            return None;
        };
        let sign = if duration.is_zero() { "" } else { sign };
        Some(text_node(
            node,
            format!("{sign}{}", units::format_duration(duration)),
        ))
    }

    pub(super) fn mode(&mut self, node: &Arc<Node>) -> Canonical {
        let mode = match &node.value {
            Value::Integer(mode) => u32::try_from(*mode).ok().filter(|mode| *mode <= 0o7777),
            Value::String(text) => units::parse_mode(text),
            _ => None,
        };
        match mode {
            Some(mode) => Some(text_node(node, format!("0{mode:o}"))),
            None => self.must_be(node, "permission bits in octal, such as 0440"),
        }
    }

    pub(super) fn numeric_mode(&mut self, node: &Arc<Node>) -> Canonical {
        let mode = match &node.value {
            Value::Float(value) => whole(value.trunc()),
            Value::Integer(mode) => Some(*mode),
            Value::String(text) => units::parse_mode(text).map(i64::from),
            _ => None,
        };
        match mode.filter(|mode| (0..=0o7777).contains(mode)) {
            Some(mode) => Some(Arc::new(Node::new(node.span, Value::Integer(mode)))),
            None => self.must_be(node, "permission bits in octal, such as 0o1777"),
        }
    }
}

/// Returns the whole number that `value` is.
fn whole(value: f64) -> Option<i64> {
    let in_range = value.abs() < 9e15;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
    (in_range && value.fract() == 0.0).then_some(value as i64)
}
