//! What the codes of delivery notifications mean. A code has a meaning only together with its channel: 7303 is one thing
//! on Messenger and another on Instagram.

use super::Status;
use super::channel::Channel;

/// What a code says about the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Exactly this.
    Exactly(Status),
    /// It did not get through.
    NotThrough,
}

/// On which channels a row holds.
#[derive(Debug, Clone, Copy)]
enum On {
    /// On all but voice, whose codes are its own.
    Messaging,
    /// On these.
    Only(&'static [Channel]),
}

/// What a code means on a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    /// In a few words.
    pub(super) text: &'static str,
    says: Says,
}

impl Meaning {
    /// Whether a notification with this code cannot have this status. A status that is none of ours contradicts nothing.
    pub(super) fn contradicts(self, status: Status) -> bool {
        match self.says {
            _ if status == Status::Other => false,
            Says::Exactly(said) => status != said,
            Says::NotThrough => {
                matches!(status, Status::Submitted | Status::Delivered | Status::Read | Status::Clicked)
            }
        }
    }
}

/// What this code means on this channel, if anybody has said so publicly.
pub(super) fn meaning(channel: Channel, code: &str) -> Option<Meaning> {
    let holds = |on: On| match on {
        On::Messaging => channel != Channel::Voice,
        On::Only(channels) => channels.contains(&channel),
    };
    let code = code.trim();
    let row = MEANINGS.iter().find(|row| row.0 == code && holds(row.1))?;
    Some(Meaning { text: row.3, says: row.2 })
}

/// Code, channels, what it says of the message, in words. From the pages on outbound webhooks of the sender's channels
/// (those of SMS: <https://developers.webexconnect.io/reference/sms-1>). What 7303 means on Instagram they do not say in
/// public, so it has no row; no more have the codes of voice calls.
const MEANINGS: &[(&str, On, Says, &str)] = &[
    ("7500", On::Messaging, Says::Exactly(Status::Delivered), "delivered"),
    ("7501", On::Messaging, Says::Exactly(Status::Submitted), "submitted (interim)"),
    ("7502", On::Messaging, Says::Exactly(Status::Read), "read"),
    ("7528", On::Messaging, Says::Exactly(Status::Clicked), "clicked"),
    ("7005", On::Messaging, Says::NotThrough, "request expired"),
    ("7006", On::Messaging, Says::NotThrough, "internal error (may be temporary)"),
    ("7010", On::Messaging, Says::NotThrough, "service provider exception (see additional_info)"),
    ("7011", On::Messaging, Says::NotThrough, "unknown exception"),
    ("7101", On::Only(&[Channel::Sms]), Says::NotThrough, "invalid sender id"),
    ("7102", On::Only(&[Channel::Sms]), Says::NotThrough, "invalid address"),
    ("7107", On::Only(&[Channel::Sms]), Says::NotThrough, "message too long"),
    ("7301", On::Messaging, Says::NotThrough, "message expired"),
    ("7303", On::Only(&[Channel::Messenger]), Says::NotThrough, "endpoint not reachable"),
    ("7313", On::Messaging, Says::NotThrough, "no inbound message from the user"),
    ("7526", On::Only(MESSENGERS), Says::NotThrough, "no subscription permission, or invalid tag"),
    ("2018047", On::Only(MESSENGERS), Says::NotThrough, "refused for European privacy rules"),
    ("2018336", On::Only(MESSENGERS), Says::NotThrough, "refused for European privacy rules"),
];

/// The channels that go through Meta's Messenger Platform and pass its codes on.
const MESSENGERS: &[Channel] = &[Channel::Messenger, Channel::Instagram];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meaning_belongs_to_channel_and_code() {
        let text = |channel, code| meaning(channel, code).map(|meaning| meaning.text);
        assert_eq!(text(Channel::Messenger, "7303"), Some("endpoint not reachable"));
        assert_eq!(text(Channel::Instagram, "7303"), None);
        assert_eq!(text(Channel::Sms, "7102"), Some("invalid address"));
        assert_eq!(text(Channel::Messenger, "7102"), None);
        assert_eq!(text(Channel::Other, "7500"), Some("delivered"));
        assert_eq!(text(Channel::Voice, "7500"), None);
        assert_eq!(text(Channel::Messenger, "<code>"), None);
        assert_eq!(text(Channel::Messenger, ""), None);
    }

    #[test]
    fn no_code_has_two_meanings_on_one_channel() {
        for (at, row) in MEANINGS.iter().enumerate() {
            assert!(MEANINGS[..at].iter().all(|earlier| earlier.0 != row.0), "{}", row.0);
        }
    }

    #[test]
    fn a_code_contradicts_the_statuses_it_rules_out() {
        for (code, status, contradicts) in [
            ("7500", Status::Delivered, false),
            ("7500", Status::Read, true),
            ("7500", Status::Failed, true),
            ("7500", Status::Other, false),
            ("7501", Status::Submitted, false),
            ("7010", Status::Failed, false),
            ("7010", Status::Undelivered, false),
            ("7010", Status::Bounced, false),
            ("7010", Status::Delivered, true),
            ("7010", Status::Submitted, true),
            ("2018336", Status::Read, true),
        ] {
            let meaning = meaning(Channel::Messenger, code).expect(code);
            assert_eq!(meaning.contradicts(status), contradicts, "{code} {status:?}");
        }
    }
}
