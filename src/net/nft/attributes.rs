//! Netlink attributes, written: see the drawing in [`super`].

use super::{Element, NESTED};
use crate::sys::netlink::{HEADER, REQUEST};

/// Writes a netlink header for a message with nothing but a netfilter header.
pub(super) fn write_header(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32) {
    bytes.extend(size32(HEADER + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
}

/// Returns a length for a field of 16 bits. What does not fit gets a length that the kernel refuses.
pub(super) fn size16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Returns a length or count for a field of 32 bits.
pub(super) fn size32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Overwrites bytes at `offset`, which have been written before.
pub(super) fn patch(bytes: &mut [u8], offset: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..offset + field.len()) {
        place.copy_from_slice(field);
    }
}

/// User data that `nft` and `iptables` show as a comment: type u8 (0) · length u8 · text with a final NUL.
pub(super) fn comment_data(comment: &str) -> Vec<u8> {
    let text = comment
        .as_bytes()
        .get(..comment.len().min(120))
        .unwrap_or_default();
    let mut data = vec![0, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend(text);
    data.push(0);
    data
}

/// Returns the text of [`comment_data`].
pub(super) fn comment_text(data: &[u8]) -> Option<&str> {
    let (&[0, length], rest) = data.split_first_chunk::<2>()? else {
        return None;
    };
    std::str::from_utf8(rest.get(..usize::from(length).checked_sub(1)?)?).ok()
}

/// A writer of attributes at the end of a message.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Attributes<'a> {
    /// Returns a writer at the end of `bytes`.
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }
}

impl Attributes<'_> {
    /// Writes raw bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.bytes.extend(size16(value.len() + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        self
    }

    /// Writes a number, big endian.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Writes a string with its final NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes.extend(size16(value.len() + 5).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.pad();
        self
    }

    /// Writes what `content` writes, as one attribute.
    pub(super) fn nested(
        &mut self,
        kind: u16,
        content: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        content(&mut Attributes { bytes: self.bytes });
        let length = size16(self.bytes.len() - start);
        patch(self.bytes, start, &length.to_ne_bytes());
        self
    }

    /// Writes one element: key { value }, data { value }, flags.
    pub(super) fn element(&mut self, element: &Element) {
        self.nested(1, |m| m.element_content(element));
    }

    /// Writes what [`Self::element`] holds.
    pub(super) fn element_content(&mut self, element: &Element) {
        const INTERVAL_END: u32 = 1;
        self.nested(1, |m| {
            m.bytes(1, &element.key);
        });
        if let Some(value) = &element.value {
            self.nested(2, |m| {
                m.bytes(1, value);
            });
        }
        if element.interval_end {
            self.number(3, INTERVAL_END);
        }
    }

    /// Pads to 4 bytes.
    pub(super) fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}
