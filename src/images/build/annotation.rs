//! `--annotation`: what is said of an image outside of it (docker/buildx `util/buildflags`, OCI image-spec `annotations.md`).
//!
//! ```text
//! KEY=VALUE                                    the manifest of each platform
//! manifest[linux/amd64],index:KEY=VALUE        the manifest of one, and the index
//! manifest-descriptor:KEY=VALUE                the manifest's entry in the index
//! ```

use std::collections::BTreeMap;

use super::super::manifest::Platform;

/// What says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationPlace {
    /// A manifest.
    Manifest,
    /// The entry of a manifest in an index.
    ManifestDescriptor,
    /// An index.
    Index,
}

impl AnnotationPlace {
    /// Whether there must be an index for it.
    pub fn needs_index(self) -> bool {
        self != Self::Manifest
    }
}

/// Something that is said of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where.
    pub place: AnnotationPlace,
    /// Of the image for this platform; of all where unset.
    pub platform: Option<Platform>,
    /// `org.opencontainers.image.title`.
    pub key: String,
    /// Anything.
    pub value: String,
}

impl Annotation {
    /// Reads `[PLACE[[PLATFORM]][,…]:]KEY=VALUE`; one for each place. Fails with what is wrong.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let pair = text.split_once('=');
        let (said, value) = pair.ok_or("expected key=value")?;
        let (places, key) = match said.split_once(':') {
            None => (vec![(AnnotationPlace::Manifest, None)], said),
            Some((places, key)) => {
                let places = places.split(',').map(place);
                (places.collect::<Result<_, _>>()?, key)
            }
        };
        if key.is_empty() {
            return Err("the key is empty".to_owned());
        }
        let of = |(place, platform)| Self {
            place,
            platform,
            key: key.to_owned(),
            value: value.to_owned(),
        };
        Ok(places.into_iter().map(of).collect())
    }
}

/// Reads `manifest[linux/amd64]`.
fn place(text: &str) -> Result<(AnnotationPlace, Option<Platform>), String> {
    let (name, platform) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => {
            let platform = rest.strip_suffix(']');
            let unclosed = || format!("`{text}` has no closing bracket");
            let platform = Platform::parse(platform.ok_or_else(unclosed)?);
            (name, Some(platform.map_err(|error| error.to_string())?))
        }
    };
    let place = match name {
        "manifest" => AnnotationPlace::Manifest,
        "manifest-descriptor" => AnnotationPlace::ManifestDescriptor,
        "index" => AnnotationPlace::Index,
        "index-descriptor" => {
            return Err("not supported: nothing of an image names its index".to_owned());
        }
        _ => return Err(format!("unknown annotation type `{name}`")),
    };
    Ok((place, platform))
}

/// Returns what is to be said at a place, of the image for `platform` where it is of one; what is said last counts.
pub(super) fn said(
    all: &[Annotation],
    place: AnnotationPlace,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let fitting = all.iter().filter(|annotation| {
        let of = annotation.platform.as_ref();
        annotation.place == place && (of.is_none() || of == platform)
    });
    fitting
        .map(|annotation| (annotation.key.clone(), annotation.value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_read() {
        let shown = |text: &str| match Annotation::parse(text) {
            Err(why) => why,
            Ok(all) => {
                let one = |a: &Annotation| {
                    let platform = a.platform.as_ref().map(ToString::to_string);
                    let platform = platform.unwrap_or_default();
                    format!("{:?} {platform} {}={}", a.place, a.key, a.value)
                };
                all.iter().map(one).collect::<Vec<_>>().join("; ")
            }
        };
        let table = [
            ("a=b", "Manifest  a=b"),
            ("a=b=c:d", "Manifest  a=b=c:d"),
            ("index:a=", "Index  a="),
            (
                "manifest[linux/arm64],manifest-descriptor:a=b",
                "Manifest linux/arm64 a=b; ManifestDescriptor  a=b",
            ),
            ("a", "expected key=value"),
            ("=b", "the key is empty"),
            ("index:=b", "the key is empty"),
            ("thing:a=b", "unknown annotation type `thing`"),
            ("index[linux:a=b", "`index[linux` has no closing bracket"),
            (
                "index-descriptor:a=b",
                "not supported: nothing of an image names its index",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn each_platform_has_what_is_said_of_it() {
        let texts = ["a=1", "manifest[linux/arm64]:a=2", "index:b=3", "c=4"];
        let all: Vec<Annotation> = texts
            .iter()
            .flat_map(|text| Annotation::parse(text).unwrap())
            .collect();
        let of = |place, platform: &str| {
            let platform = Platform::parse(platform).unwrap();
            said(&all, place, Some(&platform)).into_iter().collect()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
            owned.collect()
        };
        let both: Vec<_> = of(AnnotationPlace::Manifest, "linux/arm64");
        assert_eq!(both, pairs(&[("a", "2"), ("c", "4")]));
        let one: Vec<_> = of(AnnotationPlace::Manifest, "linux/amd64");
        assert_eq!(one, pairs(&[("a", "1"), ("c", "4")]));
        let index = said(&all, AnnotationPlace::Index, None);
        assert_eq!(index.into_iter().collect::<Vec<_>>(), pairs(&[("b", "3")]));
    }
}
