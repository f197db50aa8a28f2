//! `stack ps`: Docker Compose's table, and its JSON with one object a line.

use serde_json::json;

use super::table::{self, shorten};
use crate::cli::time::{render_age, render_date};
use crate::engine::view::{ContainerView, HealthView, Publisher, StateView};

/// Columns that a command may have before it is cut.
const COMMAND_WIDTH: usize = 20;

/// Renders the table; `whole` leaves nothing out.
pub(crate) fn render_table(containers: &[ContainerView], now_s: i64, whole: bool) -> String {
    let header = [
        "NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS",
    ];
    let rows: Vec<Vec<String>> = containers
        .iter()
        .map(|container| {
            vec![
                container.name.clone(),
                container.image.clone(),
                render_command(&container.command, whole),
                container.service.clone(),
                render_ago(container.created_s, now_s),
                render_status(container, now_s),
                render_ports(&container.publishers),
            ]
        })
        .collect();
    table::render(&header, &rows, 10)
}

/// Renders one JSON object a line, with Docker Compose's keys (docker/cli `formatter.ContainerContext`).
pub(crate) fn render_json(containers: &[ContainerView], now_s: i64, whole: bool) -> String {
    let mut text = String::new();
    for container in containers {
        text.push_str(&object(container, now_s, whole).to_string());
        text.push('\n');
    }
    text
}

/// Returns the state's word: `running`, `exited`.
pub(crate) fn state_word(state: &StateView) -> &'static str {
    match state {
        StateView::Created => "created",
        StateView::Running { .. } => "running",
        StateView::Restarting { .. } => "restarting",
        StateView::Exited { .. } => "exited",
        StateView::Unknown => "dead",
    }
}

fn object(container: &ContainerView, now_s: i64, whole: bool) -> serde_json::Value {
    let publishers: Vec<serde_json::Value> = container
        .publishers
        .iter()
        .map(|port| {
            json!({
                "URL": port.url,
                "TargetPort": port.target_port,
                "PublishedPort": port.published_port,
                "Protocol": port.protocol,
            })
        })
        .collect();
    let labels: Vec<String> = container
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let networks: Vec<&str> = container.networks.keys().map(String::as_str).collect();
    let volumes = container
        .mounts
        .iter()
        .filter(|mount| !mount.starts_with('/'))
        .count();
    let id = if whole {
        &container.id
    } else {
        super::images::short_id(&container.id)
    };
    json!({
        "Command": render_command(&container.command, whole),
        "CreatedAt": render_date(container.created_s),
        "ExitCode": exit_code(&container.state),
        "Health": health_word(container.health),
        "ID": id,
        "Image": container.image,
        "Labels": labels.join(","),
        "LocalVolumes": volumes.to_string(),
        "Mounts": container.mounts.join(","),
        "Name": container.name,
        "Names": container.name,
        "Networks": networks.join(","),
        "Ports": render_ports(&container.publishers),
        "Project": container.project,
        "Publishers": publishers,
        "RunningFor": render_ago(container.created_s, now_s),
        "Service": container.service,
        "Size": "0B",
        "State": state_word(&container.state),
        "Status": render_status(container, now_s),
    })
}

fn exit_code(state: &StateView) -> i32 {
    match state {
        StateView::Restarting { code } => *code,
        // An exit code that could not be learnt is no success.
        StateView::Exited { code, .. } => code.unwrap_or(-1),
        StateView::Created | StateView::Running { .. } | StateView::Unknown => 0,
    }
}

fn health_word(health: Option<HealthView>) -> &'static str {
    match health {
        None => "",
        Some(HealthView::Starting) => "starting",
        Some(HealthView::Healthy) => "healthy",
        Some(HealthView::Unhealthy) => "unhealthy",
    }
}

fn render_ago(then_s: i64, now_s: i64) -> String {
    format!("{} ago", render_age(now_s.saturating_sub(then_s)))
}

