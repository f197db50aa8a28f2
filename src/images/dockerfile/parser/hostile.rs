//! Dockerfiles that nobody thought of: whatever the text, there is no panic, and every fault has its place in it.

use std::path::Path;

use proptest::prelude::*;

use super::super::{Span, expand};
use super::{parse, parse_one};

/// Something of everything, to be broken; the seed of the fuzz target as well.
const SAMPLE: &str = r#"
# syntax=docker/dockerfile:1
# escape=\
# check=skip=JSONArgsRecommended;error=true
ARG TAG=bookworm
FROM --platform=$BUILDPLATFORM debian:${TAG:-latest} AS base
ARG A="a b" B
ENV X=1 Y="two words" Z=${X:+set}${Y%%w*}${Y/o/0}
LABEL a.b='c d' "e"=f
# A comment between.
RUN --mount=type=cache,target=/var/cache,sharing=locked,id=x --mount=type=secret,id=s,env=S \
    --network=none --security=insecure \
    echo "$X" && \
    # inside
    true
RUN ["sh", "-c", "echo \"é\""]
RUN <<EOF cat - <<-"END" 3<<X
one $A
EOF
	two
	END
three
X
COPY --from=base --chown=1:2 --chmod=u+x,go= --link --parents --exclude=*.o ./a/./b* "c d" /dst/
COPY <<file.txt /there
content of $A
file.txt
COPY ["a b", "c"]
ADD --checksum=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef --unpack=true https://x/y.tar /z
ADD --keep-git-dir=true https://github.com/a/b.git#main:sub /git
WORKDIR ../x
USER a:b
EXPOSE 80 443/udp 1000-1010
VOLUME ["/a", "/b"] 
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=1m30s --timeout=3s --start-period=1s --retries=3 CMD curl -f http://localhost/ || exit 1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ONBUILD COPY . /src
MAINTAINER somebody
FROM scratch
COPY --from=0 /a /b
ENTRYPOINT ["/b"]
CMD ["--help"]
"#;

/// Checks what must hold of any text.
fn check(text: &str) -> Result<(), TestCaseError> {
    let within = |span: Span| text.get(span.start..span.end).is_some();
    match parse(Path::new("Dockerfile"), text) {
        Ok(file) => {
            prop_assert!(!file.stages.is_empty());
            prop_assert!(file.written.iter().all(|written| within(written.span)));
        }
        Err(error) => {
            prop_assert!(!error.faults.is_empty());
            for fault in &error.faults {
                prop_assert!(within(fault.span), "{fault:?}");
            }
        }
    }
    for escape in ['\\', '`'] {
        drop(parse_one(text, escape));
        let variables = [("A".to_owned(), "a value xx".to_owned())].into();
        drop(expand::expand(text, escape, &variables));
        drop(expand::expand_words(text, escape, &variables));
        drop(expand::expand_heredoc(text, &variables));
    }
    Ok(())
}

#[test]
fn the_sample_is_a_dockerfile() {
    let text = SAMPLE.trim_start();
    if let Err(error) = parse(Path::new("Dockerfile"), text) {
        panic!("{error}");
    }
}

#[test]
fn a_line_without_end_and_endless_nesting_are_no_danger() {
    let long = format!("FROM x\nRUN {}\n", "a".repeat(4 << 20));
    check(&long).unwrap();
    let nested = format!(
        "FROM x\nENV A={}{}\n",
        "${A:-".repeat(100_000),
        "}".repeat(100_000)
    );
    check(&nested).unwrap();
    let continued = format!("FROM x\nRUN {}\n", "a \\\n".repeat(200_000));
    check(&continued).unwrap();
    let documents = format!("FROM x\nRUN {}\n", "<<A ".repeat(20_000));
    check(&documents).unwrap();
    // What grows with each level of nesting ends in an error.
    let variables = [("A".to_owned(), "x".repeat(100))].into();
    let growing = format!("{}$A{}", "${A//x/".repeat(30), "}".repeat(30));
    let error = expand::expand(&growing, '\\', &variables).unwrap_err();
    assert!(error.to_string().ends_with("it is too long once expanded"));
}

proptest! {
    #[test]
    fn no_mutation_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, "[\\PC\n\t]{0,3}"), 1..6)) {
        let mut text: Vec<char> = SAMPLE.chars().collect();
        for (at, kind, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + 1 + piece.len()).min(text.len());
            match kind {
                0 => drop(text.splice(at..at, piece.chars())),
                1 => drop(text.splice(at..end, piece.chars())),
                2 => drop(text.drain(at..end)),
                _ => text.truncate(at.max(1)),
            }
        }
        check(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn no_structure_panics(text in "([a-z\"'\\[\\],# $\\\\`=:/{}\n-]|\\$\\{|<<E|<<-|\nE\n|FROM x|RUN |COPY |ADD |ENV |--mount=type=|--from=|ONBUILD |HEALTHCHECK |SHELL |\r\n|é){0,60}") {
        check(&text)?;
    }
}
