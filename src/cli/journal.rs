use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hooksink::admin::{BackupLine, BackupRequest};
use hooksink::config::{Engine, JournalConfig};
use hooksink::journal::sqlite::backup_offline;
use reqwest::Method;

use super::admin_client::{AdminArgs, AdminClient, CallError};
use super::block_on;
use super::exit::{Failure, Outcome};
use super::output::print;
use super::post::unreachable;

/// Copy the journal
#[derive(Debug, Args)]
pub(crate) struct Journal {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a consistent copy while the server runs, or of a journal that no server has open
    Backup {
        /// The new file, below journal.backup_dir
        file: PathBuf,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

impl Journal {
    pub(crate) fn run(self) -> Outcome {
        let Command::Backup { file, admin } = self.command;
        let (client, config) = admin.client()?;
        block_on(async {
            match by_server(&client, &file).await {
                // Whoever names a server means that one.
                Err(CallError::NoServer(_)) if admin.admin.is_none() => by_itself(config, file).await,
                done => Ok(done?),
            }
        })
    }
}

async fn by_server(client: &AdminClient, file: &Path) -> Result<(), CallError> {
    let refused = CallError::Refused;
    let body = BackupRequest { file: file.to_owned() };
    let mut answer = client.call(Method::POST, "/api/v1/journal/backup", Some(&body)).await?;
    let mut waiting = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| refused(unreachable(&error)))? {
        waiting.extend_from_slice(&chunk);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(BackupLine::Progress { copied, total }) => progress(copied, total),
                Ok(BackupLine::Done { path }) => return print(&format!("{}\n", path.display())).map_err(refused),
                Ok(BackupLine::Failed { error }) => return Err(refused(Failure::unavailable(error))),
                Err(_) => return Err(refused(Failure::unavailable("the server's answer cannot be read"))),
            }
        }
    }
    Err(refused(Failure::unavailable("the server stopped before the copy was whole")))
}

/// Opens the journal, which fails where a server has it.
async fn by_itself(config: JournalConfig, file: PathBuf) -> Outcome {
    let Engine::Sqlite(config) = config.engine;
    let copied = tokio::task::spawn_blocking(move || backup_offline(&config, &file, Box::new(progress))).await;
    let copied = copied.map_err(|error| Failure::internal(error.to_string()))?;
    let path = copied.map_err(|error| Failure::unavailable(error.to_string()))?;
    print(&format!("{}\n", path.display()))
}

/// On stderr, so that stdout is the path of the copy and nothing else.
fn progress(copied: u64, total: u64) {
    eprintln!("{copied} of {total} pages");
}
