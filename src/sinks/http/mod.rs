//! `type = "http"`: events POSTed to a URL.
//!
//! Redirects are not followed and the proxies of the environment are not used: a request goes to the configured host or
//! nowhere. What is signed is the body as it is sent, after compression.
//!
//! All calls share a client, which keeps their connections. Where files of certificates are named it is made anew after a
//! failure and with SIGHUP, so that renewed ones are read.

mod failure;
mod settings;
pub mod standard_webhooks;

use std::error::Error as _;
use std::io::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, Url};
use uuid::Uuid;

use self::failure::{Verdict, retry_after, verdict};
pub use self::settings::{HttpFormat, HttpSinkConfig, TargetUrl};
use super::shared::Shared;
use super::{Blame, BoxError, Checked, Limits, Sink, SinkError, Undelivered};
use crate::event::{Event, Format};
use crate::remote::tls::use_ring;
use crate::secret::Secret;

/// Bytes of an answer's body that are read, so that the connection can be used again; a longer one closes it.
const MAX_ANSWER: usize = 64 * 1024;

/// A request costs about as much as encoding a hundred events.
const LINGER: Duration = Duration::from_millis(5);

/// Bodies from here on are compressed on a thread where that may block.
const LARGE_BODY: usize = 256 * 1024;

/// The namespace of the ids of batches.
const BATCH_NAMESPACE: Uuid = Uuid::from_u128(0x6d1f_0f5e_2a8b_5c0e_9a57_3f6f_1c2d_7b41);

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// POSTs events to a URL.
pub struct HttpSink {
    client: Shared<Client>,
    url: Url,
    config: HttpSinkConfig,
}

impl HttpSink {
    /// A sink of this configuration. Nothing is connected before the first event.
    pub fn new(config: &HttpSinkConfig) -> Result<Self, BoxError> {
        // The text of a URL that does not parse may hold a password, so the error does not repeat it.
        let url = Url::parse(config.url.as_str()).map_err(|error| format!("url: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("url: must begin with http:// or https://".into());
        }
        let sink = Self { client: Shared::new(|_| true), url, config: config.clone() };
        // What cannot be sent is known now rather than with the first event.
        sink.headers("", b"", 0)?;
        Ok(sink)
    }

    /// A client with the certificates of now.
    async fn connect(&self) -> Result<Client, BoxError> {
        let builder = client()
            .connect_timeout(self.config.calls.connect_timeout)
            .timeout(self.config.calls.timeout)
            .pool_max_idle_per_host(self.config.calls.concurrency)
            .user_agent(concat!("hooksink/", env!("CARGO_PKG_VERSION")));
        let files = &self.config.tls;
        let builder =
            if files.is_empty() { builder } else { builder.tls_backend_preconfigured(files.client_config().await?) };
        Ok(builder.build()?)
    }

    /// Sends a request; the error says why there is no answer.
    async fn send(&self, request: impl FnOnce(&Client) -> RequestBuilder) -> Result<Response, BoxError> {
        let client = self.client.get(async || self.connect().await).await?;
        request(&client).send().await.map_err(|error| {
            if !self.config.tls.is_empty() {
                self.client.forget(&client);
            }
            self.describe(&error).into()
        })
    }

    fn batches(&self) -> bool {
        self.config.format == HttpFormat::CloudeventsBatch
    }

    /// The body and its media type.
    fn body(&self, events: &[Event]) -> (Vec<u8>, &'static str) {
        let include_raw = self.config.include_raw;
        let cloud_event = |event: &Event| event.to_json(Format::Cloudevents, include_raw);
        match (self.config.format, events) {
            (HttpFormat::Cloudevents, [event]) => (cloud_event(event), "application/cloudevents+json"),
            (HttpFormat::Raw, [event]) => (event.to_json(Format::Raw, false), "application/json"),
            // The dispatcher keeps to `limits`; whoever calls with more gets a batch.
            _ => {
                let bodies: Vec<Vec<u8>> = events.iter().map(cloud_event).collect();
                let mut body = vec![b'['];
                body.extend_from_slice(&bodies.join(&b','));
                body.push(b']');
                (body, "application/cloudevents-batch+json")
            }
        }
    }

    /// Identity, signature, credentials, and what the configuration adds. Read anew for each request, since secrets may
    /// have been replaced.
    fn headers(&self, id: &str, body: &[u8], timestamp: i64) -> Result<HeaderMap, BoxError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.headers {
            if let Some(value) = value.first() {
                headers.insert(name.clone(), secret_value(value.expose())?);
            }
        }
        if let Some(basic) = self.config.basic.first() {
            headers.insert(AUTHORIZATION, credentials("Basic ", STANDARD.encode(basic.expose()).as_bytes())?);
        }
        if let Some(bearer) = self.config.bearer.first() {
            headers.insert(AUTHORIZATION, credentials("Bearer ", bearer.expose())?);
        }
        headers.insert(WEBHOOK_ID, HeaderValue::from_str(id)?);
        let secrets: &[Secret] = &self.config.signing_secret.load();
        if !secrets.is_empty() {
            headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
            let signature = standard_webhooks::sign(secrets, id, timestamp, body)?;
            headers.insert(WEBHOOK_SIGNATURE, HeaderValue::from_str(&signature)?);
        }
        Ok(headers)
    }

