//! Durations and sizes as people write them: "7d", "250ms", "64 MiB".

/// `#[serde(with = "duration")]`
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|_| {
            D::Error::custom(format!("{text:?} is no duration; write it like \"250ms\", \"10s\" or \"7d\""))
        })
    }
}

/// `#[serde(with = "size")]`: bytes.
pub(crate) mod size {
    use bytesize::ByteSize;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        text.parse::<ByteSize>()
            .map(|size| size.as_u64())
            .map_err(|_| D::Error::custom(format!("{text:?} is no size; write it like \"64 KiB\" or \"10 GiB\"")))
    }
}
