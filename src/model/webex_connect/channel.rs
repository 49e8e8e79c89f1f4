use super::status::fold;

/// A channel as this program tells them apart. Senders write one channel in several ways, and not the same way in
/// notifications as in messages; the models keep their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    Messenger,
    WhatsApp,
    Instagram,
    Rcs,
    Apple,
    /// Live chat inside a web page or an app ("Rtm", "rt").
    InApp,
    Sms,
    Mms,
    Email,
    Push,
    Voice,
    Twitter,
    /// Google Business Messages.
    Gbm,
    /// None of these; the set is open.
    Other,
}

impl Channel {
    /// Every channel there is.
    #[cfg(test)]
    pub(super) const ALL: &[Self] = &[
        Self::Messenger,
        Self::WhatsApp,
        Self::Instagram,
        Self::Rcs,
        Self::Apple,
        Self::InApp,
        Self::Sms,
        Self::Mms,
        Self::Email,
        Self::Push,
        Self::Voice,
        Self::Twitter,
        Self::Gbm,
        Self::Other,
    ];

    /// The channel of this name, whatever its case and separators.
    pub(super) fn parse(name: &str) -> Self {
        match fold(name).as_str() {
            "fb" | "facebook" | "facebookmessenger" | "messenger" => Self::Messenger,
            "whatsapp" | "wa" => Self::WhatsApp,
            "instagram" | "ig" => Self::Instagram,
            "rcs" => Self::Rcs,
            "applebusinesschat" | "applemessagesforbusiness" | "abc" => Self::Apple,
            "rt" | "rtm" | "inapp" | "inappmessaging" | "appmessaging" => Self::InApp,
            "sms" => Self::Sms,
            "mms" => Self::Mms,
            "email" => Self::Email,
            "push" => Self::Push,
            "voice" => Self::Voice,
            "twitter" => Self::Twitter,
            "gbm" => Self::Gbm,
            _ => Self::Other,
        }
    }

    /// The keys of a message under which the person's id can stand on this channel, the best first, each with the name
    /// of that type of id. The names are those of `destinationType` in notifications, where these have one.
    pub(super) fn user_keys(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Messenger => &[("psid", "psid")],
            Self::WhatsApp => &[("waid", "waid"), ("bsuid", "bsuid"), ("userHandle", "userhandle")],
            Self::Instagram => &[("igsid", "igsid")],
            Self::Rcs => &[("msisdn", "msisdn")],
            Self::Apple => &[("abcUserId", "abcuserid")],
            Self::InApp => &[("userId", "userid"), ("userld", "userid")],
            Self::Sms | Self::Mms => &[("oa", "msisdn")],
            Self::Email => &[("from", "email")],
            Self::Twitter => &[("twitterid", "twitterid"), ("twitterId", "twitterid")],
            Self::Push | Self::Voice | Self::Gbm | Self::Other => &[],
        }
    }
}

/// Where to look on a channel nobody has described. `userId` is not among them: on most channels it is Webex Connect's
/// own customer id and the same for many people.
pub(super) const ANY_USER_KEY: &[(&str, &str)] = &[
    ("psid", "psid"),
    ("igsid", "igsid"),
    ("waid", "waid"),
    ("bsuid", "bsuid"),
    ("abcUserId", "abcuserid"),
    ("twitterid", "twitterid"),
    ("conversationid", "conversationid"),
    ("msisdn", "msisdn"),
    ("oa", "msisdn"),
    ("from", "from"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_channel_has_several_names() {
        for (names, channel) in [
            (&["fb", "Facebook", "Facebook Messenger", "FACEBOOK_MESSENGER"][..], Channel::Messenger),
            (&["rt", "Rtm"], Channel::InApp),
            (&["SMS", "sms"], Channel::Sms),
            (&["AppleBusinessChat", "applebusinesschat"], Channel::Apple),
            (&["Email", "email", "E-Mail"], Channel::Email),
            (&["", "carrier pigeon"], Channel::Other),
        ] {
            for name in names {
                assert_eq!(Channel::parse(name), channel, "{name}");
            }
        }
    }
}
