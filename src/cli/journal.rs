use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use hooksink::admin::{BackupLine, BackupRequest};
use hooksink::config::{Engine, JournalConfig};
use hooksink::journal::copy::{Progress, copy};
use hooksink::journal::sqlite::backup_offline;
use reqwest::Method;

use super::admin_client::{AdminArgs, AdminClient, CallError};
use super::block_on;
use super::config_args::ConfigArgs;
use super::exit::{Failure, Outcome};
use super::output::print;
use super::post::unreachable;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Copy the journal: as it is, or into another one
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
    /// Move all events, what each sink is owed and what it gave up on, into a new journal of either engine
    ///
    /// No server may have one of the two. A copy that was broken off goes on where it was. The old journal stays as it is.
    Copy {
        /// The configuration whose [journal] is copied
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The configuration whose [journal] is made
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

impl Journal {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::Backup { file, admin } => back_up(&file, &admin),
            Command::Copy { from, to } => copy_journal(from, to),
        }
    }
}

fn copy_journal(from: PathBuf, to: PathBuf) -> Outcome {
    let journal = |config| ConfigArgs { config: Some(config), set: Vec::new() }.load_operator();
    let ((_, from), (_, to)) = (journal(from)?, journal(to)?);
    let mut told = None;
    let mut tell = move |progress| match progress {
        Progress::Events { copied, total } => {
            let due = told.is_none_or(|told: Instant| told.elapsed() >= TELL_EVERY);
            if due || copied == total {
                told = Some(Instant::now());
                eprintln!("{copied} of {total} events");
            }
        }
        Progress::Sink { sink, owed, dead_letters } => {
            eprintln!("sink {sink}: is owed {owed} events, has {dead_letters} dead letters");
        }
        Progress::Unreadable { sink, letters } => {
            eprintln!("sink {sink}: {} dead letters cannot be read: {letters:?}", letters.len());
        }
    };
    let copied = block_on(async { Ok(copy(&from, &to, &mut tell).await) })?;
    copied.map_err(|error| Failure::unavailable(error.to_string()))?;
    print("copied\n")
}

fn back_up(file: &Path, admin: &AdminArgs) -> Outcome {
    let (client, config) = admin.client()?;
    block_on(async {
        match by_server(&client, file).await {
            // Whoever names a server means that one.
            Err(CallError::NoServer(_)) if admin.admin.is_none() => by_itself(config, file.to_owned()).await,
            done => Ok(done?),
        }
    })
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
    let Engine::Sqlite(config) = config.engine else {
        return Err(Failure::unavailable("a journal on JetStream is copied by the NATS tools: nats stream backup"));
    };
    let copied = tokio::task::spawn_blocking(move || backup_offline(&config, &file, Box::new(progress))).await;
    let copied = copied.map_err(|error| Failure::internal(error.to_string()))?;
    let path = copied.map_err(|error| Failure::unavailable(error.to_string()))?;
    print(&format!("{}\n", path.display()))
}

/// On stderr, so that stdout is the path of the copy and nothing else.
fn progress(copied: u64, total: u64) {
    eprintln!("{copied} of {total} pages");
}
