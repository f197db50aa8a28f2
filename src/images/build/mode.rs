//! `--chmod`: octal, or symbolic as `chmod` of POSIX takes it.

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// These bits, for files and directories alike.
    Octal(u32),
    /// In order.
    Symbolic(Vec<Clause>),
}

/// One clause: `u=rwX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Whose bits: 0o700 for the user's, and so on, with the special bit that belongs to them.
    who: u32,
    /// `+`, `-` or `=`.
    operator: char,
    /// The bits in all three places, before `who` selects.
    bits: u32,
    /// `X`: execution where it is a directory or somebody may execute it already.
    conditional: bool,
}

impl ModeChange {
    /// Parses `0755`, `u=rwX,go=rX`, …; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).ok()?;
            return (bits <= 0o7777).then_some(Self::Octal(bits));
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            parse_clauses(part, &mut clauses)?;
        }
        Some(Self::Symbolic(clauses))
    }

    /// Returns the new bits of something that has `mode`.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let clauses = match self {
            Self::Octal(bits) => return *bits,
            Self::Symbolic(clauses) => clauses,
        };
        clauses.iter().fold(mode & 0o7777, |mode, clause| {
            let execute = clause.conditional && (is_directory || mode & 0o111 != 0);
            let bits = clause.bits | if execute { 0o111 } else { 0 };
            let bits = bits & clause.who;
            match clause.operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => mode & !clause.who | bits,
            }
        })
    }
}

/// Parses `[ugoa]*([+-=][rwxXst]*)+`.
fn parse_clauses(text: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let operators = ['+', '-', '='];
    let first = text.find(operators)?;
    let (whom, mut rest) = text.split_at(first);
    let mut who = 0;
    for character in whom.chars() {
        who |= match character {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o7777;
    }
    while let Some(operator) = rest.chars().next() {
        let after = rest.get(1..)?;
        let end = after.find(operators).unwrap_or(after.len());
        let (letters, next) = after.split_at(end);
        let mut clause = Clause {
            who,
            operator,
            bits: 0,
            conditional: false,
        };
        for letter in letters.chars() {
            match letter {
                'r' => clause.bits |= 0o444,
                'w' => clause.bits |= 0o222,
                'x' => clause.bits |= 0o111,
                's' => clause.bits |= 0o6000,
                't' => clause.bits |= 0o1000,
                'X' => clause.conditional = true,
                _ => return None,
            }
        }
        clauses.push(clause);
        rest = next;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change() {
        let table = [
            ("755", 0o600, false, Some(0o755)),
            ("04755", 0o600, false, Some(0o4755)),
            ("u=rwX,go=rX", 0o600, false, Some(0o644)),
            ("u=rwX,go=rX", 0o700, false, Some(0o755)),
            ("u=rwX,go=rX", 0o600, true, Some(0o755)),
            ("+x", 0o644, false, Some(0o755)),
            ("go-rwx", 0o755, false, Some(0o700)),
            ("u+s", 0o755, false, Some(0o4755)),
            ("a=r", 0o4755, false, Some(0o444)),
            ("10000", 0, false, None),
            ("999", 0, false, None),
            ("u=q", 0, false, None),
            ("rwx", 0, false, None),
            ("", 0, false, None),
        ];
        for (text, mode, is_directory, expected) in table {
            let got = ModeChange::parse(text).map(|change| change.apply(mode, is_directory));
            assert_eq!(got, expected, "{text} on {mode:o}");
        }
    }
}
