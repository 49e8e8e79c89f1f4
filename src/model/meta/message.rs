use schemars::JsonSchema;
use serde::Serialize;

use super::item::Opened;
use super::{EventKey, Item, Surroundings};
use crate::model::{Attachment, Extra, Fields};

/// A message that the page received. Sender's page: Meta, "messages",
/// developers.facebook.com/docs/messenger-platform/reference/webhook-events/messages.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Message {
    /// What every event has.
    #[serde(flatten)]
    pub item: Item,
    /// Its id, opaque and case-sensitive. A deletion, an edit and reactions carry the same.
    pub mid: Option<String>,
    /// Its text.
    pub text: Option<String>,
    /// Its attachments, in their order.
    pub attachments: Vec<Attachment>,
    /// What it answers.
    pub reply_to: Option<ReplyTo>,
    /// Whether it was unsent.
    pub is_deleted: Option<bool>,
    /// The quick reply that the person chose.
    pub quick_reply: Option<QuickReply>,
}

/// What a message answers.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct ReplyTo {
    /// The message.
    pub mid: Option<String>,
    /// Whether its own sender answers it.
    pub is_self_reply: Option<bool>,
    /// Everything else as sent, such as the `story` of Instagram.
    pub extra: Extra,
}

/// A chosen quick reply.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct QuickReply {
    /// What the sender of the quick reply gave it.
    pub payload: Option<String>,
    /// Everything else as sent.
    pub extra: Extra,
}

impl Message {
    /// The typed view of an item with a `message`; none if it is no object.
    pub fn from_json(json: &str, around: Surroundings<'_>) -> Option<Self> {
        let (opened, mut message) = Opened::at(json, around, EventKey::Message)?;
        message.truth("is_echo");
        Some(Self {
            mid: message.text("mid"),
            text: message.text("text"),
            attachments: attachments(&mut message),
            reply_to: ReplyTo::take(&mut message),
            is_deleted: message.truth("is_deleted"),
            quick_reply: message
                .object("quick_reply")
                .map(|mut reply| QuickReply { payload: reply.text("payload"), extra: reply.into_extra() }),
            item: opened.close(message),
        })
    }
}

impl ReplyTo {
    pub(super) fn take(message: &mut Fields<'_>) -> Option<Self> {
        let mut reply = message.object("reply_to")?;
        Some(Self { mid: reply.text("mid"), is_self_reply: reply.truth("is_self_reply"), extra: reply.into_extra() })
    }
}

pub(super) fn attachments(message: &mut Fields<'_>) -> Vec<Attachment> {
    message.array("attachments").unwrap_or_default().into_iter().map(Attachment::from_json).collect()
}

crate::model::veil::veiled!(Message, ReplyTo, QuickReply);
