//! Logging in: a secret is shown to the registry, and kept if that takes it.

use super::auth::{Challenge, CredentialsError, Secret, parse_challenges};
use super::client::{Client, Place, Wanted, passing, read_all};
use super::config::Security;
pub use super::docker_config::Kept;
use super::error::RegistryError;
use super::transport::{Response, Transport, TransportError, host_of};
use super::{ClientEnvironment, docker_config};

/// Shows a secret to a registry (`GET /v2/`), and keeps it for later commands: as an identity token, if the registry gives one.
pub async fn login(
    transport: &dyn Transport,
    environment: &ClientEnvironment,
    host: &str,
    secret: &Secret,
) -> Result<Kept, RegistryError> {
    let client = Client::new(transport, environment)?;
    let identity = client.check(host, secret).await?;
    let kept = match identity {
        Some(token) => docker_config::keep(environment, host, &Secret::Identity(token)),
        None => docker_config::keep(environment, host, secret),
    };
    Ok(kept?)
}

/// Forgets the secret of a registry; returns whether there was one.
pub fn logout(environment: &ClientEnvironment, host: &str) -> Result<bool, CredentialsError> {
    docker_config::forget(environment, host)
}

/// Returns the name that is kept for a registry, to offer it at the next login.
pub fn user_of(environment: &ClientEnvironment, host: &str) -> Option<String> {
    let credentials = super::auth::Credentials::read(environment).ok()?;
    match credentials.of_host(host).ok()?? {
        Secret::Password { user, .. } => Some(user),
        Secret::Identity(_) | Secret::Bearer(_) => None,
    }
}

