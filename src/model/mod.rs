//! Typed models of what arrives and of what sinks read. Total: what does not fit a model becomes
//! [`Payload::Unrecognized`], never an error, and fields no model names stand under `extra`.
//!
//! All take an item's JSON after [`crate::json::repair`], and none does I/O or reads a clock.

mod attachment;
mod fields;
pub(crate) mod lenient;
pub mod meta;
mod text;
mod veil;
pub mod webex_connect;
mod zone;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

pub use attachment::{Attachment, AttachmentType, Button, Coordinates, Product, Template, TemplateElement};
pub use fields::Fields;
pub use text::{parse_time, rfc3339, serialize_time, take_time, with_rfc3339};
pub use zone::Zone;

/// Fields that no model names, with their values as sent.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// The typed payload of an event: `data` of its CloudEvent.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Payload {
    /// `webex_connect.delivery_notification`
    DeliveryNotification(Box<webex_connect::DeliveryNotification>),
    /// `webex_connect.message`, `.postback` and `.event`
    ConnectEvent(Box<webex_connect::ConnectEvent>),
    /// `meta.message_echo`
    MessageEcho(Box<meta::MessageEcho>),
    /// `meta.message`
    Message(Box<meta::Message>),
    /// `meta.message_edit`
    MessageEdit(Box<meta::MessageEdit>),
    /// `meta.reaction`
    Reaction(Box<meta::Reaction>),
    /// `meta.delivery`
    Delivery(Box<meta::Delivery>),
    /// `meta.read`
    Read(Box<meta::Read>),
    /// `meta.postback`
    Postback(Box<meta::Postback>),
    /// Every other Meta kind.
    MetaFields(Box<meta::MetaFields>),
    /// `webex_connect.unrecognized`: authentic JSON that is nothing known.
    Unrecognized(Unrecognized),
    /// What a sink's `map` made of another of these.
    #[schemars(skip)]
    Mapped(Mapped),
    /// A body that is not JSON: it leaves as `data_base64`.
    #[schemars(skip)]
    Opaque,
}

impl Payload {
    /// Whether the sender sent fields that no model names: a model lags behind its sender. Kinds that show everything
    /// under `fields` have none.
    pub fn has_extra(&self) -> bool {
        let attached = |attachments: &[Attachment]| attachments.iter().any(Attachment::has_extra);
        match self {
            Self::DeliveryNotification(notification) => !notification.extra.is_empty(),
            Self::ConnectEvent(event) => !event.extra.is_empty() || attached(&event.attachments),
            Self::MessageEcho(echo) => !echo.item.extra.is_empty() || attached(&echo.attachments),
            Self::Message(message) => !message.item.extra.is_empty() || attached(&message.attachments),
            Self::MessageEdit(edit) => !edit.item.extra.is_empty(),
            Self::Reaction(reaction) => !reaction.item.extra.is_empty(),
            Self::Delivery(delivery) => !delivery.item.extra.is_empty(),
            Self::Read(read) => !read.item.extra.is_empty(),
            Self::Postback(postback) => !postback.item.extra.is_empty(),
            Self::MetaFields(_) | Self::Unrecognized(_) | Self::Mapped(_) | Self::Opaque => false,
        }
    }
}

/// Authentic JSON that is nothing known.
#[derive(Clone, Serialize, JsonSchema)]
pub struct Unrecognized {
    /// The JSON as sent.
    #[schemars(with = "serde_json::Value")]
    pub fields: Box<RawValue>,
}

/// What a sink's `map` made of an event.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Mapped {
    /// Any JSON, on one line.
    pub data: Box<RawValue>,
}

crate::model::veil::veiled!(Unrecognized);
crate::model::veil::veiled!(Mapped);
