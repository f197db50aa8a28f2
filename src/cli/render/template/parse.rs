//! Pieces to a tree.

use super::super::document::{Nil, Value};
use super::TemplateError;
use super::functions::is_function;
use super::lex::{Kind, Piece, Token, lex};

/// How deep blocks and parentheses may stand in each other.
const MAX_DEPTH: usize = 100;

/// A part of the tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// As it is.
    Text(String),
    /// `{{pipeline}}`
    Action(Pipe),
    /// `if`, each condition with what it decides on, and `else`.
    If(Vec<(Pipe, Vec<Self>)>, Vec<Self>),
    /// `with`, the same way.
    With(Vec<(Pipe, Vec<Self>)>, Vec<Self>),
    /// `range`, its body, and `else`.
    Range(Pipe, Vec<Self>, Vec<Self>),
    /// `break`
    Break,
    /// `continue`
    Continue,
}

/// Commands, each given the result of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipe {
    /// `$x :=`, of a range also `$i, $x :=`.
    pub(super) variables: Vec<String>,
    /// Whether they are new.
    pub(super) declares: bool,
    /// At least one.
    pub(super) commands: Vec<Vec<Operand>>,
    /// Where it begins.
    pub(super) offset: usize,
}

/// A word of a command.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    /// What it starts from.
    pub(super) base: Base,
    /// `.A.B` of it.
    pub(super) fields: Vec<String>,
    /// Where it begins.
    pub(super) offset: usize,
}

/// What an operand starts from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    /// The value at hand.
    Dot,
    /// `$x`
    Variable(String),
    /// Itself.
    Literal(Value),
    /// A function of this name.
    Function(String),
    /// `( … )`
    Pipe(Box<Pipe>),
}

