use super::*;

const DOCUMENT: &str = r#"{"Id":"sha256:0123456789abcdef","Size":1982299,"Big":1e30,"Ok":true,"None":null,
    "Config":{"Env":["PATH=/bin","A=b c"],"Cmd":["sh","-c"],"Entrypoint":null,"Labels":{"b":"2","a":"1"},"Volumes":null},
    "State":{"Status":"running","Running":true,"Pid":12},"Mounts":[{"Type":"bind","Source":"/s"},{"Type":"volume","Source":"/v"}],
    "Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"53/udp":null}}"#;

fn render(text: &str) -> String {
    let value: Value = serde_json::from_str(DOCUMENT).unwrap();
    match Template::parse(text).and_then(|template| template.render(&value)) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

#[test]
fn renders_what_people_write() {
    for (text, expected) in [
        ("{{.Id}}", "sha256:0123456789abcdef"),
        (
            "{{ .Size }} {{.Ok}} {{.None}} {{.Big}}",
            "1982299 true <nil> 1e+30",
        ),
        ("{{.Config.Env}}", "[PATH=/bin A=b c]"),
        (
            "{{.Config.Labels}} {{.Config.Volumes}} {{.Config.Entrypoint}}",
            "map[a:1 b:2] map[] []",
        ),
        ("{{.State}}", "{running true 12}"),
        (
            "{{json .State}}",
            r#"{"Status":"running","Running":true,"Pid":12}"#,
        ),
        ("{{json .Config.Entrypoint}}", "null"),
        (
            "{{index .Config.Labels \"a\"}}{{index .Config.Labels \"none\"}}.",
            "1.",
        ),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{index .Config.Env 1}}", "A=b c"),
        ("{{(index .Mounts 0).Source}}", "/s"),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        (
            "{{range .Config.Env}}{{println .}}{{end}}",
            "PATH=/bin\nA=b c\n",
        ),
        (
            "{{range $i, $e := .Config.Cmd}}{{if $i}},{{end}}{{$i}}={{$e}}{{end}}",
            "0=sh,1=-c",
        ),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}};{{end}}",
            "a:1;b:2;",
        ),
        ("{{range .Config.Entrypoint}}x{{else}}none{{end}}", "none"),
        (
            "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Source}}{{break}}{{end}}{{continue}}x{{end}}",
            "/v",
        ),
        (
            "{{range $p, $c := .Ports}}{{$p}} -> {{with $c}}{{(index . 0).HostPort}}{{else}}no{{end}}\n{{end}}",
            "53/udp -> no\n80/tcp -> 8080\n",
        ),
        (
            "{{join .Config.Env \"|\"}} {{.Id | printf \"%.10s\"}} {{upper .State.Status}}",
            "PATH=/bin|A=b c sha256:012 RUNNING",
        ),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn decides_computes_and_formats() {
    for (text, expected) in [
        (
            "{{if and .Ok (not .None) (or .None .Size)}}yes{{else if .Ok}}no{{end}}",
            "yes",
        ),
        (
            "{{if .None}}a{{else if eq .State.Pid 1 12}}b{{else}}c{{end}}",
            "b",
        ),
        (
            "{{with $x := .State}}{{$x.Pid}} {{.Pid}} {{$.Size}}{{end}}",
            "12 12 1982299",
        ),
        (
            "{{$n := 0}}{{range .Mounts}}{{$n = len .Type}}{{end}}{{$n}}",
            "6",
        ),
        ("a  {{- /* note */ -}}  b {{- \" c\" }}", "ab c"),
        (
            "{{len .Config.Env}} {{len .Id}} {{slice .Id 0 6}} {{truncate .Id 3}}",
            "2 23 sha256 sha",
        ),
        (
            "{{split .Id \":\"}} {{title \"a bc\"}} {{lower \"AB\"}} [{{pad \"x\" 1 2}}]",
            "[sha256 0123456789abcdef] A Bc ab [ x  ]",
        ),
        (
            "{{printf \"%5d|%-5s|%05d|%q|%v|%x|%.2f|%t|%%\" 42 \"ab\" -7 \"a\\\"b\" .Config.Cmd 255 1.5 .Ok}}",
            "   42|ab   |-0007|\"a\\\"b\"|[sh -c]|ff|1.50|true|%",
        ),
        (
            "{{printf \"%d %s\" \"x\"}}{{printf \"\" 1}}",
            "%!d(string=x) %!s(MISSING)%!(EXTRA int=1)",
        ),
        (
            "{{print 1 2 \"a\" 3}} {{html \"<a>\"}} {{urlquery \"a b&\"}} {{js \"'\"}}",
            "1 2a3 &lt;a&gt; a+b%26 \\'",
        ),
        (
            "{{lt 1 2}}{{ge 2 3}}{{ne \"a\" \"b\"}}{{gt \"b\" \"a\"}}{{le 1.5 2}}",
            "truefalsetruetruetrue",
        ),
        (
            "{{`raw \\n`}} {{'a'}} {{0x1f}} {{-3}} {{1e3}}",
            "raw \\n 97 31 -3 1000",
        ),
        (
            "{{.}}",
            "{sha256:0123456789abcdef 1982299 1e+30 true <nil> {[PATH=/bin A=b c] [sh -c] [] map[a:1 b:2] map[]} {running true 12} [{bind /s} {volume /v}] map[53/udp:<nil> 80/tcp:[{0.0.0.0 8080}]]}",
        ),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn says_what_is_wrong_and_where() {
    for (text, expected) in [
        (
            "{{.Nope}}",
            "1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        ),
        (
            "a\n{{.State.Pid.X}}",
            "2:2: executing \"\" at <.State.Pid.X>: can't evaluate field X in a value that is no object",
        ),
        (
            "{{.None.X}}",
            "1:2: executing \"\" at <.None.X>: nil pointer evaluating interface {}.X",
        ),
        ("{{nope .}}", "1:2: function \"nope\" not defined"),
        ("{{.Id", "1:2: unclosed action"),
        ("{{if .Id}}", "1:10: unexpected EOF"),
        ("{{end}}", "1:2: unexpected {{end}}"),
        ("{{else}}", "1:2: unexpected {{else}}"),
        ("{{}}", "1:2: missing value for command"),
        ("{{.Id | }}", "1:2: missing value for command"),
        ("{{(.Id}}", "1:3: unclosed left paren"),
        ("{{$x}}", "1:2: undefined variable \"$x\""),
        ("{{break}}", "1:2: {{break}} outside {{range}}"),
        ("{{\"a}}", "1:2: unterminated quoted string"),
        (
            "{{.Id .Size}}",
            "1:2: can't give argument to non-function .Id",
        ),
        ("{{template \"x\"}}", "1:2: `template` is not supported"),
        (
            "{{index .Config.Env 7}}",
            "1:2: executing \"\" at <index>: error calling index: index out of range: 7",
        ),
        (
            "{{eq 1 \"a\"}}",
            "1:2: executing \"\" at <eq>: error calling eq: incompatible types for comparison",
        ),
        (
            "{{range .Size | print}}{{end}}",
            "1:8: range can't iterate over 1982299",
        ),
        ("{{é%}}", "1:4: unexpected '%' in command"),
    ] {
        assert_eq!(
            render(text),
            format!("template parsing error: template: :{expected}"),
            "{text}"
        );
    }
    for deep in [
        "{{".to_owned() + &"(".repeat(10_000) + "}}",
        "{{if 1}}".repeat(10_000),
    ] {
        assert!(render(&deep).ends_with("too deeply"));
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "[{}.$|()a-z:= \"'`*/0-9-]{0,40}") {
        render(&text);
        render(&format!("{{{{{text}}}}}"));
    }
}
