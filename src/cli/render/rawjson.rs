//! `--progress rawjson`: BuildKit's `SolveStatus`, a line of JSON each (moby/buildkit `client/graph.go`).
//!
//! ```text
//! {"vertexes":[{"digest":"sha256:…","name":"[2/3] RUN make","started":"…","completed":"…","cached":true,"error":"…"}]}
//! {"logs":[{"vertex":"sha256:…","stream":1,"data":"bWFrZQo=","timestamp":"…"}]}
//! {"statuses":[{"id":"writing image sha256:…","vertex":"sha256:…","current":0,"timestamp":"…","started":"…","completed":"…"}]}
//! {"warnings":[{"vertex":"sha256:…","level":1,"short":"…"}]}
//! ```
//!
//! Digests are made of the image and the number of the step: they only tell vertexes apart. Pure: the time is an argument.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::engine::event::{BuildStep, Event, EventKind, StepNews, Subject};

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct RawJson {
    /// By digest.
    vertexes: BTreeMap<String, Vertex>,
}

#[derive(Debug, Clone)]
struct Vertex {
    name: String,
    started: String,
    /// Transfers that are part of it and go on, by layer.
    transfers: BTreeMap<String, Transfer>,
}

#[derive(Debug, Clone)]
struct Transfer {
    started: String,
    /// Bytes.
    current: u64,
    total: Option<u64>,
}

/// How a vertex ended.
#[derive(Debug, Clone, Copy)]
enum End<'a> {
    NotYet,
    Cached,
    Done,
    Failed(&'a str),
}

impl RawJson {
    /// Renders what happened at `now`; nothing where BuildKit has no word for it.
    pub(super) fn render(&mut self, event: &Event, now: Timestamp) -> String {
        let now = now.to_string();
        let subject = event.subject.to_string();
        let status = match (&event.subject, &event.kind) {
            (_, EventKind::Building(step)) => self.step(&subject, step, &now),
            (Subject::Layer(image, layer), kind) => self.transfer(image, layer, kind, &now),
            (_, EventKind::Line(text)) => {
                let digest = digest(&[&subject, text]);
                self.begin(&digest, text, &now);
                Some(self.vertex(&digest, End::Done, &now))
            }
            (_, EventKind::Warning(text)) => {
                let short = STANDARD.encode(text);
                Some(json!({"warnings": [
                    {"vertex": digest(&[&subject]), "level": 1, "short": short},
                ]}))
            }
            (_, EventKind::Remark(remark)) => {
                let line = remark.line();
                let short = STANDARD.encode(format!("{remark} (line {line})"));
                Some(json!({"warnings": [{
                    "vertex": digest(&[&subject]),
                    "level": 1,
                    "short": short,
                    "sourceInfo": {
                        "filename": remark.path.display().to_string(),
                        "data": STANDARD.encode(&remark.text),
                    },
                    "range": [{"start": {"line": line}, "end": {"line": line}}],
                }]}))
            }
            _ => None,
        };
        status.map_or_else(String::new, |status| format!("{status}\n"))
    }

    fn step(&mut self, image: &str, step: &BuildStep, now: &str) -> Option<Value> {
        let digest = digest(&[image, &step.number.to_string()]);
        let log = |text: &str, stream: u8| {
            Some(json!({"logs": [{
                "vertex": digest,
                "stream": stream,
                "data": STANDARD.encode(format!("{text}\n")),
                "timestamp": now,
            }]}))
        };
        let end = match &step.news {
            StepNews::Began(name) => {
                self.begin(&digest, name, now);
                End::NotYet
            }
            StepNews::Wrote(_, text) => return log(text.trim_end_matches(['\n', '\r']), 1),
            StepNews::Waits(_) | StepNews::Explained(_) => {
                let told = step.to_string();
                let told = told.split_once(' ').map_or("", |(_, told)| told);
                return log(told, 2);
            }
            StepNews::Noted(what) => {
                return Some(json!({"statuses": [{
                    "id": what,
                    "vertex": digest,
                    "current": 0,
                    "timestamp": now,
                    "started": now,
                    "completed": now,
                }]}));
            }
            StepNews::Cached => End::Cached,
            StepNews::Done(_) => End::Done,
            StepNews::Failed(code) => {
                let error = format!("process did not complete successfully: exit code: {code}");
                return Some(self.vertex(&digest, End::Failed(&error), now));
            }
            StepNews::Broke(why) => End::Failed(why),
            // The words by which BuildKit's displays know it.
            StepNews::CutOff => End::Failed("context canceled"),
        };
        Some(self.vertex(&digest, end, now))
    }

