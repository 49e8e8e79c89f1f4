use schemars::JsonSchema;
use serde::Serialize;

use super::item::Opened;
use super::message::attachments;
use super::{EventKey, Item, ReplyTo, Surroundings};
use crate::model::Attachment;

/// A message that the page sent, whoever sent it for the page. Sender's page: Meta, "message_echoes Webhook Event
/// Reference", developers.facebook.com/docs/messenger-platform/reference/webhook-events/message-echoes.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct MessageEcho {
    /// What every event has. The person is the recipient here.
    #[serde(flatten)]
    pub item: Item,
    /// Its id, equal to the `message_id` of the Send API; opaque and case-sensitive.
    pub mid: Option<String>,
    /// Its text, which may stand beside attachments.
    pub text: Option<String>,
    /// Its attachments, in their order.
    pub attachments: Vec<Attachment>,
    /// What the sending app gave it.
    pub metadata: Option<String>,
    /// The app that sent it; often absent.
    pub app_id: Option<String>,
    /// Who sent it, by `app_id`.
    pub origin: Origin,
    /// What it answers.
    pub reply_to: Option<ReplyTo>,
    /// Whether it was unsent.
    pub is_deleted: Option<bool>,
}

/// Who sent an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An app of `own_app_ids`.
    OwnApp,
    /// An app of `page_inbox_app_ids`: a human in Meta's inbox.
    PageInbox,
    /// Another app.
    OtherApp,
    /// No app is named: a human, a native app, a shared post.
    Unattributed,
}

/// Which apps are whose.
#[derive(Debug, Clone, Default)]
pub struct Apps {
    /// Our own.
    pub own: Vec<String>,
    /// The inboxes of pages and of Instagram.
    pub page_inbox: Vec<String>,
}

impl Origin {
    fn of(app_id: Option<&str>, apps: &Apps) -> Self {
        let among = |ids: &[String], app: &str| ids.iter().any(|id| id == app);
        match app_id {
            None => Self::Unattributed,
            Some(app) if among(&apps.own, app) => Self::OwnApp,
            Some(app) if among(&apps.page_inbox, app) => Self::PageInbox,
            Some(_) => Self::OtherApp,
        }
    }
}

impl MessageEcho {
    /// The typed view of an item with an echoed `message`; none if it is no object.
    pub fn from_json(json: &str, around: Surroundings<'_>, apps: &Apps) -> Option<Self> {
        let (opened, mut message) = Opened::at(json, around, EventKey::MessageEcho)?;
        message.truth("is_echo");
        let app_id = message.text("app_id");
        Some(Self {
            mid: message.text("mid"),
            text: message.text("text"),
            attachments: attachments(&mut message),
            metadata: message.text("metadata"),
            origin: Origin::of(app_id.as_deref(), apps),
            app_id,
            reply_to: ReplyTo::take(&mut message),
            is_deleted: message.truth("is_deleted"),
            item: opened.close(message),
        })
    }
}

crate::model::veil::veiled!(MessageEcho);
