//! A command line into its words, as Docker Compose does (go-shellwords): quotes and backslashes, but no shell.

/// The words of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// The words.
    pub(crate) words: Vec<String>,
    /// Byte offset of the first `;`, `&`, `|`, `<` or `>` outside quotes: it and all after it is dropped.
    pub(crate) cut: Option<usize>,
}

/// What is open at a place of a line; quotes within `$(…)` are text, those within backquotes are not.
#[derive(Default)]
struct Open {
    single: bool,
    double: bool,
    back: bool,
    dollar: bool,
}

impl Open {
    fn any(&self) -> bool {
        self.single || self.double || self.back || self.dollar
    }
}

/// Splits `line`; `None` where a quote, an escape or a parenthesis is left open.
pub(crate) fn split(line: &str) -> Option<Words> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut in_word = false;
    let mut open = Open::default();
    let mut characters = line.char_indices();
    let mut cut = None;
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if !open.single => {
                let (_, escaped) = characters.next()?;
                word.push(match escaped {
                    't' => '\t',
                    'n' => '\n',
                    other => other,
                });
                in_word = true;
                continue;
            }
            c if is_space(c) && !open.any() => {
                if std::mem::take(&mut in_word) {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            '"' if !open.single && !open.dollar => {
                in_word |= open.double;
                open.double = !open.double;
                continue;
            }
            '\'' if !open.double && !open.dollar => {
                in_word |= open.single;
                open.single = !open.single;
                continue;
            }
            '`' if !open.single && !open.double && !open.dollar => open.back = !open.back,
            ')' if !open.single && !open.double && !open.back => open.dollar = !open.dollar,
            '(' if !open.single && !open.double && !open.back => {
                if open.dollar || !word.ends_with('$') {
                    return None;
                }
                open.dollar = true;
            }
            ';' | '&' | '|' | '<' | '>' if !open.any() => {
                // `2>file`: the number belongs to the redirection.
                if c == '>' && word.starts_with(|c: char| c.is_ascii_digit()) {
                    in_word = false;
                }
                cut = Some(at);
                break;
            }
            _ => {}
        }
        word.push(c);
        in_word = true;
    }
    if open.any() {
        return None;
    }
    if in_word {
        words.push(word);
    }
    Some(Words { words, cut })
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let rows: [(&str, Option<&[&str]>); 36] = [
            ("", Some(&[])),
            ("  ", Some(&[])),
            ("top", Some(&["top"])),
            ("sleep  infinity ", Some(&["sleep", "infinity"])),
            ("sh -c 'echo \"a b\"'", Some(&["sh", "-c", "echo \"a b\""])),
            ("sh -c \"echo 'a b'\"", Some(&["sh", "-c", "echo 'a b'"])),
            ("a\\ b c", Some(&["a b", "c"])),
            ("a'b'\"c\"d", Some(&["abcd"])),
            ("echo '' x", Some(&["echo", "", "x"])),
            ("echo 'a\\nb'", Some(&["echo", "a\\nb"])),
            ("echo \"a\\nb\"", Some(&["echo", "a\nb"])),
            ("echo $HOME ${X}", Some(&["echo", "$HOME", "${X}"])),
            ("echo `date now`", Some(&["echo", "`date now`"])),
            ("a\nb", Some(&["a", "b"])),
            ("--opt='x y'", Some(&["--opt=x y"])),
            ("say \"unfinished", None),
            ("say 'unfinished", None),
            ("end\\", None),
            ("f(x)", None),
            ("a $(b c) d", Some(&["a", "$(b c)", "d"])),
            ("a $(b | \"c", None),
            ("a $(b | c)", Some(&["a", "$(b | c)"])),
            ("\"a (b)\"", Some(&["a (b)"])),
            ("(x)", None),
            ("x)", None),
            ("$(a b) c", Some(&["$(a b)", "c"])),
            ("$(a 'b; c)", Some(&["$(a 'b; c)"])),
            ("$(a (b))", None),
            ("'(a)' \"(b)\"", Some(&["(a)", "(b)"])),
            ("`a 'b c'`", Some(&["`a b c`"])),
            ("`a", None),
            ("a # b", Some(&["a", "#", "b"])),
            ("\ta\r\n", Some(&["a"])),
            ("a\\\\ b", Some(&["a\\", "b"])),
            ("a 2>b", Some(&["a"])),
            ("'a;b' \\; c", Some(&["a;b", ";", "c"])),
        ];
        for (line, expected) in rows {
            let words = split(line).map(|split| split.words);
            let expected = expected.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(words, expected, "{line}");
        }
    }

    #[test]
    fn what_only_a_shell_understands_is_cut_off() {
        let split = split("echo a && echo b").unwrap();
        assert_eq!(
            (split.words, split.cut),
            (vec!["echo".to_owned(), "a".to_owned()], Some(7))
        );
    }
}
