//! The envelope around items: `{object, entry: [{id, time, messaging: [item]?, standby: [item]?, changes: [item]?}]}`.
//!
//! Sender's page: Meta, "Webhooks", developers.facebook.com/docs/graph-api/webhooks/getting-started.

use std::borrow::Cow;

use super::Head;
use crate::json::{each_field, each_item, scalar};

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
    /// Whether it is an item. An entry that yields none is kept whole, and so is a body.
    pub is_item: bool,
    /// `object` of the envelope.
    pub object: Option<Cow<'a, str>>,
    /// `id` of the entry.
    pub entry_id: Option<Cow<'a, str>>,
    /// `time` of the entry, as text.
    pub entry_time: Option<Cow<'a, str>>,
}

impl<'a> Part<'a> {
    fn whole(json: &'a str) -> Self {
        Self { json, list: List::Bare, is_item: false, object: None, entry_id: None, entry_time: None }
    }
}

/// The parts of a body, at least one, in their order. Total: keys that occur twice count twice, and what is not of the
/// expected type is kept with the smallest part around it.
pub fn parts(body: &str) -> Vec<Part<'_>> {
    let mut object = None;
    let mut entries = Vec::new();
    let mut enveloped = false;
    let mut odd = false;
    each_field(body, |name, value| match name {
        "object" => object = scalar(value),
        "entry" if value != "null" => {
            enveloped = true;
            odd |= !each_item(value, |entry| entries.push(entry));
        }
        _ => {}
    });
    if !enveloped {
        let is_item = Head::of(body).is_some_and(|head| head.event.is_some() || is_change(&head));
        return vec![Part { is_item, ..Part::whole(body) }];
    }
    let mut parts = Vec::new();
    if is_long(&object) {
        (odd, object) = (true, None);
    }
    for entry in entries {
        split_entry(entry, &object, &mut parts);
        if parts.len() > MAX_PARTS {
            return vec![Part::whole(body)];
        }
    }
    if parts.is_empty() || odd {
        // What cannot be told apart is kept with everything around it, besides the items that were found.
        parts.push(Part { object, ..Part::whole(body) });
    }
    parts
}

/// A bare item of `changes`, as Meta's dashboard shows them.
fn is_change(head: &Head<'_>) -> bool {
    head.field.is_some() && head.has_value
}

fn is_long(name: &Option<Cow<'_, str>>) -> bool {
    name.as_ref().is_some_and(|name| name.len() > MAX_NAME)
}

fn split_entry<'a>(entry: &'a str, object: &Option<Cow<'a, str>>, parts: &mut Vec<Part<'a>>) {
    let (mut entry_id, mut entry_time) = (None, None);
    let mut odd = false;
    let mut items = Vec::new();
    each_field(entry, |name, value| {
        let list = match name {
            "id" => return entry_id = scalar(value),
            "time" => return entry_time = scalar(value),
            "messaging" => List::Messaging,
            "standby" => List::Standby,
            "changes" => List::Changes,
            _ => return,
        };
        odd |= value != "null" && !each_item(value, |item| items.push((list, item)));
    });
    // An absurdly long name would be kept with each item; it stays in the entry, kept whole.
    for name in [&mut entry_id, &mut entry_time] {
        if is_long(name) {
            (odd, *name) = (true, None);
        }
    }
    odd |= items.is_empty();
    let part = |json, list, is_item| Part {
        json,
        list,
        is_item,
        object: object.clone(),
        entry_id: entry_id.clone(),
        entry_time: entry_time.clone(),
    };
    if parts.len() + items.len() <= MAX_PARTS {
        parts.extend(items.into_iter().map(|(list, item)| part(item, list, true)));
        if odd {
            parts.push(part(entry, List::Bare, false));
        }
    } else {
        parts.resize_with(MAX_PARTS + 1, || Part::whole(entry));
    }
}

crate::model::veil::veiled!(Part<'_>);
