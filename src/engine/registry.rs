//! What talks to registries by itself: `image pull`, `image push`, `push`, `login`, `logout`. The pulls of plans are in `linux`.

use std::collections::BTreeMap;

use futures_util::stream::StreamExt;

use crate::engine::cancel::Cancel;
use crate::engine::digests::client_environment;
use crate::engine::error::EngineError;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::linux::PullEvents;
use crate::engine::store::platform_option;
use crate::engine::{Engine, chain};
use crate::images::registry::login::{self, Kept};
use crate::images::{ImageError, Packing, Platform, PushChoices, Reference};
use crate::plan;
use crate::plan::options::ImageOptions;
use crate::spec::model::Stack;

/// Pushes of one command that go on at once.
const PUSHES_AT_ONCE: usize = 3;
/// What a login without a server means.
const DEFAULT_SERVER: &str = "docker.io";

/// A name as it was typed, completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// `docker.io/library/busybox:latest`.
    pub whole: String,
    /// `docker.io/library/busybox`.
    pub repository: String,
    /// `busybox:latest`.
    pub familiar: String,
    /// `library/busybox`.
    pub path: String,
    /// `latest`, or the digest.
    pub tag_or_digest: String,
    /// Whether the tag was typed.
    pub has_tag: bool,
    /// Whether there is a digest.
    pub has_digest: bool,
}

impl ImageName {
    /// Completes a name.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        let reference: Reference = text.parse()?;
        // A port's colon is followed by a slash, a tag's is not.
        let name = text.split('@').next().unwrap_or(text);
        let has_tag = name
            .rsplit_once(':')
            .is_some_and(|(_, tag)| !tag.contains('/'));
        Ok(Self {
            whole: reference.to_string(),
            repository: reference.repository(),
            familiar: reference.familiar(),
            path: reference.path().to_owned(),
            tag_or_digest: reference.tag_or_digest(),
            has_tag,
            has_digest: reference.digest().is_some(),
        })
    }
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// What the registry's name stands for.
    pub digest: String,
    /// Whether the name stood for something else here before.
    pub is_new: bool,
    /// What it runs on, where that is not what was asked for.
    pub other_platform: Option<String>,
}

/// An image that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// Of the manifest or index.
    pub digest: String,
    /// Its length.
    pub size_bytes: u64,
}

/// `push`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Only these services; all where empty.
    pub services: Vec<String>,
    /// Also what the services depend on.
    pub include_deps: bool,
    /// Go on past images that cannot be pushed, and succeed.
    pub ignore_failures: bool,
    /// For layers that were made here.
    pub packing: Packing,
}

