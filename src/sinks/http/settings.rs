//! What `type = "http"` is told.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ::http::HeaderName;
use reqwest::Url;
use toml::Value;

use super::super::calls::Calls;
use super::super::encoding::include_raw;
use super::super::{BoxError, Sink};
use super::HttpSink;
use crate::names::SinkName;
use crate::remote::tls::TlsFiles;
use crate::remote::{Exposed, Form};
use crate::secret::Secrets;
use crate::settings::secrets;
use crate::settings::values;
use crate::settings::{Given, Section};

/// `type = "http"`: POST to a URL.
#[derive(Debug, Clone)]
pub struct HttpSinkConfig {
    /// `url`
    pub url: TargetUrl,
    /// `format`
    pub format: HttpFormat,
    /// `include_raw`: the raw JSON under `data.raw`.
    pub include_raw: bool,
    /// `signing_secret`: Standard Webhooks secrets; all sign.
    pub signing_secret: Secrets,
    /// `headers`: sent with each request; values may be secret.
    pub headers: Vec<(HeaderName, Secrets)>,
    /// `basic`: `user:password`.
    pub basic: Secrets,
    /// `bearer`: a token.
    pub bearer: Secrets,
    /// `ca_file`, `client_cert_file` and `client_key_file`.
    pub tls: TlsFiles,
    /// `gzip`: whether bodies are compressed.
    pub gzip: bool,
    /// Requests; `batch_events` with `format = "cloudevents_batch"`.
    pub calls: Calls,
    /// `permanent_statuses`: statuses that mean the target will never have the event.
    pub permanent_statuses: Vec<u16>,
}

/// A URL as configured. Its Debug form is without path and query, where services put their secrets.
#[derive(Clone)]
pub struct TargetUrl(String);

impl TargetUrl {
    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme, host and port, for people to see.
    pub fn origin(&self) -> String {
        Url::parse(&self.0).map_or_else(|_| "?".into(), |url| url.origin().ascii_serialization())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetUrl({}/…)", self.origin())
    }
}

/// What a request of the `http` sink carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpFormat {
    /// One CloudEvent, structured (`application/cloudevents+json`).
    #[default]
    Cloudevents,
    /// Several (`application/cloudevents-batch+json`).
    CloudeventsBatch,
    /// One event's raw JSON.
    Raw,
}

/// Client errors, but for those that are mostly a misconfiguration (401, 403, 404, 410) or a matter of time (408, 425,
/// 429).
const PERMANENT: [RangeInclusive<u16>; 5] = [400..=400, 402..=402, 405..=407, 409..=409, 411..=424];
const PERMANENT_TOO: [RangeInclusive<u16>; 2] = [426..=428, 430..=499];

impl HttpSinkConfig {
    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        let url = section.required("url", url);
        let format = section.or("format", http_format, HttpFormat::default());
        let include_raw = include_raw(section, format == HttpFormat::Raw);
        let signing_secret = section.secrets("signing_secret", signing_secret);
        let basic = section.secrets("basic", secrets::basic);
        let bearer = section.secrets("bearer", secrets::header_value);
        let headers = headers(section);
        let authorizations = [
            ("basic", section.has("basic")),
            ("bearer", section.has("bearer")),
            ("headers.authorization", headers.iter().any(|(name, _)| *name == ::http::header::AUTHORIZATION)),
        ];
        if authorizations.iter().filter(|(_, given)| *given).count() > 1 {
            let names: Vec<_> = authorizations.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
            section.error("", format!("{} each make an Authorization header; keep one of them", names.join(" and ")));
        }
        let plain = url.as_ref().is_some_and(|url| url.as_str().starts_with("http:"));
        let tls = TlsFiles::read(section, plain.then_some("begin url with https://"));
        let gzip = section.or("gzip", values::boolean, false);
        // Several events are one body, of which servers take 1 MiB unless they are told otherwise, and refuse all for one.
        let calls = Calls { batch_events: 100, batch_bytes: 1 << 20, ..Calls::default() };
        let calls = Calls::read(section, calls);
        let permanent = PERMANENT.into_iter().chain(PERMANENT_TOO).flatten().collect();
        let permanent_statuses = section.or("permanent_statuses", statuses, permanent);
        Some(Self {
            url: url?,
            format,
            include_raw,
            signing_secret,
            headers,
            basic,
            bearer,
            tls,
            gzip,
            calls,
            permanent_statuses,
        })
    }

    /// Path and query are left out: they are where services put their secrets.
    pub(crate) fn target(&self) -> String {
        self.url.origin() + "/…"
    }

    pub(crate) fn exposed(&self) -> Option<Exposed> {
        let url = Url::parse(self.url.as_str()).ok().filter(|url| url.scheme() == "http")?;
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| format!("headers.{name}")).collect();
        let mut secrets = vec![("basic", !self.basic.is_empty()), ("bearer", !self.bearer.is_empty())];
        secrets.extend(headers.iter().map(|key| (key.as_str(), true)));
        Exposed::find(&secrets, url.host_str(), "begin url with https://")
    }

    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(HttpSink::new(self)?))
    }
}

