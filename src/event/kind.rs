//! The kinds of event.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::SourceType;

/// A text that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of event; `hooksink schema kinds` lists them")]
pub struct UnknownKind(String);

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $text:literal $source:ident,)+) => {
        /// What an event is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum Kind {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl Kind {
            /// Every kind there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The CloudEvents `type`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The type of source it comes from.
            pub fn source_type(self) -> SourceType {
                match self { $(Self::$variant => SourceType::$source,)+ }
            }
        }
    };
}

kinds! {
    /// A status of a message sent through Webex Connect.
    ConnectDeliveryNotification "webex_connect.delivery_notification" WebexConnect,
    /// An incoming message.
    ConnectMessage "webex_connect.message" WebexConnect,
    /// A button the person pressed.
    ConnectPostback "webex_connect.postback" WebexConnect,
    /// Any other named event.
    ConnectEvent "webex_connect.event" WebexConnect,
    /// Authentic, and nothing that Webex Connect is known to send.
    ConnectUnrecognized "webex_connect.unrecognized" WebexConnect,
    /// A message the page sent.
    MetaMessageEcho "meta.message_echo" Meta,
    /// A message the page received.
    MetaMessage "meta.message" Meta,
    /// A message edited by the person.
    MetaMessageEdit "meta.message_edit" Meta,
    /// A reaction to a message, or its removal.
    MetaReaction "meta.reaction" Meta,
    /// Messages were delivered to the person.
    MetaDelivery "meta.delivery" Meta,
    /// Messages were read by the person.
    MetaRead "meta.read" Meta,
    /// A button the person pressed.
    MetaPostback "meta.postback" Meta,
    /// The person came through a link or an ad.
    MetaReferral "meta.referral" Meta,
    /// The person opted in.
    MetaOptin "meta.optin" Meta,
    /// The person linked or unlinked an account.
    MetaAccountLinking "meta.account_linking" Meta,
    /// The thread passed between apps: pass, take or request thread control, app_roles.
    MetaHandover "meta.handover" Meta,
    /// An item of `changes`.
    MetaChange "meta.change" Meta,
    /// Any other known event of `messaging` or `standby`.
    MetaEvent "meta.event" Meta,
    /// Authentic, and nothing that Meta is known to send.
    MetaUnrecognized "meta.unrecognized" Meta,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}
