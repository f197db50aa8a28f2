//! Authorization: tokens of token servers, and basic (distribution `docs/spec/auth/token.md`, `oauth.md`).
//!
//! A host's challenge is remembered, so that only its first request goes without. Tokens are fetched once for many requests, kept
//! until shortly before they expire, and fetched again where the host does not take them any more.

use std::time::{Duration, Instant};

use reqwest::Url;
use serde::Deserialize;

use super::auth::{Challenge, CredentialsError, Secret};
use super::client::{Client, Place, Wanted, passing, read_all, refusal, retry_after, shown};
use super::config::Endpoint;
use super::error::{RegistryError, chain};
use super::transport::{Method, RequestBody, TransportError, encode_form, host_of};

/// Of a token server's answer.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// A token without a word about it (`token.md`).
const USUAL_LIFE: Duration = Duration::from_mins(1);
/// Fetched anew so long before the end.
const MARGIN: Duration = Duration::from_secs(10);
/// Who asks (`client_id`).
const CLIENT_ID: &str = "stack";

/// What a request does to its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads.
    Pull,
    /// Writes.
    Push,
    /// Writes, and reads another repository of the same registry.
    Mount(String),
}

impl Access {
    fn scopes(&self, endpoint: &Endpoint) -> Vec<String> {
        let own = |actions: &str| format!("repository:{}:{actions}", endpoint.repository);
        match self {
            Self::Pull => vec![own("pull")],
            Self::Push => vec![own("pull,push")],
            Self::Mount(from) => vec![own("pull,push"), format!("repository:{from}:pull")],
        }
    }
}

/// Returns the scopes to ask for, where a challenge asks for some. A registry knows what a pull of it needs, by the names it has for
/// itself; of a push its first challenge (that of a HEAD) says less than what comes after it needs.
fn wanted_scopes(access: &Access, asked: &str, own: Vec<String>) -> Vec<String> {
    let asked: Vec<String> = asked.split(' ').map(str::to_owned).collect();
    if *access == Access::Pull {
        return asked;
    }
    let resource = |scope: &str| scope.rsplit_once(':').map(|(name, _)| name.to_owned());
    let mut scopes = own;
    for scope in asked {
        let is_known = |known: &String| resource(known) == resource(&scope);
        if !scopes.iter().any(is_known) {
            scopes.push(scope);
        }
    }
    scopes
}

/// The value of an `authorization` header, and how long it is good.
#[derive(Debug, Clone)]
pub(super) struct Token {
    header: String,
    /// `None` is for good.
    until: Option<Instant>,
}

/// What a token server answered.
#[derive(Debug, Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

/// What came of asking a token server.
pub(super) struct Granted {
    pub(super) token: Token,
    /// Stands for the password from now on.
    pub(super) identity: Option<String>,
}

impl Granted {
    pub(super) fn into_header(self) -> String {
        self.token.header
    }
}

