//! The events that are sent, as the file sink wrote them.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use crate::Failure;

/// A CloudEvent, and what of it stands beside the message where the server has a place for it.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) subject: String,
    pub(super) time: String,
    pub(super) json: Bytes,
}

/// All events of a file of JSON Lines.
pub(super) fn read(file: &Path) -> Result<Vec<Line>, Failure> {
    let text = Bytes::from(fs::read(file)?);
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let event: Value = serde_json::from_slice(line)?;
            let attribute = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            Ok(Line {
                id: attribute("id"),
                kind: attribute("type"),
                source: attribute("source"),
                subject: attribute("subject"),
                time: attribute("time"),
                json: text.slice_ref(line),
            })
        })
        .collect()
}
