use super::{Auth, read_none};
use crate::secret::Secrets;
use crate::settings::Section;
use crate::settings::{secrets, units, values};

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

/// Page inbox by Meta's page, page inbox as observed, Instagram inbox.
const PAGE_INBOXES: [&str; 3] = ["26390203743090", "263902037430900", "1217981644879628"];

/// Above Meta's 3 MB, the largest limit it publishes.
const MAX_BODY: u64 = 4 << 20;

impl MetaConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        if !section.has("verify_token") {
            section.error("verify_token", "this must be set: Meta asks for it before it sends anything");
        }
        let verify_token = section.secrets("verify_token", secrets::any);
        let signature_secrets = section.secrets("app_secrets", secrets::any);
        let allow_sha1 = section.or("allow_sha1", values::boolean, false);
        let allow_addresses = section.or("allow_addresses", values::some_networks, Vec::new());
        let none = read_none(&mut section, &["app_secrets", "allow_addresses"], "app_secrets");
        let config = Self {
            verify_token,
            auth: Auth { none, signature_secrets, allow_sha1, allow_addresses, ..Auth::default() },
            own_app_ids: section.or("own_app_ids", values::ids, Vec::new()),
            page_inbox_app_ids: section.or("page_inbox_app_ids", values::ids, PAGE_INBOXES.map(str::to_owned).into()),
            max_body: section.or("max_body", units::size, MAX_BODY),
        };
        section.finish();
        config
    }
}
