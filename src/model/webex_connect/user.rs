use schemars::JsonSchema;
use serde::Serialize;

use super::channel::{ANY_USER_KEY, Channel};
use crate::model::Fields;

/// The person a message or an event comes from.
#[derive(Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct User {
    /// The person's id on the channel.
    pub id: Option<String>,
    /// What `id` is, in the words of `destinationType` of notifications: psid, waid, bsuid, userhandle, igsid, msisdn,
    /// abcuserid, userid, email and others; an open set.
    pub id_type: Option<String>,
    /// Webex Connect's own id of the customer; where it is the person's only id (In-App), it stands in `id` instead.
    pub connect_user_id: Option<String>,
    /// The name on the channel.
    pub name: Option<String>,
    /// The URL of a picture; it may expire.
    pub profile_pic: Option<String>,
    /// Such as en_US.
    pub locale: Option<String>,
    /// As the channel words it.
    pub gender: Option<String>,
    /// Such as 5.5, in hours from UTC.
    pub timezone: Option<String>,
}

impl User {
    pub(super) fn take(fields: &mut Fields<'_>, channel: Channel) -> Self {
        let (id, id_type) = match take_id(fields, channel) {
            Some((id, id_type)) => (Some(id), Some(id_type.to_owned())),
            None => (None, None),
        };
        Self {
            id,
            id_type,
            connect_user_id: fields.first_text(&["userId", "userld"]),
            name: fields.text("name"),
            profile_pic: fields.text("profile_pic"),
            locale: fields.text("locale"),
            gender: fields.text("gender"),
            timezone: fields.text("timezone"),
        }
    }
}

/// Takes the person's id on this channel, and says what it is.
pub(super) fn take_id(fields: &mut Fields<'_>, channel: Channel) -> Option<(String, &'static str)> {
    channel.user_keys().iter().chain(ANY_USER_KEY).find_map(|(key, id_type)| Some((fields.text(key)?, *id_type)))
}

crate::model::veil::veiled!(User);
