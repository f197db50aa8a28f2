//! Lists of tags.

use super::*;

#[test]
fn tags_that_never_end_are_an_error() {
    let server = Server::start(|asked, _| {
        let next = |page: &str| format!("</v2/{page}>; rel=\"next\"");
        let page = Reply::ok(br#"{"tags":["one"]}"#);
        if asked.path.starts_with("/v2/a/b/") {
            page.header("link", &next("a/b/tags/list?n=1"))
        } else {
            let link = next(&format!(
                "{}x",
                asked
                    .path
                    .trim_start_matches("/v2/")
                    .replace("list", "list?n=1")
                    .replace("?n=1?n=1", "?n=1")
            ));
            page.header("link", &link)
        }
    });
    let fixture = fixture();
    for (repository, expected) in [
        ("a/b", "its pages lead back to one that was read"),
        ("endless", "it has more than 1000 pages"),
    ] {
        let reference = Reference::parse(&format!("{}/{repository}", server.host)).unwrap();
        let error = block_on(fixture.images.remote_tags(&reference)).unwrap_err();
        let shown = chain(&error);
        assert!(
            shown.ends_with(&format!(
                "read the list of tags from {}: {expected}",
                server.host
            )),
            "{shown}"
        );
    }
}

#[test]
fn tags_come_by_the_page() {
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/v2/a/b/tags/list" => Reply::ok(br#"{"name":"a/b","tags":["one","two"]}"#)
            .header("link", "</v2/a/b/tags/list?n=2&last=two>; rel=\"next\""),
        "/v2/a/b/tags/list?n=2&last=two" => Reply::ok(br#"{"tags":["three"]}"#),
        _ => Reply::ok(br#"{"tags":null}"#),
    });
    let fixture = fixture();
    let tags = |reference: &Reference| block_on(fixture.images.remote_tags(reference)).unwrap();
    assert_eq!(tags(&server.reference()), ["one", "two", "three"]);
    let none = Reference::parse(&format!("{}/none", server.host)).unwrap();
    assert_eq!(tags(&none), Vec::<String>::new());
}
