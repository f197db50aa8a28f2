//! The builds of a stack as a file of `docker buildx bake`: `build --print`, as Docker Compose prints it
//! (docker/compose `pkg/compose/build_bake.go`). Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::naming;
use crate::spec::model::Stack;
use crate::spec::model::build::{Build, BuildSecret};
use crate::spec::model::service::{Service, Ulimit};
use crate::spec::model::volume::FileObject;
use crate::spec::names::ServiceName;

/// What the command says beside the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BakeOptions {
    /// Build arguments over the file's; without a value they are not there.
    pub args: BTreeMap<String, Option<String>>,
    /// Where arguments of the file without a value come from.
    pub environment: BTreeMap<String, String>,
    /// Agents beside the file's.
    pub ssh: Vec<String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// Push what has a name of its own.
    pub push: bool,
    /// Look for what is not wise in place of building.
    pub check: bool,
}

/// Renders the builds of `services`, a target each, and what cannot be said in such a file.
pub fn file(
    stack: &Stack,
    services: &[(&ServiceName, &Service)],
    options: &BakeOptions,
) -> (Value, Vec<String>) {
    let names = target_names(services);
    let mut bake = Bake {
        stack,
        names: &names,
        options,
        warnings: Vec::new(),
    };
    let mut targets = Map::new();
    for (name, service) in services {
        if let (Some(build), Some(target)) = (&service.build, names.get(name.as_str())) {
            let rendered = bake.target(name, service, build);
            targets.insert(target.clone(), Value::Object(rendered));
        }
    }
    let chosen: Vec<&String> = names.values().collect();
    let text = json!({ "group": { "default": { "targets": chosen } }, "target": targets });
    (text, bake.warnings)
}

/// Names the target of each service: a dot may not be in it.
fn target_names(services: &[(&ServiceName, &Service)]) -> BTreeMap<String, String> {
    let sorted: BTreeSet<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for service in sorted {
        let mut target = service.replace('.', "_");
        while names.values().any(|taken| *taken == target) {
            target.push('_');
        }
        names.insert(service.to_owned(), target);
    }
    names
}

/// What all targets are rendered with.
struct Bake<'a> {
    stack: &'a Stack,
    names: &'a BTreeMap<String, String>,
    options: &'a BakeOptions,
    warnings: Vec<String>,
}

impl Bake<'_> {
    /// Renders one build.
    fn target(
        &mut self,
        name: &ServiceName,
        service: &Service,
        build: &Build,
    ) -> Map<String, Value> {
        let (more, options) = (&build.more, self.options);
        let image = naming::image_reference(self.stack, name, service);
        let mut tags = more.tags.clone();
        tags.push(image);
        let labels =
            naming::resource_labels(self.stack, naming::SERVICE, name.as_str(), &more.labels);
        let dockerfile = match &build.dockerfile_inline {
            None if build.context.is_absolute() => Some(build.context.join(&build.dockerfile)),
            None => Some(build.dockerfile.clone()),
            Some(_) => None,
        };
        let platforms = match &service.platform {
            Some(platform) if more.platforms.is_empty() => vec![platform.clone()],
            _ => more.platforms.clone(),
        };
        let mut entitlements = more.entitlements.clone();
        if more.privileged {
            entitlements.push("security.insecure".to_owned());
        }
        let ssh = more.ssh.iter().chain(&options.ssh).map(|agent| {
            let (id, path) = agent.split_once('=').unwrap_or((agent, ""));
            format!("{id}={path}")
        });
        let hosts = more.extra_hosts.iter();
        let hosts = hosts.fold(BTreeMap::new(), |mut all, (name, address)| {
            let known: &mut Vec<&str> = all.entry(name.as_str()).or_default();
            known.push(address);
            all
        });
        let hosts: BTreeMap<&str, String> = hosts
            .into_iter()
            .map(|(n, all)| (n, all.join(",")))
            .collect();
        let ulimits = more.ulimits.iter().map(|(name, limit)| ulimit(name, limit));
        let attest = [("provenance", &more.provenance), ("sbom", &more.sbom)];
        let attest = attest
            .iter()
            .filter_map(|(kind, said)| attested(kind, said));
        let secrets = more.secrets.iter();
        let secrets: Vec<String> = secrets.filter_map(|s| self.secret(name, s)).collect();
        let (output, call) = output(service, more.platforms.len(), options);
        let all = [
            ("context", json!(build.context)),
            ("contexts", json!(self.contexts(build))),
            ("dockerfile", json!(dockerfile)),
            ("dockerfile-inline", json!(build.dockerfile_inline)),
            ("args", json!(self.args(build))),
            ("labels", json!(labels)),
            ("tags", json!(tags)),
            ("cache-from", json!(more.cache_from)),
            ("cache-to", json!(more.cache_to)),
            ("target", json!(build.target)),
            ("secret", json!(secrets)),
            ("ssh", json!(ssh.collect::<Vec<_>>())),
            ("platforms", json!(platforms)),
            ("pull", json!(more.pull || options.pull)),
            ("no-cache", json!(more.no_cache || options.no_cache)),
            ("network", json!(more.network)),
            ("no-cache-filter", json!(more.no_cache_filter)),
            ("shm-size", json!(more.shm_bytes.map(|b| b.to_string()))),
            ("ulimits", json!(ulimits.collect::<Vec<_>>())),
            ("call", json!(call)),
            ("entitlements", json!(entitlements)),
            ("extra-hosts", json!(hosts)),
            ("output", json!(output)),
            ("attest", json!(attest.collect::<Vec<_>>())),
        ];
        let said = all.into_iter().filter(|(_, value)| !is_nothing(value));
        said.map(|(key, value)| (key.to_owned(), escaped(value)))
            .collect()
    }

    /// Returns the build arguments that have a value.
    fn args(&self, build: &Build) -> BTreeMap<String, String> {
        let options = self.options;
        let mut all = build.args.clone();
        all.extend(options.args.clone());
        let valued = all.into_iter().filter_map(|(name, value)| {
            let value = value.or_else(|| options.environment.get(&name).cloned());
            Some((name, value?))
        });
        valued.collect()
    }

    /// Returns the named contexts; the image of a service is another target.
    fn contexts(&self, build: &Build) -> BTreeMap<String, String> {
        let contexts = build.more.additional_contexts.iter();
        let contexts = contexts.map(|(name, value)| {
            let service = value.strip_prefix("service:");
            let target = service.and_then(|service| self.names.get(service));
            let value = target.map_or_else(|| value.clone(), |target| format!("target:{target}"));
            (name.clone(), value)
        });
        contexts.collect()
    }

    /// Says where a secret comes from; one that is written in the file itself comes from nowhere that bake knows.
    fn secret(&mut self, service: &ServiceName, secret: &BuildSecret) -> Option<String> {
        let BuildSecret { source, id } = secret;
        match self.stack.secrets.get(source)? {
            FileObject::File(path) => Some(format!("id={id},type=file,src={}", path.display())),
            FileObject::Environment(variable) => Some(format!("id={id},type=env,env={variable}")),
            FileObject::Content(_) => {
                self.warnings.push(format!(
                    "secret `{source}` of service `{service}` is left out: its content stands in the Compose file, which bake has no way to say"
                ));
                None
            }
        }
    }
}

