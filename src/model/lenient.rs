//! JSON read so that no part of it costs the rest.

use serde_json::{Map, Value};

use crate::json::{Json, Members, NoTree, NotJson, Scanner, Type, each_once};

/// How far down a part that cannot be read costs only itself: body, notification, delivery info; item, message.
const LEVELS: u32 = 3;

/// How many values an event may be taken apart into, scalars and all. As a tree a value takes up to some hundred times
/// its place in the JSON, and an event that no memory holds would bring the process down again after every start. What
/// senders are known to send has a few hundred.
const VALUES: usize = 50_000;

/// How many values may still be built for an event.
#[derive(Debug)]
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(VALUES)
    }
}

impl Room {
    fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// The members of a JSON object. None if it is no object, or one of more values than an event may have. A member that
/// cannot be read (it nests deeper than a tree may), or has too many values itself, is its JSON as text.
pub(super) fn object(json: &str) -> Option<Members<'_>> {
    match whole(json, &mut Room::default())? {
        Json::Object(members) => Some(members),
        _ => None,
    }
}

/// The same, to be looked at.
pub(crate) fn map(json: &str) -> Option<Map<String, Value>> {
    match Value::from(Json::Object(object(json)?)) {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// Those members of a JSON object whose names are wanted; the others are passed over, however large. None if it is no
/// object.
pub(super) fn select<'a>(json: &'a str, wanted: impl Fn(&str) -> bool) -> Result<Option<Members<'a>>, NotJson> {
    let mut selected = Vec::new();
    let mut room = Room::default();
    let mut scanner = Scanner::new(json);
    let is_object = scanner.fields(|name, member| {
        if wanted(&name) {
            selected.push((name, value(member, LEVELS - 1, &mut room)?));
        } else {
            member.value()?;
        }
        Some(())
    });
    match is_object {
        Some(is_object) if scanner.is_at_end() => Ok(is_object.then(|| each_once(selected))),
        _ => Err(NotJson),
    }
}

/// JSON text that stood inside a string, and was [mended](crate::json::mended) since. None if the text is not JSON.
pub(super) fn opened<'a>(text: &'a str, room: &mut Room) -> Option<Json<'a>> {
    let before = room.0;
    let open = whole(text, room);
    if open.is_none() {
        room.0 = before;
    }
    open
}

fn whole<'a>(json: &'a str, room: &mut Room) -> Option<Json<'a>> {
    let mut scanner = Scanner::new(json);
    value(&mut scanner, LEVELS, room).filter(|_| scanner.is_at_end())
}

