use schemars::JsonSchema;
use serde::Serialize;

use crate::json::{Json, mended};
use crate::model::lenient::{Room, opened};
use crate::model::{Extra, Fields};

/// A button the person pressed.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct ConnectPostback {
    /// What the button stands for; on RCS the whole of what is sent.
    pub payload: Option<String>,
    /// What stood on the button.
    pub title: Option<String>,
    /// Everything else as sent.
    pub extra: Extra,
}

impl ConnectPostback {
    /// The postback that this JSON describes: an object, the text of one, or a bare word. None if nothing is in it.
    pub(super) fn from_json(json: Json<'_>, room: &mut Room) -> Option<Self> {
        match json {
            Json::Text(text) => match opened(&mended(&text), room) {
                Some(Json::Text(inner)) => Self::of_text(&inner),
                Some(open @ (Json::Object(_) | Json::List(_) | Json::Null)) => Self::of_value(open),
                // A number or truth value is a bare word that looks like one.
                Some(_) | None => Self::of_text(&text),
            },
            other => Self::of_value(other),
        }
    }

    fn of_value(json: Json<'_>) -> Option<Self> {
        match json {
            Json::Object(object) if object.is_empty() => None,
            Json::List(items) if items.is_empty() => None,
            Json::Object(object) => {
                let mut fields = Fields::new(object);
                Some(Self { payload: fields.text("payload"), title: fields.text("title"), extra: fields.into_extra() })
            }
            list @ Json::List(_) => {
                Some(Self { extra: Extra::from_iter([("value".to_owned(), list.into())]), ..Self::default() })
            }
            other => Self::of_text(other.scalar()?),
        }
    }

    fn of_text(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| Self { payload: Some(text.to_owned()), ..Self::default() })
    }
}

crate::model::veil::veiled!(ConnectPostback);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json::Scanner;

    #[test]
    fn a_postback_in_every_form() {
        let title = |title: &str| Some(title.to_owned());
        for (json, expected) in [
            (json!(null), None),
            (json!(""), None),
            (json!(" "), None),
            (json!("[]"), None),
            (json!("{}"), None),
            (json!("null"), None),
            (json!([]), None),
            (json!({}), None),
            (json!("Welcome"), Some(("Welcome", None, json!({})))),
            (json!("clicked "), Some(("clicked ", None, json!({})))),
            (json!("007"), Some(("007", None, json!({})))),
            (json!("1E5"), Some(("1E5", None, json!({})))),
            (json!("\"quoted\""), Some(("quoted", None, json!({})))),
            (json!(r#"{"payload":"1232"}"#), Some(("1232", None, json!({})))),
            (json!(r#"{"payload":1232,"title":"Yes"}"#), Some(("1232", title("Yes"), json!({})))),
            (json!({"payload": "p", "referral": {"ref": "x"}}), Some(("p", None, json!({"referral": {"ref": "x"}})))),
            (json!({"payload": {"a": 1}}), Some(("", None, json!({"payload": {"a": 1}})))),
            (json!("[1]"), Some(("", None, json!({"value": [1]})))),
            (json!("{broken"), Some(("{broken", None, json!({})))),
        ] {
            let expected = expected.map(|(payload, title, extra)| ConnectPostback {
                payload: (!payload.is_empty()).then(|| payload.to_owned()),
                title,
                extra: extra.as_object().unwrap().clone(),
            });
            let text = json.to_string();
            let json = Json::read(&mut Scanner::new(&text), &mut 100).ok().unwrap();
            assert_eq!(ConnectPostback::from_json(json, &mut Room::default()), expected, "{text}");
        }
    }
}
