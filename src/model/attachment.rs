//! Attachments: one shape for both senders.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Extra, Fields};
use crate::json::Json;

/// A file, place, link or template that belongs to a message.
///
/// Senders: Meta, "message_echoes Webhook Event Reference"
/// (developers.facebook.com/docs/messenger-platform/reference/webhook-events/message-echoes) and "messages"; Webex
/// Connect's incoming messages, which pass Messenger's attachments on.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Attachment {
    /// What it is.
    #[serde(rename = "type")]
    #[schemars(rename = "type")]
    pub kind: AttachmentType,
    /// `type` as the sender wrote it.
    pub type_text: Option<String>,
    /// Where it is, opened where the sender percent-encoded it whole.
    pub url: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// The sender's id of an uploaded file.
    pub attachment_id: Option<String>,
    /// The sender's id of a sticker.
    pub sticker_id: Option<String>,
    /// Where on Earth.
    pub coordinates: Option<Coordinates>,
    /// What a template was filled with.
    pub template: Option<Template>,
    /// Products of a catalogue.
    pub products: Vec<Product>,
    /// `payload` where it is text instead of an object.
    pub payload_text: Option<String>,
    /// Everything else as sent; what is left of `payload` stands under `payload`.
    pub extra: Extra,
}

/// What an attachment is: an open set, `other` with the sender's word in `type_text`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentType {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A sound.
    Audio,
    /// Any other file.
    File,
    /// A sticker.
    Sticker,
    /// A place.
    Location,
    /// A link (Webex Connect).
    Link,
    /// A structured message.
    Template,
    /// What Meta's message_echoes do not support.
    Fallback,
    /// Products of a catalogue.
    Product,
    /// Anything else.
    #[default]
    Other,
}

/// A place on Earth, in degrees.
#[derive(Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Coordinates {
    /// Latitude, north positive.
    pub lat: f64,
    /// Longitude, east positive.
    pub long: f64,
}

/// What a template was filled with. Sender's page: Meta, "Templates"
/// (developers.facebook.com/docs/messenger-platform/send-messages/templates).
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Template {
    /// generic, button, media, receipt, list, airline_…: an open set.
    pub template_type: Option<String>,
    /// The text above the buttons.
    pub text: Option<String>,
    /// Buttons of the whole template.
    pub buttons: Vec<Button>,
    /// Its cards, media or positions.
    pub elements: Vec<TemplateElement>,
    /// Members that only some templates have (a receipt's `summary`, an itinerary's `flight_info`), as sent.
    pub extra: Extra,
}

/// A card, medium or position of a template.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct TemplateElement {
    /// Its title.
    pub title: Option<String>,
    /// The line below.
    pub subtitle: Option<String>,
    /// Its picture.
    pub image_url: Option<String>,
    /// image or video, of a media template.
    pub media_type: Option<String>,
    /// The uploaded file, of a media template; Meta's echoes carry a number here, its Send API a string.
    pub attachment_id: Option<String>,
    /// A page with the media, of a media template.
    pub url: Option<String>,
    /// Its buttons.
    pub buttons: Vec<Button>,
    /// Everything else as sent.
    pub extra: Extra,
}

/// A button of a template.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Button {
    /// web_url, postback, phone_number, account_link and others: an open set.
    #[serde(rename = "type")]
    #[schemars(rename = "type")]
    pub kind: Option<String>,
    /// What stands on it.
    pub title: Option<String>,
    /// Where it leads.
    pub url: Option<String>,
    /// What comes back when it is pressed.
    pub payload: Option<String>,
    /// Everything else as sent.
    pub extra: Extra,
}

/// A product of a catalogue. Sender's page: Meta, "message_echoes", "Message with products".
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Product {
    /// Its id in the catalogue.
    pub id: Option<String>,
    /// The shop's own id of it.
    pub retailer_id: Option<String>,
    /// Its picture.
    pub image_url: Option<String>,
    /// Its name.
    pub title: Option<String>,
    /// The line below.
    pub subtitle: Option<String>,
    /// Everything else as sent.
    pub extra: Extra,
}

impl AttachmentType {
    /// The type of this name, in any case.
    fn from_text(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "image" => Self::Image,
            "video" => Self::Video,
            "audio" => Self::Audio,
            "file" => Self::File,
            "sticker" => Self::Sticker,
            "location" => Self::Location,
            "link" => Self::Link,
            "template" => Self::Template,
            "fallback" => Self::Fallback,
            "product" => Self::Product,
            _ => Self::Other,
        }
    }
}

