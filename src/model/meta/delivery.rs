use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::item::Opened;
use super::{EventKey, Item, Surroundings};
use crate::model::{serialize_time, take_time};

/// Messages of the page were delivered to the person. Sender's page: Meta, "message_deliveries",
/// developers.facebook.com/docs/messenger-platform/reference/webhook-events/message-deliveries.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Delivery {
    /// What every event has.
    #[serde(flatten)]
    pub item: Item,
    /// The messages; often none, then `watermark` says which.
    pub mids: Vec<String>,
    /// All messages sent until then were delivered.
    #[serde(serialize_with = "serialize_time")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub watermark: Option<DateTime<Utc>>,
}

impl Delivery {
    /// The typed view of an item with a `delivery`; none if it is no object.
    pub fn from_json(json: &str, around: Surroundings<'_>) -> Option<Self> {
        let (opened, mut delivery) = Opened::at(json, around, EventKey::Delivery)?;
        Some(Self {
            mids: delivery.texts("mids").unwrap_or_default(),
            watermark: take_time(&mut delivery, "watermark"),
            item: opened.close(delivery),
        })
    }
}

crate::model::veil::veiled!(Delivery);
