//! What `type = "file"` is told.

use std::path::PathBuf;
use std::time::Duration;

use super::super::reader::Section;
use super::super::units::{duration, size};
use super::super::values::{self, number};
use crate::event::Format;

/// `type = "file"`: JSON Lines.
#[derive(Debug, Clone)]
pub struct FileSinkConfig {
    /// `path`: the file; its folder is created.
    pub path: PathBuf,
    /// `format`: CloudEvents or raw.
    pub format: Format,
    /// `include_raw`: the raw JSON under `data.raw`.
    pub include_raw: bool,
    /// `rotate_size`: bytes after which a new file begins.
    pub rotate_size: Option<u64>,
    /// `rotate_age`: time after which a new file begins.
    pub rotate_age: Option<Duration>,
    /// `keep_files`: rotated files kept; all, if not given.
    pub keep_files: Option<usize>,
    /// `batch_events`: events a sync.
    pub batch_events: usize,
}

impl FileSinkConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let path = section.required("path", values::path);
        let format = section.or("format", super::format, Format::default());
        let include_raw = section.or("include_raw", values::boolean, false);
        if include_raw && format == Format::Raw {
            section
                .error("include_raw", "this has no meaning with format = \"raw\", which is nothing but the raw JSON");
        }
        let rotate_size = section.optional("rotate_size", size);
        let rotate_age = section.optional("rotate_age", duration);
        let keep_files = section.optional("keep_files", number::<_, 1, 1_000_000>);
        if keep_files.is_some() && rotate_size.is_none() && rotate_age.is_none() {
            section.error("keep_files", "this has no meaning without rotate_size or rotate_age");
        }
        let batch_events = section.or("batch_events", number::<_, 1, 1_000_000>, 1_000);
        Some(Self { path: path?, format, include_raw, rotate_size, rotate_age, keep_files, batch_events })
    }

    pub(super) fn target(&self) -> String {
        self.path.display().to_string()
    }
}
