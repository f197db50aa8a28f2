use std::path::Path;

use super::super::super::dockerfile::parser;
use super::*;

/// The state after the configuration instructions of a stage.
fn after(body: &str, arguments: &[(&str, &str)]) -> StageState {
    let file = parser::parse(Path::new("D"), &format!("FROM a\n{body}")).unwrap();
    let owned = |pairs: &[(&str, &str)]| -> Variables {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let given = Given {
        arguments: owned(arguments),
        globals: owned(&[("G", "global"), ("TARGETARCH", "amd64")]),
        escape: file.escape,
    };
    let mut base = ImageConfig::default();
    base.config.cmd = Some(vec!["sh".to_owned()]);
    let mut state = StageState::of_image(base, Vec::new());
    for instruction in &file.stages[0].instructions {
        match &instruction.kind {
            Kind::Workdir(path) => drop(state.enter_directory(path, &given).unwrap()),
            kind => state.apply(kind, &given).unwrap(),
        }
    }
    state
}

#[test]
fn headings_show_what_variables_are() {
    let mut state = StageState::of_scratch(&manifest::Platform::host());
    state.set_env("D", "/dst");
    state.set_env("API_KEY", "hush");
    state.set_env("LINES", "a\nb");
    let table = [
        ("COPY $D ${D}/x", "COPY /dst /dst/x"),
        (
            "RUN a $D$D \\$D '$D' \"$D\"",
            "RUN a /dst/dst \\$D '$D' \"/dst\"",
        ),
        (
            "RUN for i in $LIST; do echo ${i:-$D} $1 $$; done",
            "RUN for i in $LIST; do echo ${i:-/dst} $1 $$; done",
        ),
        ("RUN use $API_KEY ${LINES} $", "RUN use $API_KEY ${LINES} $"),
        ("RUN é${D", "RUN é${D"),
    ];
    for (text, expected) in table {
        assert_eq!(state.shown(text), expected);
    }
}

#[test]
fn environments_follow_docker() {
    let path = format!("PATH={DEFAULT_PATH}");
    let table: [(&str, &[&str], &[&str]); 7] = [
        (
            "ENV a=1 b=\"two words\" c=$a d=${a}x e=${none:-dflt} f=${a:+alt} g=\\$a\nENV old style value here\nENV h=\"$old\" i='$a'",
            &[
                "a=1",
                "b=two words",
                "c=",
                "d=x",
                "e=dflt",
                "f=",
                "g=$a",
                "old=style value here",
                "h=style value here",
                "i=$a",
            ],
            &[
                "a=1",
                "b=two words",
                "c=",
                "d=x",
                "e=dflt",
                "f=",
                "g=$a",
                "old=style value here",
                "h=style value here",
                "i=$a",
            ],
        ),
        ("ARG X=1\nENV Y=$X", &["Y=1"], &["X=1", "Y=1"]),
        ("ENV A=1\nARG A=2", &["A=1"], &["A=2"]),
        ("ARG A=2\nENV A=1", &["A=1"], &["A=1"]),
        (
            "ARG G\nARG N\nARG TARGETARCH",
            &[],
            &["G=global", "TARGETARCH=amd64"],
        ),
        ("ARG V=dflt\nARG W=w-$V", &[], &["V=cli", "W=w-cli"]),
        ("ENV A=1\nENV A=2 B=$A", &["A=2", "B=1"], &["A=2", "B=1"]),
    ];
    for (body, env, run) in table {
        let state = after(body, &[("V", "cli"), ("UNDECLARED", "x")]);
        let with_path = |rest: &[&str]| -> Vec<String> {
            let rest = rest.iter().map(|pair| (*pair).to_owned());
            std::iter::once(path.clone()).chain(rest).collect()
        };
        assert_eq!(state.config.config.env, with_path(env), "{body}");
        assert_eq!(state.run_environment(), with_path(run), "{body}");
    }
}

#[test]
fn metadata_follows_docker() {
    let body = "LABEL a=b \"c d\"=\"e f\" multi=\"l1\\\nl2\"\nEXPOSE 80 443/tcp 53/UDP 9000-9002\nVOLUME /v1 /v2\nVOLUME [\"/v 3\"]\nSTOPSIGNAL SIGQUIT\nHEALTHCHECK --interval=5s --retries=4 CMD test -f /ok\nMAINTAINER me\nUSER 5:6\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c\nENTRYPOINT [\"/bin/echo\", \"a b\"]\n";
    let state = after(body, &[]);
    let json = serde_json::to_value(&state.config.config).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "Env": [format!("PATH={DEFAULT_PATH}")],
            "Labels": {"a": "b", "c d": "e f", "multi": "l1l2"},
            "ExposedPorts": {"443/tcp": {}, "53/udp": {}, "80/tcp": {}, "9000/tcp": {}, "9001/tcp": {}, "9002/tcp": {}},
            "Volumes": {"/v 3": {}, "/v1": {}, "/v2": {}},
            "StopSignal": "SIGQUIT",
            "Healthcheck": {"Test": ["CMD-SHELL", "test -f /ok"], "Interval": 5_000_000_000_i64, "Retries": 4},
            "User": "5:6",
            "WorkingDir": "/a/c",
            "Entrypoint": ["/bin/echo", "a b"],
        })
    );
    let by: Vec<_> = state
        .config
        .history
        .iter()
        .filter_map(|entry| entry.created_by.as_deref())
        .collect();
    assert_eq!(
        by,
        [
            "LABEL a=b c d=e f multi=l1l2",
            "EXPOSE [443/tcp 53/udp 80/tcp 9000/tcp 9001/tcp 9002/tcp]",
            "VOLUME [/v1 /v2]",
            "VOLUME [/v 3]",
            "STOPSIGNAL SIGQUIT",
            "HEALTHCHECK &{[\"CMD-SHELL\" \"test -f /ok\"] \"5s\" \"0s\" \"0s\" \"0s\" '\\x04'}",
            "MAINTAINER me",
            "USER 5:6",
            "ENTRYPOINT [\"/bin/echo\" \"a b\"]",
        ]
    );
}

