use schemars::JsonSchema;
use serde::Serialize;

use super::item::Opened;
use super::{EventKey, Item, Surroundings};

/// A message that the person edited. Sender's page: Meta, "message_edits",
/// developers.facebook.com/docs/messenger-platform/reference/webhook-events/message-edits.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct MessageEdit {
    /// What every event has.
    #[serde(flatten)]
    pub item: Item,
    /// The message.
    pub mid: Option<String>,
    /// Its new text.
    pub text: Option<String>,
    /// Which edit of the message it is, from 1.
    pub num_edit: Option<i64>,
}

impl MessageEdit {
    /// The typed view of an item with a `message_edit`; none if it is no object.
    pub fn from_json(json: &str, around: Surroundings<'_>) -> Option<Self> {
        let (opened, mut message_edit) = Opened::at(json, around, EventKey::MessageEdit)?;
        Some(Self {
            mid: message_edit.text("mid"),
            text: message_edit.text("text"),
            num_edit: message_edit.integer("num_edit"),
            item: opened.close(message_edit),
        })
    }
}

crate::model::veil::veiled!(MessageEdit);
