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

impl Element {
    /// Returns the state behind a character, from the state `at` of this element; `None` where it takes no such character.
    fn after(self, at: usize, character: char) -> Option<usize> {
        match self {
            Self::Any if character != '\n' => Some(at),
            Self::One if character != '\n' => Some(at + 1),
            Self::Literal(wanted) if wanted == character => Some(at + 1),
            _ => None,
        }
    }
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
        let mut at = 0;
        // Where the last match ended: an empty one right behind it is none.
        let mut last_end = None;
        while let Some((start, end)) = self.find(value, at, last_end) {
            result.extend(value.get(at..start).unwrap_or_default());
            result.push_str(replacement);
            if result.len() > max_bytes {
                return None;
            }
            at = end;
            last_end = Some(end);
            if !every {
                break;
            }
        }
        result.extend(value.get(at..).unwrap_or_default());
        (result.len() <= max_bytes).then_some(result)
    }

    /// Returns the first match from `from` on, as long as one that begins there can be; an empty one at `no_empty` is none.
    ///
    /// All places where a match may begin are tried in one pass: a state knows the first of those that it was reached from, since what
    /// comes behind is the same for all of them. Where one match has been found and `*` looks for a longer one until the line ends,
    /// there is no other in the line, so that all matches together cost little more than a pass over the text.
    fn find(&self, value: &[char], from: usize, no_empty: Option<usize>) -> Option<(usize, usize)> {
        let mut states: Vec<Option<usize>> = vec![None; self.0.len() + 1];
        let mut next = states.clone();
        let mut found: Option<(usize, usize)> = None;
        let mut at = from;
        loop {
            if found.is_none() {
                self.enter_from(&mut states, 0, at);
            }
            if let Some(start) = states.last().copied().flatten()
                && (start < at || no_empty != Some(at))
                && found.is_none_or(|(first, _)| start <= first)
            {
                found = Some((start, at));
            }
            let Some(character) = value.get(at) else {
                return found;
            };
            next.fill(None);
            let mut is_alive = false;
            for (index, element) in self.0.iter().enumerate() {
                let Some(start) = states.get(index).copied().flatten() else {
                    continue;
                };
                if found.is_some_and(|(first, _)| start > first) {
                    continue;
                }
                if let Some(to) = element.after(index, *character) {
                    is_alive = true;
                    self.enter_from(&mut next, to, start);
                }
            }
            if !is_alive && found.is_some() {
                return found;
            }
            std::mem::swap(&mut states, &mut next);
            at += 1;
        }
    }

    /// Enters a state and those that need no character from there, for a match that began at `start`.
    fn enter_from(&self, states: &mut [Option<usize>], at: usize, start: usize) {
        let mut at = at;
        loop {
            match states.get_mut(at) {
                Some(state) if state.is_none_or(|known| known > start) => *state = Some(start),
                _ => return,
            }
            if self.0.get(at) != Some(&Element::Any) {
                return;
            }
            at += 1;
        }
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
                let Some(to) = element.after(at, character) else {
                    continue;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_is_replaced_as_long_as_it_can_be() {
        let table = [
            ("*x", "abxcxd", "[yd]"),
            ("*x", "ab\nax\nx", "ab\n[y\ny]"),
            ("a*b", "1ab2aab3a", "1[y3a]"),
            ("a?", "aaaba", "[yy]a"),
            ("?", "ab\n", "[yy]\n"),
            ("*", "ab\n\nc", "[y\ny\ny]"),
            ("*", "", "[y]"),
            ("b\nc", "abcb\nc", "abc[y]"),
            ("ab*", "abab", "[y]"),
            ("bc", "abbcbc", "ab[yy]"),
            ("x", "abc", "abc"),
        ];
        for (pattern, value, expected) in table {
            let pattern = Pattern::parse(&pattern.replace("\\n", "\n")).unwrap();
            let value: Vec<char> = value.chars().collect();
            let all = pattern.replace(&value, "y", true, 100).unwrap();
            assert_eq!(all, expected.replace(['[', ']'], ""), "{pattern:?}");
        }
        let star = Pattern::parse("*x").unwrap();
        assert_eq!(star.replace(&['a'; 9], "", true, 8), None);
    }

    #[test]
    fn a_long_text_without_a_match_is_gone_through_once() {
        let value = vec!['a'; 2_000_000];
        for pattern in ["*x", "a*x", "*a*x", "aab"] {
            let pattern = Pattern::parse(pattern).unwrap();
            let replaced = pattern.replace(&value, "y", true, value.len());
            assert_eq!(replaced.map(|text| text.len()), Some(value.len()));
        }
    }
}
