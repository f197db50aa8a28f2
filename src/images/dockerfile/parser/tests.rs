//! Dockerfile texts and their trees, or their faults.

use super::super::instruction::{
    Command, Device, Document, Healthcheck, MountFlag, Run, RunNetwork, RunSecurity, Transfer,
};
use super::health::parse_duration;
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
            mounts: Vec::new(),
            network: RunNetwork::Default,
            security: RunSecurity::Sandbox,
            devices: Vec::new(),
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
fn flags_of_run_parse() {
    let run = |body: &str| match stage(body).remove(0) {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    };
    let text = "RUN --mount=type=cache,target=/c --network=NONE --mount=\"target=/d e\" --security=insecure --device=v/c=d,required -- make";
    let span = |part: &str| {
        let at = format!("FROM a\n{text}").find(part).unwrap();
        Span {
            start: at,
            end: at + part.len(),
        }
    };
    let field = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    assert_eq!(
        run(text),
        Run {
            command: Command::Shell("make".to_owned()),
            documents: Vec::new(),
            mounts: vec![
                MountFlag {
                    fields: vec![field("type", "cache"), field("target", "/c")],
                    span: span("--mount=type=cache,target=/c"),
                },
                MountFlag {
                    fields: vec![field("target", "/d e")],
                    span: span("--mount=\"target=/d e\""),
                },
            ],
            network: RunNetwork::None,
            security: RunSecurity::Insecure,
            devices: vec![Device {
                name: "v/c=d".to_owned(),
                required: true,
                span: span("--device=v/c=d,required"),
            }],
        }
    );
    assert_eq!(run("RUN --network=host x").network, RunNetwork::Host);
    assert!(run("RUN <<E\na\nE").script().is_some());
    assert!(run("RUN <<E cat\na\nE").script().is_none());
    assert!(run("RUN <<E <<F\nE\nF").script().is_none());
}

#[test]
fn flags_of_transfers_parse() {
    let table = [
        (
            "COPY --parents --link=false --exclude=*.a --exclude=b/** --chmod=u=rwX,go= a b",
            Kind::Copy(Transfer {
                parents: true,
                chmod: Some("u=rwX,go=".to_owned()),
                exclude: strings(&["*.a", "b/**"]),
                ..transfer(&["a"], "b")
            }),
        ),
        (
            "ADD --checksum=sha256:0 --keep-git-dir=true --unpack=FALSE a b",
            Kind::Add(Transfer {
                checksum: Some("sha256:0".to_owned()),
                keep_git_dir: Some(true),
                unpack: Some(false),
                ..transfer(&["a"], "b")
            }),
        ),
        (
            "ADD --unpack a b",
            Kind::Add(Transfer {
                unpack: Some(true),
                ..transfer(&["a"], "b")
            }),
        ),
        (
            "COPY --from=\"a b\" --chown=\\$x a b",
            Kind::Copy(Transfer {
                from: Some("a b".to_owned()),
                chown: Some("$x".to_owned()),
                ..transfer(&["a"], "b")
            }),
        ),
        (
            "COPY [\"'a'\", \"it's\", \"/\"]",
            Kind::Copy(transfer(&["'a'", "it\\'s"], "/")),
        ),
        ("COPY -- --a b", Kind::Copy(transfer(&["--a"], "b"))),
        ("COPY ['a', 'b']", Kind::Copy(transfer(&["['a',"], "'b']"))),
    ];
    for (line, expected) in table {
        assert_eq!(stage(line), [expected], "{line}");
    }
}

#[test]
fn triggers_keep_their_text() {
    let table = [
        ("ONBUILD   run  echo  $X \\\n  more", "run  echo  $X   more"),
        (
            "onbuild COPY <<A <<-B /x\n$1\nA\n\ttwo\n\tB",
            "COPY <<A <<-B /x\n$1\nA\n\ttwo\nB",
        ),
        ("ONBUILD ENTRYPOINT [\"a\"]", "ENTRYPOINT [\"a\"]"),
    ];
    for (line, expected) in table {
        assert_eq!(stage(line), [Kind::Onbuild(expected.to_owned())], "{line}");
        let again = parse_one(expected, '\\').unwrap();
        let direct = stage(&line[8..]).remove(0);
        if !line.contains("-B") {
            assert_eq!(again.kind, direct, "{line}");
        }
    }
    let Kind::Copy(copy) = parse_one("COPY <<A <<-B /x\n$1\nA\n\ttwo\nB", '\\')
        .unwrap()
        .kind
    else {
        panic!("no COPY")
    };
    let contents: Vec<_> = copy.documents.iter().map(Document::content).collect();
    assert_eq!(contents, ["$1\n", "two\n"]);
}

