//! A pattern as a set of states that goes through a path.

use super::Token;

/// How many tokens a machine word holds the states of: one more than they are.
const WORD: usize = 63;

/// A pattern to be gone through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct States {
    tokens: Vec<Token>,
}

/// A set of states: a word where that is enough.
#[derive(Debug, Clone)]
enum Set {
    Few(u64),
    Many(Vec<bool>),
}

impl Set {
    /// Returns the empty set for a pattern.
    fn empty(tokens: usize) -> Self {
        if tokens <= WORD {
            Self::Few(0)
        } else {
            Self::Many(vec![false; tokens + 1])
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Few(word) => *word = 0,
            Self::Many(states) => states.fill(false),
        }
    }

    fn has(&self, at: usize) -> bool {
        match self {
            Self::Few(word) => word & (1 << at) != 0,
            Self::Many(states) => states.get(at) == Some(&true),
        }
    }

    /// Adds a state; returns whether it is new.
    fn add(&mut self, at: usize) -> bool {
        match self {
            Self::Few(word) => {
                let old = std::mem::replace(word, *word | (1 << at));
                old != *word
            }
            Self::Many(states) => states
                .get_mut(at)
                .is_some_and(|state| !std::mem::replace(state, true)),
        }
    }
}

impl States {
    /// Takes the tokens of a pattern.
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        Self { tokens }
    }

    /// Returns whether the whole of `path` matches. Bytes that are no UTF-8 count as one character each.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let mut now = Set::empty(self.tokens.len());
        let mut next = now.clone();
        self.enter(&mut now, 0);
        for chunk in path.utf8_chunks() {
            let invalid = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
            for character in chunk.valid().chars().chain(invalid) {
                next.clear();
                let mut is_alive = false;
                for (at, token) in self.tokens.iter().enumerate() {
                    is_alive |= now.has(at) && self.step(&mut next, at, token, character);
                }
                if !is_alive {
                    return false;
                }
                std::mem::swap(&mut now, &mut next);
            }
        }
        now.has(self.tokens.len())
    }

    /// Takes one character in the state before `token`; returns whether it can.
    fn step(&self, next: &mut Set, at: usize, token: &Token, character: char) -> bool {
        match token {
            Token::Literal(wanted) if *wanted == character => self.enter(next, at + 1),
            Token::One if character != '/' => self.enter(next, at + 1),
            Token::Class(is_negated, ranges) => {
                let mut ranges = ranges.iter();
                let is_inside = ranges.any(|(low, high)| (low..=high).contains(&&character));
                if is_inside == *is_negated {
                    return false;
                }
                self.enter(next, at + 1);
            }
            Token::Star if character != '/' => self.enter(next, at),
            Token::All => self.enter(next, at),
            Token::Deep => {
                self.enter(next, at);
                if character == '/' {
                    self.enter(next, at + 1);
                }
            }
            _ => return false,
        }
        true
    }

    /// Enters a state and those that need no character from there.
    fn enter(&self, states: &mut Set, at: usize) {
        let mut at = at;
        while states.add(at) {
            match self.tokens.get(at) {
                Some(Token::Star | Token::All) => at += 1,
                Some(Token::DeepEntry) => {
                    states.add(at + 1);
                    at += 2;
                }
                _ => return,
            }
        }
    }
}
