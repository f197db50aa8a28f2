//! How an image came to be, step by step (moby `daemon/images/image_history.go`). Pure.

use super::manifest::ImageConfig;

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// RFC 3339, where it is known.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// Free text.
    pub comment: String,
    /// Bytes of its layer; 0 where it made none.
    pub size_bytes: u64,
}

/// Returns the steps of an image, the last first. `sizes` are the layers', bottom first. Layers that no step claims are steps of their
/// own.
pub fn steps(config: &ImageConfig, sizes: &[u64]) -> Vec<Step> {
    let mut sizes = sizes.iter().copied();
    let mut steps: Vec<Step> = config
        .history
        .iter()
        .map(|entry| Step {
            created: entry.created.clone(),
            created_by: entry.created_by.clone().unwrap_or_default(),
            comment: entry.comment.clone().unwrap_or_default(),
            size_bytes: if entry.empty_layer {
                0
            } else {
                sizes.next().unwrap_or(0)
            },
        })
        .collect();
    steps.extend(sizes.map(|size_bytes| Step {
        created: config.created.clone(),
        created_by: String::new(),
        comment: String::new(),
        size_bytes,
    }));
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::super::manifest::History;
    use super::*;

    #[test]
    fn sizes_go_to_the_steps_that_made_layers() {
        let entry = |text: &str, empty_layer| History {
            created_by: Some(text.to_owned()),
            empty_layer,
            ..History::default()
        };
        let mut config = ImageConfig {
            history: vec![entry("ADD", false), entry("ENV", true), entry("RUN", false)],
            ..ImageConfig::default()
        };
        let shown = |config: &ImageConfig, sizes: &[u64]| -> Vec<(String, u64)> {
            let steps = steps(config, sizes).into_iter();
            steps
                .map(|step| (step.created_by, step.size_bytes))
                .collect()
        };
        let row = |text: &str, size| (text.to_owned(), size);
        assert_eq!(
            shown(&config, &[7, 5]),
            [row("RUN", 5), row("ENV", 0), row("ADD", 7)]
        );
        assert_eq!(
            shown(&config, &[7]),
            [row("RUN", 0), row("ENV", 0), row("ADD", 7)]
        );
        config.history.truncate(1);
        assert_eq!(shown(&config, &[7, 5]), [row("", 5), row("ADD", 7)]);
    }
}
