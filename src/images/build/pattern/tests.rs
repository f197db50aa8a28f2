//! Patterns and what they match.

use super::*;

/// What a pattern does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hit {
    /// It matches the path itself.
    Itself,
    /// It matches a parent.
    Parent,
    /// Neither.
    No,
}

use Hit::{Itself, No, Parent};

/// Single patterns of ignore rules.
const SINGLE: &[(&str, &str, Hit)] = &[
    ("**", "file", Itself),
    ("**/", "file", Itself),
    ("**", "dir/file", Itself),
    ("**/", "dir/file", Itself),
    ("**/**", "dir/file", Itself),
    ("**/**", "file", Itself),
    ("dir/**", "dir/file", Itself),
    ("dir/**", "dir/sub/file", Itself),
    ("dir/**", "dir", No),
    ("dir/**", "dirx/file", No),
    ("dir**", "dirx/file", Itself),
    ("**/dir", "dir", Itself),
    ("**/dir", "dir/file", Parent),
    ("**/dir", "a/b/dir", Itself),
    ("**/dir", "xdir", No),
    ("**/sub/*", "dir/sub/file", Itself),
    ("**/sub/*", "sub/file", Itself),
    ("**/sub/*", "dir/sub/a/b", Parent),
    ("**/sub/**", "dir/sub/a/file", Itself),
    ("**file", "file", Itself),
    ("**file", "dir/file", Itself),
    ("**file", "dir/xfile", Itself),
    ("**/file", "dir/file", Itself),
    ("**/file", "dir/xfile", No),
    ("**file", "dir/dir/file", Itself),
    ("**file*", "xfile", No),
    ("**file*", "a/filex", Itself),
    ("**/file*", "dir/dir/file", Itself),
    ("**/file*", "dir/dir/file.txt", Itself),
    ("**/file*txt", "dir/dir/file.txt", Itself),
    ("**/file*.txt", "dir/dir/file.txt", Itself),
    ("**/file*.txt*", "dir/dir/file.txt", Itself),
    ("**/**/*.txt", "dir/dir/file.txt", Itself),
    ("**/**/*.md", "dir/dir/file.txt", No),
    ("**/*.txt", "file.txt", Itself),
    ("**/**/*.txt", "file.txt", Itself),
    ("a**/*.txt", "a/file.txt", Itself),
    ("a**/*.txt", "a/dir/file.txt", Itself),
    ("a**/*.txt", "a/dir/dir/file.txt", Itself),
    ("a/*.txt", "a/dir/file.txt", No),
    ("a/*.txt", "a/file.txt", Itself),
    ("a/*.txt**", "a/file.txt", Itself),
    ("a/**/z", "a/z", Itself),
    ("a/**/z", "a/b/c/z", Itself),
    ("a/**/z", "a/bz", No),
    ("a[b-d]e", "ae", No),
    ("a[b-d]e", "ace", Itself),
    ("a[b-d]e", "aae", No),
    ("a[^b-d]e", "aze", Itself),
    ("a[!b]e", "abe", Itself),
    ("a[!b]e", "a!e", Itself),
    ("a[!b]e", "ace", No),
    (".*", ".foo", Itself),
    (".*", "foo", No),
    ("abc.def", "abcdef", No),
    ("abc.def", "abc.def", Itself),
    ("abc.def", "abcZdef", No),
    ("abc?def", "abcZdef", Itself),
    ("abc?def", "abc/def", No),
    ("abc?def", "abcdef", No),
    ("a?b", "a☺b", Itself),
    ("a??b", "a☺b", No),
    ("a[α-ω]b", "aλb", Itself),
    ("**/foo/bar", "foo/bar", Itself),
    ("**/foo/bar", "dir/foo/bar", Itself),
    ("**/foo/bar", "dir/sub/foo/bar", Itself),
    ("abc/**", "abc", No),
    ("abc/**", "abc/def/ghi", Itself),
    ("**/.foo", ".foo", Itself),
    ("**/.foo", "bar.foo", No),
    ("a(b)c/def", "a(b)c/def", Itself),
    ("a(b)c/def", "a(b)c/xyz", No),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", Itself),
    ("{a,b}", "{a,b}", Itself),
    ("{a,b}", "a", No),
    (
        "dist/*.whl",
        "dist/p-2.4.0rc3.dev36+g08-py3-none-any.whl",
        Itself,
    ),
    ("a\\*b", "a*b", Itself),
    ("a\\*b", "axb", No),
    ("a\\\\", "a\\", Itself),
    ("\\a", "a", Itself),
    ("node_modules", "a/node_modules", No),
    ("node_modules", "node_modules/x", Parent),
    ("docs/", "docs/x", Parent),
    ("./docs/../a//b", "a/b", Itself),
    ("/a/../b/", "b/c", Parent),
    ("/", "a", No),
    (".", "a", No),
    ("../a", "a", No),
    ("/../a", "a", Itself),
    ("*", "a/b", Parent),
    ("*", ".a", Itself),
];

