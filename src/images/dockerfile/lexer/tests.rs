//! Texts and their logical lines.

use super::*;

/// The joined texts.
fn texts(source: &str) -> Vec<String> {
    let lexed = lex(source).unwrap();
    lexed.lines.into_iter().map(|line| line.text).collect()
}

/// The fault.
fn fault(source: &str) -> String {
    lex(source).unwrap_err().message
}

#[test]
fn lines_join() {
    let table: [(&str, &[&str]); 27] = [
        ("FROM a\nRUN b\n", &["FROM a", "RUN b"]),
        ("\u{feff}FROM a", &["FROM a"]),
        ("\u{feff}# escape=`\nRUN a `\nb", &["RUN a b"]),
        ("FROM a\r\nRUN b\r\n", &["FROM a", "RUN b"]),
        ("RUN a \\\r\n b\r\n", &["RUN a  b"]),
        ("RUN a \\\n  b\n", &["RUN a   b"]),
        ("RUN a \\\n\tb\n", &["RUN a \tb"]),
        ("RUN a\\\nb\n", &["RUN ab"]),
        ("RU\\\nN a\n", &["RUN a"]),
        ("RUN a \\  \t\n b\n", &["RUN a  b"]),
        (
            "RUN a \\\n# no\n\n  # nor this\n b\nX y",
            &["RUN a  b", "X y"],
        ),
        ("RUN a \\\n# only comments follow\n", &["RUN a"]),
        ("RUN a \\\n \\\n b", &["RUN a   b"]),
        ("RUN a \\\n\\\nb", &["RUN a b"]),
        ("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]),
        ("RUN a \\\\\\\nRUN b", &["RUN a \\\\\\", "RUN b"]),
        ("RUN a \\ x\nRUN b", &["RUN a \\ x", "RUN b"]),
        ("RUN a # not a comment\n", &["RUN a # not a comment"]),
        ("RUN a \\", &["RUN a"]),
        ("RUN a \\\n", &["RUN a"]),
        ("RUN a \\\n\n\n", &["RUN a"]),
        ("  # comment\n   RUN a\n", &["RUN a"]),
        ("\t\u{b}RUN a  \n", &["RUN a"]),
        (
            "# escape=`\nRUN a `\n b \\\nRUN c",
            &["RUN a  b \\", "RUN c"],
        ),
        ("\\\nFROM a", &["FROM a"]),
        ("\\\n\n", &[]),
        ("\n\n# x\n", &[]),
    ];
    for (source, expected) in table {
        assert_eq!(texts(source), expected, "{source:?}");
    }
}

#[test]
fn directives_end_at_the_first_other_line() {
    let table = [
        ("# escape=`\n", '`'),
        ("#escape=`", '`'),
        ("  #\tescape\t=  `  \n", '`'),
        ("# syntax=docker/dockerfile:1\n# ESCAPE = `\n", '`'),
        ("# check=skip=all\n# escape=`\n", '`'),
        ("# escape=\\\n", '\\'),
        ("# a comment\n# escape=`\n", '\\'),
        ("\n# escape=`\n", '\\'),
        ("FROM a\n# escape=`\n", '\\'),
        ("# other=1\n# escape=`\n", '\\'),
        ("# escape=\n# escape=`\n", '\\'),
        ("#!/bin/sh\n# escape=`\n", '\\'),
        ("# 1escape=`\n", '\\'),
        ("# es cape=`\n# escape=`", '\\'),
    ];
    for (source, escape) in table {
        assert_eq!(lex(source).unwrap().escape, escape, "{source:?}");
    }
    let wrong = [
        (
            "# escape=x\n",
            "invalid escape token 'x' does not match ` or \\",
        ),
        (
            "# escape=``\n",
            "invalid escape token '``' does not match ` or \\",
        ),
        (
            "# escape=`\n# Escape=`\n",
            "only one escape parser directive can be used",
        ),
        (
            "# syntax=a\n# syntax=b\n",
            "only one syntax parser directive can be used",
        ),
        (
            "# check=error=true\n# check=error=true",
            "only one check parser directive can be used",
        ),
    ];
    for (source, expected) in wrong {
        assert_eq!(fault(source), expected, "{source:?}");
    }
    let lexed = lex("# check = skip=A, B;error=true \nFROM a").unwrap();
    let (check, span) = lexed.check.unwrap();
    assert_eq!(
        (check.as_str(), span),
        ("skip=A, B;error=true", Span { start: 0, end: 30 })
    );
}

#[test]
fn frontends_are_found_in_every_form() {
    let table = [
        ("# syntax=a/b:1\n", Some("a/b:1")),
        ("#syntax = a/b with arguments\n", Some("a/b")),
        ("# escape=`\n# syntax=a", Some("a")),
        ("#!/usr/bin/env x\n# syntax=a", Some("a")),
        ("//syntax=a\n", Some("a")),
        ("// escape=x\n//Syntax = a\n", Some("a")),
        ("{\"syntax\": \"a b\"}", Some("a")),
        ("\u{feff}#!x\n{\n\"syntax\": \"a\"}", Some("a")),
        ("{\"other\": 1}", None),
        ("# other\n# syntax=a", None),
        ("FROM a", None),
        ("", None),
    ];
    for (source, expected) in table {
        let found = frontend_of(source).map(|(name, _)| name);
        assert_eq!(found.as_deref(), expected, "{source:?}");
    }
}

fn document(name: &str, body: &str, expand: bool, strip_tabs: bool) -> Document {
    Document {
        name: name.to_owned(),
        body: body.to_owned(),
        expand,
        strip_tabs,
    }
}

#[test]
fn heredocs_are_taken() {
    let source = "COPY <<A <<-'B' 3<<\"C\" /d/\na $x\nA\n\tb\n\tB\nC\nRUN cat <<< no 1<<2\n2\n";
    let lexed = lex(source).unwrap();
    let documents: Vec<_> = lexed.lines.into_iter().map(|l| l.documents).collect();
    assert_eq!(
        documents,
        [
            vec![
                document("A", "a $x\n", true, false),
                document("B", "\tb\n", false, true),
                document("C", "", false, false),
            ],
            vec![document("2", "", true, false)],
        ]
    );
    for none in [
        "RUN [\"<<EOF\"]",
        "RUN --network=none [\"<<EOF\"]",
        "ONBUILD RUN [\"a\", \"<<EOF\"]",
        "RUN echo \"<<EOF\"",
        "RUN echo '<<EOF'",
        "RUN echo x\\<<EOF",
        "RUN echo << EOF",
        "RUN echo <<- EOF",
        "ENV a=<<EOF",
        "CMD cat <<EOF",
        "RUN x <<EOF'",
        "RUN x a<<EOF",
    ] {
        assert_eq!(lex(none).unwrap().lines[0].documents, [], "{none}");
    }
}

#[test]
fn heredoc_bodies_are_byte_exact() {
    let one = |source: &str| lex(source).unwrap().lines[0].documents.clone();
    let table = [
        (
            "COPY <<E /x\n# body\n\n  E\nE \n\\\nE\n",
            document("E", "# body\n\n  E\nE \n\\\n", true, false),
        ),
        ("RUN <<E\r\na\r\nE\r\n", document("E", "a\r\n", true, false)),
        (
            "RUN <<-E\n\t\ta\n \tE\n\tE",
            document("E", "\t\ta\n \tE\n", true, true),
        ),
        (
            "RUN <<'one two'\nx\none two\n",
            document("one two", "x\n", false, false),
        ),
        ("RUN <<$E\n$E\n", document("$E", "", true, false)),
        ("RUN <<E\"O\"F\nEOF\n", document("EOF", "", false, false)),
        ("RUN <<eo\\'f\neo'f\n", document("eo'f", "", true, false)),
        ("RUN <<'e'o\\'f\neo'f\n", document("eo'f", "", false, false)),
        (
            "RUN a && \\\n <<E b\nc \\\nE\n",
            document("E", "c \\\n", true, false),
        ),
        ("ONBUILD RUN <<E\nx\nE\n", document("E", "x\n", true, false)),
        (
            "onbuild copy --chown=1 <<E /x\nx\nE\n",
            document("E", "x\n", true, false),
        ),
        ("RUN [ -e x ] <<E\nE\n", document("E", "", true, false)),
        ("RUN 12<<E\nE", document("E", "", true, false)),
    ];
    for (source, expected) in table {
        assert_eq!(one(source), [expected], "{source:?}");
    }
    assert_eq!(
        texts("RUN <<E cat > /x\nFROM b\nE\nRUN c"),
        ["RUN <<E cat > /x", "RUN c"]
    );
}

#[test]
fn faults_of_lines() {
    let long = format!("FROM a\nRUN {}\n", "x".repeat(70_000));
    let in_continuation = format!("FROM a\nRUN \\\n{}\n", "x".repeat(70_000));
    let in_heredoc = format!("FROM a\nCOPY <<E /x\n{}\nE\n", "x".repeat(70_000));
    let in_comment = format!("# {}\nFROM a", "x".repeat(70_000));
    for source in [&long, &in_continuation, &in_heredoc, &in_comment] {
        assert_eq!(
            fault(source),
            "dockerfile line greater than max allowed size of 65535"
        );
    }
    let longest = format!("RUN {}\n", "x".repeat(65_530));
    assert_eq!(texts(&longest)[0].len(), 65_534);
    assert_eq!(
        fault("FROM a\nRUN <<EOF\nx\n"),
        "unterminated heredoc: no line `EOF`"
    );
    assert_eq!(fault("FROM a\nRUN a\0b\n"), "a NUL byte in an instruction");
}

#[test]
fn places_go_through_joints() {
    let source = "RUN one \\\n# c\n  two";
    let lexed = lex(source).unwrap();
    let line = &lexed.lines[0];
    let at = line.text.find("two").unwrap();
    let span = line.place(at, at + 3);
    assert_eq!(&source[span.start..span.end], "two");
    assert_eq!(line.place(4, 7), Span { start: 4, end: 7 });
}

#[test]
fn comments_and_empty_lines_are_noted() {
    let source = "# syntax=x\n# one\n#  two \nFROM a\n# gone\n\nRUN a \\\n\n  b\n# gone\n#\nRUN c \\\n# in it\n d\n";
    let lexed = lex(source).unwrap();
    let noted: Vec<_> = lexed
        .lines
        .iter()
        .map(|line| {
            let comments: Vec<&str> = line.comments.iter().map(String::as_str).collect();
            (comments, line.empty_line.is_some())
        })
        .collect();
    assert_eq!(
        noted,
        [(vec!["one", "two"], false), (vec![], true), (vec![], false)]
    );
}
