use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::item::Opened;
use super::{EventKey, Item, Surroundings};
use crate::model::{serialize_time, take_time};

/// Messages of the page were read by the person. Sender's page: Meta, "message_reads",
/// developers.facebook.com/docs/messenger-platform/reference/webhook-events/message-reads.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Read {
    /// What every event has.
    #[serde(flatten)]
    pub item: Item,
    /// The message (Instagram).
    pub mid: Option<String>,
    /// All messages sent until then were read.
    #[serde(serialize_with = "serialize_time")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub watermark: Option<DateTime<Utc>>,
}

impl Read {
    /// The typed view of an item with a `read`; none if it is no object.
    pub fn from_json(json: &str, around: Surroundings<'_>) -> Option<Self> {
        let (opened, mut read) = Opened::at(json, around, EventKey::Read)?;
        Some(Self { mid: read.text("mid"), watermark: take_time(&mut read, "watermark"), item: opened.close(read) })
    }
}

crate::model::veil::veiled!(Read);
