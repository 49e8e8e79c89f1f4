//! Sources: how each sender authenticates, splits, decodes and shakes hands. One file a sender.

mod identity;
mod meta;
mod webex_connect;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::auth::{Received, Refusal, Verified};
use crate::config::Sources as SourcesConfig;
use crate::event::{Event, Record};
use crate::model::Payload;
use crate::names::{SourceName, SourceType};

/// What a GET on a source's path is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// 200 with nothing in it.
    Empty,
    /// 200 with these bytes as `text/plain`, nothing added.
    Challenge(Vec<u8>),
    /// 403: the token is wrong.
    Forbidden,
    /// 400: this is no handshake; says what is missing.
    Incomplete(&'static str),
}

/// The records of a request.
#[derive(Debug)]
pub struct Split {
    /// One per item, in the order of the body; never empty.
    pub records: Vec<Record>,
    /// Whether the body was JSON. What is not is one unrecognized record of the whole body.
    pub json: bool,
}

/// A sender. Implementations do no I/O and read no clock.
pub trait Source: Send + Sync {
    /// Its name in the configuration and in its path.
    fn name(&self) -> &SourceName;

    /// Which sender it is.
    fn source_type(&self) -> SourceType;

    /// The largest body it takes, in bytes.
    fn max_body(&self) -> usize;

    /// The values for `WWW-Authenticate` on a 401; none where no such scheme is configured.
    fn challenges(&self) -> Vec<&'static str>;

    /// Answers a GET with this query string. It is not signed.
    fn handshake(&self, query: &str) -> Handshake;

    /// Proves a request authentic over the bytes as received.
    fn authenticate(&self, request: Received) -> Result<Verified, Refusal>;

    /// One record per item of the request. Total.
    fn split(&self, request: &Verified, received_at: DateTime<Utc>) -> Split;

    /// The typed view of a record. Total.
    fn decode(&self, record: &Record) -> Payload;
}

/// The configured sources by name, and one of each type with its defaults for records whose source has left the
/// configuration.
pub struct Sources {
    by_name: BTreeMap<SourceName, Arc<dyn Source>>,
    defaults: Vec<Arc<dyn Source>>,
}

impl Sources {
    /// The sources of this configuration.
    pub fn new(config: &SourcesConfig) -> Self {
        let _ = config;
        todo!("helper `sources`")
    }

    /// The source of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Source>> {
        let _ = &self.defaults;
        self.by_name.get(name.parse::<SourceName>().ok().as_ref()?)
    }

    /// All sources.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Source>> {
        self.by_name.values()
    }

    /// The record with its typed payload.
    pub fn decode(&self, record: Arc<Record>) -> Event {
        let _ = record;
        todo!("helper `sources`")
    }
}
