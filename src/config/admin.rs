use std::net::SocketAddr;

use crate::secret::Secrets;

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
