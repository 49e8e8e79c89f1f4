//! The zone of times that are sent without one.

use std::str::FromStr;

use chrono::FixedOffset;
use chrono_tz::Tz;

/// A time zone: an IANA name or an offset such as `+05:45`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// `Asia/Kolkata`
    Named(Tz),
    /// `+05:45`
    Offset(FixedOffset),
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self::Named(Tz::UTC);
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self::Named).or_else(|_| text.parse().map(Self::Offset)).map_err(|_| {
            format!("{text:?} is no time zone; write an IANA name (\"Asia/Kolkata\") or an offset (\"+05:45\")")
        })
    }
}
