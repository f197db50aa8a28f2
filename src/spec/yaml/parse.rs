//! YAML text into [`Node`]s.
//!
//! Events come from `libyaml-safer`, a port of the parser that Docker's is a port of. It panics on two inputs, which
//! are kept away from it: a text that does not end with a newline (one is added, and taken off a block scalar that
//! it lengthened), and a tag directly followed by a comma (looked for in a copy first, see [`tag_before_comma`]).
//!
//! Aliases share the anchor's node. What they would expand to is counted when they are met, so that a file that
//! means billions of nodes is refused while it is read. Every node counts against [`Resource::Nodes`], the more the deeper
//! it lies, as every level indents what is printed of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use libyaml_safer::{Event, EventData, Parser, ScalarStyle};

use super::resolve::{Scalar, resolve};
use crate::spec::budget::Resource;
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::source::{SourceId, Span};
use crate::spec::tree::{Entry, Mapping, Node, Tag, Value};

/// How deep lists and maps may lie in each other.
const MAX_DEPTH: usize = 1000;

/// How many nodes all aliases of a file may stand for.
const MAX_ALIASED: usize = 500_000;

/// The longest key, in bytes.
const MAX_KEY: usize = 4096;

/// How many directives (`%TAG`) a text may have, and how long each may be: the parser goes over all of them for every
/// tag.
const MAX_DIRECTIVES: usize = 100;
const MAX_DIRECTIVE: usize = 1024;

/// The text cannot be gone on with; why was reported.
struct Stopped;

/// Reads every document of `text`, which has no byte order mark and is less than 4 GiB long.
///
/// Returns `None` where the text is not YAML; what can be gone over (a repeated key, a key that is not text) is reported
/// and gone over.
pub(crate) fn parse(
    text: &str,
    source: SourceId,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Arc<Node>>> {
    let checked = directives(text, source).and_then(|()| tag_before_comma(text, source));
    if let Err(diagnostic) = checked {
        diagnostics.push(*diagnostic);
        return None;
    }
    build(text, source, diagnostics).ok()
}

fn build(
    text: &str,
    source: SourceId,
    diagnostics: &mut Diagnostics,
) -> Result<Vec<Arc<Node>>, Stopped> {
    let lengthened;
    let (input, added) = if text.ends_with('\n') || text.is_empty() {
        (text, false)
    } else {
        lengthened = format!("{text}\n");
        (lengthened.as_str(), true)
    };
    let mut bytes = input.as_bytes();
    let mut parser = Parser::new();
    parser.set_input_string(&mut bytes);
    let mut builder = Builder::new(source, diagnostics);
    loop {
        let mut event = match parser.parse() {
            Ok(event) => event,
            Err(error) => return builder.stop(*syntax_error(&error, text, source)),
        };
        if added {
            shorten(&mut event, input.len());
        }
        if !builder.take(event)? {
            return Ok(builder.documents);
        }
    }
}

/// Takes the newline that was added off a block scalar at the end of the text.
fn shorten(event: &mut Event, length: usize) {
    let at_end = usize::try_from(event.end_mark.index).is_ok_and(|end| end >= length);
    if let EventData::Scalar {
        value,
        style: ScalarStyle::Literal | ScalarStyle::Folded,
        ..
    } = &mut event.data
        && at_end
        && value.ends_with('\n')
    {
        value.pop();
    }
}

fn offset(index: u64) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Returns the span of the one character at `index`.
fn character(text: &str, index: u64, source: SourceId) -> Span {
    let mut start = usize::try_from(index).unwrap_or(usize::MAX).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let width = text[start..]
        .chars()
        .next()
        .filter(|c| *c != '\n')
        .map_or(0, char::len_utf8);
    Span {
        source,
        start: offset(start as u64),
        end: offset((start + width) as u64),
    }
}

/// Says what the scanner found wrong, at both places that it names.
///
/// It goes into a `Result`, which it would make large.
fn syntax_error(error: &libyaml_safer::Error, text: &str, source: SourceId) -> Box<Diagnostic> {
    let problem = error.problem();
    let Some(mark) = error.problem_mark() else {
        let control = text.char_indices().find(|(_, c)| !is_printable(*c));
        let at = control.map_or(0, |(at, _)| at);
        let message = match control {
            Some((_, c)) => format!(
                "failed to parse YAML: control character U+{:04X} is not allowed",
                u32::from(c)
            ),
            None => format!("failed to parse YAML: {problem}"),
        };
        return Box::new(Diagnostic::error(
            character(text, at as u64, source),
            message,
        ));
    };
    let message = format!("failed to parse YAML: {problem}");
    let context = error.context().zip(error.context_mark());
    let context = context.filter(|(context, _)| !context.is_empty());
    let written = text.trim_end().len();
    let is_past_end = usize::try_from(mark.index).is_ok_and(|at| at >= written);
    let last = text[..written].char_indices().next_back();
    let last = last.map_or(0, |(at, _)| at as u64);
    Box::new(match context {
        // What was begun is to blame, not the end of the file.
        Some((_, begun)) if is_past_end && begun.index < last => {
            Diagnostic::error(character(text, begun.index, source), message)
                .label("the text ends before what begins here does")
        }
        _ if is_past_end => Diagnostic::error(character(text, last, source), message)
            .label("the text ends after this"),
        Some((context, begun)) => Diagnostic::error(character(text, mark.index, source), message)
            .note(character(text, begun.index, source), context),
        None => Diagnostic::error(character(text, mark.index, source), message),
    })
}

/// What libyaml lets into a stream.
fn is_printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}'
        | '\u{10000}'..='\u{10FFFF}')
}

