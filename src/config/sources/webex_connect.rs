use super::{ApiKey, Auth, NO_AWS_SIGNATURE, NO_DIGEST, read_none};
use crate::model::Zone;
use crate::settings::{Given, Section};
use crate::settings::{secrets, units, values};

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

/// Inbound e-mail can carry its attachments inline.
const MAX_BODY: u64 = 16 << 20;

const SCHEMES: [&str; 5] = ["signature_secrets", "basic", "bearer", "api_key", "allow_addresses"];

impl WebexConnectConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let signature_secrets = section.secrets("signature_secrets", secrets::any);
        let allow_sha1 = section.or("allow_sha1", values::boolean, false);
        let basic = section.secrets("basic", secrets::basic_with_password);
        let bearer = section.secrets("bearer", secrets::header_value);
        let api_key = read_api_key(&mut section);
        let allow_addresses = section.or("allow_addresses", values::some_networks, Vec::new());
        if !basic.is_empty() && !bearer.is_empty() {
            section.error("basic", "this contradicts bearer: both must hold, and a request has only one Authorization");
        }
        let unsupported = unsupported(&mut section);
        let none = !unsupported && read_none(&mut section, &SCHEMES, "signature_secrets");
        let auth = Auth { none, signature_secrets, allow_sha1, basic, bearer, api_key, allow_addresses };
        let timezone = section.optional("timezone", timezone);
        let max_body = section.or("max_body", units::size, MAX_BODY);
        section.finish();
        Self { auth, timezone, max_body }
    }
}

fn timezone(given: &Given<'_>) -> Result<Zone, String> {
    values::text(given)?.parse()
}

/// Says what to choose instead of a scheme that Webex Connect offers and hooksink does not have.
fn unsupported(section: &mut Section<'_>) -> bool {
    let asked: Vec<_> = section.entries().map(|(key, _)| key).collect();
    let mut found = false;
    for key in asked {
        let advice = match key {
            _ if key.contains("digest") => NO_DIGEST,
            _ if key.starts_with("aws") => NO_AWS_SIGNATURE,
            _ => continue,
        };
        section.error(key, advice);
        section.pass_over(key);
        found = true;
    }
    found
}

fn read_api_key(section: &mut Section<'_>) -> Option<ApiKey> {
    if !section.has("api_key") {
        let _ = section.value("api_key");
        return None;
    }
    let mut table = section.section("api_key");
    let header = table.optional("header", |given| {
        let text = values::text(given)?;
        text.to_lowercase().parse().map_err(|_| format!("{text:?} is no name of a header"))
    });
    let query = table.optional("query", values::text);
    if table.has("header") == table.has("query") {
        table.error("", "this must have header = \"name\" or query = \"name\", one of the two");
    }
    if !table.has("values") {
        table.error("values", "this must be set: the key, or a list of keys");
    }
    let values = table.secrets("values", secrets::any);
    table.finish();
    Some(ApiKey { header, query, values })
}
