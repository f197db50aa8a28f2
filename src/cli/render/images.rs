//! `stack images` and `stack image ls`.

use serde_json::json;

use super::template::TemplateError;
use super::text::lines;
use super::{listing, table};
use crate::cli::time::{render_age, render_date, render_precise_size, render_rfc3339, render_size};
use crate::engine::load::LoadedImage;
use crate::engine::store::{Pruned, Removed};
use crate::engine::view::{HistoryView, ImageView, StoredImageView};

/// Renders the images that a project's containers use, as `docker compose images` does.
pub(crate) fn render_used(images: &[ImageView], now_s: i64) -> String {
    let header = [
        "CONTAINER",
        "REPOSITORY",
        "TAG",
        "PLATFORM",
        "IMAGE ID",
        "SIZE",
        "CREATED",
    ];
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let mut row = vec![
                image.container.clone(),
                image.repository.clone(),
                image.tag.clone(),
            ];
            row.push(image.platform.clone());
            row.extend(tail(image, now_s));
            row
        })
        .collect();
    table::render(&header, &rows, 20)
}

/// How a list of the store looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListLook {
    /// Whole IDs.
    pub(crate) whole: bool,
    /// Digests too.
    pub(crate) digests: bool,
    /// The present, seconds since 1970.
    pub(crate) now_s: i64,
}

impl ListLook {
    /// Returns an ID as it is shown.
    pub(crate) fn id(self, id: &str) -> String {
        if self.whole { id } else { short_id(id) }.to_owned()
    }
}

