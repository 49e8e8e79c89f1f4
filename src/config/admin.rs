use std::net::SocketAddr;

use crate::secret::Secrets;
use crate::settings::Section;
use crate::settings::{secrets, values};

/// `[admin]`: health, metrics and the API.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where the admin listener listens.
    pub listen: SocketAddr,
    /// Bearer tokens for everything but the health paths; must be set beyond loopback.
    pub token: Secrets,
    /// Hosts a request may name, beside the listen address.
    pub hosts: Vec<String>,
}

impl AdminConfig {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let listen = section.required("listen", values::address);
        let token = section.secrets("token", secrets::header_value);
        let hosts = section.required("hosts", values::texts);
        if let Some(listen) = listen
            && !listen.ip().is_loopback()
            && !section.has("token")
        {
            section.error(
                "token",
                format!("this must be set, since {listen} can be reached from other machines (or listen on 127.0.0.1)"),
            );
        }
        section.finish();
        Some(Self { listen: listen?, token, hosts: hosts? })
    }
}