impl Attachment {
    /// The attachment that this JSON describes. Total: what does not fit stays in `extra` or `payload_text`.
    pub fn from_json(json: Json<'_>) -> Self {
        let mut fields = match fields_of(json) {
            Ok(fields) => fields,
            Err(other) => {
                let payload_text = other.scalar().map(str::to_owned);
                let extra = if payload_text.is_some() { Extra::new() } else { only(other) };
                return Self { payload_text, extra, ..Self::default() };
            }
        };
        let type_text = fields.text("type");
        let mut attachment = Self {
            kind: type_text.as_deref().map_or_else(Default::default, AttachmentType::from_text),
            ..Self::default()
        };
        attachment.type_text = type_text;
        match fields.object("payload") {
            Some(payload) => attachment.take_payload(payload, &mut fields),
            None => attachment.payload_text = fields.text("payload"),
        }
        take(&mut attachment.url, &mut fields, &["url", "URL"]);
        take(&mut attachment.title, &mut fields, &["title"]);
        take(&mut attachment.attachment_id, &mut fields, &["attachment_id"]);
        take(&mut attachment.sticker_id, &mut fields, &["sticker_id"]);
        if attachment.coordinates.is_none() {
            attachment.coordinates = coordinates(&mut fields);
        }
        if let Some(url) = &mut attachment.url
            && let Cow::Owned(opened) = opened(url)
        {
            *url = opened;
        }
        attachment.extra = fields.into_extra();
        attachment
    }

    /// Takes what is known out of `payload`; the rest goes back.
    fn take_payload<'a>(&mut self, mut payload: Fields<'a>, fields: &mut Fields<'a>) {
        self.take_products(&mut payload);
        if payload.has("template_type") || (self.kind == AttachmentType::Template && !payload.is_empty()) {
            self.template = Some(Template::from_fields(payload));
            return;
        }
        take(&mut self.url, &mut payload, &["url", "URL"]);
        take(&mut self.title, &mut payload, &["title"]);
        take(&mut self.attachment_id, &mut payload, &["attachment_id"]);
        take(&mut self.sticker_id, &mut payload, &["sticker_id"]);
        self.coordinates = coordinates(&mut payload);
        fields.put_rest("payload", payload);
    }

    /// `payload.product.elements` has no `template_type`; Meta calls the attachment a template all the same.
    fn take_products(&mut self, payload: &mut Fields<'_>) {
        let Some(mut product) = payload.object("product") else { return };
        if let Some(elements) = product.array("elements") {
            self.kind = AttachmentType::Product;
            self.products = elements.into_iter().map(Product::from_json).collect();
        }
        payload.put_rest("product", product);
    }

    /// Whether the sender sent fields here that no model names. What only some templates have is not counted.
    pub fn has_extra(&self) -> bool {
        !self.extra.is_empty() || self.products.iter().any(|product| !product.extra.is_empty())
    }
}

impl Template {
    fn from_fields(mut fields: Fields<'_>) -> Self {
        Self {
            template_type: fields.text("template_type"),
            text: fields.text("text"),
            buttons: list(&mut fields, "buttons", Button::from_json),
            elements: list(&mut fields, "elements", TemplateElement::from_json),
            extra: fields.into_extra(),
        }
    }
}

impl TemplateElement {
    fn from_json(json: Json<'_>) -> Self {
        match fields_of(json) {
            Ok(mut fields) => Self {
                title: fields.text("title"),
                subtitle: fields.text("subtitle"),
                image_url: fields.text("image_url"),
                media_type: fields.text("media_type"),
                attachment_id: fields.text("attachment_id"),
                url: fields.text("url"),
                buttons: list(&mut fields, "buttons", Button::from_json),
                extra: fields.into_extra(),
            },
            Err(other) => Self { extra: only(other), ..Self::default() },
        }
    }
}

impl Button {
    fn from_json(json: Json<'_>) -> Self {
        match fields_of(json) {
            Ok(mut fields) => Self {
                kind: fields.text("type"),
                title: fields.text("title"),
                url: fields.text("url"),
                payload: fields.text("payload"),
                extra: fields.into_extra(),
            },
            Err(other) => Self { extra: only(other), ..Self::default() },
        }
    }
}

impl Product {
    fn from_json(json: Json<'_>) -> Self {
        match fields_of(json) {
            Ok(mut fields) => Self {
                id: fields.text("id"),
                retailer_id: fields.text("retailer_id"),
                image_url: fields.text("image_url"),
                title: fields.text("title"),
                subtitle: fields.text("subtitle"),
                extra: fields.into_extra(),
            },
            Err(other) => Self { extra: only(other), ..Self::default() },
        }
    }
}

