//! Signal names (`man 7 signal`).

use std::str::FromStr;

use nix::sys::signal::Signal;

/// First and last real-time signal that programs may use: glibc keeps 32 and 33 for itself.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Returns the number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `RTMAX-1`; `None` for anything else.
pub fn number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=*REAL_TIME.end()).contains(&number).then_some(number);
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |rest: &str, base: i32| {
        let offset = if rest.is_empty() {
            0
        } else {
            rest.parse::<i32>().ok()?
        };
        base.checked_add(offset)
            .filter(|number| REAL_TIME.contains(number))
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(rest, *REAL_TIME.start());
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(rest, *REAL_TIME.end());
    }
    // Other names of the same (`man 7 signal`, "Standard signals").
    let name = match name {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        name => name,
    };
    Signal::from_str(&format!("SIG{name}"))
        .ok()
        .map(|signal| signal as i32)
}

/// Returns the name of a signal: `SIGTERM`, `SIGRTMIN+3`.
pub fn name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("SIGRTMIN+{}", number.saturating_sub(*REAL_TIME.start())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMAX+1", None),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("CLD", Some(17)),
            ("SIGIOT", Some(6)),
            ("sigpoll", Some(29)),
            ("SIGNOTHING", None),
            ("", None),
        ];
        let found: Vec<_> = cases
            .iter()
            .map(|(text, _)| (*text, number(text)))
            .collect();
        assert_eq!(found, cases);
        assert_eq!([15, 37].map(name), ["SIGTERM", "SIGRTMIN+3"]);
    }
}