/// `filepath.Match`: pattern, text, whether it matches; `None` where the pattern is wrong.
const GO: &[(&str, &str, Option<bool>)] = &[
    ("abc", "abc", Some(true)),
    ("*", "abc", Some(true)),
    ("*c", "abc", Some(true)),
    ("a*", "a", Some(true)),
    ("a*", "abc", Some(true)),
    ("a*", "ab/c", Some(false)),
    ("a*/b", "abc/b", Some(true)),
    ("a*/b", "a/c/b", Some(false)),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Some(false)),
    ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
    ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
    ("ab[c]", "abc", Some(true)),
    ("ab[b-d]", "abc", Some(true)),
    ("ab[e-g]", "abc", Some(false)),
    ("ab[^c]", "abc", Some(false)),
    ("ab[^b-d]", "abc", Some(false)),
    ("ab[^e-g]", "abc", Some(true)),
    ("a\\*b", "a*b", Some(true)),
    ("a\\*b", "ab", Some(false)),
    ("a?b", "a☺b", Some(true)),
    ("a[^a]b", "a☺b", Some(true)),
    ("a???b", "a☺b", Some(false)),
    ("a[^a][^a][^a]b", "a☺b", Some(false)),
    ("[a-ζ]*", "α", Some(true)),
    ("*[a-ζ]", "A", Some(false)),
    ("a?b", "a/b", Some(false)),
    ("a*b", "a/b", Some(false)),
    ("[\\]a]", "]", Some(true)),
    ("[\\-]", "-", Some(true)),
    ("[x\\-]", "x", Some(true)),
    ("[x\\-]", "-", Some(true)),
    ("[x\\-]", "z", Some(false)),
    ("[\\-x]", "x", Some(true)),
    ("[\\-x]", "-", Some(true)),
    ("[\\-x]", "a", Some(false)),
    ("**", "a/b", Some(false)),
    ("a/**", "a/b", Some(true)),
    ("*x", "xxx", Some(true)),
    ("[]a]", "]", None),
    ("[-]", "-", None),
    ("[x-]", "x", None),
    ("[-x]", "x", None),
    ("\\", "a", None),
    ("[a-b-c]", "a", None),
    ("[", "a", None),
    ("[^", "a", None),
    ("[^bc", "a", None),
    ("a[", "a", None),
];

#[test]
fn single_patterns() {
    for (pattern, path, expected) in SINGLE {
        let rules = IgnoreRules::parse(pattern).unwrap();
        let itself = rules.judge(OsStr::new(path), &Matched::default()).ignored;
        let all = rules.judge_all(path).ignored;
        let got = match (itself, all) {
            (true, _) => Itself,
            (false, true) => Parent,
            (false, false) => No,
        };
        assert_eq!(got, *expected, "{pattern} {path}");
    }
}

#[test]
fn wildcards_of_sources() {
    for (pattern, text, expected) in GO {
        let compiled = Pattern::compile(pattern, Depth::Flat);
        let got = compiled.ok().map(|p| p.matches(OsStr::new(text)));
        assert_eq!(got, *expected, "{pattern} {text}");
    }
    let table = [
        ("a*", true),
        ("a\\*", false),
        ("\\\\*", true),
        ("[x]", true),
        ("a?", true),
        ("plain", false),
        ("a]", false),
    ];
    for (text, expected) in table {
        assert_eq!(is_wildcard(text), expected, "{text}");
    }
}

