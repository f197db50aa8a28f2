//! The signals of `STOPSIGNAL`.

/// Returns whether `text` names or numbers a signal of Linux.
pub(super) fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 34] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN",
        "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| {
        let digits = rest.strip_prefix(sign);
        rest.is_empty() || digits.is_some_and(|d| d.parse::<u8>().is_ok_and(|n| n <= 30))
    };
    let real_time = name
        .strip_prefix("RTMIN")
        .is_some_and(|rest| offset(rest, '+'))
        || name
            .strip_prefix("RTMAX")
            .is_some_and(|rest| offset(rest, '-'));
    real_time || NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_those_of_moby() {
        for text in [
            "TERM",
            "SIGTERM",
            "sigcld",
            "IOT",
            "POLL",
            "9",
            "RTMIN+3",
            "SIGRTMAX-1",
        ] {
            assert!(is_signal(text), "{text}");
        }
        for text in [
            "", "SIG", "0", "65", "-1", "SIGFOO", "RTMIN-1", "RTMAX+1", "TERM ",
        ] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
