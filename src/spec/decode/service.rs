//! Services.

use std::collections::BTreeMap;
use std::time::Duration;

use super::build::build;
use super::{
    Decoder, boolean, entries, image, integer, items, mapping, number, span_at, text, text_map,
    texts,
};
use crate::spec::diagnostic::Diagnostic;
use crate::spec::model::build::{WatchAction, WatchRule};
use crate::spec::model::service::{
    Condition, Dependency, HealthTest, Healthcheck, PullPolicy, Restart, Service, Ulimit,
};
use crate::spec::names::ServiceName;
use crate::spec::source::Span;
use crate::spec::tree::{Entry, Node, Value};
use crate::spec::units;

fn duration(node: &Node, key: &str) -> Option<Duration> {
    units::parse_duration(node.get(key)?.as_str()?)
}

/// How many of something; what is beyond counting is the most that can be counted.
fn count(node: &Node, key: &str) -> Option<u32> {
    integer(node, key).map(|value| u32::try_from(value.max(0)).unwrap_or(u32::MAX))
}

/// A command: null is none, an empty list clears.
fn command(node: &Node, key: &str) -> Option<Vec<String>> {
    node.get(key)?.as_sequence()?;
    Some(texts(node, key))
}

impl Decoder<'_> {
    pub(super) fn service(&mut self, entry: &Entry) -> Service {
        let node = &*entry.value;
        let place = format!("services.{}", entry.key);
        let limits = node
            .get("deploy")
            .and_then(|deploy| deploy.get("resources")?.get("limits"));
        let deployed_memory = limits.and_then(|limits| self.bytes(limits, "memory", &place));
        let replicas = node
            .get("deploy")
            .and_then(|deploy| count(deploy, "replicas"));
        let mut volumes = Vec::new();
        for (index, mount) in items(node, "volumes").enumerate() {
            volumes.extend(self.mount(mount, &format!("{place}.volumes.{index}")));
        }
        for (index, tmpfs) in items(node, "tmpfs").enumerate() {
            volumes.extend(self.tmpfs(tmpfs, &format!("{place}.tmpfs.{index}")));
        }
        Service {
            span: entry.key_span,
            places: places(node),
            image: self.image(node, &place),
            build: node.get("build").map(build),
            pull_policy: self.pull_policy(node, &place),
            platform: self.platform(node, &place),
            container_name: self.container_name(node, &place),
            command: command(node, "command"),
            entrypoint: command(node, "entrypoint"),
            environment: self.environment(node, &place),
            working_dir: text(node, "working_dir"),
            user: text(node, "user"),
            group_add: texts(node, "group_add"),
            hostname: self.hostname(node, &place),
            domainname: text(node, "domainname"),
            init: boolean(node, "init"),
            tty: boolean(node, "tty").unwrap_or_default(),
            stdin_open: boolean(node, "stdin_open").unwrap_or_default(),
            labels: text_map(node, "labels"),
            ports: self.ports(node, &place),
            expose: self.expose(node, &place),
            volumes,
            network_mode: self.network_mode(node, &place),
            networks: self.attachments(node, &place),
            extra_hosts: self.extra_hosts(node, &place),
            dns: self.name_servers(node, &place),
            dns_search: texts(node, "dns_search"),
            dns_opt: texts(node, "dns_opt"),
            depends_on: dependencies(node),
            healthcheck: self.healthcheck(node, &place),
            restart: self.restart(node, &place),
            stop_signal: text(node, "stop_signal"),
            stop_grace_period: duration(node, "stop_grace_period"),
            mem_limit: self.bytes(node, "mem_limit", &place).or(deployed_memory),
            cpus: number(node, "cpus")
                .or_else(|| number(limits?, "cpus"))
                .filter(|cpus| *cpus > 0.0),
            pids_limit: integer(node, "pids_limit")
                .or_else(|| integer(limits?, "pids"))
                .filter(|pids| *pids != 0)
                .map(|pids| pids.max(-1)),
            shm_size: self.bytes(node, "shm_size", &place),
            ulimits: ulimits(node),
            sysctls: text_map(node, "sysctls"),
            cap_add: capabilities(node, "cap_add"),
            cap_drop: capabilities(node, "cap_drop"),
            privileged: boolean(node, "privileged").unwrap_or_default(),
            read_only: boolean(node, "read_only").unwrap_or_default(),
            security_opt: texts(node, "security_opt"),
            secrets: self.grants(node, "secrets", &place),
            configs: self.grants(node, "configs", &place),
            scale: count(node, "scale").or(replicas),
            attach: boolean(node, "attach"),
            profiles: texts(node, "profiles"),
            watch: self.watch(node),
        }
    }

    fn image(&mut self, node: &Node, place: &str) -> Option<String> {
        let image = text(node, "image")?;
        if let Some(fault) = image::fault(&image).filter(|_| !image.is_empty()) {
            self.error(
                span_at(node, "image"),
                format!("{place}.image: invalid reference format: `{image}`: {fault}"),
            );
        }
        Some(image)
    }

    /// Reads `OS[/ARCHITECTURE[/VARIANT]]`; no other system runs here.
    fn platform(&mut self, node: &Node, place: &str) -> Option<String> {
        let platform = text(node, "platform").filter(|platform| !platform.is_empty())?;
        let span = span_at(node, "platform");
        let is_word = |part: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            !part.is_empty() && part.bytes().all(fits)
        };
        let parts: Vec<&str> = platform.split('/').collect();
        if parts.len() > 3 || !parts.iter().all(|part| is_word(part)) {
            let message = format!(
                "{place}.platform: `{platform}` is no platform: it must be OS[/ARCHITECTURE[/VARIANT]], such as linux/amd64"
            );
            self.error(span, message);
        } else if parts.len() > 1 && !parts[0].eq_ignore_ascii_case("linux") {
            let system = parts[0];
            let message = format!("{place}.platform: containers of {system} do not run on Linux");
            self.error(span, message);
        }
        Some(platform)
    }

    /// Reads the variables; a name with `=` in it would name another one.
    fn environment(&mut self, node: &Node, place: &str) -> BTreeMap<String, String> {
        for entry in entries(mapping(node, "environment")) {
            if entry.key.is_empty() {
                self.error(
                    entry.key_span,
                    format!("{place}.environment: a variable has no name"),
                );
            }
            if entry.key.contains('=') {
                self.error(
                    entry.key_span,
                    format!(
                        "{place}.environment: the name `{}` must not have a `=` in it",
                        entry.key
                    ),
                );
            }
        }
        text_map(node, "environment")
    }

    fn pull_policy(&mut self, node: &Node, place: &str) -> Option<PullPolicy> {
        const WORDS: [&str; 5] = ["always", "never", "missing", "if_not_present", "build"];
        let policy = text(node, "pull_policy")?;
        let span = span_at(node, "pull_policy");
        Some(match policy.as_str() {
            "always" => PullPolicy::Always,
            "never" => PullPolicy::Never,
            "missing" | "if_not_present" => PullPolicy::Missing,
            "build" => PullPolicy::Build,
            later
                if matches!(later, "daily" | "weekly" | "refresh")
                    || later
                        .strip_prefix("every_")
                        .is_some_and(|every| units::parse_duration(every).is_some()) =>
            {
                self.not_yet(span, format!("{place}.pull_policy {policy}"));
                return None;
            }
            _ => {
                self.diagnostics.push(
                    Diagnostic::error(
                        span,
                        format!("{place}.pull_policy must be one of {}", WORDS.join(", ")),
                    )
                    .suggest(&policy, WORDS),
                );
                return None;
            }
        })
    }

    fn container_name(&mut self, node: &Node, place: &str) -> Option<String> {
        let name = text(node, "container_name")?;
        let may_follow = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let starts = |pair: &[u8]| pair[0].is_ascii_alphanumeric() && may_follow(pair[1]);
        let fits =
            name.bytes().all(may_follow) && name.as_bytes().windows(2).next().is_some_and(starts);
        // The schema's pattern may match anywhere; only the engine asks for the whole.
        let loads = name.as_bytes().windows(2).any(starts);
        let message = format!("{place}.container_name does not match [a-zA-Z0-9][a-zA-Z0-9_.-]+");
        let span = span_at(node, "container_name");
        match (fits, loads) {
            (true, _) => {}
            (false, true) => self.error(span, message),
            (false, false) => self.diagnostics.error(span, message),
        }
        Some(name)
    }

    fn healthcheck(&mut self, node: &Node, place: &str) -> Option<Healthcheck> {
        let check = node.get("healthcheck")?;
        let words = texts(check, "test");
        let test = if boolean(check, "disable") == Some(true) {
            Some(HealthTest::None)
        } else {
            match words.split_first() {
                None => None,
                Some((kind, arguments)) => match kind.as_str() {
                    "NONE" => Some(HealthTest::None),
                    "CMD-SHELL" if !arguments.is_empty() => {
                        let command = arguments.join(" ");
                        if command.trim().is_empty() {
                            self.obstacle(
                                Diagnostic::warning(
                                    span_at(check, "test"),
                                    format!(
                                        "{place}.healthcheck.test is empty: it says that the service is well, whatever it does"
                                    ),
                                )
                                .hint("write the command, or `disable: true`"),
                            );
                        }
                        Some(HealthTest::Shell(command))
                    }
                    _ if arguments.is_empty() => {
                        self.error(
                            span_at(check, "test"),
                            format!("{place}.healthcheck.test has no command"),
                        );
                        None
                    }
                    _ => Some(HealthTest::Cmd(arguments.to_vec())),
                },
            }
        };
        Some(Healthcheck {
            test,
            interval: duration(check, "interval"),
            timeout: duration(check, "timeout"),
            retries: count(check, "retries"),
            start_period: duration(check, "start_period"),
            start_interval: duration(check, "start_interval"),
        })
    }

    fn restart(&mut self, node: &Node, place: &str) -> Option<Restart> {
        const WORDS: [&str; 4] = ["no", "always", "unless-stopped", "on-failure"];
        let policy = text(node, "restart").filter(|policy| !policy.is_empty())?;
        let (word, retries) = match policy.split_once(':') {
            Some((word, retries)) => (word, Some(retries.parse::<u32>())),
            None => (policy.as_str(), None),
        };
        match (word, retries) {
            ("no", None) => Some(Restart::No),
            ("always", None) => Some(Restart::Always),
            ("unless-stopped", None) => Some(Restart::UnlessStopped),
            ("on-failure", None) => Some(Restart::OnFailure { max_retries: None }),
            // Docker takes 0 for no bound.
            ("on-failure", Some(Ok(retries))) => Some(Restart::OnFailure {
                max_retries: Some(retries).filter(|retries| *retries > 0),
            }),
            _ => {
                self.obstacle(
                    Diagnostic::error(
                        span_at(node, "restart"),
                        format!(
                            "{place}.restart: invalid restart policy `{policy}`: it must be {}",
                            WORDS.join(", ")
                        ),
                    )
                    .suggest(word, WORDS),
                );
                None
            }
        }
    }

    fn watch(&mut self, node: &Node) -> Vec<WatchRule> {
        let mut rules = Vec::new();
        let Some(develop) = node.get("develop") else {
            return rules;
        };
        for rule in items(develop, "watch") {
            let action = match text(rule, "action").as_deref() {
                Some("sync") => WatchAction::Sync,
                Some("restart") => WatchAction::Restart,
                Some("sync+restart") => WatchAction::SyncRestart,
                Some("rebuild") => WatchAction::Rebuild,
                Some(other) => {
                    self.not_yet(
                        span_at(rule, "action"),
                        format!("develop.watch action {other}"),
                    );
                    continue;
                }
                None => continue,
            };
            rules.extend(text(rule, "path").map(|path| WatchRule {
                action,
                path: path.into(),
                target: text(rule, "target"),
                ignore: texts(rule, "ignore"),
                include: texts(rule, "include"),
                initial_sync: boolean(rule, "initial_sync").unwrap_or_default(),
            }));
        }
        rules
    }
}

