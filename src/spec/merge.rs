//! Merging one canonical tree onto another (compose-spec 13-merge.md), driven by the attribute table.
//!
//! Maps are merged key by key, lists appended with later items replacing what they repeat, anything else replaced. A null
//! keeps what is there, but resets a command, and stands for "from the environment" in `environment`. `!reset` removes,
//! `!override` replaces.

use std::sync::Arc;

use super::schema::{self, Attribute, Shape, Unique};
use super::tree::{Entry, Mapping, Node, Tag, Value};

/// Merges the whole project `over` onto `base`.
pub(crate) fn project(base: Arc<Node>, over: &Arc<Node>) -> Arc<Node> {
    merged(base, over, &Shape::Object(schema::PROJECT))
}

/// Merges the service `over` onto `base`.
pub(crate) fn service(base: Arc<Node>, over: &Arc<Node>) -> Arc<Node> {
    merged(base, over, &Shape::Object(schema::SERVICE))
}

/// Returns `node` without what its tags say; `None` where that is nothing.
pub(crate) fn settled(node: &Arc<Node>) -> Option<Arc<Node>> {
    if node.tag == Tag::Reset {
        return None;
    }
    if !has_tag(node) {
        return Some(Arc::clone(node));
    }
    let value = match &node.value {
        Value::Mapping(mapping) => {
            let entries = mapping.entries().iter().filter_map(|entry| {
                Some(Entry {
                    value: settled(&entry.value)?,
                    ..entry.clone()
                })
            });
            Value::Mapping(Mapping::from_entries(entries.collect()).0)
        }
        Value::Sequence(items) => Value::Sequence(items.iter().filter_map(settled).collect()),
        scalar => scalar.clone(),
    };
    Some(Arc::new(Node::new(node.span, value)))
}

fn has_tag(node: &Node) -> bool {
    node.tag != Tag::Merge
        || match &node.value {
            Value::Mapping(mapping) => mapping.entries().iter().any(|entry| has_tag(&entry.value)),
            Value::Sequence(items) => items.iter().any(|item| has_tag(item)),
            _ => false,
        }
}

/// Merges `over`, which is not `!reset`, onto `base`.
fn merged(base: Arc<Node>, over: &Arc<Node>, shape: &Shape) -> Arc<Node> {
    if over.tag == Tag::Override {
        return settled(over).unwrap_or(base);
    }
    if over.is_null() {
        return if matches!(shape, Shape::Command | Shape::HealthTest) {
            Arc::clone(over)
        } else {
            base
        };
    }
    let replaces = matches!(shape, Shape::Command | Shape::HealthTest);
    let unique = match shape {
        Shape::KeyValues(_) | Shape::Contexts => Some(Unique::BeforeEquals),
        Shape::ExtraHosts => Some(Unique::Whole),
        _ => None,
    };
    if let Some(unique) = unique
        && let Some((mut items, above)) = as_lists(&base, over)
    {
        items.extend(above.iter().filter_map(settled));
        let items = deduplicated(items, unique);
        return Arc::new(Node::new(over.span, Value::Sequence(items)));
    }
    match (&base.value, &over.value) {
        (Value::Mapping(_), Value::Mapping(_))
            if matches!(shape, Shape::Logging) && !same_driver(&base, over) =>
        {
            settled(over).unwrap_or(base)
        }
        (Value::Mapping(_), Value::Mapping(mapping)) => mappings(base, over, mapping, shape),
        (Value::Sequence(_), Value::Sequence(items)) if !replaces => {
            lists(base, over, items, shape.unique())
        }
        _ => settled(over).unwrap_or(base),
    }
}

/// The items of a list.
type Items = Vec<Arc<Node>>;

/// Returns both as lists of `KEY=VALUE` where one of them is a list, which stays one while its variables are not filled in.
fn as_lists(base: &Node, over: &Node) -> Option<(Items, Items)> {
    if base.as_sequence().is_none() && over.as_sequence().is_none() {
        return None;
    }
    let listed = |node: &Node| match &node.value {
        Value::Sequence(items) => Some(items.clone()),
        Value::Mapping(mapping) => {
            let entries = mapping.entries().iter();
            let kept = entries.filter(|entry| entry.value.tag != Tag::Reset);
            let items = kept.map(|entry| {
                let text = match super::canonical::scalar_text(&entry.value) {
                    Some(value) => format!("{}={value}", entry.key),
                    None => entry.key.to_string(),
                };
                Arc::new(Node::string(entry.value.span, text))
            });
            Some(items.collect())
        }
        _ => None,
    };
    Some((listed(base)?, listed(over)?))
}

/// Whether the options of two loggings are for one driver: equal, or not said on either side.
fn same_driver(base: &Node, over: &Node) -> bool {
    match (base.get("driver"), over.get("driver")) {
        (Some(base), Some(over)) => base == over,
        _ => true,
    }
}

static DEPENDENCY: Shape = Shape::Object(schema::DEPENDENCY);
static ATTACHMENT: Shape = Shape::NullOrObject(schema::ATTACHMENT);
static POOL: Shape = Shape::Object(schema::SUBNET);
static MODEL_USE: Shape = Shape::NullOrObject(schema::MODEL_USE);