/// Says where the image goes, or that the Dockerfile is only looked at.
fn output(
    service: &Service,
    platforms: usize,
    options: &BakeOptions,
) -> (Vec<String>, Option<&'static str>) {
    let push = options.push && service.image.is_some();
    if options.check {
        return (Vec::new(), Some("lint"));
    }
    let output = match (platforms > 1, push) {
        (true, push) => format!("type=image,push={push}"),
        (false, true) => "type=registry".to_owned(),
        (false, false) => "type=docker".to_owned(),
    };
    (vec![output], None)
}

fn ulimit(name: &str, limit: &Ulimit) -> String {
    let Ulimit { soft, hard } = limit;
    if soft == hard && *soft > 0 {
        format!("{name}={soft}")
    } else {
        format!("{name}={soft}:{hard}")
    }
}

/// Renders what is asked to be attested.
fn attested(kind: &str, said: &str) -> Option<String> {
    match said {
        "" => None,
        "true" => Some(format!("type={kind}")),
        "false" => Some(format!("type={kind},disabled=true")),
        said => Some(format!("type={kind},{said}")),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Doubles what begins a template in HCL, of which bake's strings are (hcl `json/spec.md`).
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("${", "$${").replace("%{", "%%{")),
        Value::Array(list) => list.into_iter().map(escaped).collect(),
        Value::Object(map) => {
            let map = map.into_iter();
            Value::Object(map.map(|(key, value)| (key, escaped(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_escaped() {
        let value = json!({"a": ["$x ${x} $${x} %{if}", 1], "b": true});
        assert_eq!(
            escaped(value),
            json!({"a": ["$x $${x} $$${x} %%{if}", 1], "b": true})
        );
    }

    #[test]
    fn limits_and_attestations_are_as_docker_compose_writes_them() {
        let limit = |soft, hard| ulimit("nofile", &Ulimit { soft, hard });
        assert_eq!(limit(5, 5), "nofile=5");
        assert_eq!(limit(5, 6), "nofile=5:6");
        assert_eq!(limit(-1, -1), "nofile=-1:-1");
        let table = [
            ("", None),
            ("true", Some("type=sbom")),
            ("false", Some("type=sbom,disabled=true")),
            ("generator=x", Some("type=sbom,generator=x")),
        ];
        for (said, expected) in table {
            assert_eq!(attested("sbom", said).as_deref(), expected, "{said}");
        }
    }
}
