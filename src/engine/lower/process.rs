//! The main process: arguments, environment, identity, privileges.

use std::collections::BTreeMap;

use super::{Input, LowerError};
use crate::images::manifest::RunConfig;
use crate::runtime::config::{Process, Rlimit, Seccomp};
use crate::runtime::init::capabilities;
use crate::runtime::init::steps::is_limit;
use crate::spec::model::service::Service;

/// `PATH` where neither the image nor the file sets one, as Docker's.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the main process of a container with this host name.
pub fn main(input: &Input<'_>, hostname: &str) -> Result<Process, LowerError> {
    let service = input.service;
    let image = input.defaults;
    let security = security(service, input.seccomp_profile.as_deref())?;
    Ok(Process {
        args: arguments(service, image)?,
        env: environment(service, image, hostname),
        cwd: working_directory(service, image)?,
        user: service.user.clone().unwrap_or_else(|| image.user.clone()),
        groups: service.group_add.clone(),
        tty: service.tty,
        stdin_open: service.stdin_open,
        init: service.init.unwrap_or(false),
        no_new_privileges: security.no_new_privileges,
        capabilities: capability_mask(service)?,
        rlimits: rlimits(service)?,
        oom_score_adj: None,
        seccomp: security.seccomp,
    })
}

/// Returns entrypoint and command: an entrypoint in the file clears the image's command
/// (compose-spec 05-services.md#entrypoint).
fn arguments(service: &Service, image: &RunConfig) -> Result<Vec<String>, LowerError> {
    let of_image = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (mut args, command) = match (&service.entrypoint, &service.command) {
        (Some(entrypoint), command) => (entrypoint.clone(), command.clone().unwrap_or_default()),
        (None, Some(command)) => (of_image(&image.entrypoint), command.clone()),
        (None, None) => (of_image(&image.entrypoint), of_image(&image.cmd)),
    };
    args.extend(command);
    if args.is_empty() {
        return Err(LowerError::new(
            "command",
            "neither the image nor the file names a command to run",
        ));
    }
    Ok(args)
}

/// Returns `NAME=value` in Docker's order: `PATH`, `HOSTNAME`, `TERM` with a terminal, then the rest; the file's over
/// the image's. `HOME` is added by the init, which knows the user.
fn environment(service: &Service, image: &RunConfig, hostname: &str) -> Vec<String> {
    let mut set: BTreeMap<&str, &str> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    let of_image = image.env.iter().filter_map(|line| line.split_once('='));
    let of_file = service
        .environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in of_image.chain(of_file) {
        if set.insert(name, value).is_none() {
            order.push(name);
        }
    }
    let first = [
        ("PATH", Some(DEFAULT_PATH)),
        ("HOSTNAME", Some(hostname)),
        ("TERM", service.tty.then_some("xterm")),
    ];
    let mut lines = Vec::with_capacity(order.len() + first.len());
    for (name, default) in first {
        if let Some(value) = set.get(name).copied().or(default) {
            lines.push(format!("{name}={value}"));
        }
    }
    let rest = order
        .iter()
        .filter(|name| !first.iter().any(|(taken, _)| taken == *name));
    lines.extend(rest.filter_map(|name| set.get(name).map(|value| format!("{name}={value}"))));
    lines
}

/// Returns the working directory, absolute.
fn working_directory(service: &Service, image: &RunConfig) -> Result<String, LowerError> {
    let cwd = service
        .working_dir
        .as_deref()
        .filter(|cwd| !cwd.is_empty())
        .unwrap_or(&image.working_dir);
    match if cwd.is_empty() { "/" } else { cwd } {
        absolute if absolute.starts_with('/') => Ok(absolute.to_owned()),
        relative => Err(LowerError::new(
            "working_dir",
            format!("`{relative}` is not an absolute path"),
        )),
    }
}

/// Returns the bounding set: Docker's default, what is dropped taken away, what is added put in.
fn capability_mask(service: &Service) -> Result<u64, LowerError> {
    if service.privileged {
        return Ok(capabilities::ALL);
    }
    let mask_of = |field: &str, names: &[String]| {
        names.iter().try_fold(0, |mask, name| {
            let named = capabilities::by_name(name)
                .ok_or_else(|| LowerError::new(field, format!("`{name}` is not a capability")))?;
            Ok(mask | named)
        })
    };
    let dropped = mask_of("cap_drop", &service.cap_drop)?;
    let added = mask_of("cap_add", &service.cap_add)?;
    // Docker: `cap_add: ALL` starts from everything, then the drops apply; else drops apply first.
    if added == capabilities::ALL {
        return Ok(capabilities::ALL
            & !if dropped == capabilities::ALL {
                0
            } else {
                dropped
            });
    }
    Ok((capabilities::DEFAULT & !dropped) | added)
}

