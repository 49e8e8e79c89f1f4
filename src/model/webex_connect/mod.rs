//! What Webex Connect sends to outbound webhooks: delivery notifications, and the messages and events of people.
//!
//! Sender's pages: <https://developers.webexconnect.io/reference/outbound-webhooks> and one a channel. Nearly every
//! scalar is a string, lists and objects may be JSON text inside a string, and the fields differ per channel and change
//! over time, so every model takes what it knows and keeps the rest.

mod channel;
mod code;
mod connect_event;
mod delivery_notification;
mod glance;
mod postback;
mod status;
mod time;
mod user;

pub use connect_event::ConnectEvent;
pub use delivery_notification::DeliveryNotification;
pub use glance::{Glance, Shape};
pub use postback::ConnectPostback;
pub use status::Status;
pub use user::User;