/// Renders the images of the store, as `docker images` does.
pub(crate) fn render_stored(
    images: &[StoredImageView],
    format: Option<&str>,
    look: ListLook,
) -> Result<String, TemplateError> {
    let headers = [
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Platform", "PLATFORM"),
        ("Size", "SIZE"),
        ("VirtualSize", "VIRTUAL SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ];
    let unknown = || "N/A".to_owned();
    let rows = images.iter().map(|image| {
        // In the order of Docker's JSON.
        listing::row([
            ("Containers", unknown()),
            (
                "CreatedAt",
                image.created_s.map_or_else(unknown, render_date),
            ),
            ("CreatedSince", since(image.created_s, look.now_s)),
            ("Digest", image.digest.clone()),
            ("ID", look.id(&image.id)),
            ("Platform", image.platform.clone()),
            ("Repository", image.repository.clone()),
            ("SharedSize", unknown()),
            ("Size", render_size(image.size_bytes)),
            ("Tag", image.tag.clone()),
            ("UniqueSize", unknown()),
            ("VirtualSize", render_size(image.size_bytes)),
        ])
    });
    let rows: Vec<_> = rows.collect();
    let default = if look.digests {
        "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    } else {
        "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    };
    listing::render(format, default, &headers, &rows)
}

/// How a history looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HistoryLook {
    /// Whole IDs and instructions.
    pub(crate) whole: bool,
    /// For people.
    pub(crate) human: bool,
    /// The present, seconds since 1970.
    pub(crate) now_s: i64,
}

impl HistoryLook {
    /// Returns an ID as it is shown.
    pub(crate) fn id(self, id: &str) -> String {
        if self.whole { id } else { short_id(id) }.to_owned()
    }
}

/// Renders how an image came to be, as `docker history` does.
pub(crate) fn render_history(
    steps: &[HistoryView],
    format: Option<&str>,
    look: HistoryLook,
) -> Result<String, TemplateError> {
    let headers = [
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ];
    let rows = steps.iter().map(|step| {
        let at = step
            .created_s
            .map_or_else(|| "N/A".to_owned(), render_rfc3339);
        let by = step.created_by.replace('\t', " ");
        listing::row([
            ("Comment", step.comment.clone()),
            ("CreatedAt", at.clone()),
            (
                "CreatedBy",
                if look.whole {
                    by
                } else {
                    table::shorten(&by, 45)
                },
            ),
            (
                "CreatedSince",
                if look.human {
                    since(step.created_s, look.now_s)
                } else {
                    at
                },
            ),
            ("ID", look.id(&step.id)),
            (
                "Size",
                if look.human {
                    render_size(step.size_bytes)
                } else {
                    step.size_bytes.to_string()
                },
            ),
        ])
    });
    let rows: Vec<_> = rows.collect();
    let default = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
    listing::render(format, default, &headers, &rows)
}

/// `3 days ago`, or that nobody knows.
fn since(created_s: Option<i64>, now_s: i64) -> String {
    match created_s {
        Some(created_s) => format!("{} ago", render_age(now_s.saturating_sub(created_s))),
        None => "N/A".to_owned(),
    }
}

/// Renders what a removal of everything unused did, as `docker image prune` does.
pub(crate) fn render_pruned(pruned: &Pruned) -> String {
    let mut text = String::new();
    if !pruned.removed.is_empty() {
        text.push_str("Deleted Images:\n");
        text.push_str(&lines(pruned.removed.iter().map(|removed| match removed {
            Removed::Untagged(name) => format!("untagged: {name}"),
            Removed::Deleted(digest) => format!("deleted: {digest}"),
        })));
        text.push('\n');
    }
    let space = render_precise_size(pruned.bytes);
    text.extend([
        "Total reclaimed space: ",
        &space,
        "
",
    ]);
    text
}

/// Renders a JSON list with the keys of `docker compose images --format json`.
pub(crate) fn render_json(images: &[ImageView]) -> String {
    let list: Vec<serde_json::Value> = images
        .iter()
        .map(|image| {
            json!({
                "ID": image.id,
                "ContainerName": image.container,
                "Repository": image.repository,
                "Tag": image.tag,
                "Platform": image.platform,
                "Size": image.size_bytes,
                "Created": render_date(image.created_s),
            })
        })
        .collect();
    format!("{}\n", serde_json::Value::Array(list))
}

/// Renders which images there are now, as `docker load` does.
pub(crate) fn render_loaded(loaded: &[LoadedImage]) -> String {
    let mut said = Vec::new();
    for image in loaded {
        said.extend(image.replaced.iter().map(|(name, id)| {
            format!(
                "The image {name} already exists, renaming the old one with ID {id} to empty string"
            )
        }));
        said.extend(
            image
                .names
                .iter()
                .map(|name| format!("Loaded image: {name}")),
        );
        if image.names.is_empty() {
            said.push(format!("Loaded image ID: {}", image.id));
        }
    }
    lines(said)
}

/// Renders what removing an image did, a line each.
pub(crate) fn render_removed(removed: &[Removed]) -> String {
    lines(removed.iter().map(|removed| match removed {
        Removed::Untagged(name) => format!("Untagged: {name}"),
        Removed::Deleted(digest) => format!("Deleted: {digest}"),
    }))
}

/// Returns the first 12 hexadecimal digits of a digest.
pub(crate) fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

fn tail(image: &ImageView, now_s: i64) -> [String; 3] {
    [
        short_id(&image.id).to_owned(),
        render_size(image.size_bytes),
        format!("{} ago", render_age(now_s.saturating_sub(image.created_s))),
    ]
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn image(container: &str) -> ImageView {
        ImageView {
            container: container.to_owned(),
            repository: "busybox".to_owned(),
            tag: "latest".to_owned(),
            platform: "linux/amd64".to_owned(),
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            size_bytes: 4_261_550,
            created_s: 1_700_000_000,
        }
    }

    #[test]
    fn lists_the_store_and_histories_as_docker() {
        let stored = |repository: &str, tag: &str, created_s| StoredImageView {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest: format!("sha256:{}", "f".repeat(64)),
            platform: "linux/amd64".to_owned(),
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            size_bytes: 4_261_550,
            created_s,
        };
        let images = [
            stored("busybox", "latest", Some(1_700_000_000)),
            stored("<none>", "<none>", None),
        ];
        let look = ListLook {
            whole: false,
            digests: false,
            now_s: 1_701_300_000,
        };
        assert_snapshot!(render_stored(&images, None, look).unwrap(), @r"
        REPOSITORY   TAG       IMAGE ID       CREATED       SIZE
        busybox      latest    0123456789ab   2 weeks ago   4.26MB
        <none>       <none>    0123456789ab   N/A           4.26MB
        ");
        assert_snapshot!(render_stored(&images[..1], Some("json"), look).unwrap(), @r#"{"Containers":"N/A","CreatedAt":"2023-11-14 22:13:20 +0000 UTC","CreatedSince":"2 weeks ago","Digest":"sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","ID":"0123456789ab","Platform":"linux/amd64","Repository":"busybox","SharedSize":"N/A","Size":"4.26MB","Tag":"latest","UniqueSize":"N/A","VirtualSize":"4.26MB"}"#);
        let step = |id: &str, by: &str| HistoryView {
            id: id.to_owned(),
            created_s: Some(1_700_000_000),
            created_by: by.to_owned(),
            size_bytes: 5,
            comment: "c".to_owned(),
            tags: Vec::new(),
        };
        let steps = [
            step(
                &images[0].id,
                "RUN a very\tlong line, longer than people want to read it",
            ),
            step("<missing>", "ADD x"),
        ];
        let look = HistoryLook {
            whole: false,
            human: true,
            now_s: 1_701_300_000,
        };
        assert_snapshot!(render_history(&steps, None, look).unwrap(), @r"
        IMAGE          CREATED       CREATED BY                                      SIZE      COMMENT
        0123456789ab   2 weeks ago   RUN a very long line, longer than people wan…   5B        c
        <missing>      2 weeks ago   ADD x                                           5B        c
        ");
        let look = HistoryLook {
            human: false,
            whole: true,
            ..look
        };
        assert_snapshot!(render_history(&steps[1..], None, look).unwrap(), @r"
        IMAGE       CREATED                CREATED BY   SIZE      COMMENT
        <missing>   2023-11-14T22:13:20Z   ADD x        5         c
        ");
    }

    #[test]
    fn lists() {
        let images = [image("hello-web-1"), image("hello-fetch-1")];
        assert_snapshot!(render_used(&images, 1_700_000_200), @r"
        CONTAINER           REPOSITORY          TAG                 PLATFORM            IMAGE ID            SIZE                CREATED
        hello-web-1         busybox             latest              linux/amd64         0123456789ab        4.26MB              3 minutes ago
        hello-fetch-1       busybox             latest              linux/amd64         0123456789ab        4.26MB              3 minutes ago
        ");
        assert_snapshot!(render_json(&images[..1]), @r#"
        [{"ContainerName":"hello-web-1","Created":"2023-11-14 22:13:20 +0000 UTC","ID":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","Platform":"linux/amd64","Repository":"busybox","Size":4261550,"Tag":"latest"}]
        "#);
    }
}