fn render_status(container: &ContainerView, now_s: i64) -> String {
    match &container.state {
        StateView::Created => "Created".to_owned(),
        StateView::Running { since_s } => {
            let age = render_age(now_s.saturating_sub(*since_s));
            match container.health {
                None => format!("Up {age}"),
                Some(HealthView::Starting) => format!("Up {age} (health: starting)"),
                Some(health) => format!("Up {age} ({})", health_word(Some(health))),
            }
        }
        StateView::Restarting { code } => format!("Restarting ({code})"),
        StateView::Exited { code, at_s } => {
            let code = code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
            format!("Exited ({code}) {}", render_ago(*at_s, now_s))
        }
        StateView::Unknown => "Dead".to_owned(),
    }
}

fn render_command(command: &[String], whole: bool) -> String {
    let joined = command.join(" ");
    let shown = if whole {
        joined
    } else {
        shorten(&joined, COMMAND_WIDTH)
    };
    format!(
        "\"{}\"",
        shown
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    )
}

/// Renders ports as Docker's lists do, neighbouring ones as a range: `0.0.0.0:8000-8001->80-81/tcp, 9000/udp`.
fn render_ports(publishers: &[Publisher]) -> String {
    let mut ports: Vec<&Publisher> = publishers.iter().collect();
    ports.sort_by_key(|port| {
        (
            port.url.contains(':'),
            &port.url,
            port.protocol,
            port.target_port,
            port.published_port,
        )
    });
    let mut ranges: Vec<(&Publisher, u16)> = Vec::new();
    for port in ports {
        if let Some((first, length)) = ranges.last_mut()
            && follows(first, *length, port)
        {
            *length += 1;
            continue;
        }
        ranges.push((port, 0));
    }
    let range = |first: u16, length: u16| match length {
        0 => first.to_string(),
        length => format!("{first}-{}", first.saturating_add(length)),
    };
    let shown: Vec<String> = ranges
        .iter()
        .map(|(port, length)| {
            let target = format!("{}/{}", range(port.target_port, *length), port.protocol);
            if port.published_port == 0 {
                return target;
            }
            let address = if port.url.contains(':') {
                format!("[{}]", port.url)
            } else {
                port.url.clone()
            };
            format!(
                "{address}:{}->{target}",
                range(port.published_port, *length)
            )
        })
        .collect();
    shown.join(", ")
}