fn fields_of(json: Json<'_>) -> Result<Fields<'_>, Json<'_>> {
    match json {
        Json::Object(object) => Ok(Fields::new(object)),
        other => Err(other),
    }
}

/// What stands where an object was expected.
fn only(value: Json<'_>) -> Extra {
    if value.is_null() { Extra::new() } else { Extra::from_iter([("value".to_owned(), value.into())]) }
}

/// Fills an empty place from the first of these fields; a second value that says something else stays where it is.
fn take(place: &mut Option<String>, fields: &mut Fields<'_>, names: &[&str]) {
    match place {
        None => *place = fields.first_text(names),
        Some(text) => {
            for name in names {
                if let Some(value) = fields.value(name)
                    && !value.is_null()
                    && value != Json::Text("".into())
                    && value.scalar() != Some(text)
                {
                    fields.put(name, value);
                }
            }
        }
    }
}

fn list<T>(fields: &mut Fields<'_>, name: &str, from_json: impl Fn(Json<'_>) -> T) -> Vec<T> {
    fields.array(name).unwrap_or_default().into_iter().map(from_json).collect()
}

fn coordinates(fields: &mut Fields<'_>) -> Option<Coordinates> {
    let mut place = fields.object("coordinates")?;
    let found = match (number(&place, &["lat", "latitude"]), number(&place, &["long", "longitude", "lng"])) {
        (Some((lat_name, lat)), Some((long_name, long))) => {
            place.value(lat_name);
            place.value(long_name);
            Some(Coordinates { lat, long })
        }
        // Half a place is none: it stays as it was sent.
        _ => None,
    };
    fields.put_rest("coordinates", place);
    found
}

fn number<'a>(fields: &Fields<'_>, names: &[&'a str]) -> Option<(&'a str, f64)> {
    names.iter().find_map(|name| {
        let number: f64 = fields.peek(name)?.scalar()?.parse().ok()?;
        number.is_finite().then_some((*name, number))
    })
}

/// The URL, opened if it is percent-encoded whole (`https%3A%2F%2F…`).
fn opened(url: &str) -> Cow<'_, str> {
    let scheme = url.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
    let whole = scheme.is_some_and(|end| end > 0 && url[end..].get(..3).is_some_and(|c| c.eq_ignore_ascii_case("%3A")))
        && !url.contains([':', '/', '?', '#', '&', '=']);
    if !whole {
        return Cow::Borrowed(url);
    }
    // NUL is no text that every sink can take.
    let opened = percent_decode_str(url).decode_utf8().map(|opened| opened.replace('\0', "\u{fffd}"));
    opened.map_or(Cow::Borrowed(url), Cow::Owned)
}

