//! Durations and sizes as people write them: "7d", "250ms", "64 MiB".

use std::time::Duration;

use bytesize::ByteSize;

use super::reader::Given;

/// A duration, longer than nothing.
pub(crate) fn duration(given: &Given<'_>) -> Result<Duration, String> {
    match any_duration(given)? {
        Duration::ZERO => Err("this must be longer than nothing".into()),
        duration => Ok(duration),
    }
}

/// A duration.
pub(crate) fn any_duration(given: &Given<'_>) -> Result<Duration, String> {
    let form = "write it like \"250ms\", \"10s\" or \"7d\"";
    let Some(text) = given.text() else { return Err(format!("this must be a duration; {form}")) };
    humantime::parse_duration(text).map_err(|_| format!("{text:?} is no duration; {form}"))
}

/// A size in bytes, of at least one.
pub(crate) fn size(given: &Given<'_>) -> Result<u64, String> {
    let form = "write it like \"64 KiB\" or \"10 GiB\"";
    let Some(text) = given.text() else { return Err(format!("this must be a size with its unit; {form}")) };
    match text.parse::<ByteSize>() {
        Err(_) => Err(format!("{text:?} is no size; {form}")),
        Ok(_) if text.bytes().all(|b| b.is_ascii_digit()) => Err(format!("{text:?} has no unit; {form}")),
        Ok(ByteSize(0)) => Err("this must be more than nothing".into()),
        Ok(size) => Ok(size.as_u64()),
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;

    fn given<T>(parse: fn(&Given<'_>) -> Result<T, String>, text: &str) -> Result<T, String> {
        parse(&Given::item(&Value::String(text.into())))
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(given(duration, "250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(given(duration, "7d"), Ok(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(given(duration, "1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(given(any_duration, "0s"), Ok(Duration::ZERO));
        for bad in ["", "10", "7 fortnights", "-1s", "0s"] {
            assert!(given(duration, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(given(size, "64 KiB"), Ok(64 * 1024));
        assert_eq!(given(size, "4MB"), Ok(4_000_000));
        assert_eq!(given(size, "512 B"), Ok(512));
        for bad in ["", "64", "64 lumps", "0 B", "-1 KiB"] {
            assert!(given(size, bad).is_err(), "{bad}");
        }
        let number = size(&Given::item(&Value::Integer(5)));
        assert_eq!(number.unwrap_err(), "this must be a size with its unit; write it like \"64 KiB\" or \"10 GiB\"");
    }
}
