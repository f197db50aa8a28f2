//! `docker inspect` of a container, as far as its records say (moby `api/types/container`, `InspectResponse`).

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::node::{Node, null, object};
use super::{GraphDriver, RunInspect, keys};
use crate::engine::Engine;
use crate::engine::annotations::Annotations;
use crate::engine::error::EngineError;
use crate::engine::snapshot::run_config;
use crate::images::manifest::ImageConfig;
use crate::net::config::Protocol;
use crate::net::record::NetworkRecord;
use crate::runtime::config::{ContainerConfig, MountSource, Namespace, RestartPolicy, Seccomp};
use crate::runtime::record::{HealthStatus, Timestamp};
use crate::runtime::status::{Container, Status};

/// Go's zero time, for what never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container in Docker's words and order.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ContainerInspect(Node);

impl Engine {
    /// Describes a container (a name or the beginning of an id).
    pub fn inspect_container(&self, key: &str) -> Result<ContainerInspect, EngineError> {
        let container = self.container(key)?;
        let config = container.config();
        let image = self.images.find_id(&config.image.id)?;
        let annotations = Annotations::of(config).unwrap_or_default();
        let layout = self.runtime.layout();
        let etc = layout.etc(container.id());
        let path = |path: PathBuf| Node::from(path.to_string_lossy().into_owned());
        let (program, arguments) = config.process.args.split_first().unzip();
        let upper = self.upper(&container);
        let tree = upper.parent().unwrap_or(Path::new(""));
        let graph = GraphDriver::overlay(tree, &upper, &layout.lowers(config));
        Ok(ContainerInspect(object([
            ("Id", container.id().as_str().into()),
            ("Created", time(container.record.created)),
            ("Path", program.cloned().unwrap_or_default().into()),
            ("Args", arguments.unwrap_or_default().to_vec().into()),
            ("State", state(&container)),
            ("Image", config.image.id.clone().into()),
            ("ResolvConfPath", path(etc.join("resolv.conf"))),
            ("HostnamePath", path(etc.join("hostname"))),
            ("HostsPath", path(etc.join("hosts"))),
            ("LogPath", path(layout.log(container.id()))),
            ("Name", format!("/{}", config.name).into()),
            ("RestartCount", container.restarts.into()),
            ("Driver", "overlay2".into()),
            ("Platform", "linux".into()),
            ("MountLabel", "".into()),
            ("ProcessLabel", "".into()),
            ("AppArmorProfile", "".into()),
            ("ExecIDs", null()),
            ("HostConfig", host_config(config, &annotations)),
            ("GraphDriver", Node::GraphDriver(graph)),
            ("Mounts", mounts(config, &annotations)),
            (
                "Config",
                Node::Run(Box::new(run(
                    &container,
                    image.as_ref().map(|image| &image.config),
                ))),
            ),
            (
                "NetworkSettings",
                self.network_settings(&container, &annotations)?,
            ),
        ])))
    }

    fn network_settings(
        &self,
        container: &Container,
        annotations: &Annotations,
    ) -> Result<Node, EngineError> {
        let id = container.id().as_str();
        let published = self.net.published(id)?;
        let mut ports: Vec<(String, Node)> = Vec::new();
        for port in &annotations.ports {
            let key = port_key(port.container_port, port.protocol);
            let of_port = published
                .iter()
                .filter(|p| (p.container_port, p.protocol) == (port.container_port, port.protocol));
            let bindings = of_port.map(|port| {
                object([
                    ("HostIp", port.host.ip().to_string().into()),
                    ("HostPort", port.host.port().to_string().into()),
                ])
            });
            let bindings: Vec<Node> = bindings.collect();
            if ports.iter().all(|(known, _)| *known != key)
                && matches!(container.status, Status::Running { .. })
            {
                ports.push((key, Node::List(bindings)));
            }
        }
        ports.sort_by(|a, b| a.0.cmp(&b.0));
        let addresses = self.net.addresses(id)?;
        let records = self.net.networks()?;
        let networks = annotations.endpoints.iter().map(|endpoint| {
            let record = records
                .iter()
                .find(|record| record.config.name == endpoint.network);
            let address = addresses.get(&endpoint.network).map(ToString::to_string);
            (
                endpoint.network.clone(),
                network(record, address, &endpoint.names),
            )
        });
        let first = annotations
            .endpoints
            .first()
            .and_then(|endpoint| addresses.get(&endpoint.network));
        Ok(object([
            ("Bridge", "".into()),
            ("SandboxID", id.into()),
            (
                "SandboxKey",
                container
                    .pid()
                    .map_or_else(String::new, |pid| format!("/proc/{pid}/ns/net"))
                    .into(),
            ),
            ("Ports", Node::Object(ports)),
            (
                "IPAddress",
                first.map_or_else(String::new, ToString::to_string).into(),
            ),
            ("Networks", object(networks)),
        ]))
    }
}