impl Engine {
    /// Pulls one image by its name.
    pub async fn pull_image(
        &self,
        reference: &str,
        platform: Option<&str>,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<PulledImage, EngineError> {
        let parsed: Reference = reference.parse()?;
        let platform = match platform {
            Some(text) => platform_option(text)?,
            None => Platform::host(),
        };
        let progress = PullEvents::new(reference, events);
        let pulled = tokio::select! {
            pulled = self.images.fetch(&parsed, &platform, &progress) => pulled?,
            () = cancel.cancelled() => return Err(EngineError::Interrupted),
        };
        let found = pulled.image.config.platform();
        let other = !platform.preferences().contains(&found);
        Ok(PulledImage {
            digest: pulled.source.to_string(),
            is_new: pulled.is_new,
            other_platform: other.then(|| {
                format!(
                    "the image's platform ({found}) does not match the requested platform ({platform})"
                )
            }),
        })
    }

    /// Lists the tags that a repository has in its registry.
    pub async fn remote_tags(
        &self,
        reference: &str,
        cancel: &Cancel,
    ) -> Result<Vec<String>, EngineError> {
        let parsed: Reference = reference.parse()?;
        tokio::select! {
            tags = self.images.remote_tags(&parsed) => Ok(tags?),
            () = cancel.cancelled() => Err(EngineError::Interrupted),
        }
    }

    /// Lists the tags that a repository has here; fails where there are none.
    pub fn local_tags(&self, reference: &str) -> Result<Vec<String>, EngineError> {
        Ok(self.images.local_tags(&reference.parse()?)?)
    }

    /// Pushes one image by its name; of several only the one for `platform`, where that is given.
    pub async fn push_image(
        &self,
        reference: &str,
        (packing, platform): (Packing, Option<&str>),
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<PushedImage, EngineError> {
        let parsed: Reference = reference.parse()?;
        let choices = PushChoices {
            packing,
            platform: platform.map(platform_option).transpose()?,
        };
        let progress = PullEvents::new(reference, events);
        let pushed = tokio::select! {
            pushed = self.images.push(&parsed, &choices, &progress) => pushed?,
            () = cancel.cancelled() => return Err(EngineError::Interrupted),
        };
        Ok(PushedImage {
            digest: pushed.digest.to_string(),
            size_bytes: pushed.size_bytes,
        })
    }

    /// Pushes the images of the services that can be built, each once. One that fails keeps no other from being pushed.
    pub async fn push(
        &self,
        stack: &Stack,
        options: &PushOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let chosen = ImageOptions {
            services: options.services.clone(),
            with_dependencies: options.include_deps,
            ..ImageOptions::default()
        };
        let images = plan::images::pushes(stack, &chosen)?;
        let emit = |image: &str, kind| {
            events.emit(Event {
                subject: Subject::Image(image.to_owned()),
                kind,
            });
        };
        for image in &images.skipped {
            emit(image, EventKind::Unchanged("Skipped"));
        }
        let pushes = images.pushed.iter().map(|image| async move {
            emit(image, EventKind::Started("Pushing"));
            let pushed = self.push_image(image, (options.packing, None), events, cancel);
            match pushed.await {
                Ok(_) => {
                    emit(image, EventKind::Finished("Pushed"));
                    Ok(())
                }
                Err(error) => {
                    emit(image, EventKind::Failed(chain(&error)));
                    Err(error)
                }
            }
        });
        let at_once = self.parallel.map_or(PUSHES_AT_ONCE, usize::from);
        let pushes = futures_util::stream::iter(pushes).buffer_unordered(at_once);
        let ended: Vec<Result<(), EngineError>> = pushes.collect().await;
        let mut failures: Vec<EngineError> = ended.into_iter().filter_map(Result::err).collect();
        if cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        match failures.len() {
            0 => Ok(()),
            _ if options.ignore_failures => Ok(()),
            1 => failures.pop().map_or(Ok(()), Err),
            _ => Err(EngineError::Several {
                messages: failures.iter().map(|error| chain(error)).collect(),
            }),
        }
    }
}

/// What a login did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The file that the secret can be read in, where no helper has it.
    pub readable_in: Option<std::path::PathBuf>,
}

/// Returns the registry that a login or logout is for, as people name it: `docker.io`, `localhost:5000`.
pub fn server(typed: Option<&str>) -> String {
    let typed = typed.unwrap_or(DEFAULT_SERVER);
    let host = typed.split_once("://").map_or(typed, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_SERVER.to_owned(),
        host => host.to_owned(),
    }
}

/// Shows a name and password to a registry, and keeps them for later commands.
pub async fn login(
    environment: &BTreeMap<String, String>,
    server: &str,
    user: &str,
    password: &str,
) -> Result<LoggedIn, EngineError> {
    let secret = crate::images::registry::auth::Secret::Password {
        user: user.to_owned(),
        password: password.to_owned(),
    };
    let http = crate::images::registry::transport::Http::default();
    let environment = client_environment(environment);
    let kept = login::login(&http, &environment, server, &secret).await;
    let kept = kept.map_err(|error| ImageError::Login(Box::new(error)))?;
    Ok(LoggedIn {
        readable_in: match kept {
            Kept::File(path) => Some(path),
            Kept::Helper(_) => None,
        },
    })
}

/// Returns the user name that is kept for a registry.
pub fn known_user(environment: &BTreeMap<String, String>, server: &str) -> Option<String> {
    login::user_of(&client_environment(environment), server)
}

/// Forgets what is kept for a registry; returns whether there was anything.
pub fn logout(environment: &BTreeMap<String, String>, server: &str) -> Result<bool, EngineError> {
    let forgotten = login::logout(&client_environment(environment), server);
    let forgotten = forgotten.map_err(|error| ImageError::Logout(Box::new(error)))?;
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_their_host() {
        for (typed, expected) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("docker.io"), "docker.io"),
            (Some("http://localhost:5000/"), "localhost:5000"),
            (Some("r.example/team"), "r.example"),
        ] {
            assert_eq!(server(typed), expected, "{typed:?}");
        }
    }

    #[test]
    fn names_know_whether_they_have_a_tag() {
        for (text, has_tag, tag) in [
            ("busybox", false, "latest"),
            ("busybox:1", true, "1"),
            ("localhost:5000/x", false, "latest"),
            ("localhost:5000/x:y", true, "y"),
        ] {
            let name = ImageName::parse(text).unwrap();
            assert_eq!(
                (name.has_tag, name.tag_or_digest.as_str()),
                (has_tag, tag),
                "{text}"
            );
        }
    }
}
