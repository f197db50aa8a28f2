//! The untyped tree: what a YAML document says, a [`Span`] on every node.

use std::sync::Arc;

use super::source::Span;

/// One value of a document.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Where it was written; the short form's place for what a short form implies, the parent's for a default.
    pub span: Span,
    /// What it does to the value it is merged onto.
    pub tag: Tag,
    /// The value.
    pub value: Value,
}

/// The tags that mean something (compose-spec 13-merge.md); all others only choose a scalar's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tag {
    /// Merged as its attribute says.
    #[default]
    Merge,
    /// `!reset`: removes what it is merged onto, and itself.
    Reset,
    /// `!override`: replaces what it is merged onto.
    Override,
}

/// What a node holds. Children are shared between an anchor and its aliases.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// `null`, `~`, or nothing.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A whole number beyond [`i64::MAX`].
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(Box<str>),
    /// A list.
    Sequence(Vec<Arc<Node>>),
    /// A map.
    Mapping(Mapping),
    /// Something wrong that was reported: it stands where it was, so that nothing is said to be missing.
    Invalid,
}

/// A map with text keys, sorted by key.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// Where the key was written.
    pub key_span: Span,
    /// The value.
    pub value: Arc<Node>,
}

impl Node {
    /// A node without a tag.
    pub fn new(span: Span, value: Value) -> Self {
        Self {
            span,
            tag: Tag::Merge,
            value,
        }
    }

    /// A text node.
    pub fn string(span: Span, text: impl Into<Box<str>>) -> Self {
        Self::new(span, Value::String(text.into()))
    }

    /// Returns the text, of a text node.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the map, of a map node.
    pub fn as_mapping(&self) -> Option<&Mapping> {
        match &self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// Returns the items, of a list node.
    pub fn as_sequence(&self) -> Option<&[Arc<Self>]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the value of `key`, of a map node that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_mapping()?.get(key)
    }

    /// Counts the values in it and itself, up to `limit`.
    pub(crate) fn weight(&self, limit: usize) -> usize {
        let children: &mut dyn Iterator<Item = &Arc<Self>> = match &self.value {
            Value::Sequence(items) => &mut items.iter(),
            Value::Mapping(mapping) => &mut mapping.entries.iter().map(|entry| &entry.value),
            _ => return 1,
        };
        let mut weight = 1;
        for child in children {
            if weight >= limit {
                break;
            }
            weight += child.weight(limit - weight);
        }
        weight
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What it is, in the words of an error.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Invalid => "not valid",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => "a number",
            Value::String(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// Equality is the value's and the tag's alone.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag && self.value == other.value
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) | (Self::Invalid, Self::Invalid) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Unsigned(a), Self::Unsigned(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b).is_eq(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Sequence(a), Self::Sequence(b)) => a == b,
            (Self::Mapping(a), Self::Mapping(b)) => a == b,
            _ => false,
        }
    }
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

impl Mapping {
    /// A map without entries.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Sorts `entries` by key. Of entries with the same key all but the first are returned, each with the place of the
    /// first one's key.
    pub fn from_entries(mut entries: Vec<Entry>) -> (Self, Vec<(Entry, Span)>) {
        if entries.windows(2).all(|pair| pair[0].key < pair[1].key) {
            return (Self { entries }, Vec::new());
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        if entries.windows(2).all(|pair| pair[0].key < pair[1].key) {
            return (Self { entries }, Vec::new());
        }
        let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
        let mut repeated = Vec::new();
        for entry in entries {
            match kept.last() {
                Some(first) if first.key == entry.key => repeated.push((entry, first.key_span)),
                _ => kept.push(entry),
            }
        }
        (Self { entries: kept }, repeated)
    }

    /// Entries, in the order of their keys.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Takes the entries, in the order of their keys.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Entries, in the order of their keys; values may change, keys must not.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| (*entry.key).cmp(key))
    }

    /// Returns the entry of `key`.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.find(key)
            .ok()
            .and_then(|index| self.entries.get(index))
    }

    /// Returns the value of `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &*entry.value)
    }

    /// Returns the value of `key` for a change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Arc<Node>> {
        let index = self.find(key).ok()?;
        self.entries.get_mut(index).map(|entry| &mut entry.value)
    }

    /// Adds `entry`, in place of one with the same key.
    pub fn insert(&mut self, entry: Entry) {
        match self.find(&entry.key) {
            Ok(index) => self.entries[index] = entry,
            Err(index) => self.entries.insert(index, entry),
        }
    }

    /// Keeps the entries that `keeps` says so of.
    pub fn retain(&mut self, keeps: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keeps);
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        self.find(key).ok().map(|index| self.entries.remove(index))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