/// Describes a place in a network.
fn network(record: Option<&NetworkRecord>, address: Option<String>, names: &[String]) -> Node {
    let subnet = record.and_then(|record| record.subnets.first());
    object([
        ("IPAMConfig", null()),
        ("Links", null()),
        ("Aliases", names.to_vec().into()),
        (
            "NetworkID",
            record
                .map_or_else(String::new, |record| record.config.name.clone())
                .into(),
        ),
        (
            "Gateway",
            subnet
                .map_or_else(String::new, |subnet| subnet.gateway.to_string())
                .into(),
        ),
        ("IPAddress", address.unwrap_or_default().into()),
        (
            "IPPrefixLen",
            subnet.map_or(0, |subnet| subnet.range.prefix()).into(),
        ),
        ("DNSNames", names.to_vec().into()),
    ])
}

fn port_key(port: u16, protocol: Protocol) -> String {
    format!("{port}/{}", protocol.name())
}

fn time(at: Timestamp) -> Node {
    at.to_string().into()
}

fn state(container: &Container) -> Node {
    let (status, exit, error) = match &container.status {
        Status::Created { error } => ("created", None, error.clone()),
        Status::Running { .. } => ("running", None, None),
        Status::Restarting { last, .. } => ("restarting", Some(*last), None),
        Status::Exited(exit) => ("exited", Some(*exit), None),
        Status::Removing => ("removing", None, None),
    };
    let started = match &container.status {
        Status::Running { started, .. } => Some(*started),
        _ => exit.map(|exit| exit.started),
    };
    let code = exit
        .map(|exit| exit.code)
        .or_else(|| error.as_ref().map(|(code, _)| *code));
    let never = || Node::from(NEVER);
    let mut members: Vec<(&str, Node)> = vec![
        ("Status", status.into()),
        ("Running", matches!(status, "running" | "restarting").into()),
        ("Paused", false.into()),
        ("Restarting", (status == "restarting").into()),
        ("OOMKilled", exit.is_some_and(|exit| exit.oom).into()),
        ("Dead", false.into()),
        ("Pid", container.pid().unwrap_or(0).into()),
        ("ExitCode", code.unwrap_or(0).into()),
        (
            "Error",
            error.map(|(_, message)| message).unwrap_or_default().into(),
        ),
        ("StartedAt", started.map_or_else(never, time)),
        ("FinishedAt", exit.map_or_else(never, |exit| time(exit.at))),
    ];
    let health = container.health.as_ref().map(|health| {
        let status = match health.status {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        };
        let probes = health.probes.iter().map(|probe| {
            object([
                ("Start", time(probe.start)),
                ("End", time(probe.end)),
                ("ExitCode", probe.code.into()),
                ("Output", probe.output.clone().into()),
            ])
        });
        object([
            ("Status", status.into()),
            ("FailingStreak", health.failing_streak.into()),
            ("Log", Node::List(probes.collect())),
        ])
    });
    members.push(("Health", health.unwrap_or_else(null)));
    object(members)
}

fn host_config(config: &ContainerConfig, annotations: &Annotations) -> Node {
    let namespaces = &config.namespaces;
    let resolver = &annotations.resolver;
    let hosts = annotations.extra_hosts.iter();
    let hosts = hosts.map(|(name, address)| format!("{name}:{address}"));
    let sysctls = config.sysctls.iter();
    let sysctls = sysctls.map(|(key, value)| (key.clone(), value.clone().into()));
    let cpu = config.resources.cpu_milli.unwrap_or(0);
    let members: [(&str, Node); 28] = [
        ("Binds", list(binds(config))),
        ("LogConfig", log_config(config)),
        ("NetworkMode", network_mode(config, annotations).into()),
        ("PortBindings", port_bindings(annotations)),
        ("RestartPolicy", restart_policy(config)),
        ("AutoRemove", false.into()),
        ("CgroupnsMode", mode(&namespaces.cgroup, "private").into()),
        ("Dns", resolver.servers.clone().into()),
        ("DnsOptions", resolver.options.clone().into()),
        ("DnsSearch", resolver.search.clone().into()),
        ("ExtraHosts", list(hosts.collect())),
        ("GroupAdd", list(config.process.groups.clone())),
        ("IpcMode", mode(&namespaces.ipc, "private").into()),
        (
            "OomScoreAdj",
            config.process.oom_score_adj.unwrap_or(0).into(),
        ),
        ("PidMode", mode(&namespaces.pid, "").into()),
        ("Privileged", config.privileged.into()),
        ("ReadonlyRootfs", config.read_only.into()),
        ("SecurityOpt", list(security(config))),
        ("UTSMode", mode(&namespaces.uts, "").into()),
        ("UsernsMode", "".into()),
        ("ShmSize", config.shm_bytes.into()),
        ("Sysctls", object(sysctls)),
        ("Runtime", "stack".into()),
        ("Memory", config.resources.memory_bytes.unwrap_or(0).into()),
        ("NanoCpus", cpu.saturating_mul(1_000_000).into()),
        (
            "PidsLimit",
            config.resources.pids.map_or_else(null, Node::from),
        ),
        ("Ulimits", ulimits(config)),
        ("Init", config.process.init.into()),
    ];
    object(members)
}

/// A list that Docker has as `null` where it is empty.
fn list(list: Vec<String>) -> Node {
    if list.is_empty() { null() } else { list.into() }
}

