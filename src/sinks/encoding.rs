//! In which form a sink sends an event: the settings `format` and `include_raw`.

use crate::event::{Event, Format};
use crate::settings::values;
use crate::settings::{Given, Section};

/// `format` and `include_raw`, as most sinks have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoding {
    /// `format`: CloudEvents or raw.
    pub format: Format,
    /// `include_raw`: the raw JSON under `data.raw`.
    pub include_raw: bool,
}

impl Encoding {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let format = section.or("format", format, Format::default());
        Self { format, include_raw: include_raw(section, format == Format::Raw) }
    }

    /// The media type of what is sent.
    pub fn media_type(&self) -> &'static str {
        match self.format {
            Format::Cloudevents => "application/cloudevents+json",
            Format::Raw => "application/json",
        }
    }

    /// The event, as JSON on one line.
    pub fn encode(&self, event: &Event) -> Vec<u8> {
        event.to_json(self.format, self.include_raw)
    }

    /// The same, behind what is there.
    pub fn encode_to(&self, event: &Event, out: &mut Vec<u8>) {
        event.write_json(self.format, self.include_raw, out);
    }
}

/// `include_raw`, which makes no sense where the raw JSON is sent anyway.
pub(super) fn include_raw(section: &mut Section<'_>, raw: bool) -> bool {
    let include_raw = section.or("include_raw", values::boolean, false);
    if include_raw && raw {
        section.error("include_raw", "this has no meaning with format = \"raw\", which is nothing but the raw JSON");
    }
    include_raw
}

fn format(given: &Given<'_>) -> Result<Format, String> {
    values::choice(given, &[("cloudevents", Format::Cloudevents), ("raw", Format::Raw)])
}
