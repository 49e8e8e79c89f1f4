//! A table of PostgreSQL, with the settings that it has by itself, and inserts of many rows.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::{BATCH, Line, Rival};
use crate::Failure;
use crate::support::daemon::{Daemon, free_port};
use crate::support::postgres::{forget, initialised, programs, start};
use crate::support::server::eventually;

/// A server of its own.
pub(super) struct Postgres {
    port: u16,
    daemon: Daemon,
    folder: TempDir,
}

impl Postgres {
    pub(super) fn start() -> Result<Option<Self>, Failure> {
        let Some(programs) = programs("postgres") else { return Ok(None) };
        let folder = initialised(&programs);
        let port = free_port();
        let daemon = start(&programs, &folder, port, &[]);
        let server = Self { port, daemon, folder };
        let runtime = tokio::runtime::Runtime::new()?;
        let connect = || runtime.block_on(tokio_postgres::connect(&server.address(), NoTls)).ok().map(drop);
        eventually("PostgreSQL answers", connect);
        Ok(Some(server))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.daemon.kill();
        forget(&self.folder);
    }
}

impl Rival for Postgres {
    fn settings(&self, place: &str) -> String {
        let url = format!("postgres://127.0.0.1:{}/postgres", self.port);
        format!("url = \"{url}\"\nsslmode = \"disable\"\nusername = \"postgres\"\ntable = \"{place}\"")
    }

    fn address(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port)
    }

    fn prepare(&mut self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

/// What stands in a line beside what [`Line`] has.
#[derive(serde::Deserialize)]
struct Rest<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    sourcetype: String,
    receivedtime: DateTime<Utc>,
}

/// The columns of a batch.
#[derive(Clone, Default)]
struct Columns {
    ids: Vec<Uuid>,
    sources: Vec<String>,
    source_types: Vec<String>,
    kinds: Vec<String>,
    subjects: Vec<String>,
    occurred: Vec<DateTime<Utc>>,
    received: Vec<DateTime<Utc>>,
    raws: Vec<Vec<u8>>,
    data: Vec<String>,
}

impl Columns {
    fn of(lines: &[Line]) -> Result<Self, Failure> {
        let mut columns = Self::default();
        for line in lines {
            let rest: Rest<'_> = serde_json::from_slice(&line.json)?;
            columns.ids.push(line.id.parse()?);
            columns.sources.push(line.source.clone());
            columns.source_types.push(rest.sourcetype);
            columns.kinds.push(line.kind.clone());
            columns.subjects.push(line.subject.clone());
            columns.occurred.push(line.time.parse()?);
            columns.received.push(rest.receivedtime);
            columns.raws.push(rest.data.get().as_bytes().to_vec());
            columns.data.push(rest.data.get().to_owned());
        }
        Ok(columns)
    }
}

/// Inserts of arrays, so many at once, each over a connection of its own, into a table as the sink makes it.
pub(super) async fn send(address: &str, table: &str, lines: &[Line], at_once: usize) -> Result<Duration, Failure> {
    let batches: Vec<Columns> = lines.chunks(BATCH).map(Columns::of).collect::<Result<_, _>>()?;
    let mut clients = Vec::new();
    for _ in 0..at_once {
        let (client, connection) = tokio_postgres::connect(address, NoTls).await?;
        tokio::spawn(connection);
        clients.push(client);
    }
    clients[0]
        .batch_execute(&format!(
            "create table \"{table}\" (seq bigint generated always as identity, id uuid primary key, source text not \
             null, source_type text not null, kind text not null, subject text, occurred_at timestamptz, received_at \
             timestamptz not null, raw bytea not null, data jsonb); create index on \"{table}\" using brin (received_at)"
        ))
        .await?;
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    let share = batches.len().div_ceil(at_once).max(1);
    for (client, share) in clients.into_iter().zip(batches.chunks(share)) {
        let (batches, table) = (share.to_vec(), table.to_owned());
        calls.spawn(async move {
            let insert = client
                .prepare(&format!(
                    "insert into \"{table}\" (id, source, source_type, kind, subject, occurred_at, received_at, raw, \
                     data) select a, b, c, d, e, f, g, h, i::jsonb from unnest($1::uuid[], $2::text[], $3::text[], \
                     $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::bytea[], $9::text[]) as row(a, \
                     b, c, d, e, f, g, h, i) on conflict (id) do nothing"
                ))
                .await?;
            for Columns { ids, sources, source_types, kinds, subjects, occurred, received, raws, data } in &batches {
                let columns: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
                    [ids, sources, source_types, kinds, subjects, occurred, received, raws, data];
                client.execute(&insert, &columns).await?;
            }
            Ok::<(), tokio_postgres::Error>(())
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(began.elapsed())
}