/// How the values of a map merge.
enum Values<'a> {
    /// By the attribute of their key.
    Attributes(&'a [Attribute]),
    /// All alike.
    Alike(&'a Shape),
    /// The later one stands, also when it is null.
    Replaced,
}

impl Shape {
    fn values(&self) -> Values<'_> {
        match self {
            Self::Object(attributes) | Self::NullOrObject(attributes) => {
                Values::Attributes(attributes)
            }
            Self::Build => Values::Attributes(schema::BUILD),
            Self::Extends => Values::Attributes(schema::EXTENDS),
            Self::Map(values) => Values::Alike(values),
            Self::DependsOn => Values::Alike(&DEPENDENCY),
            Self::ServiceNetworks => Values::Alike(&ATTACHMENT),
            Self::ServiceModels => Values::Alike(&MODEL_USE),
            Self::Logging => Values::Attributes(schema::LOGGING),
            Self::KeyValues(_) | Self::Ulimits => Values::Replaced,
            _ => Values::Alike(&Self::Any),
        }
    }
}

fn mappings(base: Arc<Node>, over: &Arc<Node>, additions: &Mapping, shape: &Shape) -> Arc<Node> {
    let values = shape.values();
    let base_span = base.span;
    let Value::Mapping(base) = take_value(base) else {
        return Arc::clone(over);
    };
    let mut out: Vec<Entry> = Vec::with_capacity(base.len() + additions.len());
    let mut below = base.into_entries().into_iter().peekable();
    for entry in additions.entries() {
        while let Some(kept) = below.next_if(|kept| kept.key < entry.key) {
            out.push(kept);
        }
        let existing = below.next_if(|kept| kept.key == entry.key);
        if entry.value.tag == Tag::Reset {
            continue;
        }
        let merged_value = match existing {
            None => settled(&entry.value),
            Some(existing) => Some(match &values {
                Values::Replaced => settled(&entry.value).unwrap_or(existing.value),
                Values::Alike(shape) => merged(existing.value, &entry.value, shape),
                Values::Attributes(attributes) => {
                    let shape = schema::find(attributes, &entry.key)
                        .map_or(&Shape::Any, |found| &found.shape);
                    merged(existing.value, &entry.value, shape)
                }
            }),
        };
        out.extend(merged_value.map(|value| Entry {
            value,
            ..entry.clone()
        }));
    }
    out.extend(below);
    Arc::new(Node::new(
        base_span,
        Value::Mapping(Mapping::from_entries(out).0),
    ))
}

/// Takes the value out, copying it only where somebody else holds it too.
fn take_value(node: Arc<Node>) -> Value {
    Arc::unwrap_or_clone(node).value
}

fn lists(base: Arc<Node>, over: &Arc<Node>, additions: &[Arc<Node>], unique: Unique) -> Arc<Node> {
    let span = over.span;
    let Value::Sequence(mut items) = take_value(base) else {
        return Arc::clone(over);
    };
    let additions = additions.iter().filter_map(settled);
    if unique == Unique::Subnet {
        additions.for_each(|pool| merge_pool(&mut items, pool));
    } else {
        items.extend(additions);
        items = deduplicated(items, unique);
    }
    Arc::new(Node::new(span, Value::Sequence(items)))
}

/// Merges a pool of addresses onto the one of its subnet, or adds it.
fn merge_pool(pools: &mut Vec<Arc<Node>>, pool: Arc<Node>) {
    let key = item_key(&pool, Unique::Subnet);
    let same = pools
        .iter_mut()
        .find(|known| item_key(known, Unique::Subnet) == key);
    match same {
        Some(known) => *known = merged(std::mem::take(known), &pool, &POOL),
        None => pools.push(pool),
    }
}

/// Lets each item stand at the place of the first one with its key, with the value of the last one.
pub(crate) fn deduplicated(items: Vec<Arc<Node>>, unique: Unique) -> Vec<Arc<Node>> {
    if unique == Unique::Appended {
        return items;
    }
    let mut places = std::collections::BTreeMap::new();
    let mut out: Vec<Arc<Node>> = Vec::with_capacity(items.len());
    for item in items {
        let Some(key) = item_key(&item, unique) else {
            out.push(item);
            continue;
        };
        if let Some(&place) = places.get(&key) {
            out[place] = item;
        } else {
            places.insert(key, out.len());
            out.push(item);
        }
    }
    out
}

fn item_key(item: &Node, unique: Unique) -> Option<String> {
    let field = |key: &str| {
        item.get(key)
            .and_then(Node::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    match unique {
        Unique::Appended => None,
        Unique::Whole | Unique::Once => super::canonical::scalar_text(item),
        Unique::BeforeEquals => {
            let text = item.as_str()?;
            Some(text.split_once('=').map_or(text, |(key, _)| key).to_owned())
        }
        Unique::Target => Some(match field("target") {
            target if target.is_empty() => format!("/{}", field("source")),
            target => target,
        }),
        Unique::Path => Some(field("path")),
        Unique::Subnet => Some(field("subnet")),
        Unique::Port => {
            let target = item.get("target").and_then(super::canonical::scalar_text)?;
            let address = match field("host_ip") {
                any if any.is_empty() => "0.0.0.0".to_owned(),
                address => address,
            };
            Some(format!(
                "{address}|{}|{target}|{}",
                field("published"),
                field("protocol")
            ))
        }
    }
}
