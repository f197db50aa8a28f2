//! Patterns of `${v#p}` and its like: `*`, `?`, and characters.

use super::ExpandError;

/// One element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    /// `*`: any characters of one line.
    Any,
    /// `?`: a character, but not the end of a line.
    One,
    /// Itself.
    Literal(char),
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Element>);

impl Pattern {
    /// Parses `*`, `?` and the escapes `\*` `\?` `\\`; `\}` and `\/` are the expansion's own.
    pub(super) fn parse(pattern: &str) -> Result<Self, ExpandError> {
        let mut elements = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            elements.push(match character {
                '*' => Element::Any,
                '?' => Element::One,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Element::Literal(escaped),
                    other => return Err(ExpandError::PatternEscape(pattern.to_owned(), other)),
                },
                other => Element::Literal(other),
            });
        }
        Ok(Self(elements))
    }

    /// Returns `value` without the shortest or the longest beginning that matches.
    pub(super) fn trim_start<'v>(&self, value: &'v [char], longest: bool) -> &'v [char] {
        let wanted = self.lengths(value.iter().copied(), longest);
        value.get(wanted.unwrap_or(0)..).unwrap_or_default()
    }

    /// Returns `value` without the shortest or the longest end that matches.
    pub(super) fn trim_end<'v>(&self, value: &'v [char], longest: bool) -> &'v [char] {
        let reversed = Self(self.0.iter().rev().copied().collect());
        let wanted = reversed.lengths(value.iter().rev().copied(), longest);
        let end = value.len() - wanted.unwrap_or(0);
        value.get(..end).unwrap_or_default()
    }

    /// Returns `value` with the first match replaced, or every one; `None` where that takes more than `max_bytes`.
    pub(super) fn replace(
        &self,
        value: &[char],
        replacement: &str,
        every: bool,
        max_bytes: usize,
    ) -> Option<String> {
        let mut result = String::new();
        let (mut at, mut is_done) = (0, false);
        // Where the last match ended: an empty one right behind it is none.
        let mut last_end = None;
        while at <= value.len() {
            let rest = value.get(at..).unwrap_or_default();
            let length = if is_done {
                None
            } else {
                self.lengths(rest.iter().copied(), true)
            };
            let is_match = length.is_some_and(|length| length > 0 || last_end != Some(at));
            if is_match {
                result.push_str(replacement);
                is_done = !every;
            }
            if result.len() > max_bytes {
                return None;
            }
            let length = length.filter(|length| *length > 0 && is_match);
            if let Some(length) = length {
                at += length;
                last_end = Some(at);
            } else {
                result.extend(rest.first());
                at += 1;
            }
        }
        Some(result)
    }

    /// Returns the length of the shortest or longest beginning of `text` that matches.
    ///
    /// Runs as a set of states: what a pattern costs is its length times the text's at most.
    fn lengths(&self, text: impl Iterator<Item = char>, longest: bool) -> Option<usize> {
        let mut states = vec![false; self.0.len() + 1];
        self.enter(&mut states, 0);
        let mut found = None;
        let mut taken = 0;
        let mut text = text;
        loop {
            if states.last() == Some(&true) {
                found = Some(taken);
                if !longest {
                    return found;
                }
            }
            let Some(character) = text.next() else {
                return found;
            };
            let mut next = vec![false; self.0.len() + 1];
            let mut is_alive = false;
            for (at, element) in self.0.iter().enumerate() {
                if states.get(at) != Some(&true) {
                    continue;
                }
                let to = match element {
                    Element::Any if character != '\n' => at,
                    Element::One if character != '\n' => at + 1,
                    Element::Literal(wanted) if *wanted == character => at + 1,
                    _ => continue,
                };
                is_alive = true;
                self.enter(&mut next, to);
            }
            if !is_alive {
                return found;
            }
            states = next;
            taken += 1;
        }
    }

    /// Enters a state and those that need no character from there.
    fn enter(&self, states: &mut [bool], at: usize) {
        let mut at = at;
        loop {
            match states.get_mut(at) {
                Some(state) if !*state => *state = true,
                _ => return,
            }
            if self.0.get(at) != Some(&Element::Any) {
                return;
            }
            at += 1;
        }
    }
}