const FORM: Form =
    Form { schemes: &[("http", false), ("https", true)], like: "write it like \"https://host/path\"", login: "basic" };

fn url(given: &Given<'_>) -> Result<TargetUrl, String> {
    let (url, _) = FORM.url(given)?;
    if url.fragment().is_some() {
        return Err("what follows # in a URL is never sent; leave it out".into());
    }
    Ok(TargetUrl(url.into()))
}

fn http_format(given: &Given<'_>) -> Result<HttpFormat, String> {
    values::choice(
        given,
        &[
            ("cloudevents", HttpFormat::Cloudevents),
            ("cloudevents_batch", HttpFormat::CloudeventsBatch),
            ("raw", HttpFormat::Raw),
        ],
    )
}

/// A Standard Webhooks secret: `whsec_` and Base64, or any text.
fn signing_secret(bytes: &[u8]) -> Result<(), &'static str> {
    use base64::Engine as _;
    match bytes.strip_prefix(b"whsec_") {
        Some(encoded) if base64::engine::general_purpose::STANDARD.decode(encoded).is_err() => {
            Err("what follows whsec_ is not Base64")
        }
        _ => Ok(()),
    }
}

/// Headers that are hooksink's own, or the connection's.
const OWN_HEADERS: [&str; 9] = [
    "content-encoding",
    "content-length",
    "content-type",
    "connection",
    "host",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

fn headers(section: &mut Section<'_>) -> Vec<(HeaderName, Secrets)> {
    let table = section.section("headers");
    let mut headers = Vec::new();
    for (name, value) in table.entries() {
        let lower = name.to_lowercase();
        match lower.parse::<HeaderName>() {
            Err(_) => table.error(name, "this is no name of a header"),
            Ok(_) if OWN_HEADERS.contains(&lower.as_str()) => {
                table.error(name, "this header is set by hooksink itself");
            }
            Ok(header) if matches!(value, Value::Array(_)) => {
                table.error(name, format!("{header} takes one value, and no list"));
            }
            Ok(header) => headers.push((header, table.secret_value(name, value, secrets::header_value))),
        }
    }
    headers
}

/// `[400, 404]`, or with ranges: `["400-499"]`.
fn statuses(given: &Given<'_>) -> Result<Vec<u16>, String> {
    let ranges = values::list(given, |given| {
        let wrong = || "this must be a status from 300 to 599, or a range like \"400-403\"".to_owned();
        let range = match (given.value, given.text()) {
            (Value::Integer(status), _) => u16::try_from(*status).map(|status| status..=status).map_err(|_| wrong())?,
            (_, Some(text)) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                match (first.trim().parse(), last.trim().parse()) {
                    (Ok(first), Ok(last)) => first..=last,
                    _ => return Err(wrong()),
                }
            }
            _ => return Err(wrong()),
        };
        if range.is_empty() || *range.start() < 300 || *range.end() > 599 { Err(wrong()) } else { Ok(range) }
    })?;
    Ok(ranges.into_iter().flatten().collect())
}
