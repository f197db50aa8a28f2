//! Words and what they become.

use super::*;

/// The environment of the tables: `HOME=/srv`, `TOOL=make`, `WORD=단어`, `NULL=`, and some with characters that mean something.
fn variables() -> Variables {
    [
        ("HOME", "/srv"),
        ("TOOL", "make"),
        ("WORD", "단어"),
        ("NULL", ""),
        ("path", "/usr/lib/x.tar.gz"),
        ("two", "x  y"),
        ("stars", "a**b?c\\d"),
        ("rep", "aXbXc"),
        ("lines", "one\ntwo"),
        ("esc", "\\*/"),
        ("slash", "/tmp"),
        ("twice", "/tmp/tmp/f"),
        ("meta", "()[]{}^$.*?|\\x"),
        ("xxyy", "xxyy"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect()
}

/// Marks a row that fails.
const FAILS: &str = "\u{1}fails";

/// Quotes and escapes.
const QUOTES: &[(&str, &str)] = &[
    ("plain", "plain"),
    ("", ""),
    ("a  b", "a  b"),
    ("pl'ai'n", "plain"),
    ("pl'ain", FAILS),
    ("pl\\'ain", "pl'ain"),
    ("pl\\\\'ain", FAILS),
    ("x\\ty", "xty"),
    ("\"x\\ty\"", "x\\ty"),
    ("\"x\\\\ty\"", "x\\ty"),
    ("'x\\ty'", "x\\ty"),
    ("'x\\\\ty'", "x\\\\ty"),
    ("end\\", "end"),
    ("end\\\\", "end\\"),
    ("\"open", FAILS),
    ("\"open\\\"", FAILS),
    ("\"it's\"", "it's"),
    ("'open", FAILS),
    ("'closed\\'", "closed\\"),
    ("\"''\"", "''"),
    ("'\"x\"'", "\"x\""),
    ("'it'\"'\"'s'", "it's"),
    ("\"\"", ""),
    ("a\"\"b''c", "abc"),
    ("\"a\\\"b\"", "a\"b"),
    ("\"a\\'b\"", "a\\'b"),
    ("\"end\\", FAILS),
    ("단어", "단어"),
    ("단'어'들", "단어들"),
    ("단'어", FAILS),
    ("단\\'어", "단'어"),
    ("단\\\\'어", FAILS),
    ("단\\t어", "단t어"),
    ("\"단\\t어\"", "단\\t어"),
    ("'단\\t어", FAILS),
    ("단\\", "단"),
    ("단\\\\", "단\\"),
    ("\"단", FAILS),
    ("\"단\\\"", FAILS),
    ("'단\\'", "단\\"),
    ("a\\\nb", "a\nb"),
    ("\\a\\b", "ab"),
];

/// `$v` and `${v}`.
const PLAIN: &[(&str, &str)] = &[
    ("$", "$"),
    ("a$", "a$"),
    ("$ a", "$ a"),
    ("$.", "$."),
    ("a$.b", "a$.b"),
    ("$1", ""),
    ("a$1b", "ab"),
    ("$12b", "b"),
    ("$0x", "x"),
    ("$@x", "x"),
    ("$*x", "x"),
    ("$#x", "x"),
    ("$?x", "x"),
    ("$-x", "x"),
    ("$!x", "x"),
    ("$$HOME", "HOME"),
    ("$home.", "."),
    ("$HOME", "/srv"),
    ("a$HOME", "a/srv"),
    ("$HOME$TOOL", "/srvmake"),
    ("$HOME/x", "/srv/x"),
    ("$HOMEx", ""),
    ("a\\$HOME", "a$HOME"),
    ("a\\\\$HOME", "a\\/srv"),
    ("\"$HOME\"", "/srv"),
    ("\"a\\$HOME\"", "a$HOME"),
    ("\"a\\\\$HOME\"", "a\\/srv"),
    ("'$HOME'", "$HOME"),
    ("'\\$HOME'", "\\$HOME"),
    ("\"a'$HOME'\"", "a'/srv'"),
    ("'${HOME}'", "${HOME}"),
    ("\\${}", "${}"),
    ("\\${}aa", "${}aa"),
    ("a\\${}b", "a${}b"),
    ("${}", FAILS),
    ("a${}b", FAILS),
    ("\"${}\"", FAILS),
    ("a${no}b", "ab"),
    ("a${HOME}b", "a/srvb"),
    ("\"a${HOME}\"", "a/srv"),
    ("${HOME", FAILS),
    ("${", FAILS),
    ("a${.}", FAILS),
    ("${HOME.}", FAILS),
    ("${HOME TOOL}", FAILS),
    ("${{HOME}}", FAILS),
    ("${HOME}}", "/srv}"),
    ("${no}}", "}"),
    ("${:}", FAILS),
    ("${:-x}", FAILS),
    ("${:+x}", FAILS),
    ("$WORD", "단어"),
    ("새$WORD", "새단어"),
    ("새${WORD}들", "새단어들"),
    ("새$HOME", "새/srv"),
    ("새\\$HOME", "새$HOME"),
    ("새$1x", "새x"),
    ("새$.x", "새$.x"),
    ("$NULL", ""),
    ("${1}", ""),
    ("${@}", ""),
    ("$two", "x  y"),
    ("$단어", ""),
];

/// `:-`, `-`, `:+`, `+`, `:?`, `?` and what there is not.
const MODIFIERS: &[(&str, &str)] = &[
    ("a${no:-000}b", "a000b"),
    ("a${HOME:-000}b", "a/srvb"),
    ("a${NULL:-000}b", "a000b"),
    ("a${no-000}b", "a000b"),
    ("a${HOME-000}b", "a/srvb"),
    ("a${NULL-000}b", "ab"),
    ("${no:-}", ""),
    ("${no-}", ""),
    ("a${no:-$HOME}b", "a/srvb"),
    ("a${no:-${HOME:-y}}b", "a/srvb"),
    ("a${no:-${no2:-y}}b", "ayb"),
    ("${no:-${no2:-${no3:-deep}}}", "deep"),
    ("a${no:-\\$HOME:}b", "a$HOME:b"),
    ("a${no:-\\${HOME}z}b", "a${HOMEz}b"),
    ("${no:-x {y}", "x {y"),
    ("${no:-x ${y}", FAILS),
    ("${no:-x", FAILS),
    ("${no:-x}}", "x}"),
    ("${no:-'q}q'}", "q}q"),
    ("${no:-\"q}q\"}", "q}q"),
    ("${no:-'$HOME'}", "$HOME"),
    ("${no:-\"$HOME\"}", "/srv"),
    ("${no:-\"a\\\"b\"}", "a\"b"),
    ("${no:-a\\}b}", "a}b"),
    ("${no:-'open}", FAILS),
    ("\"${no:-a b}\"", "a b"),
    ("a${no:+${HOME}}b", "ab"),
    ("a${HOME:+${no}}b", "ab"),
    ("a${HOME:+${TOOL}}b", "amakeb"),
    ("a${NULL:+000}b", "ab"),
    ("a${no:+000}b", "ab"),
    ("a${HOME:+000}b", "a000b"),
    ("a${HOME:+${HOME}:}b", "a/srv:b"),
    ("a${HOME+000}b", "a000b"),
    ("a${NULL+000}b", "a000b"),
    ("a${no+000}b", "ab"),
    ("${HOME:?no}", "/srv"),
    ("${HOME?no}", "/srv"),
    ("${NULL?no}", ""),
    ("${NULL:?no}", FAILS),
    ("${no:?no}", FAILS),
    ("${no?no}", FAILS),
    ("${no?}", FAILS),
    ("${no:?}", FAILS),
    ("a${no:YYY}", FAILS),
    ("a${HOME:=000}b", FAILS),
    ("a${HOME=000}b", FAILS),
    ("${HOME=}", FAILS),
    ("${HOME=:x}", FAILS),
    ("${HOME:#x}", FAILS),
    ("${HOME:%x}", FAILS),
    ("${HOME:/x/y}", FAILS),
    ("${HOME:1}", FAILS),
    ("${HOME:1:2}", FAILS),
    ("${HOME^}", FAILS),
    ("${HOME,,}", FAILS),
    ("${HOME@Q}", FAILS),
    ("${!HOME}", FAILS),
    ("${HOME[0]}", FAILS),
    ("${HOME:", FAILS),
    ("새${no:-000}b", "새000b"),
    ("새${no:+${HOME}}b", "새b"),
    ("새${HOME:+${TOOL}}b", "새makeb"),
    ("새${no:-${HOME:-y}}b", "새/srvb"),
    ("새${HOME:=000}b", FAILS),
    ("${no-aaa} ${NULL-bbb} ${TOOL-ccc}", "aaa  make"),
    ("${no:-aaa} ${NULL:-bbb} ${TOOL:-ccc}", "aaa bbb make"),
    ("${no+aaa} ${NULL+bbb} ${TOOL+ccc}", " bbb ccc"),
    ("x-${TOOL}${NULL:+-$NULL}.gz", "x-make.gz"),
    ("x-${TOOL}${HOME:+-$HOME}.gz", "x-make-/srv.gz"),
];

/// `#`, `##`, `%`, `%%`, `/` and `//`.
const PATTERNS: &[(&str, &str)] = &[
    ("${path#*/}", "usr/lib/x.tar.gz"),
    ("${path##*/}", "x.tar.gz"),
    ("${path%.*}", "/usr/lib/x.tar"),
    ("${path%%.*}", "/usr/lib/x"),
    ("${path#/usr}", "/lib/x.tar.gz"),
    ("${path%.gz}", "/usr/lib/x.tar"),
    ("${path#usr}", "/usr/lib/x.tar.gz"),
    ("${path%.g}", "/usr/lib/x.tar.gz"),
    ("${path#?usr?}", "lib/x.tar.gz"),
    ("${path%???}", "/usr/lib/x.tar"),
    ("${xxyy#*x*y}", "y"),
    ("${xxyy##*x*y}", ""),
    ("${xxyy#*}", "xxyy"),
    ("${xxyy##*}", ""),
    ("${xxyy%*}", "xxyy"),
    ("${xxyy%%*}", ""),
    ("${xxyy#}", "xxyy"),
    ("${xxyy##}", "xxyy"),
    ("${xxyy%}", "xxyy"),
    ("${xxyy%%}", "xxyy"),
    ("${xxyy#$NULL}", "xxyy"),
    ("${xxyy#${no:-x}}", "xyy"),
    ("${xxyy##*x}", "yy"),
    ("${xxyy%y*}", "xxy"),
    ("${xxyy%%y*}", "xx"),
    ("${no#x}", ""),
    ("${no%%x}", ""),
    ("${meta#()[]{\\}^$.\\*\\?|\\\\}", "x"),
    ("${stars%%\\**}", "a"),
    ("${stars#a\\*\\*b\\?}", "c\\d"),
    ("${stars%\\\\d}", "a**b?c"),
    ("${stars#a'**'}", "**b?c\\d"),
    ("${path%[z]}", "/usr/lib/x.tar.gz"),
    ("${path#\\q}", FAILS),
    ("${path#\\", FAILS),
    ("${path#", FAILS),
    ("${no:-.}${xxyy%x}${no:-.}", ".xxyy."),
    ("${lines#*t}", "one\ntwo"),
    ("${lines#one}", "\ntwo"),
    ("${lines%?two}", "one\ntwo"),
    ("${path/\\//:}", ":usr/lib/x.tar.gz"),
    ("${path//\\//:}", ":usr:lib:x.tar.gz"),
    ("${path//\\//\\/}", "\\/usr\\/lib\\/x.tar.gz"),
    ("${path/l?b/Z}", "/usr/Z/x.tar.gz"),
    ("${path//t*/T}", "/usr/lib/x.T"),
    ("${path/none/Z}", "/usr/lib/x.tar.gz"),
    ("${path/usr/$TOOL}", "/make/lib/x.tar.gz"),
    ("${path/$TOOL/}", "/usr/lib/x.tar.gz"),
    ("${rep/X/-}", "a-bXc"),
    ("${rep//X/-}", "a-b-c"),
    ("${rep//X/}", "abc"),
    ("${rep//?/.}", "....."),
    ("${rep/*/all}", "all"),
    ("${rep//*/all}", "all"),
    ("${rep//b*X/-}", "aX-c"),
    ("${twice/$slash/} ${twice//$slash/}", "/tmp/f /f"),
    ("${stars/$esc/.}", "a**b?c\\d"),
    ("${stars/\\*/.} ${stars//\\*/.}", "a.*b?c\\d a..b?c\\d"),
    ("${xxyy/$NULL/w}", "wxxyy"),
    ("${xxyy//$NULL/-}", "-x-x-y-y-"),
    ("${xxyy///}", "xxyy"),
    ("${no///}", ""),
    ("${no/x/y}", ""),
    ("${NULL/*/x}", "x"),
    ("${xxyy//ww}", FAILS),
    ("${xxyy//}", FAILS),
    ("${xxyy/x}", FAILS),
    ("${xxyy/x/y", FAILS),
    ("${xxyy/\\q/y}", FAILS),
    ("${lines/e?t/-}", "one\ntwo"),
];

#[test]
fn words_expand() {
    let mut rows = 0;
    for (word, expected) in [QUOTES, PLAIN, MODIFIERS, PATTERNS].concat() {
        let got = expand(word, '\\', &variables());
        match (expected, got) {
            (FAILS, got) => assert_eq!(got.ok(), None, "{word}"),
            (expected, got) => assert_eq!(got, Ok(expected.to_owned()), "{word}"),
        }
        rows += 1;
    }
    assert!(rows > 230, "{rows}");
}

#[test]
fn the_escape_may_be_a_backquote() {
    let table = [
        ("c:\\x`$HOME\"`\"\"", "c:\\x$HOME\""),
        ("`$HOME \\$HOME", "$HOME \\/srv"),
        ("\"a`\"b\\n\"", "a\"b\\n"),
        ("end`", "end"),
    ];
    for (word, expected) in table {
        let got = expand(word, '`', &variables());
        assert_eq!(got, Ok(expected.to_owned()), "{word}");
    }
}

#[test]
fn words_split_after_expansion_but_not_in_quotes() {
    let table: [(&str, &[&str]); 10] = [
        ("a b", &["a", "b"]),
        ("  $two ", &["x", "y"]),
        ("\"$two\" z", &["x  y", "z"]),
        ("a\\ b", &["a b"]),
        ("", &[]),
        ("$NULL", &[]),
        ("a\"b c\"d", &["ab cd"]),
        ("\"\" x", &["x"]),
        ("${no:-p q}", &["p", "q"]),
        ("1$two\t2", &["1x", "y", "2"]),
    ];
    for (word, expected) in table {
        let got = expand_words(word, '\\', &variables()).unwrap();
        assert_eq!(got, expected, "{word}");
    }
}

#[test]
fn heredoc_bodies_keep_quotes() {
    let table = [
        (
            "say \"$TOOL\" '$TOOL' \\$TOOL \\\\ \\n\n",
            "say \"make\" 'make' $TOOL \\ n\n",
        ),
        ("it's \"open\n", "it's \"open\n"),
        ("${no:-'x'} ${TOOL}\n", "'x' make\n"),
        ("\\\"\n", "\"\n"),
        ("a\tb\r\n", "a\tb\r\n"),
        ("", ""),
    ];
    for (body, expected) in table {
        let got = expand_heredoc(body, &variables());
        assert_eq!(got, Ok(expected.to_owned()), "{body:?}");
    }
}

#[test]
fn what_is_not_set_is_noted() {
    let table: [(&str, &[&str]); 6] = [
        ("$HOME ${TOOL} $NULL", &[]),
        ("$no ${other}", &["no", "other"]),
        ("${no:-x} ${HOME:+$deep}", &["deep", "no"]),
        ("\\$no '$no' ${no2/$TOOL/x}", &["no2"]),
        ("$1", &["1"]),
        ("$", &[]),
    ];
    for (word, expected) in table {
        let expanded = expand_noting(word, '\\', &variables()).unwrap();
        let unknown: Vec<&str> = expanded.unknown.iter().map(String::as_str).collect();
        assert_eq!(unknown, expected, "{word}");
    }
}

#[test]
fn faults_are_named() {
    let table = [
        (
            "'a",
            "failed to process \"'a\": unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"a",
            "failed to process \"\\\"a\": unexpected end of statement while looking for matching double-quote",
        ),
        (
            "${a",
            "failed to process \"${a\": syntax error: missing '}'",
        ),
        ("${", "failed to process \"${\": syntax error: missing '}'"),
        (
            "${HOME/x}",
            "failed to process \"${HOME/x}\": syntax error: missing '/' in ${}",
        ),
        (
            "${}",
            "failed to process \"${}\": syntax error: bad substitution",
        ),
        ("${a:=x}", "unsupported modifier (:=) in substitution"),
        ("${a:#x}", "unsupported modifier (:#) in substitution"),
        ("${a=x}", "unsupported modifier (=) in substitution"),
        ("${.}", "unsupported modifier (.) in substitution"),
        ("${none:?}", "none: is not allowed to be unset"),
        ("${NULL:?}", "NULL: is not allowed to be empty"),
        ("${none?give $TOOL}", "none: give make"),
        (
            "${a#\\q}",
            "invalid pattern (\\q) in substitution: invalid escape '\\q'",
        ),
    ];
    for (word, expected) in table {
        let got = expand(word, '\\', &variables()).unwrap_err();
        assert_eq!(got.to_string(), expected, "{word}");
    }
}

#[test]
fn hostile_words_end_in_an_error() {
    let deep = expand(&"${n:-".repeat(100_000), '\\', &variables());
    assert_eq!(
        deep,
        Err(ExpandError::TooDeep(format!("{}…", "${n:-".repeat(40))))
    );
    let long = Variables::from([("a".to_owned(), "x".repeat(1 << 20))]);
    for (word, how) in [
        ("$a$a$a$a$a$a$a$a$a", "plain"),
        ("\"$a$a$a$a$a$a$a$a$a\"", "quoted"),
    ] {
        let got = expand(word, '\\', &long).unwrap_err();
        assert_eq!(got, ExpandError::TooLong(word.to_owned()), "{how}");
    }
    expand("${a//a*b/}", '\\', &long).unwrap_err();
    let many = Variables::from([("a".to_owned(), "x".repeat(1000))]);
    let stars = format!("${{a##{}y}}", "*x".repeat(2000));
    assert_eq!(expand(&stars, '\\', &many).unwrap().len(), 1000);
}
