//! Mounts and what they mean.

use super::super::expand::{self, Variables};
use super::*;

/// What a mount means, or its fault.
fn parse(text: &str) -> Result<Mount, String> {
    let flag = MountFlag::parse(text, Span::default()).map_err(|error| error.to_string())?;
    let variables = Variables::from([("X".to_owned(), "val".to_owned())]);
    Mount::parse(&flag, &|word| expand::expand(word, '\\', &variables))
        .map_err(|error| error.to_string())
}

fn mount(target: Option<&str>, kind: MountKind) -> Mount {
    Mount {
        target: target.map(str::to_owned),
        kind,
    }
}

fn bind(from: Option<&str>, source: &str, writable: bool) -> MountKind {
    MountKind::Bind {
        from: from.map(str::to_owned),
        source: source.to_owned(),
        writable,
    }
}

#[test]
fn binds_and_tmpfs() {
    let tmpfs = |size_bytes| MountKind::Tmpfs { size_bytes };
    let table = [
        ("target=/t", mount(Some("/t"), bind(None, "", false))),
        (
            "type=bind,src=a,dst=/t,rw",
            mount(Some("/t"), bind(None, "a", true)),
        ),
        (
            "destination=t,from=st,source=/x,readwrite=false",
            mount(Some("t"), bind(Some("st"), "/x", false)),
        ),
        (
            "TYPE=Bind,Target=$X/y,source=${X}",
            mount(Some("val/y"), bind(None, "val", false)),
        ),
        (
            "\"target=/a,b\",ro=0",
            mount(Some("/a,b"), bind(None, "", true)),
        ),
        ("from=,target=/t", mount(Some("/t"), bind(None, "", false))),
        ("target=", mount(Some(""), bind(None, "", false))),
        ("type=tmpfs,target=/t", mount(Some("/t"), tmpfs(0))),
        (
            "size=64m,type=tmpfs,target=/t",
            mount(Some("/t"), tmpfs(64 << 20)),
        ),
        (
            "type=tmpfs,target=/t,size=1.5 GiB",
            mount(Some("/t"), tmpfs(3 << 29)),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn caches_secrets_and_agents() {
    let cache = |id: Option<&str>, sharing, access| MountKind::Cache {
        id: id.map(str::to_owned),
        from: None,
        source: String::new(),
        sharing,
        writable: true,
        access,
    };
    let secret = |id: &str, env: Option<&str>, required, access| MountKind::Secret {
        id: id.to_owned(),
        env: env.map(str::to_owned),
        required,
        access,
    };
    let usual = Access::default();
    let mode = |mode, uid, gid| Access { mode, uid, gid };
    let ssh = |id: &str, required, access| MountKind::Ssh {
        id: id.to_owned(),
        required,
        access,
    };
    let table = [
        (
            "type=cache,target=/c",
            mount(Some("/c"), cache(None, Sharing::Shared, usual)),
        ),
        (
            "type=cache,target=/c,id=$X,sharing=LOCKED,mode=0700,uid=5,gid=6",
            mount(
                Some("/c"),
                cache(
                    Some("val"),
                    Sharing::Locked,
                    mode(Some(0o700), Some(5), Some(6)),
                ),
            ),
        ),
        (
            "type=secret,id=a/b",
            mount(Some("/run/secrets/b"), secret("a/b", None, false, usual)),
        ),
        (
            "type=secret,target=/x/tok,required",
            mount(Some("/x/tok"), secret("tok", None, true, usual)),
        ),
        (
            "required=true,type=secret,source=s,env=TOKEN",
            mount(None, secret("s", Some("TOKEN"), true, usual)),
        ),
        (
            "type=secret,id=s,env=TOKEN,target=/t,mode=444",
            mount(
                Some("/t"),
                secret("s", Some("TOKEN"), false, mode(Some(0o444), None, None)),
            ),
        ),
        ("type=ssh", mount(None, ssh("default", false, usual))),
        (
            "type=ssh,id=gh,required=0,uid=7,target=/s",
            mount(Some("/s"), ssh("gh", false, mode(None, Some(7), None))),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }
}

/// Rows of the test below.
const WRONG: &[(&str, &str)] = &[
    ("type=volume", "unsupported mount type \"volume\""),
    (
        "type=cahce,target=/x",
        "unsupported mount type \"cahce\" (did you mean cache?)",
    ),
    ("target", "invalid field 'target' must be a key=value pair"),
    ("", "invalid field '' must be a key=value pair"),
    (
        "traget=/x",
        "unexpected key 'traget' in 'traget=/x' (did you mean target?)",
    ),
    ("zzzzzz=1", "unexpected key 'zzzzzz' in 'zzzzzz=1'"),
    (
        "from=$X,target=/t",
        "'from' doesn't support variable expansion, define alias stage instead",
    ),
    (
        "target=/t,required",
        "unexpected key 'required' for mount type 'bind'",
    ),
    (
        "target=/t,size=1",
        "unexpected key 'size' for mount type 'bind'",
    ),
    (
        "type=cache,target=/t,env=X",
        "unexpected key 'env' for mount type 'cache'",
    ),
    (
        "target=/t,mode=0700",
        "mode not allowed for \"bind\" type mounts",
    ),
    (
        "type=tmpfs,target=/t,uid=1",
        "uid not allowed for \"tmpfs\" type mounts",
    ),
    (
        "type=cache,target=/t,sharing=lokced",
        "unsupported sharing value \"lokced\" (did you mean locked?)",
    ),
    (
        "target=/t,sharing=locked",
        "invalid cache sharing set for bind mount",
    ),
    ("type=cache,target=/t,mode=9", "invalid value 9 for mode"),
    ("type=cache,target=/t,uid=-1", "invalid value -1 for uid"),
    ("target=/t,ro=yes", "invalid value for ro: yes"),
    (
        "type=tmpfs,target=/t,size=many",
        "invalid value for size: many",
    ),
    (
        "type=secret",
        "invalid secret mount. one of source, target required",
    ),
    (
        "type=secret,id=a,source=b",
        "both source and id can't be set",
    ),
    (
        "type=secret,id=a,from=x",
        "secret mount should not have a from",
    ),
    (
        "type=secret,id=a,sharing=shared",
        "secret mount should not define sharing",
    ),
    ("type=ssh,source=x", "ssh does not support source"),
    (
        "target=/a\"b",
        "failed to parse csv mounts: bare \" in non-quoted field",
    ),
    (
        "\"target=/a",
        "failed to parse csv mounts: extraneous or missing \" in quoted-field",
    ),
    ("target=${X:?}${Y:?no}", "Y: no"),
];

#[test]
fn wrong_mounts_are_refused_in_buildkits_words() {
    for (text, expected) in WRONG {
        assert_eq!(parse(text), Err((*expected).to_owned()), "{text}");
    }
}

#[test]
fn sizes_parse_as_docker_reads_them() {
    let table = [
        ("0", Some(0)),
        ("512b", Some(512)),
        ("1k", Some(1024)),
        ("1KB", Some(1024)),
        ("2MiB", Some(2 << 20)),
        ("0.5g", Some(1 << 29)),
        ("1 m", Some(1 << 20)),
        ("", None),
        (".5g", None),
        ("1x", None),
        ("1kk", None),
        ("-1", None),
        ("99999999999p", None),
    ];
    for (text, expected) in table {
        assert_eq!(parse_size(text), expected, "{text}");
    }
}