/// Refuses more, and longer, directives than anybody writes.
fn directives(text: &str, source: SourceId) -> Result<(), Box<Diagnostic>> {
    if !text.contains('%') {
        return Ok(());
    }
    let mut at = 0;
    let mut count = 0;
    for line in text.split_inclusive('\n') {
        count += usize::from(line.starts_with('%'));
        if line.starts_with('%') && (count > MAX_DIRECTIVES || line.len() > MAX_DIRECTIVE) {
            return Err(Box::new(Diagnostic::error(
                character(text, at as u64, source),
                format!(
                    "failed to parse YAML: more than {MAX_DIRECTIVES} directives, or one longer than {MAX_DIRECTIVE} bytes"
                ),
            )));
        }
        at += line.len();
    }
    Ok(())
}

/// Refuses a tag that is directly followed by a comma (`[!!str, a]`), on which the parser panics.
///
/// Every comma that could end one gets a space before it, in a copy, which is safe to read and gives the same events but
/// for the text of scalars. A tagged node that ends at such a space is one. This costs a second reading only where the
/// text has an exclamation mark and a comma in one word.
fn tag_before_comma(text: &str, source: SourceId) -> Result<(), Box<Diagnostic>> {
    if !text.contains('!') {
        return Ok(());
    }
    let mut copy = String::with_capacity(text.len() + 16);
    let mut spaces = Vec::new();
    let mut mark_seen = false;
    for c in text.chars() {
        match c {
            ',' if mark_seen => {
                spaces.push(copy.len());
                copy.push(' ');
            }
            '!' => mark_seen = true,
            c if c.is_whitespace() => mark_seen = false,
            _ => {}
        }
        copy.push(c);
    }
    if spaces.is_empty() {
        return Ok(());
    }
    if !copy.ends_with('\n') {
        copy.push('\n');
    }
    let original = |at: u64| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        (at - spaces.partition_point(|space| *space < at)) as u64
    };
    let mut bytes = copy.as_bytes();
    let mut parser = Parser::new();
    parser.set_input_string(&mut bytes);
    loop {
        let event = parser.parse().map_err(|error| {
            let mut diagnostic = syntax_error(&error, &copy, source);
            if let Some(mark) = error.problem_mark() {
                diagnostic.span = Some(character(text, original(mark.index), source));
            }
            for note in &mut diagnostic.notes {
                note.0 = character(text, original(u64::from(note.0.start)), source);
            }
            diagnostic
        })?;
        let end = usize::try_from(event.end_mark.index).unwrap_or(usize::MAX);
        match event.data {
            EventData::Scalar { tag: Some(_), .. } if spaces.binary_search(&end).is_ok() => {
                let span = Span {
                    source,
                    start: offset(original(event.start_mark.index)),
                    end: offset(original(event.end_mark.index)),
                };
                return Err(Box::new(
                    Diagnostic::error(
                        span,
                        "failed to parse YAML: a tag must be followed by a space",
                    )
                    .hint("write a space between the tag and the comma"),
                ));
            }
            EventData::StreamEnd => return Ok(()),
            _ => {}
        }
    }
}

