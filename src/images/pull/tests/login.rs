//! Secrets of registries: who gets them, who does not, and what comes of them.

use super::*;

#[test]
fn credentials_go_to_their_host_alone() {
    let served = Served::new();
    let answers = served.clone();
    let elsewhere = Server::start(move |asked, _| answers.answer(asked));
    let (answers, other) = (served.clone(), elsewhere.host.clone());
    let server = Server::start(move |asked, _| {
        let authorization = asked.headers.get("authorization").map(String::as_str);
        if asked.path.starts_with("/token?") {
            // base64 of u:p
            return match authorization {
                Some("Basic dTpw") => Reply::ok(br#"{"token":"good"}"#),
                _ => Reply::status(401),
            };
        }
        if authorization != Some("Bearer good") {
            let host = &asked.headers["host"];
            let challenge = format!(
                r#"Bearer realm="http://{host}/token",service="s",scope="repository:a/b:pull""#
            );
            return Reply::status(401).header("www-authenticate", &challenge);
        }
        if asked.path.contains("/blobs/") {
            Reply::status(307).header("location", &format!("http://{other}{}", asked.path))
        } else {
            answers.answer(asked)
        }
    });
    let fixture = fixture();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    fs_err::write(fixture.root.path().join("config.json"), text).unwrap();
    fixture.pull(&server.reference()).unwrap();
    let tokens: Vec<_> = server
        .asked("/token")
        .into_iter()
        .map(|asked| asked.path)
        .collect();
    assert_eq!(tokens, ["/token?service=s&scope=repository%3Aa%2Fb%3Apull"]);
    let blobs = elsewhere.asked("/blobs/");
    assert_eq!(blobs.len(), 3);
    assert!(
        blobs
            .iter()
            .all(|asked| !asked.headers.contains_key("authorization"))
    );

    // Without them the registry says what it says to anyone.
    fs_err::remove_file(fixture.root.path().join("config.json")).unwrap();
    let error = fixture
        .pull(&server.reference())
        .unwrap_err()
        .replace(&server.host, "HOST");
    assert_eq!(
        error,
        "pull image `HOST/a/b:v1`: access to `a/b` at HOST denied: it does not exist or may require login"
    );
}

#[test]
fn a_challenge_from_behind_a_redirect_is_not_met() {
    let thief = Server::start(|asked, _| {
        let realm = format!("http://{}/token", asked.headers["host"]);
        let challenge = format!(r#"Bearer realm="{realm}",service="s""#);
        Reply::status(401)
            .header("www-authenticate", &challenge)
            .header("www-authenticate", "Basic realm=\"x\"")
    });
    let (answers, other) = (Served::new(), thief.host.clone());
    let server = Server::start(move |asked, _| {
        if asked.path.contains("/blobs/") {
            Reply::status(307).header("location", &format!("http://{other}/blob"))
        } else {
            answers.answer(asked)
        }
    });
    let fixture = fixture();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    fs_err::write(fixture.at("config.json"), text).unwrap();
    let error = fixture.pull(&server.reference()).unwrap_err();
    let error = error
        .replace(&server.host, "HOST")
        .replace(&thief.host, "OTHER");
    assert_eq!(
        error,
        "pull image `HOST/a/b:v1`: access to `a/b` at HOST denied: it does not exist or may require login \
         (OTHER says so, where it redirects to)"
    );
    let asked: Vec<_> = thief.asked("").into_iter().map(|a| a.path).collect();
    assert_eq!(asked, ["/blob"], "no token was asked for");
    let secrets = [thief.asked(""), server.asked("")].concat();
    assert!(
        secrets
            .iter()
            .all(|asked| !asked.headers.contains_key("authorization"))
    );
}

#[test]
fn a_token_server_may_have_moved() {
    let new = Server::start(|asked, _| match asked.headers.get("authorization") {
        None => Reply::ok(br#"{"token":"good"}"#),
        Some(_) => Reply::status(400),
    });
    let (answers, other) = (Served::new(), new.host.clone());
    let server = Server::start(move |asked, _| {
        let host = &asked.headers["host"];
        match asked.path.split('?').next().unwrap() {
            "/token" => Reply::status(307).header("location", "/here"),
            "/here" if asked.headers["authorization"] == "Basic dTpw" => {
                Reply::status(302).header("location", &format!("http://{other}/there"))
            }
            _ if asked
                .headers
                .get("authorization")
                .is_some_and(|a| a == "Bearer good") =>
            {
                answers.answer(asked)
            }
            _ => Reply::status(401).header(
                "www-authenticate",
                &format!("Bearer realm=\"http://{host}/token\""),
            ),
        }
    });
    let fixture = fixture();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    fs_err::write(fixture.at("config.json"), text).unwrap();
    fixture.pull(&server.reference()).unwrap();
    assert_eq!(
        (server.asked("/here").len(), new.asked("/there").len()),
        (1, 1)
    );

    // A refresh token is not sent after it.
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"t"}}}}}}"#,
        server.host
    );
    fs_err::write(fixture.at("config.json"), text).unwrap();
    let other = new.host.clone();
    let server = Server::start(move |asked, _| {
        if asked.path == "/token" {
            return Reply::status(307).header("location", &format!("http://{other}/secret?k=1"));
        }
        let challenge = format!("Bearer realm=\"http://{}/token\"", asked.headers["host"]);
        Reply::status(401).header("www-authenticate", &challenge)
    });
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"t"}}}}}}"#,
        server.host
    );
    fs_err::write(fixture.at("config.json"), text).unwrap();
    let error = fixture.pull(&server.reference()).unwrap_err();
    let error = error
        .replace(&server.host, "HOST")
        .replace(&new.host, "OTHER");
    assert_eq!(
        error,
        "pull image `HOST/a/b:v1`: HOST redirects to `http://OTHER/secret`, which is refused: \
         a secret would go to another host"
    );
    assert_eq!(new.asked("/secret").len(), 0);
}

