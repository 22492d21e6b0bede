//! Durations and sizes as they stand in the file: a number and its unit.

use std::time::Duration;

/// Units of time in milliseconds, in the order in which they are written.
const TIME: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size in bytes; the binary ones first, because sizes are shown in them.
const SIZE: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Why a text is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    /// It is not made of whole numbers and units.
    #[error("it is not a whole number with a unit")]
    Malformed,
    /// A number with nothing behind it.
    #[error("the number has no unit")]
    NoUnit,
    /// A unit that does not exist.
    #[error("there is no unit `{0}`")]
    UnknownUnit(String),
    /// A smaller unit before a larger one, or one unit twice.
    #[error("the units must go from the largest to the smallest, each once")]
    Order,
    /// More than can be counted.
    #[error("the number is too large")]
    TooLarge,
}

/// Reads `"250ms"`, `"30s"`, `"1h30m"`: whole numbers with `h`, `m`, `s` or `ms`, the largest unit first.
///
/// # Errors
///
/// [`UnitError`], also if the sum is more than 64 bits of milliseconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut total = 0_u64;
    let mut units = TIME.iter();
    let mut rest = text;
    loop {
        let (number, unit, tail) = first_part(rest)?;
        if !TIME.iter().any(|(name, _)| *name == unit) {
            return Err(UnitError::UnknownUnit(unit.to_owned()));
        }
        // What the search has passed over is not found again, which is the rule of the order.
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or(UnitError::Order)?;
        let part = number.checked_mul(*factor).ok_or(UnitError::TooLarge)?;
        total = total.checked_add(part).ok_or(UnitError::TooLarge)?;
        if tail.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = tail;
    }
}

/// Reads `"512B"`, `"64KiB"`, `"1MB"`: one whole number with a unit, binary (`KiB`, `MiB`, `GiB`) or decimal (`kB`,
/// `MB`, `GB`).
///
/// # Errors
///
/// [`UnitError`], also if it is more than memory can be addressed with.
pub(super) fn parse_size(text: &str) -> Result<usize, UnitError> {
    let (number, unit, tail) = first_part(text)?;
    let Some((_, factor)) = SIZE.iter().find(|(name, _)| *name == unit) else {
        return Err(UnitError::UnknownUnit(unit.to_owned()));
    };
    if !tail.is_empty() {
        return Err(UnitError::Malformed);
    }
    let bytes = number.checked_mul(*factor).ok_or(UnitError::TooLarge)?;
    usize::try_from(bytes).map_err(|_| UnitError::TooLarge)
}

/// The duration as [`parse_duration`] reads it; what is below a millisecond is left out.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut left = duration.as_millis();
    let mut shown = String::new();
    for (unit, factor) in TIME {
        let count = left / u128::from(factor);
        left %= u128::from(factor);
        if count > 0 {
            shown.extend([count.to_string().as_str(), unit]);
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// The size as [`parse_size`] reads it, in the largest binary unit that leaves no rest.
pub(super) fn show_size(bytes: usize) -> String {
    let bytes = bytes as u64;
    let unit = SIZE.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let (name, factor) = unit.copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / factor)
}

/// Takes one number with its unit off the front.
fn first_part(text: &str) -> Result<(u64, &str, &str), UnitError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits).unwrap_or((text, ""));
    if number.is_empty() {
        return Err(UnitError::Malformed);
    }
    let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, tail) = rest.split_at_checked(letters).unwrap_or((rest, ""));
    match unit {
        "" => Err(UnitError::NoUnit),
        _ if !unit.bytes().all(|byte| byte.is_ascii_alphabetic()) => Err(UnitError::Malformed),
        _ => Ok((number.parse().map_err(|_| UnitError::TooLarge)?, unit, tail)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        let read = |text| parse_duration(text).expect(text).as_millis();
        assert_eq!(read("250ms"), 250);
        assert_eq!(read("30s"), 30_000);
        assert_eq!(read("5m"), 300_000);
        assert_eq!(read("1h"), 3_600_000);
        assert_eq!(read("1h30m"), 5_400_000);
        assert_eq!(read("1m1s1ms"), 61_001);
        assert_eq!(read("0s"), 0);
    }

    #[test]
    fn sizes_are_read() {
        let read = |text| parse_size(text).expect(text);
        assert_eq!(read("512B"), 512);
        assert_eq!(read("64KiB"), 65_536);
        assert_eq!(read("1MiB"), 1_048_576);
        assert_eq!(read("1GiB"), 1_073_741_824);
        assert_eq!(read("2kB"), 2000);
        assert_eq!(read("2MB"), 2_000_000);
        assert_eq!(read("2GB"), 2_000_000_000);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let unit = |unit: &str| UnitError::UnknownUnit(unit.to_owned());
        assert_eq!(parse_duration("30"), Err(UnitError::NoUnit));
        assert_eq!(parse_duration("1h30"), Err(UnitError::NoUnit));
        assert_eq!(parse_duration("5 s"), Err(UnitError::Malformed));
        assert_eq!(parse_duration("-5s"), Err(UnitError::Malformed));
        assert_eq!(parse_duration("1.5s"), Err(UnitError::Malformed));
        assert_eq!(parse_duration(""), Err(UnitError::Malformed));
        assert_eq!(parse_duration("5S"), Err(unit("S")));
        assert_eq!(parse_duration("2d"), Err(unit("d")));
        assert_eq!(parse_duration("5m1h"), Err(UnitError::Order));
        assert_eq!(parse_duration("5m5m"), Err(UnitError::Order));
        assert_eq!(parse_duration("99999999999999999999s"), Err(UnitError::TooLarge));
        assert_eq!(parse_duration("9999999999999999h"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("64"), Err(UnitError::NoUnit));
        assert_eq!(parse_size("64K"), Err(unit("K")));
        assert_eq!(parse_size("64KB"), Err(unit("KB")));
        assert_eq!(parse_size("1KiB1B"), Err(UnitError::Malformed));
        assert_eq!(parse_size("18446744073709551615KiB"), Err(UnitError::TooLarge));
    }

    #[test]
    fn values_are_shown_as_one_would_write_them() {
        assert_eq!(show_duration(Duration::from_mins(90)), "1h30m");
        assert_eq!(show_duration(Duration::from_millis(100)), "100ms");
        assert_eq!(show_duration(Duration::ZERO), "0s");
        assert_eq!(show_size(64 * 1024), "64KiB");
        assert_eq!(show_size(1000), "1000B");
        assert_eq!(show_size(0), "0B");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,20}", near in "[0-9hmsKkMGiB .-]{0,24}") {
            for text in [text, near] {
                let _ = (parse_duration(&text), parse_size(&text));
            }
        }

        #[test]
        fn what_is_shown_is_read_back(millis: u64, bytes: usize) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
    }
}
