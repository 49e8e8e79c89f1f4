use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::scan::{Scanner, Type};

/// How deeply a tree may nest: as deep as serde_json lets a text nest that it reads.
const NESTING: u32 = 127;

/// A JSON value as a tree. Texts are borrowed from the JSON where they hold no escapes, and numbers are kept digit for
/// digit.
#[derive(Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Truth(bool),
    /// Its digits as they stand.
    Number(Cow<'a, str>),
    /// A string.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Members<'a>),
}

/// As many members most objects have at most.
const USUAL_MEMBERS: usize = 8;

/// The members of an object in their order, each name once.
pub type Members<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// Why there is no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTree {
    /// The text is no JSON.
    NotJson,
    /// It nests deeper, or has more values, than a tree may have.
    TooMuch,
}

impl<'a> Json<'a> {
    /// The tree of the next value, of at most `room` values; of what is left of it after that.
    pub fn read(scanner: &mut Scanner<'a>, room: &mut usize) -> Result<Self, NoTree> {
        read(scanner, room, NESTING)
    }

    /// What it is.
    pub fn kind(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Truth(_) => Type::Truth,
            Self::Number(_) => Type::Number,
            Self::Text(_) => Type::Text,
            Self::List(_) => Type::List,
            Self::Object(_) => Type::Object,
        }
    }

    /// The member of this name, if it is an object that has one.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// A scalar as text: a string as it is, a number digit for digit, a boolean by its name. None for null, the empty
    /// string, lists and objects.
    pub fn scalar(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text).filter(|text| !text.is_empty()).map(|text| &**text),
            Self::Truth(truth) => Some(if *truth { "true" } else { "false" }),
            Self::Null | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The scalar as text, without a copy of it where it can be had.
    pub fn into_scalar(self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.into_owned()).filter(|text| !text.is_empty()),
            other => other.scalar().map(str::to_owned),
        }
    }

    /// The same, borrowing nothing.
    pub fn into_owned(self) -> Json<'static> {
        match self {
            Self::Null => Json::Null,
            Self::Truth(truth) => Json::Truth(truth),
            Self::Number(digits) => Json::Number(digits.into_owned().into()),
            Self::Text(text) => Json::Text(text.into_owned().into()),
            Self::List(items) => Json::List(items.into_iter().map(Json::into_owned).collect()),
            Self::Object(members) => Json::Object(
                members.into_iter().map(|(name, value)| (name.into_owned().into(), value.into_owned())).collect(),
            ),
        }
    }
}

impl From<Json<'_>> for Value {
    fn from(json: Json<'_>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Truth(truth) => Self::Bool(truth),
            // Digits that stood in a JSON text are a number; should they not be, they are a text.
            Json::Number(digits) => digits.parse().map_or_else(|_| Self::String(digits.into_owned()), Self::Number),
            Json::Text(text) => Self::String(text.into_owned()),
            Json::List(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Json::Object(members) => {
                Self::Object(members.into_iter().map(|(name, value)| (name.into_owned(), value.into())).collect())
            }
        }
    }
}

fn read<'a>(scanner: &mut Scanner<'a>, room: &mut usize, nesting: u32) -> Result<Json<'a>, NoTree> {
    *room = room.checked_sub(1).ok_or(NoTree::TooMuch)?;
    let within = || nesting.checked_sub(1).ok_or(NoTree::TooMuch);
    // What goes wrong in a container, since those who walk through it only know that something does.
    let mut wrong = None;
    let mut inner = |scanner: &mut Scanner<'a>, nesting: u32| match read(scanner, room, nesting) {
        Ok(json) => Some(json),
        Err(why) => {
            wrong = Some(why);
            None
        }
    };
    let json = match scanner.peek().ok_or(NoTree::NotJson)? {
        Type::Text => scanner.string().map(Json::Text),
        Type::Number => scanner.value().map(|digits| Json::Number(Cow::Borrowed(digits))),
        Type::Null => scanner.value().map(|_| Json::Null),
        Type::Truth => scanner.value().map(|truth| Json::Truth(truth == "true")),
        Type::List => {
            let nesting = within()?;
            let mut items = Vec::new();
            let push = |scanner: &mut Scanner<'a>| {
                items.push(inner(scanner, nesting)?);
                Some(())
            };
            scanner.items(push).map(|_| Json::List(items))
        }
        Type::Object => {
            let nesting = within()?;
            let mut members = Vec::new();
            let push = |name, scanner: &mut Scanner<'a>| {
                let value = inner(scanner, nesting)?;
                if members.is_empty() {
                    members.reserve(USUAL_MEMBERS);
                }
                members.push((name, value));
                Some(())
            };
            scanner.fields(push).map(|_| Json::Object(each_once(members)))
        }
    };
    json.ok_or(wrong.unwrap_or(NoTree::NotJson))
}