/// The next value as a tree, and parts of it as text where they do not fit. None if it is no JSON.
fn value<'a>(scanner: &mut Scanner<'a>, levels: u32, room: &mut Room) -> Option<Json<'a>> {
    let (before, start) = (room.0, *scanner);
    match Json::read(scanner, &mut room.0) {
        Ok(json) => return Some(json),
        Err(NoTree::NotJson) => return None,
        Err(NoTree::TooMuch) => {}
    }
    // What was built of it is gone again.
    room.0 = before;
    *scanner = start;
    let mut members = Vec::new();
    let mut fits = true;
    if levels > 0 && scanner.peek()? == Type::Object {
        scanner.fields(|name, member| {
            fits = fits && room.take();
            if fits {
                members.push((name, value(member, levels - 1, room)?));
            } else {
                member.value()?;
            }
            Some(())
        })?;
        if fits {
            return Some(Json::Object(each_once(members)));
        }
        *scanner = start;
    }
    room.0 = before.saturating_sub(1);
    Some(Json::Text(scanner.value()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::mended;

    fn selected(json: &str, wanted: impl Fn(&str) -> bool) -> Option<Value> {
        select(json, wanted).ok()?.map(|members| Json::Object(members).into())
    }

    fn deep(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn what_nests_too_deep_costs_only_itself() {
        let deep = deep(1000);
        let json = format!(r#"{{"a":{{"b":{{"c":"x","d":{deep}}},"e":1}}}}"#);
        let read = map(&json).unwrap();
        assert_eq!(read["a"]["b"]["c"], "x");
        assert_eq!(read["a"]["b"]["d"], deep);
        assert_eq!(read["a"]["e"].to_string(), "1");
    }

    #[test]
    fn values_are_read_as_they_stand() {
        for json in [
            r#"{"z":1.50,"a":-0,"m":[true,null,"x\\n"],"n":90071992547409931234,"e":1e400,"o":{}}"#,
            r#"{"$serde_json::private::RawValue":"[1]"}"#,
            r#"{"$serde_json::private::Number":"x","more":1}"#,
        ] {
            assert_eq!(Value::Object(map(json).unwrap()).to_string().replace("1e+400", "1e400"), json);
        }
    }

    #[test]
    fn texts_within_texts_do_not_escape_the_limit_of_nesting() {
        let mut text = "1".to_owned();
        for _ in 0..18 {
            let inner = Value::String(text).to_string();
            text = format!(r#"{}{{"$serde_json::private::RawValue":{inner}}}{}"#, "[".repeat(100), "]".repeat(100));
        }
        let json = format!(r#"{{"bomb":{text}}}"#);
        assert!(map(&json).unwrap()["bomb"].is_array());
    }

    /// How many values a tree has.
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(members) => members.values().map(count).sum(),
            _ => 0,
        }
    }

    #[test]
    fn a_member_of_too_many_values_costs_only_itself() {
        let many = format!("[{}0]", "0,".repeat(VALUES));
        for json in [format!(r#"{{"a":{{"b":{{"c":"x","d":{many}}},"e":1}}}}"#), {
            // The second list would fit alone.
            let half = format!("[{}0]", "0,".repeat(VALUES / 2));
            format!(r#"{{"a":{{"b":{{"c":"x","f":{half},"d":{many}}},"e":1}}}}"#)
        }] {
            let read = map(&json).unwrap();
            assert_eq!((&read["a"]["b"]["c"], &read["a"]["e"]), (&"x".into(), &1.into()));
            assert_eq!(read["a"]["b"]["d"], many);
            assert!(count(&Value::Object(read)) <= VALUES);
            assert!(count(&selected(&json, |name| name == "a").unwrap()) <= VALUES + 1);
        }
    }

    #[test]
    fn an_object_of_too_many_members_is_not_taken_apart() {
        let members: Vec<String> = (0..VALUES).map(|n| format!(r#""{n}":0"#)).collect();
        let many = format!("{{{}}}", members.join(","));
        assert!(map(&many).is_none());
        assert_eq!(map(&format!(r#"{{"a":{many},"b":1}}"#)).unwrap()["a"], many);
    }

    #[test]
    fn texts_share_the_room_of_their_event() {
        let text = format!("[{}0]", "0,".repeat(VALUES / 2));
        let mut room = Room::default();
        let mut opened = |text| opened(text, &mut room).map(Value::from).unwrap();
        assert!(opened(&text).is_array());
        assert!(opened(&text).is_string(), "the other half is taken");
        assert!(opened("[0]").is_array());
    }

    #[test]
    fn only_objects_are_objects() {
        for json in ["[]", "1", "\"{}\"", "null", ""] {
            assert!(map(json).is_none(), "{json}");
            assert!(selected(json, |_| true).is_none(), "{json}");
        }
    }

    #[test]
    fn what_looks_like_the_parsers_own_is_an_object_all_the_same() {
        for json in [r#"{"$serde_json::private::Number":"x"}"#, r#"{"$serde_json::private::RawValue":"{"}"#] {
            assert_eq!(map(json).unwrap().len(), 1, "{json}");
        }
    }

    #[test]
    fn selected_members_are_the_last_of_their_name() {
        let json = format!(r#"{{"a":1,"b":{0},"a":2,"c":{0}}}"#, deep(1000));
        let selected = selected(&json, |name| name == "a" || name == "c").unwrap();
        assert_eq!(selected["a"].to_string(), "2");
        assert_eq!(selected["c"], deep(1000));
        assert!(selected.get("b").is_none());
    }

    #[test]
    fn text_is_opened_when_it_is_json() {
        let opened = |text: &str| opened(&mended(text), &mut Room::default()).map(Value::from);
        assert_eq!(opened(r#"{"a":"\ud83d"}"#).unwrap()["a"], "\u{fffd}");
        assert_eq!(opened("[]").unwrap(), Value::Array(Vec::new()));
        assert!(opened("{} {}").is_none());
        assert!(opened("clicked").is_none());
        assert!(opened("").is_none());
    }
}
