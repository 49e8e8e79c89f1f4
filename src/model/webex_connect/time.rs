use chrono::{DateTime, Utc};

use crate::model::{Fields, Zone, parse_time, scalar_text};

/// Takes the first of these fields that can be read as a time, and the others that say the same in the same words. What
/// cannot be read stays in.
pub(super) fn first_time(fields: &mut Fields, names: &[&str], zone: Zone) -> Option<(DateTime<Utc>, String)> {
    let (time, text) = names.iter().find_map(|name| {
        let text = scalar_text(fields.peek(name)?)?;
        Some((parse_time(&text, zone)?, text))
    })?;
    for name in names {
        if fields.peek(name).and_then(scalar_text).is_none_or(|other| other == text) {
            fields.text(name);
        }
    }
    Some((time, text))
}
