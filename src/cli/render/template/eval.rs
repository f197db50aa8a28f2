//! A tree and a value to text.

use super::super::document::{Nil, Value};
use super::TemplateError;
use super::functions::call;
use super::parse::{Base, Node, Operand, Pipe};
use super::print::{display, truth};

/// Renders `nodes`, read from `text`, with `value` as the dot.
pub(super) fn render(text: &str, nodes: &[Node], value: &Value) -> Result<String, TemplateError> {
    let mut state = State {
        text,
        variables: vec![("$".to_owned(), value.clone())],
        out: String::new(),
    };
    state.walk(nodes, value)?;
    Ok(state.out)
}

/// Whether to go on after a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct State<'a> {
    text: &'a str,
    variables: Vec<(String, Value)>,
    out: String,
}

impl State<'_> {
    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        let known = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.variables.truncate(known);
                return Ok(flow);
            }
        }
        self.variables.truncate(known);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&display(&value));
                }
            }
            Node::If(branches, otherwise) | Node::With(branches, otherwise) => {
                let moves_dot = matches!(node, Node::With(..));
                return self.choose(branches, otherwise, dot, moves_dot);
            }
            Node::Range(pipe, body, otherwise) => return self.range(pipe, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn choose(
        &mut self,
        branches: &[(Pipe, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
        moves_dot: bool,
    ) -> Result<Flow, TemplateError> {
        let known = self.variables.len();
        for (pipe, body) in branches {
            let value = self.pipe(pipe, dot)?;
            if truth(&value) {
                let flow = self.walk(body, if moves_dot { &value } else { dot })?;
                self.variables.truncate(known);
                return Ok(flow);
            }
        }
        let flow = self.walk(otherwise, dot)?;
        self.variables.truncate(known);
        Ok(flow)
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let known = self.variables.len();
        let value = self.commands(pipe, dot)?;
        let items: Vec<(Value, Value)> = match value {
            Value::List(list) => (0..).map(Value::Int).zip(list).collect(),
            Value::Map(mut members) => {
                members.sort_by(|a, b| a.0.cmp(&b.0));
                members
                    .into_iter()
                    .map(|(key, value)| (Value::Text(key), value))
                    .collect()
            }
            Value::Int(count) => (0..count.clamp(0, 1 << 20))
                .map(|n| (Value::Int(n), Value::Int(n)))
                .collect(),
            Value::Null(_) => Vec::new(),
            other => {
                let message = format!("range can't iterate over {}", display(&other));
                return Err(TemplateError::at(self.text, pipe.offset, message));
            }
        };
        if items.is_empty() {
            return self.walk(otherwise, dot);
        }
        for (key, item) in items {
            self.variables.truncate(known);
            match pipe.variables.as_slice() {
                [] => {}
                [name] => self.set(name, item.clone(), pipe.declares),
                [index, name, ..] => {
                    self.set(index, key, pipe.declares);
                    self.set(name, item.clone(), pipe.declares);
                }
            }
            if self.walk(body, &item)? == Flow::Break {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Value, declares: bool) {
        let known = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| known == name);
        match known {
            Some((_, known)) if !declares => *known = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    /// Evaluates a pipeline, and sets the variables that it names.
    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.declares);
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let mut last: Option<Value> = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Null(Nil::Pointer)))
    }

    fn command(
        &mut self,
        words: &[Operand],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let Some((first, rest)) = words.split_first() else {
            return Ok(Value::Null(Nil::Pointer));
        };
        let Base::Function(name) = &first.base else {
            if !rest.is_empty() || last.is_some() {
                let message = format!("can't give argument to non-function {}", shown(first));
                return Err(TemplateError::at(self.text, first.offset, message));
            }
            return self.operand(first, dot);
        };
        let mut arguments = Vec::new();
        for operand in rest {
            let value = self.operand(operand, dot)?;
            // What decides is not evaluated past.
            let decided = match name.as_str() {
                "and" => !truth(&value),
                "or" => truth(&value),
                _ => false,
            };
            if decided {
                return self.fields(value, &first.fields, first);
            }
            arguments.push(value);
        }
        arguments.extend(last);
        let value = call(name, &arguments).map_err(|message| {
            let message = format!(
                "executing \"\" at <{}>: error calling {name}: {message}",
                shown(first)
            );
            TemplateError::at(self.text, first.offset, message)
        })?;
        self.fields(value, &first.fields, first)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map_or(Value::Null(Nil::Missing), |(_, value)| value.clone())
            }
            Base::Literal(value) => value.clone(),
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
            Base::Function(_) => self.command(std::slice::from_ref(operand), None, dot)?,
        };
        if matches!(operand.base, Base::Function(_)) {
            return Ok(base);
        }
        self.fields(base, &operand.fields, operand)
    }

    /// Follows `.A.B`.
    fn fields(
        &self,
        base: Value,
        fields: &[String],
        operand: &Operand,
    ) -> Result<Value, TemplateError> {
        let mut value = base;
        for field in fields {
            let found = value.get(field).cloned();
            value = match (found, &value) {
                (Some(found), _) => found,
                (None, Value::Map(_) | Value::Null(Nil::Map)) => Value::Null(Nil::Missing),
                (None, other) => {
                    let why = match other {
                        Value::Struct(_) => format!("map has no entry for key {field:?}"),
                        Value::Null(_) => format!("nil pointer evaluating interface {{}}.{field}"),
                        _ => format!("can't evaluate field {field} in a value that is no object"),
                    };
                    let message = format!("executing \"\" at <{}>: {why}", shown(operand));
                    return Err(TemplateError::at(self.text, operand.offset, message));
                }
            };
        }
        Ok(value)
    }
}

/// Returns an operand as it was written, as far as one can tell.
fn shown(operand: &Operand) -> String {
    let base = match &operand.base {
        Base::Dot if operand.fields.is_empty() => ".".to_owned(),
        Base::Dot => String::new(),
        Base::Variable(name) | Base::Function(name) => name.clone(),
        Base::Literal(value) => value.to_json(),
        Base::Pipe(_) => "(…)".to_owned(),
    };
    let fields = operand.fields.iter().map(|field| format!(".{field}"));
    base + &fields.collect::<String>()
}
