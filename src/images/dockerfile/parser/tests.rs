//! Dockerfile texts and their trees, or their faults.

use super::*;

/// The instructions of the only stage.
fn stage(body: &str) -> Vec<Kind> {
    let file = parse(Path::new("Dockerfile"), &format!("FROM a\n{body}")).unwrap();
    let kinds = file.stages[0].instructions.iter();
    kinds.map(|instruction| instruction.kind.clone()).collect()
}

/// The faults as text.
fn faults(text: &str) -> String {
    parse(Path::new("Dockerfile"), text)
        .unwrap_err()
        .to_string()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pairs(words: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = words
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    owned.collect()
}

fn transfer(sources: &[&str], destination: &str) -> Transfer {
    Transfer {
        sources: strings(sources),
        destination: destination.to_owned(),
        ..Transfer::default()
    }
}

#[test]
fn instructions_parse() {
    let shell = |text: &str| Command::Shell(text.to_owned());
    let exec = |words: &[&str]| Command::Exec(strings(words));
    let run = |command| {
        Kind::Run(Run {
            command,
            documents: Vec::new(),
        })
    };
    let table = [
        (
            "ENV a=1 b=\"x y\" c=z\\ w",
            Kind::Env(pairs(&[("a", "1"), ("b", "\"x y\""), ("c", "z\\ w")])),
        ),
        (
            "ENV old style  value",
            Kind::Env(pairs(&[("old", "style  value")])),
        ),
        ("LABEL \"a b\"=c", Kind::Label(pairs(&[("\"a b\"", "c")]))),
        ("run echo  hi # x", run(shell("echo  hi # x"))),
        ("RUN [\"a\", \"b c\"]", run(exec(&["a", "b c"]))),
        ("RUN ['a']", run(shell("['a']"))),
        ("RUN --network=default x", run(shell("x"))),
        ("CMD []", Kind::Cmd(exec(&[]))),
        ("ENTRYPOINT top -b", Kind::Entrypoint(shell("top -b"))),
        ("COPY a b /c/", Kind::Copy(transfer(&["a", "b"], "/c/"))),
        (
            "COPY [\"a b\", \"/c d\"]",
            Kind::Copy(transfer(&["a b"], "/c d")),
        ),
        (
            "COPY --from=x --chown=\"1:2\" a b",
            Kind::Copy(Transfer {
                from: Some("x".to_owned()),
                chown: Some("1:2".to_owned()),
                ..transfer(&["a"], "b")
            }),
        ),
        (
            "ADD --link a /b",
            Kind::Add(Transfer {
                link: true,
                ..transfer(&["a"], "/b")
            }),
        ),
        (
            "EXPOSE 80 443/tcp",
            Kind::Expose(strings(&["80", "443/tcp"])),
        ),
        ("VOLUME [\"/a b\"]", Kind::Volume(strings(&["/a b"]))),
        (
            "SHELL [\"/bin/bash\", \"-c\"]",
            Kind::Shell(strings(&["/bin/bash", "-c"])),
        ),
        ("ONBUILD RUN x", Kind::Onbuild("RUN x".to_owned())),
        ("WORKDIR $D/x y", Kind::Workdir("$D/x y".to_owned())),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD [\"x\"]",
            Kind::Healthcheck(Healthcheck {
                command: Some(exec(&["x"])),
                interval_ns: 90_000_000_000,
                timeout_ns: 0,
                start_period_ns: 0,
                start_interval_ns: 0,
                retries: 3,
            }),
        ),
    ];
    for (line, expected) in table {
        assert_eq!(stage(line), [expected], "{line}");
    }
}

#[test]
fn stages_and_global_arguments() {
    let text = "ARG V=1\nFROM --platform=$P a:$V AS Build\nRUN x\nFROM build";
    let file = parse(Path::new("D"), text).unwrap();
    let stages: Vec<_> = file
        .stages
        .iter()
        .map(|s| {
            (
                s.base.as_str(),
                s.platform.as_deref(),
                s.name.as_deref(),
                s.instructions.len(),
            )
        })
        .collect();
    assert_eq!(
        stages,
        [
            ("a:$V", Some("$P"), Some("build"), 1),
            ("build", None, None, 0)
        ]
    );
    assert_eq!(file.arguments[0].default.as_deref(), Some("1"));
}

#[test]
fn heredocs_are_not_sources() {
    let kinds = stage("COPY <<A x <<-'B' /d/\n1\nA\n\t2\n\tB\n");
    let Kind::Copy(copy) = &kinds[0] else {
        panic!("{kinds:?}")
    };
    let contents: Vec<_> = copy.documents.iter().map(Document::content).collect();
    assert_eq!(
        (copy.sources.as_slice(), copy.destination.as_str(), contents),
        (strings(&["x"]).as_slice(), "/d/", strings(&["1\n", "2\n"]))
    );
}

#[test]
fn what_is_not_built_yet_is_marked_with_its_place() {
    let text = "FROM a\nRUN --mount=type=cache,target=/c make\nCOPY --parents a b";
    let file = parse(Path::new("D"), text).unwrap();
    let marked: Vec<_> = file.stages[0]
        .instructions
        .iter()
        .filter_map(|i| i.unsupported.as_ref())
        .map(|(what, span)| (what.as_str(), &text[span.start..span.end]))
        .collect();
    assert_eq!(
        marked,
        [
            ("--mount", "--mount=type=cache,target=/c"),
            ("--parents", "--parents")
        ]
    );
}

#[test]
fn every_fault_is_said_with_its_place() {
    let table = [
        ("", "Dockerfile:1:1: the Dockerfile has no instructions"),
        (
            "# nothing\n",
            "Dockerfile:1:1: the Dockerfile has no instructions",
        ),
        (
            "ARG a",
            "Dockerfile:1:1: the Dockerfile has no stages to build: `FROM` is missing",
        ),
        (
            "FROM busybox\nFOO bar\n  RNU x\n",
            "Dockerfile:2:1: unknown instruction: FOO (did you mean `FROM`?)\n\
             Dockerfile:3:3: unknown instruction: RNU (did you mean `RUN`?)",
        ),
        (
            "RUN x",
            "Dockerfile:1:1: no build stage before `RUN` (only `ARG` may stand before the first `FROM`)",
        ),
        (
            "FROM a b",
            "Dockerfile:1:1: FROM requires either one or three arguments: `FROM image [AS name]`",
        ),
        (
            "FROM a\nCOPY x",
            "Dockerfile:2:1: COPY requires at least two arguments, but only one was provided: the destination could not be determined",
        ),
        (
            "FROM a\nCOPY --form=x a b",
            "Dockerfile:2:6: unknown flag: --form (did you mean `--from`?)",
        ),
        (
            "FROM a\nCOPY --from=$x a b",
            "Dockerfile:2:6: variable expansion is not supported for --from (define a new stage with FROM using ARG from global scope, and copy from that)",
        ),
        (
            "FROM a\nCOPY --from=x --from=y a b",
            "Dockerfile:2:15: duplicate flag specified: --from",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(faults(text), expected, "{text:?}");
    }
}

#[test]
fn faults_of_arguments_are_said() {
    let table = [
        (
            "FROM a\nENV a",
            "Dockerfile:2:1: ENV must have two arguments",
        ),
        (
            "FROM a\nENV a=1 b",
            "Dockerfile:2:9: can't find = in `b`: must be of the form name=value",
        ),
        (
            "FROM a\nRUN",
            "Dockerfile:2:1: RUN requires at least one argument",
        ),
        (
            "FROM a\nRUN [1]",
            "Dockerfile:2:1: when using JSON array syntax, arrays must be comprised of strings only",
        ),
        (
            "FROM a\nSHELL sh",
            "Dockerfile:2:1: SHELL requires the arguments to be in JSON form",
        ),
        (
            "FROM a\nHEALTHCHECK X",
            "Dockerfile:2:1: unknown type `X` in HEALTHCHECK (try CMD)",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=1us CMD x",
            "Dockerfile:2:1: --interval cannot be less than 1ms: `1us`",
        ),
        (
            "FROM a\nONBUILD ONBUILD RUN x",
            "Dockerfile:2:1: chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "# syntax=r2d4/mopy\nFROM a",
            "Dockerfile:1:1: not supported yet: the frontend image `r2d4/mopy`",
        ),
        (
            "FROM a AS 1x",
            "Dockerfile:1:1: invalid name for build stage: `1x` (a letter, then letters, digits, `-`, `_` and `.`)",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(faults(text), expected, "{text:?}");
    }
}

#[test]
fn durations_parse() {
    let table = [
        ("0", Some(0)),
        ("1.5s", Some(1_500_000_000)),
        ("1h2m", Some(3_720_000_000_000)),
        ("5", None),
        ("", None),
        ("1x", None),
        (".s", None),
        ("99999999999999h", None),
    ];
    for (text, expected) in table {
        assert_eq!(parse_duration(text), expected, "{text}");
    }
}