#[test]
fn identity_tokens_and_expired_tokens_are_exchanged() {
    let served = Served::new();
    let answers = served.clone();
    let server = Server::start(move |asked, before| {
        let host = &asked.headers["host"];
        if asked.path == "/token" {
            let form = String::from_utf8(asked.body.clone()).unwrap();
            assert_eq!(
                (asked.method.as_str(), form.as_str()),
                (
                    "POST",
                    "service=s&scope=repository%3Aa%2Fb%3Apull&grant_type=refresh_token&client_id=stack&refresh_token=it"
                )
            );
            return Reply::ok(format!(r#"{{"access_token":"t{before}"}}"#).as_bytes());
        }
        // Each token is good until the configuration is asked for with the first.
        let blob = asked.path.contains("/blobs/");
        let good = if blob { "Bearer t1" } else { "Bearer t0" };
        if asked.headers.get("authorization").map(String::as_str) == Some(good) {
            return answers.answer(asked);
        }
        let challenge = format!(
            r#"Bearer realm="http://{host}/token",service="s",scope="repository:a/b:pull",error="invalid_token""#
        );
        Reply::status(401).header("www-authenticate", &challenge)
    });
    let fixture = fixture();
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"it"}}}}}}"#,
        server.host
    );
    fs_err::write(fixture.at("config.json"), text).unwrap();
    fixture.pull(&server.reference()).unwrap();
    assert_eq!(server.asked("/token").len(), 2);
}

#[test]
fn a_token_server_that_is_down_is_not_asked_for_each_try_of_the_registry() {
    let server = Server::start(move |asked, _| {
        if asked.path.starts_with("/token") {
            return Reply {
                cut: Some(0),
                ..Reply::ok(b"{}")
            };
        }
        let challenge = format!("Bearer realm=\"http://{}/token\"", asked.headers["host"]);
        Reply::status(401).header("www-authenticate", &challenge)
    });
    let fixture = fixture();
    let error = fixture.pull(&server.reference()).unwrap_err();
    let error = error.replace(&server.host, "HOST");
    assert!(
        error.starts_with("pull image `HOST/a/b:v1`: get a token from `HOST`: "),
        "{error}"
    );
    assert_eq!(server.asked("/token").len(), 4);
    assert_eq!(server.asked("/v2/").len(), 1);
}
