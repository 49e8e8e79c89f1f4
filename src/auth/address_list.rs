//! The client's address is in a list. It proves where a request came from and no secret, so that a body that is not JSON
//! is not kept on its word alone.

use ipnet::IpNet;

use super::{Prove, Received, Refusal};
use crate::event::{Proof, Scheme};

/// The scheme: one of several networks.
pub(super) struct AddressList {
    networks: Vec<IpNet>,
}

impl AddressList {
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self { networks }
    }
}

impl Prove for AddressList {
    fn prove(&self, request: &Received) -> Result<Proof, Refusal> {
        // A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
        let address = request.client_address.to_canonical();
        let position = self
            .networks
            .iter()
            .position(|network| network.contains(&address))
            .ok_or(Refusal::Wrong(Scheme::Address))?;
        Ok(Proof { scheme: Scheme::Address, position })
    }
}
