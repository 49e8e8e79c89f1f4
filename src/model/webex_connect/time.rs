use chrono::{DateTime, Utc};

use crate::json::Json;
use crate::model::{Fields, Zone, parse_time};

/// Takes the first of these fields that can be read as a time, and the others that say the same in the same words. What
/// cannot be read stays in.
pub(super) fn first_time(fields: &mut Fields<'_>, names: &[&str], zone: Zone) -> Option<(DateTime<Utc>, String)> {
    let (time, text) = names.iter().find_map(|name| {
        let text = fields.peek(name)?.scalar()?;
        Some((parse_time(text, zone)?, text.to_owned()))
    })?;
    for name in names {
        if fields.peek(name).and_then(Json::scalar).is_none_or(|other| other == text) {
            fields.text(name);
        }
    }
    Some((time, text))
}
