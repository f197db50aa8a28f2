//! The values of a mount, as Go reads them.

use super::MountError;

/// Splits the first record of comma separated values; a field may be quoted, with `""` for a quote in it (Go `encoding/csv`).
pub fn csv_fields(text: &str) -> Result<Vec<String>, MountError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest)?,
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// Takes a field without quotes; returns it and what follows.
fn plain_field(text: &str) -> Result<(String, &str), MountError> {
    let end = text.find([',', '\n']).unwrap_or(text.len());
    let (field, after) = text.split_at(end);
    if field.contains('"') {
        return Err(MountError::Csv("bare \" in non-quoted field"));
    }
    Ok((field.to_owned(), after))
}

/// Takes a field after its opening quote; returns it and what follows.
fn quoted_field(text: &str) -> Result<(String, &str), MountError> {
    let mut field = String::new();
    let mut rest = text;
    while let Some((part, after)) = rest.split_once('"') {
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if after.is_empty() || after.starts_with([',', '\n']) => {
                return Ok((field, after));
            }
            None => return Err(MountError::Csv("extraneous or missing \" in quoted-field")),
        }
    }
    Err(MountError::Csv("extraneous or missing \" in quoted-field"))
}

/// Parses octal permission bits.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(text, 8).ok().filter(|_| octal)
}

/// Parses the number of a user or group.
pub(super) fn parse_id(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    // The last number is nobody's: the kernel takes it for "as it is" (man 2 chown).
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// Parses bytes, with a unit of 1024: `64m`, `1.5g`, `10 KiB` (docker/go-units `RAMInBytes`).
pub fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let mut letters = unit.chars();
    let shift = match letters.next() {
        None => 0,
        Some('b') if letters.as_str().is_empty() => 0,
        Some(letter) => {
            let power = "kmgtp".find(letter)?;
            if !matches!(letters.as_str(), "" | "b" | "ib") {
                return None;
            }
            10 * (u32::try_from(power).ok()? + 1)
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return None;
    }
    let scale = 1_u128.checked_shl(shift)?;
    let whole = whole.parse::<u64>().ok()?;
    // More digits than these say nothing more.
    let fraction = fraction.get(..fraction.len().min(18))?;
    let part = match fraction {
        "" => 0,
        digits => digits.parse::<u64>().ok()?,
    };
    let places = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let bytes = u128::from(whole) * scale + u128::from(part) * scale / places;
    u64::try_from(bytes).ok()
}
