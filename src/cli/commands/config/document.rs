//! Changes to the rendered project, each a function of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Keeps these services; all where that is `None`.
pub(super) fn keep_services(project: &mut Value, names: Option<&[String]>) {
    if let (Some(names), Some(services)) = (names, section_mut(project, "services")) {
        services.retain(|name, _| names.contains(name));
    }
}

/// Leaves out the networks, volumes, secrets, configs and models that no service uses, as Docker Compose does.
pub(super) fn drop_unused(project: &mut Value) {
    let used: Vec<(&str, BTreeSet<String>)> = {
        let services: Vec<&Value> = section(project, "services")
            .map(|services| services.values().collect())
            .unwrap_or_default();
        vec![
            (
                "networks",
                of_all(&services, |service| keys(service, "networks")),
            ),
            ("volumes", of_all(&services, named_volumes)),
            ("secrets", of_all(&services, secrets)),
            (
                "configs",
                of_all(&services, |service| sources(service, "configs")),
            ),
            (
                "models",
                of_all(&services, |service| keys(service, "models")),
            ),
        ]
    };
    for (name, used) in used {
        let Some(resources) = section_mut(project, name) else {
            continue;
        };
        resources.retain(|key, _| used.contains(key));
        if resources.is_empty()
            && let Value::Object(fields) = project
        {
            fields.remove(name);
        }
    }
}

/// Leaves out the files that were read into the services.
pub(super) fn drop_read_files(project: &mut Value) {
    for service in section_mut(project, "services")
        .into_iter()
        .flat_map(Map::values_mut)
    {
        if let Value::Object(service) = service {
            service.remove("env_file");
            service.remove("label_file");
        }
    }
}

/// Leaves out what only the JSON form says: absences.
pub(super) fn as_yaml(project: &Value) -> Value {
    crate::spec::render::without_absences(project.clone())
}

/// Returns the image of each service that has one.
pub(super) fn images(project: &Value) -> BTreeMap<String, String> {
    let services = section(project, "services").into_iter().flatten();
    services
        .filter_map(|(name, service)| {
            let image = service.get("image")?.as_str()?;
            Some((name.clone(), image.to_owned()))
        })
        .collect()
}

/// Puts pinned references in the place of the images that they are of.
pub(super) fn pin_images(project: &mut Value, pinned: &BTreeMap<String, String>) {
    for service in section_mut(project, "services")
        .into_iter()
        .flat_map(Map::values_mut)
    {
        if let Some(image) = service.get_mut("image")
            && let Some(pinned) = image.as_str().and_then(|image| pinned.get(image))
        {
            *image = Value::String(pinned.clone());
        }
    }
}

/// Returns an override file that says the images alone.
pub(super) fn images_only(project: &Value) -> Value {
    let services = images(project)
        .into_iter()
        .map(|(name, image)| (name, serde_json::json!({ "image": image })));
    let services: Map<String, Value> = services.collect();
    serde_json::json!({ "services": services })
}

fn section<'p>(project: &'p Value, name: &str) -> Option<&'p Map<String, Value>> {
    project.get(name)?.as_object()
}

fn section_mut<'p>(project: &'p mut Value, name: &str) -> Option<&'p mut Map<String, Value>> {
    project.get_mut(name)?.as_object_mut()
}

fn of_all(services: &[&Value], of: impl Fn(&Value) -> Vec<String>) -> BTreeSet<String> {
    services.iter().flat_map(|service| of(service)).collect()
}

fn keys(service: &Value, key: &str) -> Vec<String> {
    let object = service.get(key).and_then(Value::as_object);
    object
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect()
}

fn items<'s>(holder: &'s Value, key: &str) -> impl Iterator<Item = &'s Value> {
    holder
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn sources(holder: &Value, key: &str) -> Vec<String> {
    items(holder, key)
        .filter_map(|item| item.get("source")?.as_str())
        .map(str::to_owned)
        .collect()
}

fn secrets(service: &Value) -> Vec<String> {
    let mut all = sources(service, "secrets");
    all.extend(
        service
            .get("build")
            .into_iter()
            .flat_map(|build| sources(build, "secrets")),
    );
    all
}

fn named_volumes(service: &Value) -> Vec<String> {
    items(service, "volumes")
        .filter(|mount| mount.get("type").and_then(Value::as_str) == Some("volume"))
        .filter_map(|mount| mount.get("source")?.as_str())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_services_use_stays() {
        let mut project = json!({
            "services": {
                "web": {
                    "networks": {"front": null},
                    "volumes": [{"type": "volume", "source": "data"}, {"type": "bind", "source": "other"}],
                    "secrets": [{"source": "a"}],
                    "build": {"secrets": [{"source": "b"}]},
                },
                "db": {"networks": {"back": null}},
            },
            "networks": {"front": {}, "back": {}},
            "volumes": {"data": {}, "other": {}},
            "secrets": {"a": {}, "b": {}, "c": {}},
            "configs": {"x": {}},
        });
        keep_services(&mut project, Some(&["web".to_owned()]));
        drop_unused(&mut project);
        let sections: Vec<(String, Vec<String>)> = project
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, section)| {
                (
                    name.clone(),
                    section.as_object().unwrap().keys().cloned().collect(),
                )
            })
            .collect();
        let expected = [
            ("networks", vec!["front"]),
            ("secrets", vec!["a", "b"]),
            ("services", vec!["web"]),
            ("volumes", vec!["data"]),
        ];
        let expected: Vec<(String, Vec<String>)> = expected
            .into_iter()
            .map(|(name, keys)| {
                (
                    name.to_owned(),
                    keys.into_iter().map(str::to_owned).collect(),
                )
            })
            .collect();
        assert_eq!(sections, expected);
    }

    #[test]
    fn a_lock_file_says_nothing_but_images() {
        let mut project = json!({"name": "demo", "services": {"a": {"image": "x", "tty": true}, "b": {"build": {}}}});
        pin_images(
            &mut project,
            &BTreeMap::from([("x".to_owned(), "x@sha256:1".to_owned())]),
        );
        assert_eq!(
            images_only(&project),
            json!({"services": {"a": {"image": "x@sha256:1"}}})
        );
    }
}
