//! Authenticate and split of a `meta` source. An input is a body, or a signature, a NUL and a body.

use hooksink::event::{Kind, Place, Record};
use hooksink::names::SourceType;
use sha2::Sha256;

use super::json::{self, Json, Value};
use super::request::{LONGEST, authenticate, hmac, parted, refuses_wrong_signatures, split};

/// Only the right signature opens the door, and each item of an envelope becomes the record of exactly its bytes.
pub fn check(input: &[u8]) {
    let (signature, body) = parted(input);
    if body.len() > LONGEST {
        return;
    }
    if let Some(signature) = signature
        && let Some(answer) = authenticate(SourceType::Meta, signature, body)
    {
        let right = signature == format!("sha256={}", hmac::<Sha256>(body)).as_bytes();
        assert_eq!(answer.is_ok(), right, "{}", signature.escape_ascii());
    }
    refuses_wrong_signatures(SourceType::Meta, body);
    let (verified, split) = split(SourceType::Meta, None, body);
    let json = str::from_utf8(body).ok().and_then(Json::read);
    assert_eq!(split.json, json.is_some(), "what is JSON and what is not");
    match json {
        Some(json) => each_item_has_its_record(&json, verified.body(), &split.records),
        None => {
            assert_eq!(split.records.len(), 1);
            assert_eq!((split.records[0].kind, &*split.records[0].raw), (Kind::MetaUnrecognized, body));
        }
    }
}

fn each_item_has_its_record(json: &Json<'_>, body: &[u8], records: &[Record]) {
    let at = |record: &Record| {
        let start = record.raw.as_ptr() as usize - body.as_ptr() as usize;
        start..start + record.raw.len()
    };
    let body = json.root();
    let entries: Vec<_> = body.members("entry").filter(|entry| *entry.kind() != json::Kind::Null).collect();
    if entries.is_empty() || !body.is_object() {
        assert_eq!(records.len(), 1, "without envelope the body is the item");
        assert_eq!(records[0].raw.trim_ascii(), body.source().as_bytes());
        assert_eq!(records[0].context.place, Place::Bare);
        return;
    }
    let entries: Vec<_> = entries.into_iter().flat_map(Value::children_of_list).collect();
    let items: Vec<_> = entries.iter().copied().flat_map(items).collect();
    let of_items: Vec<_> = records.iter().filter(|record| record.context.place != Place::Bare).collect();
    assert_eq!(
        of_items.iter().map(|record| (at(record), record.context.place)).collect::<Vec<_>>(),
        items.iter().map(|(place, item)| (item.at(), *place)).collect::<Vec<_>>(),
        "each item is a record, in order"
    );
    for record in records.iter().filter(|record| record.context.place == Place::Bare) {
        let is_entry = entries.iter().any(|entry| entry.at() == at(record));
        assert!(is_entry || *record.raw.trim_ascii() == *body.source().as_bytes(), "the rest is kept whole");
        assert_eq!(record.kind, Kind::MetaUnrecognized);
    }
    for record in of_items {
        assert_eq!(record.kind == Kind::MetaChange, record.context.place == Place::Changes);
    }
}

/// The items of an entry, and where they stand.
fn items(entry: Value<'_>) -> Vec<(Place, Value<'_>)> {
    if !entry.is_object() {
        return Vec::new();
    }
    let place = |name: &str| match name {
        "messaging" => Some(Place::Messaging),
        "standby" => Some(Place::Standby),
        "changes" => Some(Place::Changes),
        _ => None,
    };
    let lists = entry.children().filter_map(|member| Some((place(&member.name()?)?, member)));
    lists.flat_map(|(place, list)| list.children_of_list().into_iter().map(move |item| (place, item))).collect()
}

impl<'j> Value<'j> {
    /// The items of a list; of anything else none.
    fn children_of_list(self) -> Vec<Value<'j>> {
        if self.is_list() { self.children().collect() } else { Vec::new() }
    }
}