fn dependencies(node: &Node) -> BTreeMap<ServiceName, Dependency> {
    let decoded = entries(mapping(node, "depends_on"))
        .iter()
        .filter_map(|entry| {
            let condition = match entry.value.get("condition")?.as_str()? {
                "service_healthy" => Condition::ServiceHealthy,
                "service_completed_successfully" => Condition::ServiceCompletedSuccessfully,
                _ => Condition::ServiceStarted,
            };
            let dependency = Dependency {
                condition,
                restart: boolean(&entry.value, "restart").unwrap_or_default(),
                required: boolean(&entry.value, "required").unwrap_or(true),
            };
            // A name that breaks the rule is reported as undefined.
            Some((ServiceName::new(&entry.key).ok()?, dependency))
        });
    decoded.collect()
}

pub(super) fn ulimits(node: &Node) -> BTreeMap<String, Ulimit> {
    let decoded = entries(mapping(node, "ulimits"))
        .iter()
        .filter_map(|entry| {
            let limit = match entry.value.value {
                Value::Integer(both) => Ulimit {
                    soft: both,
                    hard: both,
                },
                _ => Ulimit {
                    soft: integer(&entry.value, "soft")?,
                    hard: integer(&entry.value, "hard")?,
                },
            };
            Some((entry.key.to_string(), limit))
        });
    decoded.collect()
}

/// Capabilities in upper case, without `CAP_`.
fn capabilities(node: &Node, key: &str) -> Vec<String> {
    let names = texts(node, key)
        .into_iter()
        .map(|name| name.to_ascii_uppercase());
    names
        .map(|name| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name))
        .collect()
}

/// The places of a service's fields, of the items of its lists and of the fields of its maps.
fn places(node: &Node) -> BTreeMap<String, Span> {
    let mut places = BTreeMap::new();
    for entry in entries(node.as_mapping()) {
        match &entry.value.value {
            Value::Sequence(items) => {
                places.insert(entry.key.to_string(), entry.key_span);
                let items = items.iter().enumerate();
                places.extend(
                    items.map(|(index, item)| (format!("{}.{index}", entry.key), item.span)),
                );
            }
            Value::Mapping(mapping) => {
                places.insert(entry.key.to_string(), entry.key_span);
                let fields = mapping.entries().iter();
                places.extend(
                    fields.map(|field| (format!("{}.{}", entry.key, field.key), field.value.span)),
                );
            }
            _ => {
                places.insert(entry.key.to_string(), entry.value.span);
            }
        }
    }
    places
}
