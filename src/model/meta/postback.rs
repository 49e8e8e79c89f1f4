use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::item::Opened;
use super::{EventKey, Item, Surroundings};

/// The person pressed a button, Get Started or a menu entry. Sender's page: Meta, "messaging_postbacks",
/// developers.facebook.com/docs/messenger-platform/reference/webhook-events/messaging_postbacks.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Postback {
    /// What every event has.
    #[serde(flatten)]
    pub item: Item,
    /// The message with the button.
    pub mid: Option<String>,
    /// What stands on the button.
    pub title: Option<String>,
    /// What the button was given.
    pub payload: Option<String>,
    /// Where the person came from, as sent.
    pub referral: Option<Value>,
}

impl Postback {
    /// The typed view of an item with a `postback`; none if it is no object.
    pub fn from_json(json: &str, around: Surroundings<'_>) -> Option<Self> {
        let (opened, mut postback) = Opened::at(json, around, EventKey::Postback)?;
        Some(Self {
            mid: postback.text("mid"),
            title: postback.text("title"),
            payload: postback.text("payload"),
            referral: postback.value("referral").filter(|referral| !referral.is_null()).map(Value::from),
            item: opened.close(postback),
        })
    }
}

crate::model::veil::veiled!(Postback);
