//! The health check: the file's fields over the image's over Docker's defaults.

use std::time::Duration;

use super::LowerError;
use crate::images::manifest::RunConfig;
use crate::runtime::config::HealthCheck;
use crate::spec::model::service::{HealthTest, Healthcheck};

/// Docker's defaults (compose-spec 05-services.md#healthcheck).
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// Returns the check to run, `None` where there is none or it is disabled.
pub fn check(
    asked: Option<&Healthcheck>,
    image: &RunConfig,
) -> Result<Option<HealthCheck>, LowerError> {
    let of_image = image.healthcheck.as_ref();
    let test = match asked.and_then(|check| check.test.as_ref()) {
        Some(HealthTest::None) => return Ok(None),
        Some(HealthTest::Cmd(args)) => args.clone(),
        Some(HealthTest::Shell(line)) => shell(image, line),
        None => match of_image.and_then(|check| from_image(image, &check.test)) {
            Some(args) => args,
            None => return Ok(None),
        },
    };
    if test.is_empty() {
        return Err(LowerError::new("healthcheck.test", "the command is empty"));
    }
    let unset = Healthcheck::default();
    let asked = asked.unwrap_or(&unset);
    let image = of_image.cloned().unwrap_or_default();
    Ok(Some(HealthCheck {
        test,
        interval: choose(asked.interval, image.interval_ns, INTERVAL),
        timeout: choose(asked.timeout, image.timeout_ns, TIMEOUT),
        retries: asked
            .retries
            .filter(|retries| *retries > 0)
            .or(u32::try_from(image.retries)
                .ok()
                .filter(|retries| *retries > 0))
            .unwrap_or(RETRIES),
        start_period: choose(asked.start_period, image.start_period_ns, Duration::ZERO),
        start_interval: choose(
            asked.start_interval,
            image.start_interval_ns,
            START_INTERVAL,
        ),
    }))
}

/// Returns the file's duration, else the image's, else the default; 0 stands for unset in both (Docker Engine API,
/// `HealthConfig`).
fn choose(asked: Option<Duration>, image_ns: i64, default: Duration) -> Duration {
    let image = u64::try_from(image_ns).map_or(Duration::ZERO, Duration::from_nanos);
    asked
        .filter(|duration| !duration.is_zero())
        .unwrap_or(if image.is_zero() { default } else { image })
}

/// Returns the argument vector of an image's `Test`, `None` for `NONE` and for an empty one.
fn from_image(image: &RunConfig, test: &[String]) -> Option<Vec<String>> {
    match test.split_first() {
        Some((kind, rest)) if kind == "CMD" => Some(rest.to_vec()),
        Some((kind, rest)) if kind == "CMD-SHELL" => Some(shell(image, rest.first()?)),
        _ => None,
    }
}

/// Wraps a line for the image's shell.
fn shell(image: &RunConfig, line: &str) -> Vec<String> {
    let mut args = match image.shell.as_deref() {
        Some(shell) if !shell.is_empty() => shell.to_vec(),
        _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
    };
    args.push(line.to_owned());
    args
}
