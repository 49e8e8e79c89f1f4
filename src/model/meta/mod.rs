//! What Meta sends, one event a file.
//!
//! Sender's pages: developers.facebook.com/docs/messenger-platform/webhooks and, for each event, a page below
//! developers.facebook.com/docs/messenger-platform/reference/webhook-events.
//!
//! A body is taken apart by [`envelope::parts`]; [`Head`] tells what an item is; when sinks read it, [`Item`] takes what
//! every item has, and the event's own type the rest.

mod delivery;
pub mod envelope;
mod fields;
mod head;
mod item;
mod message;
mod message_echo;
mod message_edit;
mod postback;
mod reaction;
mod read;

pub use delivery::Delivery;
pub use fields::MetaFields;
pub use head::{EventKey, Head};
pub use item::{Item, Surroundings};
pub use message::{Message, QuickReply, ReplyTo};
pub use message_echo::{Apps, MessageEcho, Origin};
pub use message_edit::MessageEdit;
pub use postback::Postback;
pub use reaction::Reaction;
pub use read::Read;
