use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Head, Item, Surroundings};
use crate::json;

/// An event without a model of its own: referral, optin, account_linking, handover, an item of `changes`, the rarer
/// events, and what Meta is not known to send.
#[derive(Clone, Serialize, JsonSchema)]
pub struct MetaFields {
    /// What every event has; nothing stands under `extra`, since everything stands under `fields`.
    #[serde(flatten)]
    pub item: Item,
    /// The item as sent, numbers and escapes untouched; mostly an object.
    #[schemars(with = "serde_json::Value")]
    pub fields: Box<RawValue>,
}

impl MetaFields {
    /// The item with what can be told of it; none if it is not JSON.
    pub fn from_json(json: &str, around: Surroundings<'_>) -> Option<Self> {
        let head = Head::of(json).unwrap_or_default();
        Some(Self { item: Item::new(&head, around), fields: json::verbatim(json)? })
    }
}

crate::model::veil::veiled!(MetaFields);
