//! What `type = "file"` is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::calls::batch_events;
use super::super::encoding::Encoding;
use super::super::{BoxError, Sink};
use super::FileSink;
use crate::names::SinkName;
use crate::remote::Exposed;
use crate::settings::Section;
use crate::settings::units::{duration, size};
use crate::settings::values::{self, number};

/// `type = "file"`: JSON Lines.
#[derive(Debug, Clone)]
pub struct FileSinkConfig {
    /// `path`: the file; its folder is created.
    pub path: PathBuf,
    /// `format` and `include_raw`.
    pub encoding: Encoding,
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
    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        let path = section.required("path", values::path);
        let encoding = Encoding::read(section);
        let rotate_size = section.optional("rotate_size", size);
        let rotate_age = section.optional("rotate_age", duration);
        let keep_files = section.optional("keep_files", number::<_, 1, 1_000_000>);
        if keep_files.is_some() && rotate_size.is_none() && rotate_age.is_none() {
            section.error("keep_files", "this has no meaning without rotate_size or rotate_age");
        }
        // A sync costs the same whatever is in it, so that a call is a whole window.
        let batch_events = section.or("batch_events", batch_events, 1_000);
        Some(Self { path: path?, encoding, rotate_size, rotate_age, keep_files, batch_events })
    }

    pub(crate) fn target(&self) -> String {
        self.path.display().to_string()
    }

    #[expect(clippy::unused_self, reason = "every type has this method")]
    pub(crate) fn exposed(&self) -> Option<Exposed> {
        None
    }

    pub(crate) fn build(&self, name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(FileSink::new(name, self)?))
    }
}