/// A collection that is not closed yet.
struct Frame {
    span: Span,
    tag: Option<String>,
    anchor: Option<String>,
    /// Nodes in it, aliases expanded.
    weight: usize,
    kind: FrameKind,
}

enum FrameKind {
    Sequence(Vec<Arc<Node>>),
    Mapping {
        entries: Vec<Entry>,
        merges: Vec<(Span, Arc<Node>)>,
        key: Option<PendingKey>,
    },
}

/// A key whose value has not come yet.
enum PendingKey {
    Text(Arc<str>, Span),
    Merge(Span),
    /// Reported; its value is dropped.
    Unusable,
}

struct Builder<'a> {
    source: SourceId,
    diagnostics: &'a mut Diagnostics,
    frames: Vec<Frame>,
    /// They outlive their document, as in go-yaml.
    anchors: BTreeMap<String, (Arc<Node>, usize)>,
    aliased: usize,
    keys: Keys,
    documents: Vec<Arc<Node>>,
}

/// Keys met before: a file has few that differ, and they are shared.
struct Keys(Vec<Option<Arc<str>>>);

impl Keys {
    /// A power of two.
    const SLOTS: u16 = 1024;

    fn get(&mut self, text: &str) -> Arc<str> {
        // FNV-1a; a key whose slot another one took is only not shared.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let index = usize::try_from(hash % u64::from(Self::SLOTS)).unwrap_or_default();
        let Some(slot) = self.0.get_mut(index) else {
            return text.into();
        };
        match slot {
            Some(known) if **known == *text => Arc::clone(known),
            _ => Arc::clone(slot.insert(text.into())),
        }
    }
}

