//! `hooksink check --connect`: whether rows can be inserted, and what becomes of them when the server fails.

use tokio_postgres::types::Type;

use super::super::Checked;
use super::connection::Connection;
use super::failure::Failure;
use super::rows::Rows;
use super::settings::PostgresSinkConfig;
use super::table;

/// Raw bytes of an event that fits for certain: a message to the server is at most 1 GiB, and beside the raw bytes stands
/// the typed model of them.
const LARGEST: u64 = 256 << 20;

pub(super) async fn check(config: &PostgresSinkConfig, insertion: &str) -> Result<Checked, Failure> {
    let connection = Connection::open(config).await?;
    let client = &connection.client;
    let question = "select current_setting('server_version'), current_setting('server_encoding'), \
                    current_setting('fsync') = 'off', current_setting('synchronous_commit') = 'off', \
                    pg_is_in_recovery() or current_setting('transaction_read_only') = 'on', \
                    exists (select from pg_namespace where nspname = coalesce($1, current_schema()) and \
                    has_schema_privilege(oid, 'create'))";
    let schema = config.table.schema();
    let row = client.query_typed_one(question, &[(&schema, Type::TEXT)]).await?;
    let (version, encoding): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let (unsynced, late, read_only, may_create) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    if read_only {
        return Err(Failure::about("the server takes no writes: it is a standby, or the database is read-only"));
    }
    let version = version.split(' ').next().unwrap_or_default();
    let mut found = vec![format!("PostgreSQL {version}")];
    let mut warnings = Vec::new();
    let table = &config.table;
    if table::look(client, table).await? {
        // The very statement, with no rows: rights are looked at all the same.
        client.execute_typed(insertion, &Rows::default().parameters(&(0..0)).typed()).await.map_err(Failure::from)?;
        found.push(format!("insert into {table} is allowed"));
        let question = "select relpersistence = 'u' from pg_class where oid = to_regclass($1)";
        let unlogged = client.query_typed_opt(question, &[(&table.quoted(), Type::TEXT)]).await?;
        if unlogged.is_some_and(|row| row.try_get(0).unwrap_or(false)) {
            warnings.push("the table is unlogged: a crash of the server empties it".to_owned());
        }
    } else if !config.create_table {
        return Err(Failure::about(format!("there is no table {table}; make it: {}", table.definition())));
    } else if may_create {
        found.push(format!("the table {table} will be made with the first event"));
    } else {
        let must = "the user may not make it: grant it create on the schema, or run";
        return Err(Failure::about(format!("there is no table {table}, and {must}: {}", table.definition())));
    }
    if encoding != "UTF8" {
        warnings.push(format!("the database is encoded in {encoding}: what that cannot say is refused"));
    }
    if unsynced {
        warnings.push("fsync is off: a power cut may lose the whole database".to_owned());
    }
    if late {
        warnings.push("synchronous_commit is off: a crash of the server loses the last moments".to_owned());
    }
    Ok(Checked { found: found.join("; "), warnings, max_event_bytes: Some(LARGEST) })
}