/// What ends a block.
#[derive(Debug, Clone, PartialEq)]
enum Ending {
    /// The template's end.
    Text,
    /// `{{end}}`
    End,
    /// `{{else}}`
    Else,
    /// `{{else if …}}` or `{{else with …}}`, with the rest of its words.
    ElseIf(Pipe),
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        text,
        pieces: lex(text)?.into_iter(),
        variables: vec!["$".to_owned()],
        loops: 0,
    };
    match parser.block(0)? {
        (nodes, Ending::Text, _) => Ok(nodes),
        (_, Ending::End, offset) => Err(parser.error(offset, "unexpected {{end}}")),
        (_, Ending::Else | Ending::ElseIf(_), offset) => {
            Err(parser.error(offset, "unexpected {{else}}"))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    pieces: std::vec::IntoIter<Piece>,
    /// Those that are known at this place.
    variables: Vec<String>,
    loops: usize,
}

impl Parser<'_> {
    fn error(&self, offset: usize, message: impl Into<String>) -> TemplateError {
        TemplateError::at(self.text, offset, message)
    }

    /// Reads nodes up to what ends them, and says where that is.
    fn block(&mut self, depth: usize) -> Result<(Vec<Node>, Ending, usize), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (offset, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { offset, tokens } => (offset, tokens),
            };
            if depth > MAX_DEPTH {
                return Err(self.error(offset, "blocks are nested too deeply"));
            }
            let mut words = Words {
                text: self.text,
                tokens: tokens.into_iter().peekable(),
                end: offset,
            };
            let keyword = match words.tokens.peek().map(|token| &token.kind) {
                Some(Kind::Word(word)) => word.clone(),
                _ => String::new(),
            };
            if let Some(end) = self.ending(&keyword, &mut words)? {
                return Ok((nodes, end, offset));
            }
            nodes.push(self.node(&keyword, words, offset, depth)?);
        }
        Ok((nodes, Ending::Text, self.text.len()))
    }

    /// Reads `end` and `else`.
    fn ending(
        &mut self,
        keyword: &str,
        words: &mut Words<'_>,
    ) -> Result<Option<Ending>, TemplateError> {
        match keyword {
            "end" => {
                words.skip();
                words.finish("end")?;
                Ok(Some(Ending::End))
            }
            "else" => {
                words.skip();
                if words.take_word("if") || words.take_word("with") {
                    return Ok(Some(Ending::ElseIf(self.pipe(words, "if", 0)?)));
                }
                words.finish("else")?;
                Ok(Some(Ending::Else))
            }
            _ => Ok(None),
        }
    }

    fn node(
        &mut self,
        keyword: &str,
        mut words: Words<'_>,
        offset: usize,
        depth: usize,
    ) -> Result<Node, TemplateError> {
        let known = self.variables.len();
        match keyword {
            "if" | "with" => {
                words.skip();
                let pipe = self.pipe(&mut words, keyword, 0)?;
                let (branches, otherwise) = self.branches(keyword, pipe, depth)?;
                self.variables.truncate(known);
                Ok(match keyword {
                    "if" => Node::If(branches, otherwise),
                    _ => Node::With(branches, otherwise),
                })
            }
            "range" => {
                words.skip();
                let pipe = self.pipe(&mut words, "range", 0)?;
                self.loops += 1;
                let (body, end, at) = self.block(depth + 1)?;
                self.loops -= 1;
                let otherwise = match end {
                    Ending::End => Vec::new(),
                    Ending::Else => self.last_block("range", depth)?,
                    Ending::ElseIf(_) => {
                        return Err(self.error(at, "unexpected {{else if}} in range"));
                    }
                    Ending::Text => return Err(self.error(at, "unexpected EOF")),
                };
                self.variables.truncate(known);
                Ok(Node::Range(pipe, body, otherwise))
            }
            "break" | "continue" => {
                words.skip();
                words.finish(keyword)?;
                if self.loops == 0 {
                    return Err(
                        self.error(offset, format!("{{{{{keyword}}}}} outside {{{{range}}}}"))
                    );
                }
                Ok(if keyword == "break" {
                    Node::Break
                } else {
                    Node::Continue
                })
            }
            "define" | "template" | "block" => {
                Err(self.error(offset, format!("`{keyword}` is not supported")))
            }
            _ => Ok(Node::Action(self.pipe(&mut words, "command", 0)?)),
        }
    }

    /// Reads what belongs to an `if` or `with`, its `else`s included.
    #[expect(clippy::type_complexity, reason = "what both nodes hold")]
    fn branches(
        &mut self,
        keyword: &str,
        first: Pipe,
        depth: usize,
    ) -> Result<(Vec<(Pipe, Vec<Node>)>, Vec<Node>), TemplateError> {
        let mut branches = Vec::new();
        let mut pipe = first;
        loop {
            let (body, end, at) = self.block(depth + 1)?;
            branches.push((pipe, body));
            match end {
                Ending::End => return Ok((branches, Vec::new())),
                Ending::Else => return Ok((branches, self.last_block(keyword, depth)?)),
                Ending::ElseIf(next) => pipe = next,
                Ending::Text => return Err(self.error(at, "unexpected EOF")),
            }
        }
    }

    fn last_block(&mut self, keyword: &str, depth: usize) -> Result<Vec<Node>, TemplateError> {
        match self.block(depth + 1)? {
            (nodes, Ending::End, _) => Ok(nodes),
            (_, Ending::Text, at) => Err(self.error(at, "unexpected EOF")),
            (_, _, at) => Err(self.error(at, format!("unexpected {{{{else}}}} in {keyword}"))),
        }
    }

    /// Reads a pipeline up to the end of the action, or of the parenthesis where `depth` is not 0.
    fn pipe(
        &mut self,
        words: &mut Words<'_>,
        context: &str,
        depth: usize,
    ) -> Result<Pipe, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(self.error(words.end, "parentheses are nested too deeply"));
        }
        let offset = words.tokens.peek().map_or(words.end, |token| token.offset);
        let (variables, declares) = self.declaration(words, context)?;
        let mut commands: Vec<Vec<Operand>> = vec![Vec::new()];
        loop {
            let Some(token) = words.tokens.next() else {
                if depth > 0 {
                    return Err(self.error(words.end, "unclosed left paren"));
                }
                break;
            };
            words.end = token.offset;
            match token.kind {
                Kind::Close if depth > 0 => break,
                Kind::Pipe => commands.push(Vec::new()),
                _ => {
                    let operand = self.operand(token, words, depth)?;
                    if let Some(command) = commands.last_mut() {
                        command.push(operand);
                    }
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(self.error(offset, format!("missing value for {context}")));
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe {
            variables,
            declares,
            commands,
            offset,
        })
    }

    /// Reads `$x :=`, `$x =`, and of a range `$i, $x :=`.
    fn declaration(
        &self,
        words: &mut Words<'_>,
        context: &str,
    ) -> Result<(Vec<String>, bool), TemplateError> {
        let ahead: Vec<Kind> = words
            .tokens
            .clone()
            .take(4)
            .map(|token| token.kind)
            .collect();
        let (variables, sign) = match ahead.as_slice() {
            [
                Kind::Variable(name),
                sign @ (Kind::Declare | Kind::Assign),
                ..,
            ] => (vec![name.clone()], sign),
            [
                Kind::Variable(index),
                Kind::Comma,
                Kind::Variable(name),
                sign @ (Kind::Declare | Kind::Assign),
            ] if context == "range" => (vec![index.clone(), name.clone()], sign),
            _ => return Ok((Vec::new(), false)),
        };
        for _ in 0..variables.len() * 2 {
            words.skip();
        }
        let declares = *sign == Kind::Declare;
        let unknown = variables.iter().find(|name| !self.variables.contains(name));
        match unknown {
            Some(name) if !declares => {
                Err(self.error(words.end, format!("undefined variable {name:?}")))
            }
            _ => Ok((variables, declares)),
        }
    }

    fn operand(
        &mut self,
        token: Token,
        words: &mut Words<'_>,
        depth: usize,
    ) -> Result<Operand, TemplateError> {
        let mut fields = Vec::new();
        let base = match token.kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Base::Dot
            }
            Kind::Variable(name) if self.variables.contains(&name) => Base::Variable(name),
            Kind::Variable(name) => {
                return Err(self.error(token.offset, format!("undefined variable {name:?}")));
            }
            Kind::Word(word) => match word.as_str() {
                "true" | "false" => Base::Literal(Value::Bool(word == "true")),
                "nil" => Base::Literal(Value::Null(Nil::Pointer)),
                _ if is_function(&word) => Base::Function(word),
                _ => return Err(self.error(token.offset, format!("function {word:?} not defined"))),
            },
            Kind::Text(text) => Base::Literal(Value::Text(text)),
            Kind::Int(number) => Base::Literal(Value::Int(number)),
            Kind::Float(number) => Base::Literal(Value::Float(number)),
            Kind::Open => Base::Pipe(Box::new(self.pipe(
                words,
                "parenthesized pipeline",
                depth + 1,
            )?)),
            Kind::Pipe | Kind::Close | Kind::Comma | Kind::Declare | Kind::Assign => {
                return Err(self.error(token.offset, "unexpected token in operand"));
            }
        };
        while let Some(Kind::Field(name)) = words.joined() {
            fields.push(name);
            words.skip();
        }
        Ok(Operand {
            base,
            fields,
            offset: token.offset,
        })
    }
}

/// The words of an action.
struct Words<'a> {
    text: &'a str,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// Where the last one was.
    end: usize,
}

impl Words<'_> {
    fn skip(&mut self) {
        if let Some(token) = self.tokens.next() {
            self.end = token.offset;
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_it = |token: &Token| matches!(&token.kind, Kind::Word(found) if found == word);
        let found = self.tokens.peek().is_some_and(is_it);
        if found {
            self.skip();
        }
        found
    }

    /// Returns the next token if no space is before it.
    fn joined(&mut self) -> Option<Kind> {
        let token = self.tokens.peek().filter(|token| token.joined)?;
        Some(token.kind.clone())
    }

    fn finish(&mut self, context: &str) -> Result<(), TemplateError> {
        match self.tokens.next() {
            None => Ok(()),
            Some(token) => Err(TemplateError::at(
                self.text,
                token.offset,
                format!("unexpected token in {context}"),
            )),
        }
    }
}