/// Whether `port` is the next one after a range of `length` further ports.
fn follows(first: &Publisher, length: u16, port: &Publisher) -> bool {
    let next = |start: u16| {
        start
            .checked_add(length)
            .and_then(|last| last.checked_add(1))
    };
    let published = match first.published_port {
        0 => Some(0),
        start => next(start),
    };
    first.url == port.url
        && first.protocol == port.protocol
        && next(first.target_port) == Some(port.target_port)
        && published == Some(port.published_port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use insta::assert_snapshot;

    use super::*;

    const NOW: i64 = 1_700_000_200;

    fn port(url: &str, published_port: u16, target_port: u16) -> Publisher {
        Publisher {
            url: url.to_owned(),
            target_port,
            published_port,
            protocol: "tcp",
        }
    }

    fn container(name: &str, state: StateView) -> ContainerView {
        ContainerView {
            id: "0123456789abcdef".repeat(4),
            name: format!("hello-{name}-1"),
            project: "hello".to_owned(),
            service: name.to_owned(),
            number: 1,
            image: "busybox:latest".to_owned(),
            command: vec![
                "httpd".to_owned(),
                "-f".to_owned(),
                "-h".to_owned(),
                "/srv/\"www\"".to_owned(),
            ],
            created_s: 1_700_000_000,
            state,
            health: None,
            publishers: Vec::new(),
            networks: BTreeMap::from([("hello_default".to_owned(), "10.0.0.2".to_owned())]),
            labels: BTreeMap::from([("com.docker.compose.project".to_owned(), "hello".to_owned())]),
            mounts: vec!["hello_data".to_owned(), "/srv".to_owned()],
        }
    }

    #[test]
    fn table() {
        let since_s = 1_700_000_080;
        let containers = [
            ContainerView {
                health: Some(HealthView::Starting),
                publishers: vec![port("0.0.0.0", 8080, 80), port("::", 8080, 80)],
                ..container("web", StateView::Running { since_s })
            },
            ContainerView {
                health: Some(HealthView::Unhealthy),
                ..container("db", StateView::Running { since_s })
            },
            container("plain", StateView::Running { since_s: NOW - 1 }),
            container(
                "job",
                StateView::Exited {
                    code: Some(3),
                    at_s: NOW - 4,
                },
            ),
            container(
                "lost",
                StateView::Exited {
                    code: None,
                    at_s: NOW - 4,
                },
            ),
            container("again", StateView::Restarting { code: 1 }),
            container("new", StateView::Created),
            container("odd", StateView::Unknown),
        ];
        assert_snapshot!(render_table(&containers, NOW, false), @r#"
        NAME            IMAGE            COMMAND                   SERVICE   CREATED         STATUS                            PORTS
        hello-web-1     busybox:latest   "httpd -f -h /srv/\"w…"   web       3 minutes ago   Up 2 minutes (health: starting)   0.0.0.0:8080->80/tcp, [::]:8080->80/tcp
        hello-db-1      busybox:latest   "httpd -f -h /srv/\"w…"   db        3 minutes ago   Up 2 minutes (unhealthy)
        hello-plain-1   busybox:latest   "httpd -f -h /srv/\"w…"   plain     3 minutes ago   Up 1 second
        hello-job-1     busybox:latest   "httpd -f -h /srv/\"w…"   job       3 minutes ago   Exited (3) 4 seconds ago
        hello-lost-1    busybox:latest   "httpd -f -h /srv/\"w…"   lost      3 minutes ago   Exited (unknown) 4 seconds ago
        hello-again-1   busybox:latest   "httpd -f -h /srv/\"w…"   again     3 minutes ago   Restarting (1)
        hello-new-1     busybox:latest   "httpd -f -h /srv/\"w…"   new       3 minutes ago   Created
        hello-odd-1     busybox:latest   "httpd -f -h /srv/\"w…"   odd       3 minutes ago   Dead
        "#);
        assert_snapshot!(render_table(&containers[..1], NOW, true), @r#"
        NAME          IMAGE            COMMAND                      SERVICE   CREATED         STATUS                            PORTS
        hello-web-1   busybox:latest   "httpd -f -h /srv/\"www\""   web       3 minutes ago   Up 2 minutes (health: starting)   0.0.0.0:8080->80/tcp, [::]:8080->80/tcp
        "#);
    }

    #[test]
    fn json_lines() {
        let containers = [ContainerView {
            health: Some(HealthView::Healthy),
            publishers: vec![port("127.0.0.1", 8080, 80)],
            ..container("web", StateView::Running { since_s: NOW })
        }];
        assert_snapshot!(render_json(&containers, NOW, false), @r#"
        {"Command":"\"httpd -f -h /srv/\\\"w…\"","CreatedAt":"2023-11-14 22:13:20 +0000 UTC","ExitCode":0,"Health":"healthy","ID":"0123456789ab","Image":"busybox:latest","Labels":"com.docker.compose.project=hello","LocalVolumes":"1","Mounts":"hello_data,/srv","Name":"hello-web-1","Names":"hello-web-1","Networks":"hello_default","Ports":"127.0.0.1:8080->80/tcp","Project":"hello","Publishers":[{"Protocol":"tcp","PublishedPort":8080,"TargetPort":80,"URL":"127.0.0.1"}],"RunningFor":"3 minutes ago","Service":"web","Size":"0B","State":"running","Status":"Up Less than a second (healthy)"}
        "#);
    }

    #[test]
    fn neighbouring_ports_are_one_range() {
        let rows: [(&[Publisher], &str); 5] = [
            (&[], ""),
            (&[port("", 0, 80)], "80/tcp"),
            (
                &[port("", 0, 81), port("", 0, 80), port("", 0, 83)],
                "80-81/tcp, 83/tcp",
            ),
            (
                &[
                    port("0.0.0.0", 8000, 80),
                    port("0.0.0.0", 8001, 81),
                    port("::", 8000, 80),
                    port("::", 8001, 81),
                ],
                "0.0.0.0:8000-8001->80-81/tcp, [::]:8000-8001->80-81/tcp",
            ),
            (
                &[port("0.0.0.0", 65535, 65535), port("0.0.0.0", 1, 80)],
                "0.0.0.0:1->80/tcp, 0.0.0.0:65535->65535/tcp",
            ),
        ];
        for (ports, expected) in rows {
            assert_eq!(render_ports(ports), expected);
        }
    }
}