impl<'a> Builder<'a> {
    fn new(source: SourceId, diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            source,
            diagnostics,
            frames: Vec::new(),
            anchors: BTreeMap::new(),
            aliased: 0,
            keys: Keys(vec![None; Keys::SLOTS.into()]),
            documents: Vec::new(),
        }
    }

    /// Takes one event in; returns false at the end of the stream.
    fn take(&mut self, event: Event) -> Result<bool, Stopped> {
        let span = Span {
            source: self.source,
            start: offset(event.start_mark.index),
            end: offset(event.end_mark.index),
        };
        match event.data {
            EventData::StreamEnd => return Ok(false),
            EventData::DocumentStart { .. } => self.charge(Resource::Files, 1, span)?,
            EventData::Scalar {
                anchor,
                tag,
                value,
                style,
                ..
            } => self.scalar(
                span,
                anchor,
                tag.as_deref(),
                value,
                style == ScalarStyle::Plain,
            )?,
            EventData::SequenceStart { anchor, tag, .. } => {
                self.open(span, tag, anchor, FrameKind::Sequence(Vec::new()))?;
            }
            EventData::MappingStart { anchor, tag, .. } => self.open(
                span,
                tag,
                anchor,
                FrameKind::Mapping {
                    entries: Vec::new(),
                    merges: Vec::new(),
                    key: None,
                },
            )?,
            EventData::SequenceEnd | EventData::MappingEnd => self.close(span.end)?,
            EventData::Alias { anchor } => self.alias(span, &anchor)?,
            _ => {}
        }
        Ok(true)
    }

    fn stop<T>(&mut self, diagnostic: Diagnostic) -> Result<T, Stopped> {
        self.diagnostics.push(diagnostic);
        Err(Stopped)
    }

    fn charge(&mut self, what: Resource, amount: usize, span: Span) -> Result<(), Stopped> {
        if self.diagnostics.take(what, amount, Some(span)) {
            Ok(())
        } else {
            Err(Stopped)
        }
    }

    /// Counts nodes that stand in the open collections.
    fn charge_nodes(&mut self, count: usize, span: Span) -> Result<(), Stopped> {
        let indented = count.saturating_mul(1 + self.frames.len() / 8);
        self.charge(Resource::Nodes, indented, span)
    }

    fn open(
        &mut self,
        span: Span,
        tag: Option<String>,
        anchor: Option<String>,
        kind: FrameKind,
    ) -> Result<(), Stopped> {
        if self.frames.len() >= MAX_DEPTH {
            return self.stop(Diagnostic::error(
                span,
                format!(
                    "nested too deep: the limit is {MAX_DEPTH} lists and mappings in each other"
                ),
            ));
        }
        self.charge_nodes(1, span)?;
        self.frames.push(Frame {
            span,
            tag,
            anchor,
            weight: 1,
            kind,
        });
        Ok(())
    }

    fn scalar(
        &mut self,
        span: Span,
        anchor: Option<String>,
        tag: Option<&str>,
        text: String,
        plain: bool,
    ) -> Result<(), Stopped> {
        if self.expects_key() {
            let key = self.scalar_key(span, tag, &text, plain)?;
            if let (Some(anchor), PendingKey::Text(text, span)) = (anchor, &key) {
                self.anchors
                    .insert(anchor, (Arc::new(Node::string(*span, &**text)), 1));
            }
            self.set_key(key);
            return Ok(());
        }
        let value = match resolve(text.into(), plain, tag) {
            Ok(Scalar::MergeKey) => Value::String("<<".into()),
            Ok(Scalar::Value(value)) => value,
            Err(message) => {
                self.diagnostics
                    .error(span, format!("failed to parse YAML: {message}"));
                Value::Invalid
            }
        };
        self.charge_nodes(1, span)?;
        let node = Node {
            span,
            tag: merge_tag(tag),
            value,
        };
        self.push(Arc::new(node), 1, anchor);
        Ok(())
    }

    fn scalar_key(
        &mut self,
        span: Span,
        tag: Option<&str>,
        text: &str,
        plain: bool,
    ) -> Result<PendingKey, Stopped> {
        if text.len() > MAX_KEY {
            return self.stop(Diagnostic::error(
                span,
                format!("failed to parse YAML: a key is longer than {MAX_KEY} bytes"),
            ));
        }
        let message = match resolve(text.into(), plain, tag) {
            Ok(Scalar::MergeKey) => return Ok(PendingKey::Merge(span)),
            // A date is text everywhere else.
            Ok(Scalar::Value(Value::String(key))) if *key == *text || tag.is_some() => {
                return Ok(PendingKey::Text(self.keys.get(&key), span));
            }
            Ok(Scalar::Value(_)) => {
                let place = self.path();
                if place.is_empty() {
                    format!("non-string key at top level: {text}")
                } else {
                    format!("non-string key in {place}: {text}")
                }
            }
            Err(message) => format!("failed to parse YAML: {message}"),
        };
        self.diagnostics
            .push(Diagnostic::error(span, message).hint(format!("put it in quotes: \"{text}\"")));
        Ok(PendingKey::Unusable)
    }

    fn alias(&mut self, span: Span, name: &str) -> Result<(), Stopped> {
        let Some((node, weight)) = self.anchors.get(name).cloned() else {
            let open = self
                .frames
                .iter()
                .find(|frame| frame.anchor.as_deref() == Some(name));
            let diagnostic = match open {
                Some(frame) => Diagnostic::error(
                    span,
                    format!("cycle detected: anchor `{name}` contains itself"),
                )
                .note(frame.span, "the anchor"),
                None => Diagnostic::error(span, format!("unknown anchor `{name}` referenced"))
                    .suggest(name, self.anchors.keys().map(String::as_str)),
            };
            return self.stop(diagnostic);
        };
        self.aliased = self.aliased.saturating_add(weight);
        if self.aliased > MAX_ALIASED {
            return self.stop(
                Diagnostic::error(span, "document contains excessive aliasing").label(format!(
                    "with this, aliases stand for more than {MAX_ALIASED} nodes"
                )),
            );
        }
        if self.expects_key() {
            let key = match node.as_str() {
                Some(text) if text.len() <= MAX_KEY => PendingKey::Text(self.keys.get(text), span),
                _ => self.unusable_key(span),
            };
            self.set_key(key);
        } else {
            self.charge_nodes(weight, span)?;
            self.push(node, weight, None);
        }
        Ok(())
    }

    fn unusable_key(&mut self, span: Span) -> PendingKey {
        self.diagnostics.error(span, "a key must be a string");
        PendingKey::Unusable
    }

    fn expects_key(&self) -> bool {
        matches!(
            self.frames.last().map(|frame| &frame.kind),
            Some(FrameKind::Mapping { key: None, .. })
        )
    }

    fn set_key(&mut self, new: PendingKey) {
        if let Some(FrameKind::Mapping { key, .. }) =
            self.frames.last_mut().map(|frame| &mut frame.kind)
        {
            *key = Some(new);
        }
    }

    /// Adds a finished value to the collection that it stands in.
    fn push(&mut self, node: Arc<Node>, weight: usize, anchor: Option<String>) {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, (Arc::clone(&node), weight));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.documents.push(node);
            return;
        };
        frame.weight = frame.weight.saturating_add(weight);
        match &mut frame.kind {
            FrameKind::Sequence(items) => items.push(node),
            FrameKind::Mapping {
                entries,
                merges,
                key,
            } => match key.take() {
                Some(PendingKey::Text(key, key_span)) => entries.push(Entry {
                    key,
                    key_span,
                    value: node,
                }),
                Some(PendingKey::Merge(span)) => merges.push((span, node)),
                Some(PendingKey::Unusable) => {}
                None => {
                    *key = Some(PendingKey::Unusable);
                    self.diagnostics.error(node.span, "a key must be a string");
                }
            },
        }
    }

    fn close(&mut self, end: u32) -> Result<(), Stopped> {
        let Some(mut frame) = self.frames.pop() else {
            return Ok(());
        };
        frame.span.end = end;
        let value = match frame.kind {
            FrameKind::Sequence(items) => Value::Sequence(items),
            FrameKind::Mapping {
                entries, merges, ..
            } => Value::Mapping(self.mapping(entries, merges)?),
        };
        let node = Node {
            span: frame.span,
            tag: merge_tag(frame.tag.as_deref()),
            value,
        };
        self.push(Arc::new(node), frame.weight, frame.anchor);
        Ok(())
    }

    fn mapping(
        &mut self,
        entries: Vec<Entry>,
        merges: Vec<(Span, Arc<Node>)>,
    ) -> Result<Mapping, Stopped> {
        let (mapping, repeated) = Mapping::from_entries(entries);
        for (entry, first) in repeated {
            self.repeated(&entry.key, entry.key_span, first);
        }
        if let [first, second, ..] = merges.as_slice() {
            self.repeated("<<", second.0, first.0);
        }
        if merges.is_empty() {
            return Ok(mapping);
        }
        // Of entries with one key the first is kept: the map's own, then those of the earlier map.
        let mut entries = mapping.into_entries();
        for (_, merged) in merges {
            let one = [Arc::clone(&merged)];
            for base in merged.as_sequence().unwrap_or(&one) {
                match base.as_mapping() {
                    Some(base) => entries.extend_from_slice(base.entries()),
                    None => return self.stop(not_mergeable(base)),
                }
            }
        }
        Ok(Mapping::from_entries(entries).0)
    }

    fn repeated(&mut self, key: &str, span: Span, first: Span) {
        self.diagnostics.push(
            Diagnostic::error(span, format!("mapping key \"{key}\" already defined"))
                .note(first, "first defined here"),
        );
    }

    /// Returns where the open collections stand, such as `services.web.ports[0]`.
    fn path(&self) -> String {
        let mut path = String::new();
        let parents = self
            .frames
            .split_last()
            .map_or(&[][..], |(_, parents)| parents);
        for frame in parents {
            match &frame.kind {
                FrameKind::Sequence(items) => {
                    path.push('[');
                    path += &items.len().to_string();
                    path.push(']');
                }
                FrameKind::Mapping {
                    key: Some(PendingKey::Text(key, _)),
                    ..
                } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path += key;
                }
                FrameKind::Mapping { .. } => {}
            }
        }
        path
    }
}

fn not_mergeable(node: &Node) -> Diagnostic {
    Diagnostic::error(
        node.span,
        "map merge requires map or sequence of maps as the value",
    )
    .label(format!("this is {}", node.kind()))
}

fn merge_tag(tag: Option<&str>) -> Tag {
    match tag {
        Some("!reset") => Tag::Reset,
        Some("!override") => Tag::Override,
        _ => Tag::Merge,
    }
}
