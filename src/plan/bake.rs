//! The builds of a stack as a file of `docker buildx bake`: `build --print`, as Docker Compose prints it. Pure.

use serde_json::{Map, Value, json};

use super::Plan;
use super::action::{Action, BuildImage};

/// Renders the builds of a plan: a target each, by the name of the service.
pub fn file(plan: &Plan) -> Value {
    let builds = plan.steps.iter().filter_map(|step| match &step.action {
        Action::BuildImage(build) => Some(build),
        _ => None,
    });
    let (mut names, mut targets) = (Vec::new(), Map::new());
    for build in builds {
        let name = build.service.to_string();
        targets.insert(name.clone(), target(build));
        names.push(name);
    }
    json!({ "group": { "default": { "targets": names } }, "target": targets })
}

/// Renders one build.
fn target(build: &BuildImage) -> Value {
    let (asked, more) = (&build.build, &build.build.more);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| {
        let is_nothing = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        };
        if !is_nothing {
            object.insert(key.to_owned(), value);
        }
    };
    let mut tags = vec![build.image.clone()];
    tags.extend(more.tags.iter().cloned());
    let contexts = more.additional_contexts.iter();
    let contexts: Map<String, Value> = contexts
        .map(|(name, value)| match value.strip_prefix("service:") {
            Some(service) => (name.clone(), json!(format!("target:{service}"))),
            None => (name.clone(), json!(value)),
        })
        .collect();
    let secrets = more.secrets.iter();
    let secrets: Vec<String> = secrets.map(|secret| format!("id={}", secret.id)).collect();
    let hosts = more.extra_hosts.iter();
    let hosts: Map<String, Value> = hosts
        .map(|(name, address)| (name.clone(), json!(address)))
        .collect();
    let ulimits = more.ulimits.iter();
    let ulimits: Vec<String> = ulimits
        .map(|(name, limit)| format!("{name}={}:{}", limit.soft, limit.hard))
        .collect();
    let platforms = match &build.platform {
        Some(platform) => vec![platform.clone()],
        None => more.platforms.clone(),
    };
    put("context", json!(asked.context));
    put("contexts", Value::Object(contexts));
    match &asked.dockerfile_inline {
        Some(text) => put("dockerfile-inline", json!(text)),
        None => put("dockerfile", json!(asked.dockerfile)),
    }
    put("args", json!(asked.args));
    put("labels", json!(more.labels));
    put("tags", json!(tags));
    put("cache-from", json!(more.cache_from));
    put("cache-to", json!(more.cache_to));
    put("target", json!(asked.target));
    put("secret", json!(secrets));
    put("ssh", json!(more.ssh));
    put("platforms", json!(platforms));
    put("pull", json!(more.pull));
    put("no-cache", json!(more.no_cache));
    put("no-cache-filter", json!(more.no_cache_filter));
    put("network", json!(more.network));
    put(
        "shm-size",
        json!(more.shm_bytes.map(|bytes| bytes.to_string())),
    );
    put("ulimits", json!(ulimits));
    put("extra-hosts", Value::Object(hosts));
    put("entitlements", json!(more.entitlements));
    put("output", json!(["type=docker"]));
    Value::Object(object)
}