    /// Renders how far a layer is; the image that it is of is a vertex until the last of its layers is here.
    fn transfer(&mut self, image: &str, layer: &str, kind: &EventKind, now: &str) -> Option<Value> {
        let digest = digest(&["transfer", image]);
        let (counted, end) = match kind {
            EventKind::Progress { done, total, .. } => (Some((*done, *total)), End::NotYet),
            EventKind::Started(_) => (None, End::NotYet),
            EventKind::Finished(_) | EventKind::Unchanged(_) => (None, End::Done),
            EventKind::Failed(why) => (None, End::Failed(why)),
            EventKind::CutOff => (None, End::Failed("context canceled")),
            _ => return None,
        };
        let is_new = !self.vertexes.contains_key(&digest);
        if is_new {
            self.begin(&digest, image, now);
        }
        let vertex = self.vertexes.get_mut(&digest)?;
        let mut transfer = vertex.transfers.remove(layer).unwrap_or(Transfer {
            started: now.to_owned(),
            current: 0,
            total: None,
        });
        if let Some((current, total)) = counted {
            (transfer.current, transfer.total) = (current, total.or(transfer.total));
        }
        let mut status = json!({
            "id": layer,
            "vertex": digest,
            "current": transfer.current,
            "timestamp": now,
            "started": transfer.started,
        });
        if let Some(object) = status.as_object_mut() {
            object.extend(
                transfer
                    .total
                    .map(|total| ("total".to_owned(), json!(total))),
            );
            let is_done = matches!(end, End::Done);
            object.extend(is_done.then(|| ("completed".to_owned(), json!(now))));
        }
        if matches!(end, End::NotYet) {
            vertex.transfers.insert(layer.to_owned(), transfer);
        }
        let is_last = vertex.transfers.is_empty();
        let mut all = match end {
            End::Done if !is_last => json!({}),
            End::NotYet if !is_new => json!({}),
            end => self.vertex(&digest, end, now),
        };
        if let Some(object) = all.as_object_mut() {
            object.insert("statuses".to_owned(), json!([status]));
        }
        Some(all)
    }

    fn begin(&mut self, digest: &str, name: &str, now: &str) {
        let vertex = Vertex {
            name: name.to_owned(),
            started: now.to_owned(),
            transfers: BTreeMap::new(),
        };
        self.vertexes.insert(digest.to_owned(), vertex);
    }