#[test]
fn every_fault_is_said_with_its_place() {
    let table = [
        ("", "Dockerfile:1:1: the Dockerfile cannot be empty"),
        ("# nothing\n", "Dockerfile:1:1: file with no instructions"),
        (
            "ARG a",
            "Dockerfile:1:1: dockerfile contains no stages to build",
        ),
        (
            "FROM busybox\nFOO bar\n  RNU x\n",
            "Dockerfile:2:1: unknown instruction: FOO (did you mean FROM?)\n\
             Dockerfile:3:3: unknown instruction: RNU (did you mean RUN?)",
        ),
        (
            "FORM alpine\nRUN x\nCOPY --form=a b c\nFROM b\nRNU x",
            "Dockerfile:1:1: unknown instruction: FORM (did you mean FROM?)\n\
             Dockerfile:3:6: unknown flag: form (did you mean from?)\n\
             Dockerfile:5:1: unknown instruction: RNU (did you mean RUN?)",
        ),
        (
            "FROM a as\nRUN x",
            "Dockerfile:1:1: FROM requires either one or three arguments (FROM image [AS name])",
        ),
        (
            "RUN x\nRUN y",
            "Dockerfile:1:1: no build stage in current context (only ARG may stand before the first FROM)",
        ),
        (
            "RUN x",
            "Dockerfile:1:1: no build stage in current context (only ARG may stand before the first FROM)",
        ),
        (
            "FROM a b",
            "Dockerfile:1:1: FROM requires either one or three arguments (FROM image [AS name])",
        ),
        (
            "FROM a\nCOPY x",
            "Dockerfile:2:1: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "FROM a\nCOPY --form=x a b",
            "Dockerfile:2:6: unknown flag: form (did you mean from?)",
        ),
        (
            "FROM a\nCOPY --from=$x a b",
            "Dockerfile:2:6: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ),
        (
            "FROM a\nCOPY --from=x --from=y a b",
            "Dockerfile:2:15: duplicate flag specified: from",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(faults(text), expected, "{text:?}");
    }
}

/// Rows of the test below.
const WRONG: &[(&str, &str)] = &[
    ("ENV", "1: ENV requires at least one argument"),
    ("ENV a", "1: ENV must have two arguments"),
    (
        "ENV a=1 b",
        "9: Syntax error - can't find = in \"b\". Must be of the form: name=value",
    ),
    ("ENV =1", "5: ENV names can not be blank"),
    ("LABEL a=b =c", "11: LABEL names can not be blank"),
    ("ARG a =b", "7: ARG names can not be blank"),
    ("ARG", "1: ARG requires at least one argument"),
    ("COPY --link= a b", "6: missing a value on flag: link"),
    (
        "VOLUME [\"/a\", \" \"]",
        "1: VOLUME specified can not be an empty string",
    ),
    ("RUN []", "1: RUN requires at least one argument"),
    (
        "RUN [1]",
        "1: when using JSON array syntax, arrays must be comprised of strings only",
    ),
    (
        "CMD [[\"a\"]]",
        "1: when using JSON array syntax, arrays must be comprised of strings only",
    ),
    ("RUN --network=lan x", "5: invalid network mode \"lan\""),
    (
        "RUN --network=hots x",
        "5: invalid network mode \"hots\" (did you mean host?)",
    ),
    ("RUN --security=x y", "5: security \"x\" is not valid"),
    (
        "RUN --mount=from=$x,target=/y z",
        "5: 'from' doesn't support variable expansion, define alias stage instead",
    ),
    ("RUN --device= z", "5: --device needs the name of a device"),
    ("RUN --mount z", "5: missing a value on flag: mount"),
    (
        "RUN --mounts=x z",
        "5: unknown flag: mounts (did you mean mount?)",
    ),
    ("ENV --x=y a=b", "5: unknown flag: x"),
    ("COPY", "1: COPY requires at least two arguments"),
    ("ADD []", "1: ADD requires at least two arguments"),
    (
        "COPY --link=maybe a b",
        "6: expecting boolean value for flag link, not: maybe",
    ),
    (
        "COPY --link --link a b",
        "13: duplicate flag specified: link",
    ),
    (
        "COPY a <<E\nE",
        "1: COPY cannot accept a heredoc as a destination",
    ),
    ("ADD --from=x a b", "5: unknown flag: from"),
    ("COPY --checksum=x a b", "6: unknown flag: checksum"),
    (
        "SHELL sh",
        "1: SHELL requires the arguments to be in JSON form",
    ),
    ("SHELL []", "1: SHELL requires at least one argument"),
    ("VOLUME []", "1: VOLUME requires at least one argument"),
    (
        "VOLUME [\"\"]",
        "1: VOLUME specified can not be an empty string",
    ),
    ("USER", "1: USER requires exactly one argument"),
    ("WORKDIR ", "1: WORKDIR requires exactly one argument"),
    ("STOPSIGNAL", "1: STOPSIGNAL requires exactly one argument"),
    ("EXPOSE", "1: EXPOSE requires at least one argument"),
    (
        "HEALTHCHECK x",
        "1: Unknown type \"X\" in HEALTHCHECK (try CMD)",
    ),
    (
        "HEALTHCHECK CMD",
        "1: Missing command after HEALTHCHECK CMD",
    ),
    (
        "HEALTHCHECK CMD []",
        "1: Missing command after HEALTHCHECK CMD",
    ),
    (
        "HEALTHCHECK NONE x",
        "1: HEALTHCHECK NONE takes no arguments",
    ),
    (
        "HEALTHCHECK --interval=1us CMD x",
        "13: Interval \"interval\" cannot be less than 1ms",
    ),
    (
        "HEALTHCHECK --timeout=5 CMD x",
        "13: invalid duration `5` of --timeout: write it like `1m30s`",
    ),
    (
        "HEALTHCHECK --retries=-1 CMD x",
        "13: --retries cannot be negative (-1)",
    ),
    (
        "HEALTHCHECK --retries=a CMD x",
        "13: invalid number of --retries: `a`",
    ),
    (
        "ONBUILD ONBUILD RUN x",
        "1: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    ),
    (
        "ONBUILD from x",
        "1: FROM isn't allowed as an ONBUILD trigger",
    ),
    ("ONBUILD", "1: ONBUILD requires at least one argument"),
    (
        "ONBUILD CPOY a b",
        "1: unknown instruction: CPOY (did you mean COPY?)",
    ),
];

#[test]
fn faults_of_arguments_are_said() {
    for (line, expected) in WRONG {
        let expected = format!("Dockerfile:2:{expected}");
        assert_eq!(faults(&format!("FROM a\n{line}")), expected, "{line}");
    }
    for kept in ["CMD", "ENTRYPOINT", "CMD []", "ENTRYPOINT []", "USER a b"] {
        assert_eq!(stage(kept).len(), 1, "{kept}");
    }
}

#[test]
fn stages_and_frontends_are_checked() {
    let named = "name can't start with a number or contain symbols";
    let table = [
        (
            "FROM a AS 1x".to_owned(),
            format!("invalid name for build stage: \"1x\", {named}"),
        ),
        (
            "FROM a AS x+y".to_owned(),
            format!("invalid name for build stage: \"x+y\", {named}"),
        ),
        (
            "FROM --plaform=x a".to_owned(),
            "unknown flag: plaform (did you mean platform?)".to_owned(),
        ),
    ];
    for (text, expected) in table {
        let got = faults(&text);
        assert!(got.ends_with(&format!(": {expected}")), "{got}");
    }
    let foreign = |name: &str| {
        let parsed = parse(Path::new("D"), &format!("# syntax={name}\nFROM a"));
        parsed.err().map(|error| error.faults[0].message.clone())
    };
    for own in [
        "docker/dockerfile",
        "docker/dockerfile:1.7-labs",
        "docker.io/docker/dockerfile-upstream:master",
        "docker/dockerfile:1@sha256:0123",
        "localhost:5000/docker/dockerfile:1",
        "dockerfile.v0",
    ] {
        assert_eq!(foreign(own), None, "{own}");
    }
    for other in ["r2d4/mopy", "mydocker/dockerfile", "docker/dockerfiles:1"] {
        let expected = format!("the frontend image `{other}` is not supported");
        assert_eq!(foreign(other), Some(expected), "{other}");
    }
    // What is no Dockerfile at all is not parsed as one.
    assert_eq!(
        faults("//syntax=x/y\n{ foo }"),
        "Dockerfile:1:1: the frontend image `x/y` is not supported (the builder is its own frontend, for the language of docker/dockerfile alone)"
    );
    let own = parse_for(
        Path::new("D"),
        "# syntax=x/y\nFROM a",
        Some("dockerfile.v0"),
    );
    assert_eq!(own.unwrap().stages.len(), 1);
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
        ("-5s", Some(-5_000_000_000)),
        ("+1ms", Some(1_000_000)),
        ("1.2.3s", None),
        ("1µs", Some(1_000)),
    ];
    for (text, expected) in table {
        assert_eq!(parse_duration(text), expected, "{text}");
    }
}

#[test]
fn what_is_left_out_is_as_nothing() {
    let shell = |text: &str| Command::Shell(text.to_owned());
    let run = |kind: &Kind| match kind {
        Kind::Run(run) => run.command.clone(),
        other => panic!("{other:?}"),
    };
    for line in ["RUN", "RUN  \t", "RUN --network=none"] {
        assert_eq!(run(&stage(line)[0]), shell(""), "{line}");
    }
    let none = Healthcheck::NONE;
    let table = [
        ("HEALTHCHECK --interval=5s --retries=3 NONE", none.clone()),
        (
            "HEALTHCHECK --interval= --timeout= --retries= CMD x",
            Healthcheck {
                command: Some(shell("x")),
                ..none
            },
        ),
    ];
    for (line, expected) in table {
        assert_eq!(stage(line), [Kind::Healthcheck(expected)], "{line}");
    }
    let file = parse(Path::new("Dockerfile"), "FROM --platform= a").unwrap();
    assert_eq!(file.stages[0].platform, None);
    assert_eq!(
        stage("VOLUME [\" /x \", \"/y\"]"),
        [Kind::Volume(strings(&["/x", "/y"]))]
    );
}
