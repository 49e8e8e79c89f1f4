//! Sources: how each sender authenticates, splits, decodes and shakes hands. One file a sender.

mod identity;
mod meta;
mod webex_connect;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::auth::{Received, Refusal, Verified};
use crate::config::{Auth, MetaConfig, SourceConfig, Sources as SourcesConfig, WebexConnectConfig};
use crate::event::{Event, Record};
use crate::model::Payload;
use crate::names::{SourceName, SourceType};
use crate::secret::Secrets;

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

    /// Refuses what no body could make authentic. It does not look at the body, which need not have been read.
    fn screen(&self, request: &Received) -> Result<(), Refusal>;

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
    /// The sources of this configuration. Their secrets stay shared with it, so that a rotation reaches them.
    pub fn new(config: &SourcesConfig) -> Self {
        Self {
            by_name: config.iter().map(|(name, config)| (name.clone(), source(name, config))).collect(),
            defaults: SourceType::ALL.iter().map(|source_type| default_source(*source_type)).collect(),
        }
    }

    /// The source of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Source>> {
        self.by_name.get(name)
    }

    /// All sources.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Source>> {
        self.by_name.values()
    }

    /// The record with its typed payload. A record whose source has left the configuration, or is another sender's now,
    /// is decoded with the defaults of its type.
    pub fn decode(&self, record: Arc<Record>) -> Event {
        let of_type = |source: &&Arc<dyn Source>| source.source_type() == record.source_type;
        let source = self.by_name.get(&record.source).filter(of_type).or_else(|| self.defaults.iter().find(of_type));
        let payload = source.map_or(Payload::Opaque, |source| source.decode(&record));
        Event { record, payload: Arc::new(payload) }
    }
}

fn source(name: &SourceName, config: &SourceConfig) -> Arc<dyn Source> {
    match config {
        SourceConfig::Meta(config) => Arc::new(meta::Meta::new(name.clone(), config)),
        SourceConfig::WebexConnect(config) => Arc::new(webex_connect::WebexConnect::new(name.clone(), config)),
    }
}

/// A source that only decodes: it has no path, no secret, and takes no body.
fn default_source(source_type: SourceType) -> Arc<dyn Source> {
    let name: SourceName = source_type.as_str().parse().expect("the names of types are names");
    let auth = Auth::default();
    let config = match source_type {
        SourceType::Meta => SourceConfig::Meta(MetaConfig {
            verify_token: Secrets::default(),
            auth,
            own_app_ids: Vec::new(),
            page_inbox_app_ids: meta::PAGE_INBOX_APP_IDS.map(str::to_owned).into(),
            max_body: 0,
        }),
        SourceType::WebexConnect => {
            SourceConfig::WebexConnect(WebexConnectConfig { auth, timezone: None, max_body: 0 })
        }
    };
    source(&name, &config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Received;
    use crate::model::meta::Origin;

    fn meta(own_app_ids: &[&str]) -> SourceConfig {
        SourceConfig::Meta(MetaConfig {
            verify_token: Secrets::default(),
            auth: Auth { none: true, ..Auth::default() },
            own_app_ids: own_app_ids.iter().map(|id| (*id).to_owned()).collect(),
            page_inbox_app_ids: Vec::new(),
            max_body: 1 << 20,
        })
    }

    fn connect() -> SourceConfig {
        let auth = Auth { none: true, ..Auth::default() };
        SourceConfig::WebexConnect(WebexConnectConfig { auth, timezone: None, max_body: 1 << 20 })
    }

    fn sources(named: &str, config: SourceConfig) -> Sources {
        Sources::new(&[(named.parse().unwrap(), config)].into())
    }

    /// An echo of this app, as it is stored when it comes to the source `messenger`.
    fn echo(app_id: &str) -> Arc<Record> {
        let body = format!(r#"{{"recipient":{{"id":"U"}},"message":{{"is_echo":true,"app_id":{app_id}}}}}"#);
        let request = Received {
            headers: http::HeaderMap::new(),
            query: String::new(),
            body: body.into(),
            client_address: [127, 0, 0, 1].into(),
            request_id: "r".to_owned(),
        };
        let sources = sources("messenger", meta(&[]));
        let source = sources.get("messenger").unwrap();
        source.split(&source.authenticate(request).unwrap(), DateTime::UNIX_EPOCH).records.remove(0).into()
    }

    fn origin(sources: &Sources, app_id: &str) -> Origin {
        match &*sources.decode(echo(app_id)).payload {
            Payload::MessageEcho(echo) => echo.origin,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_is_decoded_by_its_source() {
        assert_eq!(origin(&sources("messenger", meta(&["7"])), "7"), Origin::OwnApp);
        assert_eq!(origin(&sources("messenger", meta(&["8"])), "7"), Origin::OtherApp);
    }

    #[test]
    fn a_record_whose_source_left_is_decoded_with_the_defaults_of_its_type() {
        for sources in [sources("another", meta(&["7"])), sources("messenger", connect())] {
            assert_eq!(origin(&sources, "7"), Origin::OtherApp);
            for inbox in meta::PAGE_INBOX_APP_IDS {
                assert_eq!(origin(&sources, inbox), Origin::PageInbox);
            }
        }
    }

    #[test]
    fn sources_are_found_by_name() {
        let sources = sources("messenger", meta(&[]));
        assert_eq!(sources.get("messenger").unwrap().source_type(), SourceType::Meta);
        for name in ["meta", "webex-connect", "", "Messenger", "a/b"] {
            assert!(sources.get(name).is_none(), "{name}: the defaults only decode");
        }
        assert_eq!(sources.iter().count(), 1);
    }
}