#[test]
fn ignore_rules_decide() {
    let table: [(&str, &[&str], &[&str]); 20] = [
        ("*.md\n!README.md", &["a.md"], &["README.md", "d/a.md"]),
        ("!README.md\n*.md", &["README.md"], &[]),
        ("a\n!a/b", &["a", "a/c"], &["a/b", "a/b/c"]),
        ("a/*\n!a/b", &["a/c", "a/c/d"], &["a", "a/b", "a/b/c"]),
        ("*\n!a/b/c", &["z", "a", "a/b", "a/b/d"], &["a/b/c"]),
        ("**\n!u/d/w", &["u", "u/d"], &["u/d/w", "u/d/w/foo"]),
        ("**\n!u/d/w\nu/d/w/foo", &["u/d/w/foo"], &["u/d/w/bar"]),
        ("**\n!d/*.whl", &["d", "d/a"], &["d/p+q.whl"]),
        ("# c\n #x", &["#x"], &["# c", "c"]),
        ("\u{feff}# c\nd", &["d"], &["# c"]),
        ("  docs  \n\t! docs/a \n", &["docs/b"], &["docs/a"]),
        ("a b", &["a b"], &["a", "b"]),
        ("a\r\nb\r\n", &["a", "b"], &[]),
        ("\n\n  \n", &[], &["a"]),
        ("", &[], &["a"]),
        ("!a\na", &["a"], &[]),
        ("!/a\n/b", &["b"], &["a", "b2"]),
        ("*\n!/a", &["b"], &["a"]),
        ("a/b/../c", &["a/c"], &["a/b"]),
        ("../a\n./b", &["b"], &["a"]),
    ];
    for (text, yes, no) in table {
        let rules = IgnoreRules::parse(text).unwrap();
        for path in yes {
            assert!(rules.judge_all(path).ignored, "{text:?} ignores {path}");
        }
        for path in no {
            assert!(!rules.judge_all(path).ignored, "{text:?} keeps {path}");
        }
    }
    for wrong in ["!", "a\n!  "] {
        assert_eq!(IgnoreRules::parse(wrong), Err(PatternError::EmptyExclusion));
    }
    for wrong in ["[a", "a\\", "x[]", "[z-"] {
        let syntax = PatternError::Syntax(wrong.to_owned());
        assert_eq!(IgnoreRules::parse(wrong), Err(syntax), "{wrong}");
    }
    // `--exclude` has no root to be relative to.
    let excludes = IgnoreRules::of(["/a", "b"]).unwrap();
    assert!(!excludes.judge_all("a").ignored && excludes.judge_all("b").ignored);
}

#[test]
fn an_ignored_directory_is_walked_only_for_what_may_be_kept() {
    let rules = IgnoreRules::parse("*\n!a/b/c\n!lib*\n!*/deep").unwrap();
    for (path, expected) in [("a", true), ("a/b", true), ("libx", true), ("z", true)] {
        assert_eq!(rules.may_keep_below(OsStr::new(path)), expected, "{path}");
    }
    let rules = IgnoreRules::parse("*\n!a/b/c\n!lib*").unwrap();
    for (path, expected) in [("a", true), ("a/x", false), ("z", false), ("libx", true)] {
        assert_eq!(rules.may_keep_below(OsStr::new(path)), expected, "{path}");
    }
}

#[test]
fn what_is_left_out_for_certain() {
    let table = [
        ("Dockerfile", "Dockerfile", true),
        ("Dockerfile", "other", false),
        ("**\n!Dockerfile", "Dockerfile", false),
        ("**\n!Dockerfile", "", false),
        (".*", "", false),
        ("*", "", true),
        ("sub\n!sub/b.txt", "sub/a.txt", true),
        ("sub\n!other.txt", "sub/a.txt", true),
        ("!sub/b.txt\nsub", "sub/a.txt", true),
        ("sub\n!sub/a.txt", "sub", false),
        ("sub\n!sub/a.txt", "", false),
        ("sub\n!sub/a.txt", "sub/a.txt", false),
        ("sub\n!sub/a.txt", "sub/*.txt", false),
        ("sub\n!other", "sub/*.txt", true),
        ("sub\n!*/keep", "sub", false),
        ("su.b\n!su\\.b/keep.txt", "su.b", false),
        ("", "a", false),
    ];
    for (text, source, expected) in table {
        let rules = IgnoreRules::parse(text).unwrap();
        assert_eq!(rules.leaves_out(source), expected, "{text:?} {source}");
    }
}

#[test]
fn a_hostile_pattern_ends() {
    let pattern = Pattern::compile(&"*a".repeat(2000), Depth::Deep).unwrap();
    assert!(!pattern.matches(OsStr::new(&"a".repeat(1900))));
    assert!(pattern.matches(OsStr::new(&"a".repeat(2100))));
    let invalid = OsStr::from_bytes(b"a\xff\xfeb");
    assert!(
        Pattern::compile("a??b", Depth::Flat)
            .unwrap()
            .matches(invalid)
    );
}