/// Returns the limits asked for.
fn rlimits(service: &Service) -> Result<Vec<Rlimit>, LowerError> {
    let value = |name: &str, limit: i64| match limit {
        -1 => Ok(u64::MAX),
        limit => u64::try_from(limit).map_err(|_| {
            LowerError::new(
                &format!("ulimits.{name}"),
                format!("{limit} is not a limit"),
            )
        }),
    };
    let limits = service.ulimits.iter().map(|(name, limit)| {
        if !is_limit(name) {
            let problem = format!("limit `{name}` is not known");
            return Err(LowerError::new(&format!("ulimits.{name}"), problem));
        }
        let (soft, hard) = (value(name, limit.soft)?, value(name, limit.hard)?);
        if soft > hard {
            let problem = "the soft limit must not be above the hard limit";
            return Err(LowerError::new(&format!("ulimits.{name}"), problem));
        }
        Ok(Rlimit {
            name: name.clone(),
            soft,
            hard,
            required: true,
        })
    });
    limits.collect()
}

/// What `security_opt` and `privileged` come to.
struct Security {
    no_new_privileges: bool,
    seccomp: Seccomp,
}

/// Reads `security_opt` (Docker Engine, `--security-opt`).
fn security(service: &Service, profile: Option<&str>) -> Result<Security, LowerError> {
    let seccomp = if service.privileged {
        Seccomp::Unconfined
    } else {
        Seccomp::Default
    };
    let mut security = Security {
        no_new_privileges: false,
        seccomp,
    };
    for option in &service.security_opt {
        let (key, value) = option
            .split_once(['=', ':'])
            .map_or((option.as_str(), None), |(k, v)| (k, Some(v)));
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
            ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
            ("seccomp", Some("unconfined")) => security.seccomp = Seccomp::Unconfined,
            ("seccomp", Some("builtin")) => security.seccomp = Seccomp::Default,
            ("seccomp", Some(_)) => {
                let text = profile.ok_or_else(|| {
                    LowerError::new("security_opt", "the seccomp profile was not read")
                })?;
                security.seccomp = Seccomp::Profile(text.to_owned());
            }
            // No AppArmor profile is ever applied, which is what this asks for.
            ("apparmor", Some("unconfined")) | ("label", Some("disable")) => {}
            _ => {
                return Err(LowerError::new(
                    "security_opt",
                    format!("`{option}` is not supported yet"),
                ));
            }
        }
    }
    Ok(security)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_those_that_are_named() {
        const CHOWN: u64 = 1 << 0;
        const NET_ADMIN: u64 = 1 << 12;
        const NET_RAW: u64 = 1 << 13;
        const CHECKPOINT_RESTORE: u64 = 1 << 40;
        let rows: [(&[&str], &[&str], u64); 9] = [
            (&[], &[], capabilities::DEFAULT),
            (&["NET_ADMIN"], &[], capabilities::DEFAULT | NET_ADMIN),
            (
                &["cap_checkpoint_restore"],
                &[],
                capabilities::DEFAULT | CHECKPOINT_RESTORE,
            ),
            (&[], &["CHOWN"], capabilities::DEFAULT & !CHOWN),
            (&[], &["CAP_NET_RAW"], capabilities::DEFAULT & !NET_RAW),
            (&["CHOWN"], &["ALL"], CHOWN),
            (&["ALL"], &["NET_RAW"], capabilities::ALL & !NET_RAW),
            (&["all"], &["all"], capabilities::ALL),
            (
                &["NET_ADMIN"],
                &["NET_ADMIN"],
                capabilities::DEFAULT | NET_ADMIN,
            ),
        ];
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        for (add, drop, expected) in rows {
            let service = Service {
                cap_add: owned(add),
                cap_drop: owned(drop),
                ..Service::default()
            };
            assert_eq!(capability_mask(&service), Ok(expected), "{add:?} {drop:?}");
        }
        let wrong = Service {
            cap_add: owned(&["FLY"]),
            ..Service::default()
        };
        capability_mask(&wrong).unwrap_err();
    }
}
