//! Services.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Decoder, boolean, entries, image, integer, items, mapping, number, span_at, text, text_map,
    texts,
};
use crate::spec::canonical::ports;
use crate::spec::diagnostic::Diagnostic;
use crate::spec::model::build::{Build, BuildMore, BuildSecret, WatchAction, WatchRule};
use crate::spec::model::network::{Attachment, Port, PortRange, Protocol};
use crate::spec::model::service::{
    Condition, Dependency, HealthTest, Healthcheck, NetworkMode, PullPolicy, Restart, Service,
    Ulimit,
};
use crate::spec::model::volume::{FileGrant, Mount, MountSource};
use crate::spec::names::{NetworkKey, ServiceName, VolumeKey};
use crate::spec::source::Span;
use crate::spec::tree::{Entry, Node, Value};
use crate::spec::units;

fn duration(node: &Node, key: &str) -> Option<Duration> {
    units::parse_duration(node.get(key)?.as_str()?)
}

fn unsigned<T: TryFrom<i64>>(node: &Node, key: &str) -> Option<T> {
    integer(node, key).and_then(|value| T::try_from(value).ok())
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

    /// Reads the host name. Docker Compose takes any that Linux does, which is what stands in the way of a container; one
    /// that no other machine would take for a name is warned of.
    fn hostname(&mut self, node: &Node, place: &str) -> Option<String> {
        let name = text(node, "hostname")?;
        let span = span_at(node, "hostname");
        if name.len() > 64 {
            let message = format!("{place}.hostname is longer than 64 bytes, the most Linux takes");
            self.error(span, message);
        } else if name.contains(char::is_control) {
            let message =
                format!("{place}.hostname must not have a line break or a control character");
            self.error(span, message);
        } else if !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        {
            self.obstacle(
                Diagnostic::warning(
                    span,
                    format!("{place}.hostname: `{name}` is no valid host name (RFC 1123)"),
                )
                .hint("use letters, digits and hyphens"),
            );
        }
        Some(name)
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

    fn ports(&mut self, node: &Node, place: &str) -> Vec<Port> {
        let mut decoded = Vec::new();
        for port in items(node, "ports") {
            let protocol = match text(port, "protocol")
                .unwrap_or_default()
                .to_ascii_lowercase()
                .as_str()
            {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                other => {
                    self.not_yet(port.span, format!("{place}.ports: protocol {other}"));
                    continue;
                }
            };
            let written = text(port, "published").filter(|text| !text.is_empty());
            let published = written.as_deref().and_then(ports::range);
            if let (Some(written), None) = (&written, published) {
                self.error(
                    span_at(port, "published"),
                    format!("{place}.ports: invalid host port `{written}`"),
                );
            }
            let target = unsigned::<u16>(port, "target").filter(|target| *target > 0);
            if target.is_none() && port.get("target").is_some() {
                self.error(
                    span_at(port, "target"),
                    format!("{place}.ports: invalid container port: it must be 1 to 65535"),
                );
            }
            decoded.extend(target.map(|target| {
                Port {
                    host_ip: text(port, "host_ip").and_then(|address| address.parse().ok()),
                    // Port 0 lets the host choose, as does none.
                    published: published
                        .filter(|range| *range != (0, 0))
                        .map(|(first, last)| PortRange { first, last }),
                    target,
                    protocol,
                }
            }));
        }
        decoded
    }

    fn expose(&mut self, node: &Node, place: &str) -> Vec<String> {
        for port in items(node, "expose") {
            let text = port.as_str().unwrap_or_default();
            let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            if ports::range(range).is_none() || !matches!(protocol, "tcp" | "udp" | "sctp") {
                self.error(
                    port.span,
                    format!("{place}.expose: `{text}` is no port, nor a range of ports"),
                );
            }
        }
        texts(node, "expose")
    }

    fn network_mode(&mut self, node: &Node, place: &str) -> Option<NetworkMode> {
        let mode = text(node, "network_mode").filter(|mode| !mode.is_empty())?;
        let span = span_at(node, "network_mode");
        match mode.as_str() {
            "none" => Some(NetworkMode::None),
            "host" => Some(NetworkMode::Host),
            other => {
                let Some(service) = other.strip_prefix("service:") else {
                    self.not_yet(span, format!("{place}.network_mode {mode}"));
                    return None;
                };
                let name = self.named(span, ServiceName::new(service));
                name.map(NetworkMode::Service)
            }
        }
    }

    fn attachments(&mut self, node: &Node, place: &str) -> BTreeMap<NetworkKey, Attachment> {
        let mut decoded = BTreeMap::new();
        for entry in entries(mapping(node, "networks")) {
            let attachment = Attachment {
                aliases: texts(&entry.value, "aliases"),
                ipv4_address: self.address(
                    &entry.value,
                    "ipv4_address",
                    &format!("{place}.networks.{}", entry.key),
                ),
                priority: unsigned(&entry.value, "priority"),
            };
            // A key that breaks its rule is reported where the network is defined, or as undefined.
            if let Ok(key) = NetworkKey::new(&entry.key) {
                decoded.insert(key, attachment);
            }
        }
        decoded
    }

    fn extra_hosts(&mut self, node: &Node, place: &str) -> Vec<(String, String)> {
        let mut hosts = Vec::new();
        for line in items(node, "extra_hosts") {
            let Some((host, address)) = line.as_str().and_then(|text| text.split_once('=')) else {
                continue;
            };
            if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
                self.error(
                    line.span,
                    format!("{place}.extra_hosts: invalid additional host, bad IP: {address}"),
                );
            }
            hosts.push((host.to_owned(), address.to_owned()));
        }
        hosts
    }

    fn name_servers(&mut self, node: &Node, place: &str) -> Vec<String> {
        let mut servers = Vec::new();
        for server in items(node, "dns") {
            match server.as_str() {
                Some("") | None => {}
                Some(text) if text.parse::<std::net::IpAddr>().is_ok() => {
                    servers.push(text.to_owned());
                }
                Some(text) => self.error(
                    server.span,
                    format!("{place}.dns: invalid DNS address: {text}"),
                ),
            }
        }
        servers
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

    fn mount(&mut self, mount: &Node, place: &str) -> Option<Mount> {
        let target = text(mount, "target")?;
        if !target.starts_with('/') {
            self.error(
                span_at(mount, "target"),
                format!("{place}: invalid mount path `{target}`: it must be absolute"),
            );
        }
        let kind = text(mount, "type")?;
        let options = mount.get(&kind);
        if !matches!(kind.as_str(), "bind" | "volume" | "tmpfs") {
            let what = format!("{place}: a mount of type {kind}");
            self.not_yet(span_at(mount, "type"), what);
            return None;
        }
        self.propagation(mount, place);
        let source = match kind.as_str() {
            "bind" => MountSource::Bind {
                source: text(mount, "source")?.into(),
                create_host_path: options
                    .and_then(|bind| boolean(bind, "create_host_path"))
                    .unwrap_or(true),
                propagation: options
                    .and_then(|bind| text(bind, "propagation"))
                    .filter(|propagation| !propagation.is_empty()),
            },
            "volume" => MountSource::Volume {
                source: match text(mount, "source").filter(|source| !source.is_empty()) {
                    // An invalid one is reported as undefined.
                    Some(source) => Some(VolumeKey::new(&source).ok()?),
                    None => None,
                },
                copy: !options
                    .and_then(|volume| boolean(volume, "nocopy"))
                    .unwrap_or_default(),
                subpath: options.and_then(|volume| text(volume, "subpath")),
            },
            _ => MountSource::Tmpfs {
                size_bytes: options.and_then(|tmpfs| self.bytes(tmpfs, "size", place)),
                mode: options.and_then(|tmpfs| unsigned(tmpfs, "mode")),
            },
        };
        Some(Mount {
            source,
            target,
            read_only: boolean(mount, "read_only").unwrap_or_default(),
        })
    }

    /// Reports a propagation that is none.
    fn propagation(&mut self, mount: &Node, place: &str) {
        const WORDS: [&str; 6] = [
            "private", "rprivate", "shared", "rshared", "slave", "rslave",
        ];
        let Some(written) = mount.get("bind").and_then(|bind| bind.get("propagation")) else {
            return;
        };
        let word = written.as_str().unwrap_or_default();
        if !word.is_empty() && !WORDS.contains(&word) {
            self.obstacle(
                Diagnostic::error(
                    written.span,
                    format!(
                        "{place}: invalid propagation `{word}`: it must be one of {}",
                        WORDS.join(", ")
                    ),
                )
                .suggest(word, WORDS),
            );
        }
    }

    /// `tmpfs: /target[:option,…]`.
    fn tmpfs(&mut self, node: &Node, place: &str) -> Option<Mount> {
        let written = node.as_str()?;
        let (target, options) = written.split_once(':').unwrap_or((written, ""));
        if !target.starts_with('/') {
            self.error(
                node.span,
                format!("{place}: invalid mount path `{target}`: it must be absolute"),
            );
        }
        let (mut size_bytes, mut mode, mut read_only) = (None, None, false);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "rw" => read_only = false,
                "ro" => read_only = true,
                "noexec" | "nosuid" | "nodev" => {}
                "size" => {
                    size_bytes =
                        units::parse_bytes(value).and_then(|bytes| u64::try_from(bytes).ok());
                    if size_bytes.is_none() {
                        self.error(node.span, format!("{place}: invalid size `{value}`"));
                    }
                }
                "mode" => {
                    mode = units::parse_mode(value);
                    if mode.is_none() {
                        self.error(node.span, format!("{place}: invalid mode `{value}`"));
                    }
                }
                _ => self.not_yet(node.span, format!("{place}: the option `{option}`")),
            }
        }
        Some(Mount {
            source: MountSource::Tmpfs { size_bytes, mode },
            target: crate::spec::canonical::paths::clean(target),
            read_only,
        })
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

fn build(node: &Node) -> Build {
    let args = entries(mapping(node, "args")).iter();
    Build {
        context: text(node, "context").unwrap_or_default().into(),
        dockerfile: text(node, "dockerfile")
            .unwrap_or_else(|| "Dockerfile".to_owned())
            .into(),
        dockerfile_inline: text(node, "dockerfile_inline"),
        args: args
            .map(|entry| {
                (
                    entry.key.to_string(),
                    entry.value.as_str().map(str::to_owned),
                )
            })
            .collect(),
        target: text(node, "target"),
        more: Box::new(build_more(node)),
    }
}

/// Decodes what few builds say.
fn build_more(node: &Node) -> BuildMore {
    let is_on = |key| boolean(node, key).unwrap_or_default();
    let hosts = texts(node, "extra_hosts");
    let hosts = hosts.iter().filter_map(|line| line.split_once('='));
    let secrets = items(node, "secrets").filter_map(|grant| {
        let source = text(grant, "source")?;
        let id = text(grant, "target").unwrap_or_else(|| source.clone());
        Some(BuildSecret { source, id })
    });
    BuildMore {
        additional_contexts: text_map(node, "additional_contexts"),
        cache_from: texts(node, "cache_from"),
        cache_to: texts(node, "cache_to"),
        provenance: text(node, "provenance").unwrap_or_default(),
        sbom: text(node, "sbom").unwrap_or_default(),
        ssh: texts(node, "ssh"),
        entitlements: texts(node, "entitlements"),
        extra_hosts: hosts
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect(),
        labels: text_map(node, "labels"),
        network: text(node, "network"),
        no_cache: is_on("no_cache"),
        no_cache_filter: texts(node, "no_cache_filter"),
        platforms: texts(node, "platforms"),
        privileged: is_on("privileged"),
        pull: is_on("pull"),
        secrets: secrets.collect(),
        shm_bytes: text(node, "shm_size")
            .and_then(|bytes| bytes.parse().ok())
            .filter(|bytes| *bytes > 0),
        tags: texts(node, "tags"),
        ulimits: ulimits(node),
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

fn ulimits(node: &Node) -> BTreeMap<String, Ulimit> {
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

impl Decoder<'_> {
    /// Decodes `secrets` or `configs` of a service.
    fn grants(&mut self, node: &Node, key: &str, place: &str) -> Vec<FileGrant> {
        let directory = if key == "secrets" {
            "/run/secrets/"
        } else {
            "/"
        };
        let mut grants = Vec::new();
        for (index, grant) in items(node, key).enumerate() {
            let Some(source) = text(grant, "source") else {
                continue;
            };
            let target = text(grant, "target").unwrap_or_else(|| source.clone());
            let target = if target.starts_with('/') {
                target
            } else {
                format!("{directory}{target}")
            };
            let mut number = |field: &str| {
                let written = text(grant, field)?;
                let number = written.parse().ok();
                if number.is_none() {
                    let message =
                        format!("{place}.{key}.{index}.{field}: `{written}` is not a number");
                    let hint = "names of the container's users and groups are not known here";
                    self.diagnostics
                        .push(Diagnostic::error(span_at(grant, field), message).hint(hint));
                }
                number
            };
            let (uid, gid) = (number("uid"), number("gid"));
            grants.push(FileGrant {
                source,
                target,
                uid,
                gid,
                mode: text(grant, "mode").and_then(|mode| units::parse_mode(&mode)),
            });
        }
        grants
    }
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
