//! `stack images` and `stack image ls`.

use serde_json::json;

use super::table;
use super::text::lines;
use crate::cli::time::{render_age, render_date, render_size};
use crate::engine::store::Removed;
use crate::engine::view::ImageView;

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

/// Renders the images of the store, as `docker images` does.
pub(crate) fn render_store(images: &[ImageView], now_s: i64) -> String {
    let header = [
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
                image.repository.clone(),
                image.tag.clone(),
                image.platform.clone(),
            ];
            row.extend(tail(image, now_s));
            row
        })
        .collect();
    table::render(&header, &rows, 10)
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
    fn lists() {
        let images = [image("hello-web-1"), image("hello-fetch-1")];
        assert_snapshot!(render_used(&images, 1_700_000_200), @r"
        CONTAINER           REPOSITORY          TAG                 PLATFORM            IMAGE ID            SIZE                CREATED
        hello-web-1         busybox             latest              linux/amd64         0123456789ab        4.26MB              3 minutes ago
        hello-fetch-1       busybox             latest              linux/amd64         0123456789ab        4.26MB              3 minutes ago
        ");
        assert_snapshot!(render_store(&images[..1], 1_700_000_200), @r"
        REPOSITORY   TAG       PLATFORM      IMAGE ID       SIZE      CREATED
        busybox      latest    linux/amd64   0123456789ab   4.26MB    3 minutes ago
        ");
        assert_snapshot!(render_json(&images[..1]), @r#"
        [{"ContainerName":"hello-web-1","Created":"2023-11-14 22:13:20 +0000 UTC","ID":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","Platform":"linux/amd64","Repository":"busybox","Size":4261550,"Tag":"latest"}]
        "#);
    }
}