/// The members with each name once: where it stood first, with the value it had last.
pub fn each_once<'a>(mut members: Members<'a>) -> Members<'a> {
    /// So many names are compared with one another faster than put into a map.
    const FEW: usize = 32;
    if members.len() <= FEW {
        let mut at = 1;
        while at < members.len() {
            match members[..at].iter().position(|(name, _)| *name == members[at].0) {
                Some(first) => members[first].1 = members.remove(at).1,
                None => at += 1,
            }
        }
        return members;
    }
    let mut places: HashMap<Cow<'a, str>, usize> = HashMap::with_capacity(members.len());
    let mut once: Members<'a> = Vec::with_capacity(members.len());
    for (name, value) in members {
        match places.get(&name) {
            Some(first) => once[*first].1 = value,
            None => {
                places.insert(name.clone(), once.len());
                once.push((name, value));
            }
        }
    }
    once
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Json<'_>, NoTree> {
        Json::read(&mut Scanner::new(text), &mut 1000)
    }

    #[test]
    fn a_tree_says_what_the_text_says() {
        let text = r#"{"a":[null,true,-1.50,"x\ty","é"],"b":{},"c":123456789012345678901}"#;
        let value = Value::from(tree(text).ok().unwrap());
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(value.to_string(), text);
    }

    #[test]
    fn names_that_occur_twice_have_the_last_value_in_the_first_place() {
        for others in [0, 40] {
            let others: String = (0..others).map(|number| format!(r#""{number}":0,"#)).collect();
            let text = format!(r#"{{"a":1,"b":2,{others}"a":3,"z":4,"a":5}}"#);
            let value = Value::from(tree(&text).ok().unwrap());
            assert_eq!(value.to_string(), format!(r#"{{"a":5,"b":2,{others}"z":4}}"#));
        }
    }

    #[test]
    fn a_tree_is_bounded_in_depth_and_size() {
        let lists = |depth| "[".repeat(depth) + &"]".repeat(depth);
        let deepest = usize::try_from(NESTING).unwrap();
        assert!(tree(&lists(deepest)).is_ok());
        assert!(serde_json::from_str::<Value>(&lists(deepest)).is_ok());
        assert_eq!(tree(&lists(deepest + 1)).err(), Some(NoTree::TooMuch));
        assert!(serde_json::from_str::<Value>(&lists(deepest + 1)).is_err(), "as with serde_json");
        let mut room = 4;
        assert!(Json::read(&mut Scanner::new("[1,2,3]"), &mut room).is_ok());
        assert_eq!(Json::read(&mut Scanner::new("[1,2,3]"), &mut room).err(), Some(NoTree::TooMuch));
    }

    #[test]
    fn what_is_no_json_is_no_tree() {
        for text in ["", "{", "[1,]", r#"{"a":tru}"#, r#"[{"a":1]"#] {
            assert_eq!(tree(text).err(), Some(NoTree::NotJson), "{text}");
        }
    }

    #[test]
    fn scalars_as_text() {
        for (json, text) in [("7.0", Some("7.0")), ("true", Some("true")), ("\"\"", None), ("[]", None), ("null", None)]
        {
            let tree = tree(json).ok().unwrap();
            assert_eq!(tree.scalar(), text);
            assert_eq!(tree.into_scalar().as_deref(), text);
        }
    }
}