impl Client<'_> {
    /// Returns the header that a request should go with from the start, if the host is known to ask for one.
    pub(super) async fn known_header(
        &self,
        endpoint: &Endpoint,
        access: &Access,
        plain: bool,
    ) -> Result<Option<String>, RegistryError> {
        if let Some(header) = self.kept(endpoint, access) {
            return Ok(Some(header));
        }
        let known = self.known.borrow().challenges.get(&endpoint.host).cloned();
        match known {
            Some(challenge) => {
                let header = self.answer(endpoint, access, (&challenge, plain), None);
                header.await.map(Some)
            }
            None => Ok(None),
        }
    }

    fn kept(&self, endpoint: &Endpoint, access: &Access) -> Option<String> {
        let key = (endpoint.host.clone(), access.scopes(endpoint).join(" "));
        let known = self.known.borrow();
        let token = known.tokens.get(&key)?;
        let good = token.until.is_none_or(|until| Instant::now() < until);
        good.then(|| token.header.clone())
    }

    /// Gets the header that meets a challenge; `stale` is the one that did not.
    pub(super) async fn answer(
        &self,
        endpoint: &Endpoint,
        access: &Access,
        (challenge, plain): (&Challenge, bool),
        stale: Option<String>,
    ) -> Result<String, RegistryError> {
        let _alone = self.asking.lock().await;
        // Somebody may have asked while we waited.
        if let Some(header) = self.kept(endpoint, access)
            && stale.as_ref() != Some(&header)
        {
            return Ok(header);
        }
        let secret = self.secret(endpoint).await?;
        let scopes = match challenge {
            Challenge::Bearer {
                scope: Some(asked), ..
            } => wanted_scopes(access, asked, access.scopes(endpoint)),
            _ => access.scopes(endpoint),
        };
        let granted = self
            .grant(
                endpoint,
                (challenge, plain),
                secret.as_ref(),
                (&scopes, false),
            )
            .await?;
        let mut known = self.known.borrow_mut();
        let mut challenge = challenge.clone();
        if let Challenge::Bearer { scope, .. } = &mut challenge {
            *scope = None;
        }
        known.challenges.insert(endpoint.host.clone(), challenge);
        let key = (endpoint.host.clone(), access.scopes(endpoint).join(" "));
        let header = granted.token.header.clone();
        known.tokens.insert(key, granted.token);
        Ok(header)
    }

    /// Returns our secret for a repository. A helper that cannot be asked is no reason not to try without.
    async fn secret(&self, endpoint: &Endpoint) -> Result<Option<Secret>, RegistryError> {
        let key = (endpoint.host.clone(), endpoint.repository.clone());
        if let Some(secret) = self.known.borrow().secrets.get(&key) {
            return Ok(secret.clone());
        }
        let (credentials, (host, repository)) = (self.credentials.clone(), key.clone());
        // A helper is a program that may take its time.
        let asked =
            tokio::task::spawn_blocking(move || credentials.of_repository(&host, &repository))
                .await;
        let secret = match asked {
            Ok(Ok(secret)) => secret,
            Ok(Err(CredentialsError::Helper(error))) => {
                self.known.borrow_mut().helper_problem = Some(chain(&error));
                None
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => {
                self.known.borrow_mut().helper_problem = Some(error.to_string());
                None
            }
        };
        let mut known = self.known.borrow_mut();
        known.secrets.insert(key, secret.clone());
        Ok(secret)
    }

    /// Asks for authorization as `secret`; with `offline` also for an identity token instead of a password.
    pub(super) async fn grant(
        &self,
        endpoint: &Endpoint,
        (challenge, plain): (&Challenge, bool),
        secret: Option<&Secret>,
        (scopes, offline): (&[String], bool),
    ) -> Result<Granted, RegistryError> {
        let forever = |header| {
            let until = None;
            Ok(Granted {
                token: Token { header, until },
                identity: None,
            })
        };
        let (realm, service) = match (challenge, secret) {
            (Challenge::Basic, secret) => {
                let basic = secret.and_then(Secret::basic);
                return forever(basic.ok_or_else(|| self.denied(endpoint, None))?);
            }
            (Challenge::Bearer { .. }, Some(Secret::Bearer(token))) => {
                return forever(format!("Bearer {token}"));
            }
            (Challenge::Bearer { realm, service, .. }, _) => (realm, service),
        };
        let unsupported = |reason: String| RegistryError::Challenge {
            host: endpoint.host.clone(),
            reason,
        };
        let mut url = Url::parse(realm).map_err(|_| {
            unsupported(format!(
                "`{}` is not the URL of a token server",
                shown(realm)
            ))
        })?;
        match url.scheme() {
            "https" => {}
            "http" if plain => {}
            _ => {
                return Err(unsupported(format!(
                    "the token server `{}` is not encrypted",
                    shown(realm)
                )));
            }
        }
        // Over plain HTTP, whoever sits in between could name any token server.
        let same_host = host_of(&url) == endpoint.host;
        let secret = secret.filter(|_| url.scheme() == "https" || same_host);
        let service = service.iter().map(|service| ("service", service.clone()));
        let mut parameters: Vec<_> = service.collect();
        let mut wanted = Wanted::get(String::new(), "a token".to_owned());
        let mut authorization = None;
        if let Some(Secret::Identity(token)) = secret {
            parameters.push(("scope", scopes.join(" ")));
            parameters.push(("grant_type", "refresh_token".to_owned()));
            parameters.push(("client_id", CLIENT_ID.to_owned()));
            parameters.push(("refresh_token", token.clone()));
            let form = "application/x-www-form-urlencoded".to_owned();
            wanted = wanted.header("content-type", form);
            wanted.method = Method::Post;
            wanted.body = RequestBody::Bytes(encode_form(&parameters));
            wanted.confidential = true;
        } else {
            parameters.extend(scopes.iter().map(|scope| ("scope", scope.clone())));
            if let Some(Secret::Password { user, .. }) = secret.filter(|_| offline) {
                parameters.push(("account", user.clone()));
                parameters.push(("client_id", CLIENT_ID.to_owned()));
                parameters.push(("offline_token", "true".to_owned()));
            }
            authorization = secret.and_then(Secret::basic);
            url.query_pairs_mut().extend_pairs(&parameters);
        }
        wanted.place = Place::At(url.clone());
        self.fetch(endpoint, (&wanted, &url), authorization).await
    }

    async fn fetch(
        &self,
        endpoint: &Endpoint,
        (wanted, url): (&Wanted, &Url),
        authorization: Option<String>,
    ) -> Result<Granted, RegistryError> {
        let host = host_of(url);
        let asking = self.patiently(endpoint, (wanted, url), authorization);
        let answer: Option<Answer> = serde_json::from_slice(&asking.await?).ok();
        let life = answer.as_ref().and_then(|answer| answer.expires_in);
        let identity = answer
            .as_ref()
            .and_then(|answer| answer.refresh_token.clone());
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        // A header takes no line breaks; a token has none.
        let token =
            token.filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        let Some(token) = token else {
            return Err(RegistryError::Challenge {
                host,
                reason: "the token server answered without a token".to_owned(),
            });
        };
        let life = life.map_or(USUAL_LIFE, Duration::from_secs);
        Ok(Granted {
            token: Token {
                header: format!("Bearer {token}"),
                until: Instant::now().checked_add(life.saturating_sub(MARGIN.min(life / 4))),
            },
            identity: identity.filter(|token| !token.is_empty()),
        })
    }

    /// Asks the token server until there is a good answer, which is returned, or a final one; of one that is too long, nothing.
    async fn patiently(
        &self,
        endpoint: &Endpoint,
        (wanted, url): (&Wanted, &Url),
        authorization: Option<String>,
    ) -> Result<Vec<u8>, RegistryError> {
        let at = Endpoint {
            host: host_of(url),
            ..endpoint.clone()
        };
        let mut number = 0;
        loop {
            number += 1;
            let sent = self.redirected(endpoint, wanted, url, authorization.clone());
            let (error, asked) = match sent.await {
                Ok((mut response, _)) if (200..300).contains(&response.status) => {
                    match read_all(&mut *response.body, MAX_ANSWER_BYTES).await {
                        Ok(bytes) => return Ok(bytes.unwrap_or_default()),
                        Err(error) => (error.into(), None),
                    }
                }
                Ok((response, _)) => {
                    let (status, asked) = (response.status, retry_after(&response));
                    let error = refusal(&at, wanted, response, asked).await;
                    if let RegistryError::Denied { message, .. } = error {
                        let message = message.trim_matches([' ', '(', ')']).to_owned();
                        let message = Some(message).filter(|message| !message.is_empty());
                        return Err(self.denied(endpoint, message));
                    }
                    if !passing(status) {
                        return Err(error);
                    }
                    (error, asked)
                }
                // Its registry was there a moment ago.
                Err(
                    error @ RegistryError::Transport(
                        TransportError::Broken { .. } | TransportError::Connect { .. },
                    ),
                ) => (error, None),
                Err(error) => return Err(error),
            };
            if !self.retry.pause(number, asked).await {
                let (host, source) = (at.host, Box::new(error));
                return Err(RegistryError::TokenServer { host, source });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_those_of_the_work_and_of_the_challenge() {
        let own = |access: &Access| -> Vec<String> {
            let names: &[&str] = match access {
                Access::Pull => &["repository:a/b:pull"],
                Access::Push => &["repository:a/b:pull,push"],
                Access::Mount(_) => &["repository:a/b:pull,push", "repository:c:pull"],
            };
            names.iter().map(|&name| name.to_owned()).collect()
        };
        for (access, asked, expected) in [
            (Access::Pull, "repository:a/b:pull", "repository:a/b:pull"),
            (
                Access::Pull,
                "repository:proxy/a/b:pull",
                "repository:proxy/a/b:pull",
            ),
            (
                Access::Push,
                "repository:a/b:pull",
                "repository:a/b:pull,push",
            ),
            (
                Access::Mount("c".to_owned()),
                "repository:a/b:pull,push x:y:z",
                "repository:a/b:pull,push repository:c:pull x:y:z",
            ),
        ] {
            let found = wanted_scopes(&access, asked, own(&access));
            assert_eq!(found.join(" "), expected, "{access:?} {asked}");
        }
    }
}
