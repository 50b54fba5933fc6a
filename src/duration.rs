//! Durations in settings: a number and a unit, such as `500ms`, `10s` or `12h`.

use std::time::Duration;

/// The description of the notation, for error messages.
const NOTATION: &str = "write a duration as a number with its unit: ms, s, m, h or d, such as 10s";

/// Returns a parser for the command line that accepts durations from `min` to `max`. Both bounds are strings such as
/// `10s`.
pub fn between(
    min: &'static str,
    max: &'static str,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    let bound = |text| parse(text).expect("BUG: a bound of a setting is not a duration");
    let range = bound(min)..=bound(max);
    move |text| {
        let duration = parse(text)?;
        if range.contains(&duration) {
            Ok(duration)
        } else {
            Err(format!("must be between {min} and {max}"))
        }
    }
}

/// Parses a duration. A number without a unit is an error, because its unit could only be guessed.
fn parse(text: &str) -> Result<Duration, String> {
    let is_one_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let has_unit = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if !is_one_word || !has_unit {
        return Err(NOTATION.to_owned());
    }
    humantime::parse_duration(text).map_err(|_| NOTATION.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, duration) in [
            ("500ms", Duration::from_millis(500)),
            ("10s", Duration::from_secs(10)),
            ("90m", Duration::from_mins(90)),
            ("12h", Duration::from_hours(12)),
            ("31d", Duration::from_hours(31 * 24)),
            ("1h30m", Duration::from_mins(90)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Ok(duration), "{text}");
        }
        for text in [
            "",
            "0",
            "10000",
            "s",
            "10 s",
            " 10s",
            "1.5h",
            "-1s",
            "+1s",
            "10x",
            "é",
            "10s;",
            "99999999999999999999s",
            "99999999999999999d",
        ] {
            assert_eq!(parse(text), Err(NOTATION.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_duration_out_of_range_is_an_error_that_names_the_range() {
        let parse = between("1ms", "10m");
        for text in ["1ms", "10m", "600000ms"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in ["0s", "601s", "1h"] {
            assert_eq!(
                parse(text),
                Err("must be between 1ms and 10m".to_owned()),
                "{text}"
            );
        }
    }
}
