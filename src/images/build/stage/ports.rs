//! The ports of `EXPOSE`.

use super::StageError;

/// Parses `[[ip:]host:]port[-port][/protocol]` to `port/protocol`; only the container's side counts.
pub(super) fn parse_ports(text: &str) -> Result<Vec<String>, StageError> {
    let wrong = || StageError::Port(text.to_owned());
    let (ports, protocol) = text.split_once('/').unwrap_or((text, ""));
    let protocol = match protocol {
        "" => "tcp".to_owned(),
        protocol => protocol.to_ascii_lowercase(),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    let ports = ports.rsplit(':').next().unwrap_or_default();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|_| digits)
            .ok_or_else(wrong)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}