fn mode(namespace: &Namespace, own: &str) -> String {
    match namespace {
        Namespace::Own => own.to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Container(id) => format!("container:{id}"),
    }
}

fn binds(config: &ContainerConfig) -> Vec<String> {
    let bind = |mount: &crate::runtime::config::Mount| match &mount.source {
        MountSource::Bind { path, .. } => {
            let access = if mount.read_only { "ro" } else { "rw" };
            Some(format!("{}:{}:{access}", path.display(), mount.target))
        }
        MountSource::Volume { .. } | MountSource::Layers { .. } | MountSource::Tmpfs { .. } => None,
    };
    config.mounts.iter().filter_map(bind).collect()
}

fn log_config(config: &ContainerConfig) -> Node {
    let options = object([
        ("max-file", config.log.max_files.to_string().into()),
        ("max-size", config.log.max_size_bytes.to_string().into()),
    ]);
    object([("Type", "json-file".into()), ("Config", options)])
}

fn network_mode(config: &ContainerConfig, annotations: &Annotations) -> String {
    match (&config.namespaces.network, annotations.endpoints.first()) {
        (Namespace::Own, Some(endpoint)) => endpoint.network.clone(),
        (other, _) => mode(other, "none"),
    }
}

fn restart_policy(config: &ContainerConfig) -> Node {
    let (name, retries) = match config.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", max_retries.unwrap_or(0)),
    };
    object([("Name", name.into()), ("MaximumRetryCount", retries.into())])
}

fn port_bindings(annotations: &Annotations) -> Node {
    let bindings = annotations.ports.iter().map(|port| {
        let host = match port.host_ports {
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
            None => String::new(),
        };
        let ip = port.host_ip.map_or_else(String::new, |ip| ip.to_string());
        let binding = object([("HostIp", ip.into()), ("HostPort", host.into())]);
        let key = port_key(port.container_port, port.protocol);
        (key, Node::List(vec![binding]))
    });
    object(bindings)
}

fn security(config: &ContainerConfig) -> Vec<String> {
    let mut options = Vec::new();
    if config.process.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    if config.process.seccomp == Seccomp::Unconfined {
        options.push("seccomp=unconfined".to_owned());
    }
    options
}

fn ulimits(config: &ContainerConfig) -> Node {
    // What is beyond Go's int64 is no limit, which Docker writes as -1.
    let number = |value: u64| i64::try_from(value).unwrap_or(-1);
    let limits = config.process.rlimits.iter().map(|limit| {
        object([
            ("Name", limit.name.clone().into()),
            ("Hard", number(limit.hard).into()),
            ("Soft", number(limit.soft).into()),
        ])
    });
    Node::List(limits.collect())
}

fn mounts(config: &ContainerConfig, annotations: &Annotations) -> Node {
    let names: Vec<&String> = annotations
        .named_volumes
        .iter()
        .chain(annotations.anonymous_volumes.values())
        .collect();
    let mounts = config.mounts.iter().map(|mount| {
        let (kind, source, propagation) = match &mount.source {
            MountSource::Bind { path, propagation } => {
                ("bind", path.display().to_string(), propagation.as_str())
            }
            MountSource::Volume { path, .. } => ("volume", path.display().to_string(), ""),
            MountSource::Layers { .. } => ("image", String::new(), ""),
            MountSource::Tmpfs { .. } => ("tmpfs", String::new(), ""),
        };
        let mut members: Vec<(&str, Node)> = vec![("Type", kind.into())];
        if kind == "volume" {
            let is_of = |name: &&&String| source.contains(&format!("/{name}/_data"));
            let name = names.iter().find(is_of).map_or("", |name| name.as_str());
            members.push(("Name", name.into()));
        }
        members.push(("Source", source.into()));
        members.push(("Destination", mount.target.clone().into()));
        if kind == "volume" {
            members.push(("Driver", "local".into()));
        }
        members.push(("Mode", if mount.read_only { "ro" } else { "" }.into()));
        members.push(("RW", (!mount.read_only).into()));
        members.push(("Propagation", propagation.into()));
        object(members)
    });
    Node::List(mounts.collect())
}

/// Returns what the container runs, beside what its image says of ports and volumes.
fn run(container: &Container, image: Option<&ImageConfig>) -> RunInspect {
    let config = container.config();
    let signal = crate::engine::lower::signals::name(config.stop_signal);
    let mut run = RunInspect::from(run_config(container));
    run.hostname.clone_from(&config.hostname);
    run.domainname = config.domainname.clone().unwrap_or_default();
    run.attach_stdout = true;
    run.attach_stderr = true;
    run.tty = config.process.tty;
    run.open_stdin = config.process.stdin_open;
    run.image.clone_from(&config.image.reference);
    run.stop_signal = signal;
    run.stop_timeout = Some(config.stop_timeout.as_secs());
    if let Some(image) = image {
        run.exposed_ports = keys(image.config.exposed_ports.iter().cloned());
        if !image.config.volumes.is_empty() {
            run.volumes = Some(keys(image.config.volumes.iter().cloned()));
        }
        run.on_build = None;
    }
    run
}