    async fn post(&self, events: &[Event]) -> Result<(), SinkError> {
        let (mut body, media_type) = self.body(events);
        if self.config.gzip {
            body = gzip(body).await.map_err(SinkError::transient)?;
        }
        let mut headers =
            self.headers(&webhook_id(events), &body, Utc::now().timestamp()).map_err(SinkError::transient)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        if self.config.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let sent = self.send(|client| client.post(self.url.clone()).headers(headers).body(body)).await;
        let mut answer = sent.map_err(SinkError::transient)?;
        let status = answer.status();
        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, Utc::now()));
        // The status has decided; the rest only sets the connection free.
        let mut left = MAX_ANSWER;
        while let Ok(Some(chunk)) = answer.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        let source = format!("the target answered {}", status.as_u16()).into();
        match verdict(status, &self.config.permanent_statuses) {
            Verdict::Delivered => Ok(()),
            Verdict::Again => Err(SinkError::Transient { retry_after: asked, source }),
            Verdict::Refused => Err(SinkError::Permanent { source }),
        }
    }

    /// Why there was no answer, without URL, and so without its query and credentials.
    fn describe(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() && !error.is_connect() {
            return format!("no answer within {:?}", self.config.calls.timeout);
        }
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let what = if error.is_connect() { "cannot connect" } else { "the connection broke" };
        // reqwest's own text holds the URL; that of the causes below it does not.
        if error.source().is_none() { what.to_owned() } else { format!("{what}: {innermost}") }
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let Err(cause) = self.post(events).await else { return Ok(()) };
        // A refusal of one event is about that event; that a target cannot be reached, is busy, or finds fault with a
        // whole batch, is about none in particular.
        let refused = matches!(cause, SinkError::Permanent { .. });
        let blame = if refused && events.len() == 1 { Blame::Event } else { Blame::Unknown };
        Err(Undelivered { delivered: 0, blame, cause })
    }

    /// HEAD, which delivers nothing: that the target answers is proved, and that it takes a POST is not.
    async fn check(&self) -> Result<Checked, BoxError> {
        let headers = self.headers("check", b"", Utc::now().timestamp())?;
        let status = self.send(|client| client.head(self.url.clone()).headers(headers)).await?.status();
        let host = self.url.origin().ascii_serialization();
        match status.as_u16() {
            code @ (401 | 403) => Err(format!("{host} answers {code} to HEAD: it refuses these credentials").into()),
            code => {
                let found = format!("{host} answers {code} to HEAD; whether it takes a POST is not tried");
                Ok(Checked { found, warnings: Vec::new(), max_event_bytes: None })
            }
        }
    }

    fn limits(&self) -> Limits {
        match self.batches() {
            true => self.config.calls.limits(LINGER),
            false => Limits { max_events: 1, ..self.config.calls.limits(Duration::ZERO) },
        }
    }

    /// Certificates may have been replaced: they are read anew with the next event.
    async fn reopen(&self) -> Result<(), BoxError> {
        if !self.config.tls.is_empty() {
            self.client.take();
        }
        Ok(())
    }
}

/// A client that goes where it is sent and nowhere else: no redirects, no proxies of the environment.
pub fn client() -> reqwest::ClientBuilder {
    use_ring();
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().referer(false)
}

/// The id of an event, or one of all events of a batch that is the same for the same batch.
fn webhook_id(events: &[Event]) -> String {
    if let [event] = events {
        return event.record.id.to_string();
    }
    let ids: Vec<u8> = events.iter().flat_map(|event| *event.record.id.0.as_bytes()).collect();
    Uuid::new_v5(&BATCH_NAMESPACE, &ids).to_string()
}

/// A header value that does not show in Debug output. Errors do not repeat it.
fn secret_value(bytes: &[u8]) -> Result<HeaderValue, BoxError> {
    let mut value = HeaderValue::from_bytes(bytes)?;
    value.set_sensitive(true);
    Ok(value)
}

fn credentials(scheme: &str, bytes: &[u8]) -> Result<HeaderValue, BoxError> {
    secret_value(&[scheme.as_bytes(), bytes].concat())
}

async fn gzip(body: Vec<u8>) -> Result<Vec<u8>, BoxError> {
    if body.len() < LARGE_BODY {
        return Ok(compress(&body)?);
    }
    Ok(tokio::task::spawn_blocking(move || compress(&body)).await??)
}

fn compress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
