//! `stack system`.

use super::document::Value;
use super::images::{self, short_id};
use super::template::TemplateError;
use super::text::lines;
use super::{listing, table};
use crate::cli::time::{render_age, render_precise_size, render_size};
use crate::engine::prune::SystemPruned;
use crate::engine::system::{Checked, DiskUsage, Usage};

/// Renders what a check found.
pub(crate) fn render_checked(checked: &Checked) -> String {
    let mut text = lines(checked.findings.iter().map(|finding| {
        let state = if finding.mended { "mended" } else { "DAMAGED" };
        format!(
            "{state}: {} {}; {}",
            finding.subject, finding.problem, finding.advice
        )
    }));
    let result = match checked
        .findings
        .iter()
        .filter(|finding| !finding.mended)
        .count()
    {
        0 if checked.findings.is_empty() => "nothing is damaged".to_owned(),
        0 => format!("{} mended", checked.findings.len()),
        count => format!("{count} damaged"),
    };
    let counts = [
        ("blobs", checked.blobs),
        ("layers", checked.layers),
        ("images", checked.images),
    ];
    let counts = counts
        .map(|(what, count)| format!("{count} {what}"))
        .join(", ");
    text.extend([counts.as_str(), " checked: ", &result, "\n"]);
    text
}

/// Renders a row a kind, as `docker system df` does; one more for what was set aside, where anything was.
pub(crate) fn render_kinds(
    usage: &DiskUsage,
    format: Option<&str>,
) -> Result<String, TemplateError> {
    let mut kinds = vec![
        ("Images", &usage.images),
        ("Containers", &usage.containers),
        ("Local Volumes", &usage.volumes),
        ("Build Cache", &usage.cache),
    ];
    // Docker has no such thing, and few machines ever do.
    if usage.damaged.total > 0 {
        kinds.push(("Damaged", &usage.damaged));
    }
    let rows: Vec<Value> = kinds
        .into_iter()
        .map(|(name, kind)| {
            listing::row([
                ("Active", kind.active.to_string()),
                ("Reclaimable", reclaimable(kind)),
                ("Size", render_precise_size(kind.size_bytes)),
                ("TotalCount", kind.total.to_string()),
                ("Type", name.to_owned()),
            ])
        })
        .collect();
    let headers = [
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ];
    let default = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
    listing::render(format, default, &headers, &rows)
}

fn reclaimable(kind: &Usage) -> String {
    let size = render_precise_size(kind.reclaimable_bytes);
    match (kind.reclaimable_bytes.saturating_mul(100)).checked_div(kind.size_bytes) {
        Some(percent) => format!("{size} ({percent}%)"),
        None => size,
    }
}

/// Renders a row an image, container and volume, as `docker system df -v` does.
pub(crate) fn render_each(usage: &DiskUsage, now_s: i64) -> String {
    let ago = |at_s: i64| format!("{} ago", render_age(now_s.saturating_sub(at_s)));
    let image_rows: Vec<Vec<String>> = usage
        .image_list
        .iter()
        .map(|image| {
            vec![
                image.row.repository.clone(),
                image.row.tag.clone(),
                short_id(&image.row.id).to_owned(),
                image.row.created_s.map_or_else(|| "N/A".to_owned(), ago),
                render_size(image.row.size_bytes),
                render_precise_size(image.shared_bytes),
                render_precise_size(image.unique_bytes),
                image.containers.to_string(),
            ]
        })
        .collect();
    let containers: Vec<Vec<String>> = usage
        .container_list
        .iter()
        .map(|(container, bytes)| {
            vec![
                short_id(&container.id).to_owned(),
                container.image.clone(),
                table::shorten(&format!("\"{}\"", container.command.join(" ")), 20),
                container.mounts.len().to_string(),
                render_size(*bytes),
                ago(container.created_s),
                super::containers::state_word(&container.state).to_owned(),
                container.name.clone(),
            ]
        })
        .collect();
    let volumes: Vec<Vec<String>> = usage
        .volume_list
        .iter()
        .map(|volume| {
            vec![
                volume.name.clone(),
                volume.links.to_string(),
                render_size(volume.size_bytes),
            ]
        })
        .collect();
    let image_titles = [
        "REPOSITORY",
        "TAG",
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "SHARED SIZE",
        "UNIQUE SIZE",
        "CONTAINERS",
    ];
    let container_titles = [
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "LOCAL VOLUMES",
        "SIZE",
        "CREATED",
        "STATUS",
        "NAMES",
    ];
    [
        "Images space usage:\n\n",
        &table::render(&image_titles, &image_rows, 10),
        "\nContainers space usage:\n\n",
        &table::render(&container_titles, &containers, 10),
        "\nLocal Volumes space usage:\n\n",
        &table::render(&["VOLUME NAME", "LINKS", "SIZE"], &volumes, 10),
        "\nBuild cache usage: ",
        &render_precise_size(usage.cache.size_bytes),
        "\n",
    ]
    .concat()
}

/// Renders what a `system prune` removed, as Docker's does.
pub(crate) fn render_pruned(pruned: &SystemPruned) -> String {
    let mut text = String::new();
    for (title, names) in [
        ("Deleted Containers:", &pruned.containers),
        ("Deleted Networks:", &pruned.networks),
        ("Deleted Volumes:", &pruned.volumes),
    ] {
        if !names.is_empty() {
            text.extend([title, "\n", &lines(names), "\n"]);
        }
    }
    text.push_str(&images::render_pruned(&pruned.images));
    text
}