    fn vertex(&self, digest: &str, end: End<'_>, now: &str) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
        put("digest", json!(digest));
        if let Some(known) = self.vertexes.get(digest) {
            put("name", json!(known.name));
            put("started", json!(known.started));
        }
        match end {
            End::NotYet | End::Done => {}
            End::Cached => put("cached", json!(true)),
            End::Failed(why) => put("error", json!(why)),
        }
        if !matches!(end, End::NotYet) {
            put("completed", json!(now));
        }
        json!({ "vertexes": [object] })
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update(b"\0");
    }
    let digits = hash.finalize();
    let digits: Vec<String> = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", digits.concat())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rendered(kinds: &[(Subject, EventKind)]) -> Vec<Value> {
        let mut raw = RawJson::default();
        let now = Timestamp::UNIX_EPOCH;
        let lines = kinds.iter().map(|(subject, kind)| {
            let event = Event {
                subject: subject.clone(),
                kind: kind.clone(),
            };
            raw.render(&event, now)
        });
        let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn steps_are_vertexes_logs_and_statuses() {
        let news = [
            StepNews::Began("[1/2] FROM busybox".to_owned()),
            StepNews::Cached,
            StepNews::Began("[2/2] RUN x".to_owned()),
            StepNews::Wrote(Duration::ZERO, "hi\n".to_owned()),
            StepNews::Noted("writing image sha256:1".to_owned()),
            StepNews::Done(Duration::ZERO),
            StepNews::Failed(3),
            StepNews::CutOff,
            StepNews::Explained("why".to_owned()),
        ];
        let events: Vec<_> = news
            .into_iter()
            .enumerate()
            .map(|(at, news)| {
                let number = if at < 2 { 1 } else { 2 };
                let step = EventKind::Building(BuildStep { number, news });
                (Subject::Build("app".to_owned()), step)
            })
            .collect();
        let (one, two) = (digest(&["Image app", "1"]), digest(&["Image app", "2"]));
        let time = "1970-01-01T00:00:00Z";
        let vertex = |digest: &str, name: &str, more: Value| {
            let mut vertex = json!({"digest": digest, "name": name, "started": time});
            let more = more.as_object().unwrap().clone();
            vertex.as_object_mut().unwrap().extend(more);
            json!({ "vertexes": [vertex] })
        };
        let from = |more| vertex(&one, "[1/2] FROM busybox", more);
        let run = |more| vertex(&two, "[2/2] RUN x", more);
        let log = |stream: u8, data: &str| json!({"logs": [{"vertex": two, "stream": stream, "data": data, "timestamp": time}]});
        assert_eq!(
            rendered(&events),
            [
                from(json!({})),
                from(json!({"cached": true, "completed": time})),
                run(json!({})),
                log(1, "aGkK"),
                json!({"statuses": [{
                    "id": "writing image sha256:1", "vertex": two, "current": 0,
                    "timestamp": time, "started": time, "completed": time,
                }]}),
                run(json!({"completed": time})),
                run(json!({
                    "error": "process did not complete successfully: exit code: 3",
                    "completed": time,
                })),
                run(json!({"error": "context canceled", "completed": time})),
                log(2, "bm90IGNhY2hlZDogd2h5Cg=="),
            ]
        );
    }

    #[test]
    fn a_pull_is_a_vertex_until_its_last_layer_is_here() {
        let layer = |name: &str| Subject::Layer("busybox".to_owned(), name.to_owned());
        let progress = EventKind::Progress {
            verb: "Downloading",
            done: 1,
            total: Some(4),
        };
        let events = [
            (layer("a"), EventKind::Started("Waiting")),
            (layer("b"), EventKind::Started("Waiting")),
            (layer("a"), progress),
            (layer("a"), EventKind::Finished("Pull complete")),
            (layer("b"), EventKind::Unchanged("Already exists")),
        ];
        let lines = rendered(&events);
        let completed: Vec<Option<bool>> = lines
            .iter()
            .map(|line| {
                let vertex = line.get("vertexes")?.get(0)?;
                Some(vertex.get("completed").is_some())
            })
            .collect();
        assert_eq!(completed, [Some(false), None, None, None, Some(true)]);
        assert_eq!(lines[2]["statuses"][0]["current"], 1);
        assert_eq!(lines[2]["statuses"][0]["total"], 4);
        // What was counted stays.
        assert_eq!(lines[3]["statuses"][0]["current"], 1);
        assert_eq!(lines[3]["statuses"][0]["total"], 4);
        assert!(lines[3]["statuses"][0]["completed"].is_string());
        for (kind, error) in [
            (EventKind::Failed("no".to_owned()), "no"),
            (EventKind::CutOff, "context canceled"),
        ] {
            let lines = rendered(&[
                (layer("a"), EventKind::Started("Waiting")),
                (layer("a"), kind),
            ]);
            assert_eq!(lines[1]["vertexes"][0]["error"], error);
        }
    }

    #[test]
    fn warnings_and_notes_are_told() {
        let build = || Subject::Build("app".to_owned());
        let lines = rendered(&[
            (build(), EventKind::Started("Building")),
            (build(), EventKind::Warning("odd".to_owned())),
            (build(), EventKind::Line("fetching".to_owned())),
            (build(), EventKind::Finished("Built")),
        ]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["warnings"][0]["short"], "b2Rk");
        assert_eq!(lines[1]["vertexes"][0]["name"], "fetching");
    }
}
