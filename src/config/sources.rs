use ipnet::IpNet;

use crate::model::Zone;
use crate::names::SourceType;
use crate::secret::Secrets;

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

/// `type = "meta"`
#[derive(Debug, Clone)]
pub struct MetaConfig {
    /// Tokens of the subscription check.
    pub verify_token: Secrets,
    /// How requests are authenticated.
    pub auth: Auth,
    /// Apps whose echoes are our own.
    pub own_app_ids: Vec<String>,
    /// Apps that are a page or Instagram inbox.
    pub page_inbox_app_ids: Vec<String>,
    /// The largest body, in bytes.
    pub max_body: u64,
}

/// `type = "webex-connect"`
#[derive(Debug, Clone)]
pub struct WebexConnectConfig {
    /// How requests are authenticated.
    pub auth: Auth,
    /// The zone of times without one; `None` means UTC, unsaid.
    pub timezone: Option<Zone>,
    /// The largest body, in bytes.
    pub max_body: u64,
}
