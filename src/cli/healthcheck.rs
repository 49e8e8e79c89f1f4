use clap::Args;
use reqwest::Method;

use super::admin_client::AdminArgs;
use super::block_on;
use super::exit::Outcome;

/// Ask a running server whether it is ready; for containers (status 0 or 69)
#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    #[command(flatten)]
    admin: AdminArgs,
}

impl Healthcheck {
    pub(crate) fn run(self) -> Outcome {
        let (client, _) = self.admin.client()?;
        block_on(async {
            client.call(Method::GET, "/healthz", None::<&()>).await?;
            Ok(())
        })
    }
}