crate::model::veil::veiled!(Attachment, Coordinates, Template, TemplateElement, Button, Product);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::json::Scanner;

    /// What differs from an attachment in which nothing stands.
    fn decoded(json: &str) -> String {
        let attachment = Attachment::from_json(Json::read(&mut Scanner::new(json), &mut 1000).ok().unwrap());
        let mut shown = serde_json::to_value(attachment).unwrap();
        strip(&mut shown);
        shown.to_string().replace('"', "'")
    }

    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(strip);
                map.retain(|_, v| !v.is_null() && v.as_array().is_none_or(|a| !a.is_empty()));
                map.retain(|_, v| v.as_object().is_none_or(|o| !o.is_empty()));
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }

    #[test]
    fn every_form_of_both_senders() {
        for (json, expected) in [
            (r#"{}"#, "{'type':'other'}"),
            (r#"null"#, "{'type':'other'}"),
            (r#""text""#, "{'type':'other','payload_text':'text'}"),
            (r#"[1]"#, "{'type':'other','extra':{'value':[1]}}"),
            (
                r#"{"type":"image","payload":{"url":"https:\/\/a\/b"}}"#,
                "{'type':'image','type_text':'image','url':'https://a/b'}",
            ),
            (
                r#"{"type":"Image","payload":{"url":"u","sticker_id":369239263222822}}"#,
                "{'type':'image','type_text':'Image','url':'u','sticker_id':'369239263222822'}",
            ),
            (
                r#"{"type":"sticker","payload":{"url":"u"},"sticker_id":"369239263222822"}"#,
                "{'type':'sticker','type_text':'sticker','url':'u','sticker_id':'369239263222822'}",
            ),
            (
                r#"{"type":"video","payload":{"url":"u","attachment_id":90071992547409931}}"#,
                "{'type':'video','type_text':'video','url':'u','attachment_id':'90071992547409931'}",
            ),
            (r#"{"type":"like_heart"}"#, "{'type':'other','type_text':'like_heart'}"),
            (
                r#"{"type":"ig_reel","payload":{"reel_video_id":123,"title":"t","url":"u"}}"#,
                "{'type':'other','type_text':'ig_reel','url':'u','title':'t','extra':{'payload':{'reel_video_id':123}}}",
            ),
            (
                r#"{"type":"location","title":"t","url":"u","payload":{"coordinates":{"lat":12.9716,"long":"77.5946"}}}"#,
                "{'type':'location','type_text':'location','url':'u','title':'t','coordinates':{'lat':12.9716,'long':77.5946}}",
            ),
            (
                r#"{"type":"location","payload":{"coordinates":{"lat":"north","long":7}}}"#,
                "{'type':'location','type_text':'location','extra':{'payload':{'coordinates':{'lat':'north','long':7}}}}",
            ),
            (
                r#"{"type":"link","url":"https%3A%2F%2Fexample.com%2F%3Fa%3Db%2520c%26d","payload":null,"title":""}"#,
                "{'type':'link','type_text':'link','url':'https://example.com/?a=b%20c&d'}",
            ),
            (
                r#"{"type":"link","url":"https://l.example/?u=https%3A%2F%2Fexample.com"}"#,
                "{'type':'link','type_text':'link','url':'https://l.example/?u=https%3A%2F%2Fexample.com'}",
            ),
            (
                r#"{"type":"fallback","title":"t","url":"u","payload":null}"#,
                "{'type':'fallback','type_text':'fallback','url':'u','title':'t'}",
            ),
            (
                r#"{"type":"fallback","title":"","URL":"u","payload":"free text"}"#,
                "{'type':'fallback','type_text':'fallback','url':'u','payload_text':'free text'}",
            ),
            (
                r#"{"type":"fallback","payload":{"title":"t","url":"u"}}"#,
                "{'type':'fallback','type_text':'fallback','url':'u','title':'t'}",
            ),
            (
                r#"{"type":"fallback","title":"t","url":"outer","payload":{"title":"t","URL":"inner"}}"#,
                "{'type':'fallback','type_text':'fallback','url':'inner','title':'t','extra':{'url':'outer'}}",
            ),
            (r#"{"type":"template","url":null,"payload":null}"#, "{'type':'template','type_text':'template'}"),
            (
                r#"{"type":"template","title":"","url":"u","payload":{"template_type":"media","elements":[{"media_type":"image","attachment_id":2457235337685388}]}}"#,
                "{'type':'template','type_text':'template','url':'u','template':{'template_type':'media','elements':[{'media_type':'image','attachment_id':'2457235337685388'}]}}",
            ),
            (
                r#"{"type":"template","payload":{"template_type":"button","text":"x","buttons":[{"type":"postback","title":"t","payload":"P","more":1},7]}}"#,
                "{'type':'template','type_text':'template','template':{'template_type':'button','text':'x','buttons':[{'type':'postback','title':'t','payload':'P','extra':{'more':1}},{'extra':{'value':7}}]}}",
            ),
            (
                r#"{"type":"template","payload":{"template_type":"receipt","order_number":"1","elements":"none","summary":{"total_cost":56.14}}}"#,
                "{'type':'template','type_text':'template','template':{'template_type':'receipt','extra':{'order_number':'1','elements':'none','summary':{'total_cost':56.14}}}}",
            ),
            (
                r#"{"type":"template","payload":{"product":{"elements":[{"id":1,"retailer_id":"sku","title":"a"},{"id":"2","new":true}]}}}"#,
                "{'type':'product','type_text':'template','products':[{'id':'1','retailer_id':'sku','title':'a'},{'id':'2','extra':{'new':true}}]}",
            ),
            (
                r#"{"type":7,"payload":[1,2],"url":{"a":1},"title":false,"other":null}"#,
                "{'type':'other','type_text':'7','title':'false','extra':{'payload':[1,2],'url':{'a':1}}}",
            ),
        ] {
            assert_eq!(decoded(json), expected, "{json}");
        }
    }

    #[test]
    fn only_a_url_encoded_whole_is_opened() {
        for (url, expected) in [
            ("http%3a%2f%2fx%2F%00", "http://x/\u{fffd}"),
            ("https%3A%2F%2Fx%2F%FF", "https%3A%2F%2Fx%2F%FF"),
            ("%3A", "%3A"),
            ("a%20b", "a%20b"),
            ("https%3A//x", "https%3A//x"),
            ("", ""),
        ] {
            assert_eq!(opened(url), expected, "{url}");
        }
    }
}
