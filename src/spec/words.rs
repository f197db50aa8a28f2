//! A command line into its words, as Docker Compose does (go-shellwords): quotes and backslashes, but no shell.

/// The words of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// The words.
    pub(crate) words: Vec<String>,
    /// Byte offset of the first `;`, `&`, `|`, `<` or `>` outside quotes: it and all after it is dropped.
    pub(crate) cut: Option<usize>,
}

/// What is open where a line is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
    Back,
    /// `$(`: nothing runs it, but it is one word.
    Dollar,
}

/// Splits `line`; `None` where a quote or an escape is left open.
pub(crate) fn split(line: &str) -> Option<Words> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut in_word = false;
    let mut quote = Quote::None;
    let mut characters = line.char_indices();
    let mut cut = None;
    while let Some((at, c)) = characters.next() {
        match (c, quote) {
            ('\\', Quote::None | Quote::Double | Quote::Back | Quote::Dollar) => {
                let (_, escaped) = characters.next()?;
                word.push(match escaped {
                    't' => '\t',
                    'n' => '\n',
                    other => other,
                });
                in_word = true;
            }
            (c, Quote::None) if is_space(c) => {
                if std::mem::take(&mut in_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            ('"' | '\'', Quote::None) => {
                quote = if c == '"' {
                    Quote::Double
                } else {
                    Quote::Single
                };
                in_word = true;
            }
            ('"', Quote::Double) | ('\'', Quote::Single) => quote = Quote::None,
            ('`', Quote::None | Quote::Back) => {
                quote = if quote == Quote::None {
                    Quote::Back
                } else {
                    Quote::None
                };
                word.push(c);
                in_word = true;
            }
            ('(', Quote::None) if word.ends_with('$') => {
                quote = Quote::Dollar;
                word.push(c);
            }
            ('(', Quote::None | Quote::Dollar) => return None,
            (')', Quote::None | Quote::Dollar) => {
                quote = if quote == Quote::None {
                    Quote::Dollar
                } else {
                    Quote::None
                };
                word.push(c);
                in_word = true;
            }
            (';' | '&' | '|' | '<' | '>', Quote::None) => {
                // `2>file`: the number belongs to the redirection.
                if c == '>' && word.starts_with(|c: char| c.is_ascii_digit()) {
                    in_word = false;
                }
                cut = Some(at);
                break;
            }
            _ => {
                word.push(c);
                in_word = true;
            }
        }
    }
    if quote != Quote::None {
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
        let rows: [(&str, Option<&[&str]>); 24] = [
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
            ("a)", None),
            ("\"a (b)\"", Some(&["a (b)"])),
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