#[test]
fn commands_and_shells() {
    type Words = Option<&'static [&'static str]>;
    let table: [(&str, Words, Words); 4] = [
        ("CMD x y", Some(&["/bin/sh", "-c", "x y"]), None),
        ("ENTRYPOINT [\"e\"]", None, Some(&["e"])),
        (
            "CMD [\"c\"]\nENTRYPOINT [\"e\"]",
            Some(&["c"]),
            Some(&["e"]),
        ),
        (
            "SHELL [\"/bin/bash\", \"-c\"]\nCMD x",
            Some(&["/bin/bash", "-c", "x"]),
            None,
        ),
    ];
    let owned = |words: Option<&[&str]>| -> Option<Vec<String>> {
        words.map(|words| words.iter().map(|w| (*w).to_owned()).collect())
    };
    for (body, cmd, entrypoint) in table {
        let config = after(body, &[]).config.config;
        assert_eq!(
            (config.cmd, config.entrypoint),
            (owned(cmd), owned(entrypoint)),
            "{body}"
        );
    }
}

#[test]
fn ports_and_signals_are_checked() {
    for wrong in ["", "x", "80/xyz", "70000", "9-8", "80-", "+80"] {
        assert_eq!(
            parse_ports(wrong),
            Err(StageError::Port(wrong.to_owned())),
            "{wrong}"
        );
    }
    for tcp in ["127.0.0.1:8080:80", "80/", "80/TCP"] {
        assert_eq!(parse_ports(tcp).unwrap(), ["80/tcp"], "{tcp}");
    }
    let table = [
        ("SIGTERM", true),
        ("term", true),
        ("9", true),
        ("RTMIN+3", true),
        ("0", false),
        ("65", false),
        ("SIGFOO", false),
        ("RTMIN+99", false),
    ];
    for (text, expected) in table {
        assert_eq!(is_signal(text), expected, "{text}");
    }
}

#[test]
fn working_directories_stay_as_they_are_written() {
    let table = [
        ("WORKDIR /app/", "/app/", "/app"),
        ("WORKDIR /a//b/../c", "/a//b/../c", "/a/c"),
        ("WORKDIR /app/\nWORKDIR b/", "/app/b", "/app/b"),
        ("WORKDIR a\nWORKDIR ..", "/", "/"),
        ("ENV E=\nWORKDIR /w/$E", "/w/", "/w"),
        ("WORKDIR //", "//", "/"),
    ];
    for (body, written, clean) in table {
        let state = after(body, &[]);
        let got = (
            state.config.config.working_dir.as_str(),
            state.working_directory(),
        );
        assert_eq!(got, (written, clean.to_owned()), "{body}");
    }
}

#[test]
fn ports_and_volumes_are_expanded_word_for_word() {
    let state = after(
        "ENV P='3 4/udp' R=9-11\nEXPOSE $R 80 $P 443 80\nEXPOSE 7\\ 8",
        &[],
    );
    let shown: Vec<_> = state.config.history.iter().skip(1).collect();
    let shown: Vec<_> = shown.iter().map(|h| h.created_by.as_deref()).collect();
    assert_eq!(
        shown,
        [
            Some("EXPOSE [3/tcp 4/udp 9/tcp 10/tcp 11/tcp 443/tcp 80/tcp 80/tcp]"),
            Some("EXPOSE [7/tcp 8/tcp]"),
        ]
    );
    let file = parser::parse(Path::new("D"), "FROM a\nVOLUME /a $NONE").unwrap();
    let mut state = StageState::of_scratch(&manifest::Platform::host());
    let volume = state.apply(&file.stages[0].instructions[0].kind, &Given::default());
    assert_eq!(volume, Err(StageError::Volume));
}

#[test]
fn proxies_of_the_build_win() {
    let own: &[&str] = &["A=1", "http_proxy=own"];
    let table: [(&[(&str, &str)], &[&str]); 4] = [
        (&[("A", "2"), ("FOO_PROXY", "x")], own),
        (&[("HTTP_PROXY", ""), ("no_proxy", "")], own),
        (
            &[("HTTP_PROXY", "p")],
            &["A=1", "HTTP_PROXY=p", "http_proxy=p"],
        ),
        (
            &[("no_proxy", "n")],
            &["A=1", "http_proxy=own", "NO_PROXY=n", "no_proxy=n"],
        ),
    ];
    for (given, expected) in table {
        let state = after("ENV A=1 http_proxy=own", &[]);
        let given = given.iter();
        let given = given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = state.proxied_environment(&given.collect());
        let path = format!("PATH={DEFAULT_PATH}");
        let wanted: Vec<&str> = std::iter::once(path.as_str())
            .chain(expected.iter().copied())
            .collect();
        assert_eq!(environment, wanted);
    }
}
