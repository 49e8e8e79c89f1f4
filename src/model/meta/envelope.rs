//! The envelope around items: `{object, entry: [{id, time, messaging: [item]?, standby: [item]?, changes: [item]?}]}`.
//!
//! Sender's page: Meta, "Webhooks", developers.facebook.com/docs/graph-api/webhooks/getting-started.

use std::borrow::Cow;

use super::Head;
use crate::json::{NotJson, Scanner, Type, scalar};

/// The longest id, time or name of an envelope, in bytes. They are kept once with every item, and Meta's have about 20.
const MAX_NAME: usize = 256;

/// The most items that are told apart in one body; Meta documents 1,000 updates a request. A body with more is kept
/// whole: each item is stored with what stood around it, which for tiny ones is a thousand times their own size.
const MAX_PARTS: usize = 10_000;

/// The list that an item stood in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `messaging`.
    Messaging,
    /// `standby`.
    Standby,
    /// `changes`.
    Changes,
    /// None: the part is an item without envelope, or an entry or body that yields no item.
    Bare,
}

/// A part of a body that becomes one event.
#[derive(Clone)]
pub struct Part<'a> {
    /// The part, a slice of the body.
    pub json: &'a str,
    /// The list it stood in.
    pub list: List,
    /// A look at it, if it is an item and an object. An entry that yields no item is kept whole, and so is a body.
    pub head: Option<Head<'a>>,
    /// `object` of the envelope.
    pub object: Option<Cow<'a, str>>,
    /// `id` of the entry.
    pub entry_id: Option<Cow<'a, str>>,
    /// `time` of the entry, as text.
    pub entry_time: Option<Cow<'a, str>>,
}

impl<'a> Part<'a> {
    fn whole(json: &'a str) -> Self {
        Self { json, list: List::Bare, head: None, object: None, entry_id: None, entry_time: None }
    }
}

/// The parts of a body, at least one, in their order. Total but for what is no JSON: keys that occur twice count twice,
/// and what is not of the expected type is kept with the smallest part around it.
pub fn parts(body: &str) -> Result<Vec<Part<'_>>, NotJson> {
    let mut scanner = Scanner::new(body);
    let envelope = Envelope::read(&mut scanner).filter(|_| scanner.is_at_end()).ok_or(NotJson)?;
    Ok(envelope.into_parts(body))
}

/// What a body holds as an envelope, read from front to back once.
#[derive(Default)]
struct Envelope<'a> {
    object: Option<Cow<'a, str>>,
    /// Whether there is an `entry` that is not null.
    is_one: bool,
    /// Whether an `entry` is of another type.
    odd: bool,
    /// The parts of all entries; no more are gathered than one too many.
    parts: Vec<Part<'a>>,
}

impl<'a> Envelope<'a> {
    /// None if this is no JSON.
    fn read(scanner: &mut Scanner<'a>) -> Option<Self> {
        let mut envelope = Self::default();
        scanner.fields(|name, value| {
            match &*name {
                "object" => envelope.object = scalar(value.value()?),
                "entry" if value.peek()? != Type::Null => {
                    envelope.is_one = true;
                    envelope.odd |= !value.items(|entry| envelope.entry(entry))?;
                }
                _ => _ = value.value()?,
            }
            Some(())
        })?;
        Some(envelope)
    }

    fn entry(&mut self, entry: &mut Scanner<'a>) -> Option<()> {
        entry.peek()?;
        let start = entry.position();
        let first = self.parts.len();
        let (mut entry_id, mut entry_time) = (None, None);
        let mut odd = false;
        entry.fields(|name, value| {
            let list = match &*name {
                "id" => return value.value().map(|id| entry_id = scalar(id)),
                "time" => return value.value().map(|time| entry_time = scalar(time)),
                "messaging" => List::Messaging,
                "standby" => List::Standby,
                "changes" => List::Changes,
                _ => return value.value().map(|_| ()),
            };
            let is_null = value.peek()? == Type::Null;
            let is_list = value.items(|item| {
                item.peek()?;
                let start = item.position();
                let head = Head::read(item)?;
                if self.parts.len() <= MAX_PARTS {
                    self.parts.push(Part { list, head, ..Part::whole(item.since(start)) });
                }
                Some(())
            })?;
            odd |= !is_list && !is_null;
            Some(())
        })?;
        // An absurdly long name would be kept with each item; it stays in the entry, kept whole.
        for name in [&mut entry_id, &mut entry_time] {
            if is_long(name) {
                (odd, *name) = (true, None);
            }
        }
        if (odd || self.parts.len() == first) && self.parts.len() <= MAX_PARTS {
            self.parts.push(Part::whole(entry.since(start)));
        }
        for part in &mut self.parts[first..] {
            part.entry_id.clone_from(&entry_id);
            part.entry_time.clone_from(&entry_time);
        }
        Some(())
    }

    fn into_parts(self, body: &'a str) -> Vec<Part<'a>> {
        let Self { mut object, is_one, mut odd, mut parts } = self;
        if !is_one {
            let head = Head::of(body).filter(|head| head.event.is_some() || is_change(head));
            return vec![Part { head, ..Part::whole(body) }];
        }
        if parts.len() > MAX_PARTS {
            return vec![Part::whole(body)];
        }
        if is_long(&object) {
            (odd, object) = (true, None);
        }
        if parts.is_empty() || odd {
            // What cannot be told apart is kept with everything around it, besides the items that were found.
            parts.push(Part::whole(body));
        }
        for part in &mut parts {
            part.object.clone_from(&object);
        }
        parts
    }
}

/// A bare item of `changes`, as Meta's dashboard shows them.
fn is_change(head: &Head<'_>) -> bool {
    head.field.is_some() && head.has_value
}

fn is_long(name: &Option<Cow<'_, str>>) -> bool {
    name.as_ref().is_some_and(|name| name.len() > MAX_NAME)
}

crate::model::veil::veiled!(Part<'_>);