impl Client<'_> {
    /// Returns the identity token that stands for the secret, if the registry gives one.
    async fn check(&self, host: &str, secret: &Secret) -> Result<Option<String>, RegistryError> {
        let endpoint = self.config.of_host(host)?;
        let schemes: &[bool] = match endpoint.security {
            Security::Https | Security::AnyCertificate => &[false],
            Security::Http => &[true],
            Security::Insecure => &[false, true],
        };
        let mut result = self
            .version(&endpoint, *schemes.first().unwrap_or(&false), None)
            .await;
        let mut plain = false;
        if schemes.len() > 1
            && let Err(RegistryError::Transport(TransportError::Connect { .. })) = result
        {
            plain = true;
            result = self.version(&endpoint, true, None).await;
        }
        plain |= endpoint.security == Security::Http;
        let response = result?;
        let refused = |message: String| RegistryError::Login {
            host: endpoint.host.clone(),
            message,
        };
        if response.status != 401 {
            // It asks nobody: any secret is as good as none.
            return match response.status {
                200..300 => Ok(None),
                status => Err(refused(format!("it answered {status}"))),
            };
        }
        let headers = response.headers.iter();
        let headers = headers.filter(|(name, _)| name == "www-authenticate");
        let challenge = parse_challenges(headers.map(|(_, value)| value.as_str()));
        let challenge =
            challenge.ok_or_else(|| refused("it asks for no known proof".to_owned()))?;
        if challenge == Challenge::Basic && secret.basic().is_none() {
            return Err(refused("it takes names and passwords only".to_owned()));
        }
        let granted = self
            .grant(&endpoint, (&challenge, plain), Some(secret), (&[], true))
            .await
            .map_err(|error| match error {
                RegistryError::Denied { message, .. } => refused(format!(
                    "unauthorized: incorrect username or password{message}"
                )),
                other => other,
            })?;
        let identity = granted.identity.clone();
        let header = granted.into_header();
        let mut response = self.version(&endpoint, plain, Some(header)).await?;
        let status = response.status;
        let _said = read_all(&mut *response.body, 1 << 16).await;
        match status {
            200..300 => Ok(identity),
            401 | 403 => Err(refused(
                "unauthorized: incorrect username or password".to_owned(),
            )),
            status => Err(refused(format!("it answered {status}"))),
        }
    }

    /// `GET /v2/`, as often as it takes.
    async fn version(
        &self,
        endpoint: &super::config::Endpoint,
        plain: bool,
        authorization: Option<String>,
    ) -> Result<Response, RegistryError> {
        let scheme = if plain { "http" } else { "https" };
        let text = format!("{scheme}://{}{}/v2/", endpoint.host, endpoint.base);
        let url = reqwest::Url::parse(&text).map_err(|error| TransportError::Connect {
            host: endpoint.host.clone(),
            reason: error.to_string(),
        })?;
        let wanted = Wanted {
            place: Place::At(url.clone()),
            ..Wanted::get(String::new(), "its version".to_owned())
        };
        let refused = |message: String| RegistryError::Login {
            host: endpoint.host.clone(),
            message,
        };
        let mut number = 0;
        loop {
            number += 1;
            let sent = self.redirected(endpoint, &wanted, &url, authorization.clone());
            let error = match sent.await {
                // Our secret is not for whoever it redirects to.
                Ok((response, answered))
                    if response.status == 401 && answered.origin() != url.origin() =>
                {
                    let other = host_of(&answered);
                    return Err(refused(format!(
                        "it redirects to {other}, which asks for a login of its own"
                    )));
                }
                Ok((response, _)) if !passing(response.status) => return Ok(response),
                Ok((response, _)) => refused(format!("it answered {}", response.status)),
                Err(error @ RegistryError::Transport(TransportError::Broken { .. })) => error,
                Err(error) => return Err(error),
            };
            if !self.retry.pause(number, None).await {
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::transport::Http;
    use super::*;
    use crate::images::testing::{Reply, Server, block_on, environment};

    fn password(password: &str) -> Secret {
        Secret::Password {
            user: "u".to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn an_identity_token_is_kept_instead_of_the_password() {
        let server = Server::start(|asked, _| {
            let authorization = asked.headers.get("authorization").map(String::as_str);
            if asked.path.starts_with("/token?") {
                assert_eq!(
                    asked.path,
                    "/token?service=s&account=u&client_id=stack&offline_token=true"
                );
                return match authorization {
                    Some("Basic dTpw") => {
                        Reply::ok(br#"{"token":"good","refresh_token":"for later"}"#)
                    }
                    _ => Reply::status(401),
                };
            }
            if authorization == Some("Bearer good") {
                return Reply::ok(b"{}");
            }
            let realm = format!("http://{}/token", asked.headers["host"]);
            let challenge = format!(r#"Bearer realm="{realm}",service="s""#);
            Reply::status(401).header("www-authenticate", &challenge)
        });
        let directory = tempfile::tempdir().unwrap();
        let environment = environment(directory.path());
        let http = Http::default();
        let host = server.host.as_str();
        let kept = block_on(login(&http, &environment, host, &password("p"))).unwrap();
        let path = directory.path().join("config.json");
        assert_eq!(kept, Kept::File(path.clone()));
        let text: serde_json::Value =
            serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        assert_eq!(
            text,
            serde_json::json!({"auths": {host: {"identitytoken": "for later"}}})
        );
        let error = block_on(login(&http, &environment, host, &password("x"))).unwrap_err();
        assert_eq!(
            error.to_string().replace(host, "HOST"),
            "log in to HOST: unauthorized: incorrect username or password"
        );
    }

    #[test]
    fn a_registry_that_has_moved_is_followed_but_not_to_another_host() {
        let thief = Server::start(|_, _| {
            Reply::status(401).header("www-authenticate", "Basic realm=\"x\"")
        });
        let other = thief.host.clone();
        let server = Server::start(move |asked, before| {
            let authorization = asked.headers.get("authorization").map(String::as_str);
            match (asked.path.as_str(), authorization) {
                ("/v2/", _) if before < 2 => Reply::status(308).header("location", "/api/v2/"),
                ("/v2/", _) => {
                    Reply::status(307).header("location", &format!("http://{other}/v2/?k=1"))
                }
                (_, Some("Basic dTpw")) => Reply::ok(b"{}"),
                _ => Reply::status(401).header("www-authenticate", "Basic realm=\"x\""),
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let environment = environment(directory.path());
        let http = Http::default();
        let host = server.host.as_str();
        block_on(login(&http, &environment, host, &password("p"))).unwrap();
        let error = block_on(login(&http, &environment, host, &password("p"))).unwrap_err();
        assert_eq!(
            error
                .to_string()
                .replace(host, "HOST")
                .replace(&thief.host, "OTHER"),
            "log in to HOST: it redirects to OTHER, which asks for a login of its own"
        );
        let asked = thief.asked("");
        assert!(
            asked
                .iter()
                .all(|asked| !asked.headers.contains_key("authorization"))
        );
    }

    #[test]
    fn a_registry_that_asks_nobody_and_one_that_is_busy() {
        let server = Server::start(|_, _| Reply::ok(b"{}"));
        let directory = tempfile::tempdir().unwrap();
        let environment = environment(directory.path());
        let http = Http::default();
        block_on(login(&http, &environment, &server.host, &password("p"))).unwrap();
        assert_eq!(user_of(&environment, &server.host), Some("u".to_owned()));
        let busy = Server::start(|_, _| Reply::status(503));
        let error = block_on(login(&http, &environment, &busy.host, &password("p"))).unwrap_err();
        assert_eq!(
            error.to_string().replace(&busy.host, "HOST"),
            "log in to HOST: it answered 503"
        );
        assert_eq!(user_of(&environment, &busy.host), None);
    }
}
