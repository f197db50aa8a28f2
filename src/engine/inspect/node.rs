//! JSON under construction, members in the order they are given.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::{GraphDriver, RunInspect};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// Anything without members of our own.
    Value(serde_json::Value),
    /// `[…]`
    List(Vec<Self>),
    /// `{…}`
    Object(Vec<(String, Self)>),
    /// Where the files are.
    GraphDriver(GraphDriver),
    /// What runs.
    Run(Box<RunInspect>),
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::GraphDriver(driver) => driver.serialize(serializer),
            Self::Run(run) => run.serialize(serializer),
            Self::List(list) => {
                let mut sequence = serializer.serialize_seq(Some(list.len()))?;
                for value in list {
                    sequence.serialize_element(value)?;
                }
                sequence.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<T: Into<serde_json::Value>> From<T> for Node {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

/// Makes an object.
pub(crate) fn object<K: Into<String>>(members: impl IntoIterator<Item = (K, Node)>) -> Node {
    let members = members.into_iter().map(|(key, value)| (key.into(), value));
    Node::Object(members.collect())
}

/// `null`
pub(crate) fn null() -> Node {
    Node::Value(serde_json::Value::Null)
}
