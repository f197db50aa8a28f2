//! Which platforms a build is for.

use crate::engine::error::EngineError;
use crate::engine::store::platform_option;
use crate::images::Platform;
use crate::images::build::BuildRequest;

/// Reads `--platform`s, each of which may list several; the default, else the machine's, where there is none.
pub(super) fn parse(typed: &[String], default: Option<&str>) -> Result<Vec<Platform>, EngineError> {
    let typed = typed.iter().map(String::as_str);
    let listed: Vec<&str> = typed
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .collect();
    let listed = match (listed.is_empty(), default) {
        (true, Some(default)) => vec![default],
        _ => listed,
    };
    let mut platforms: Vec<Platform> = Vec::new();
    for text in listed {
        // As docker/buildx: this machine's.
        let platform = match text {
            "local" => Platform::host(),
            text => platform_option(text)?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    Ok(platforms)
}

/// Lets a build be for these platforms.
pub(super) fn set(request: &mut BuildRequest, platforms: Vec<Platform>) {
    match platforms.as_slice() {
        [] => {}
        [only] => request.platform = only.clone(),
        [..] => request.platforms = platforms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_listed_once() {
        let host = Platform::host().to_string();
        let table: [(&[&str], Option<&str>, Vec<&str>); 5] = [
            (&[], None, vec![&host]),
            (&[], Some("linux/s390x"), vec!["linux/s390x"]),
            (&["local"], Some("linux/s390x"), vec![&host]),
            (
                &["linux/amd64,linux/arm64", "linux/arm/v7", "linux/aarch64"],
                None,
                vec!["linux/amd64", "linux/arm64", "linux/arm/v7"],
            ),
            (&["linux/arm64/v8"], None, vec!["linux/arm64"]),
        ];
        for (typed, default, expected) in table {
            let typed: Vec<String> = typed.iter().map(|text| (*text).to_owned()).collect();
            let found = parse(&typed, default).unwrap();
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{typed:?}");
        }
        parse(&["a/b/c/d".to_owned()], None).unwrap_err();
    }
}
