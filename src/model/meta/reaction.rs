use schemars::JsonSchema;
use serde::Serialize;

use super::item::Opened;
use super::{EventKey, Item, Surroundings};

/// A reaction to a message, or its removal. Sender's page: Meta, "message_reactions",
/// developers.facebook.com/docs/messenger-platform/reference/webhook-events/message-reactions.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Reaction {
    /// What every event has.
    #[serde(flatten)]
    pub item: Item,
    /// The message.
    pub mid: Option<String>,
    /// react or unreact.
    pub action: Option<String>,
    /// smile, angry, sad, wow, love, like, dislike, other: an open set.
    pub reaction: Option<String>,
    /// The emoji.
    pub emoji: Option<String>,
}

impl Reaction {
    /// The typed view of an item with a `reaction`; none if it is no object.
    pub fn from_json(json: &str, around: Surroundings<'_>) -> Option<Self> {
        let (opened, mut reaction) = Opened::at(json, around, EventKey::Reaction)?;
        Some(Self {
            mid: reaction.text("mid"),
            action: reaction.text("action"),
            reaction: reaction.text("reaction"),
            emoji: reaction.text("emoji"),
            item: opened.close(reaction),
        })
    }
}

crate::model::veil::veiled!(Reaction);
