//! `[sources.*]`: how the requests of each are authenticated; the settings of a sender stand in a file of its own.

mod meta;
mod webex_connect;

use ipnet::IpNet;

pub use meta::MetaConfig;
pub use webex_connect::WebexConnectConfig;

use super::Sources;
use crate::names::{SourceName, SourceType};
use crate::secret::Secrets;
use crate::settings::values;
use crate::settings::{Given, Section};

/// `[sources.NAME]`
#[derive(Debug, Clone)]
pub enum SourceConfig {
    /// `type = "meta"`
    Meta(MetaConfig),
    /// `type = "webex-connect"`
    WebexConnect(WebexConnectConfig),
}

impl SourceConfig {
    /// Its type.
    pub fn source_type(&self) -> SourceType {
        match self {
            Self::Meta(_) => SourceType::Meta,
            Self::WebexConnect(_) => SourceType::WebexConnect,
        }
    }

    /// How its requests are authenticated.
    pub fn auth(&self) -> &Auth {
        match self {
            Self::Meta(meta) => &meta.auth,
            Self::WebexConnect(connect) => &connect.auth,
        }
    }

    /// The largest body, in bytes.
    pub fn max_body(&self) -> u64 {
        match self {
            Self::Meta(meta) => meta.max_body,
            Self::WebexConnect(connect) => connect.max_body,
        }
    }
}

/// How requests of a source are authenticated: all schemes with a value must hold.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// `auth = "none"`: nothing is asked for.
    pub none: bool,
    /// HMAC secrets: `app_secrets` of meta, `signature_secrets` of webex-connect.
    pub signature_secrets: Secrets,
    /// Whether SHA-1 signatures are taken, where no better one is in the request.
    pub allow_sha1: bool,
    /// HTTP Basic: `user:password` pairs.
    pub basic: Secrets,
    /// Bearer tokens.
    pub bearer: Secrets,
    /// A key in a header or query parameter.
    pub api_key: Option<ApiKey>,
    /// Addresses that may send.
    pub allow_addresses: Vec<IpNet>,
}

impl Auth {
    /// The schemes that must hold; empty with `auth = "none"`.
    pub fn schemes(&self) -> Vec<&'static str> {
        let schemes = [
            ("signature", !self.signature_secrets.is_empty()),
            ("basic", !self.basic.is_empty()),
            ("bearer", !self.bearer.is_empty()),
            ("api_key", self.api_key.is_some()),
            ("address", !self.allow_addresses.is_empty()),
        ];
        schemes.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect()
    }
}

/// `api_key = { header = "x-api-key", values = [...] }` or `{ query = "key", values = [...] }`
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The header's name in lower case, if it comes in a header.
    pub header: Option<http::HeaderName>,
    /// The query parameter's name, if it comes there.
    pub query: Option<String>,
    /// The keys.
    pub values: Secrets,
}

/// Reads `[sources.*]`.
pub(super) fn read(root: &mut Section<'_>) -> Sources {
    let mut sources = Sources::new();
    for (name, section) in root.named("sources") {
        let name = name.parse::<SourceName>().map_err(|error| section.reader.error(&section.path, error.to_string()));
        // A source with a bad name is read all the same, so that everything wrong with it is said at once.
        if let (Some(source), Ok(name)) = (read_one(section), name) {
            sources.insert(name, source);
        }
    }
    sources
}

fn read_one(mut section: Section<'_>) -> Option<SourceConfig> {
    let source_type = |given: &Given<'_>| {
        let types = SourceType::ALL.iter().map(|source| (source.as_str(), *source)).collect::<Vec<_>>();
        values::choice(given, &types)
    };
    // Without a type it cannot be told which other keys are allowed.
    match section.required("type", source_type)? {
        SourceType::Meta => Some(SourceConfig::Meta(MetaConfig::read(section))),
        SourceType::WebexConnect => Some(SourceConfig::WebexConnect(WebexConnectConfig::read(section))),
    }
}

/// Reads `auth`, and checks it against the schemes that have been read. `recommended` is the key to name.
fn read_none(section: &mut Section<'_>, schemes: &[&str], recommended: &str) -> bool {
    let none = section.optional("auth", |given| match given.text() {
        Some("none") => Ok(true),
        Some(text) if text.to_lowercase().contains("digest") => Err(NO_DIGEST.into()),
        Some(text) if text.to_lowercase().starts_with("aws") => Err(NO_AWS_SIGNATURE.into()),
        _ => Err("the only value is \"none\"; a scheme is switched on by giving its secrets".into()),
    });
    // Keys, and not values: a key whose value is wrong has got its own error.
    let given: Vec<_> = schemes.iter().copied().filter(|key| section.has(key)).collect();
    match (none, given.is_empty()) {
        (Some(true), false) => {
            section.error("auth", format!("\"none\" contradicts {}; remove the one or the other", given.join(", ")));
        }
        (None, true) if !section.has("auth") => section.error(
            "",
            format!("nothing authenticates this source's requests; set {recommended}, or say auth = \"none\" if anyone may send"),
        ),
        _ => {}
    }
    none == Some(true)
}

const NO_DIGEST: &str =
    "Digest is not supported; choose a signature in Webex Connect (signature_secrets), or Basic (basic)";
const NO_AWS_SIGNATURE: &str = "AWS Signature is not supported; choose a signature in Webex Connect (signature_secrets), or a bearer token (bearer)";
