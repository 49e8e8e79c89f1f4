//! The table: its name, how it is made and changed, and whether one that others made will do.

use std::fmt;
use std::str::FromStr;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::failure::Failure;

/// `table` or `schema.table`, in lower case: names that need no quotes anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName(String);

/// Bytes of a name, as PostgreSQL has them; and of ours, from which that of an index is made.
const LONGEST: usize = 63 - "_received_at".len();

impl FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            first && rest && name.len() <= LONGEST
        };
        let parts: Vec<_> = text.split('.').collect();
        if matches!(parts.len(), 1 | 2) && parts.into_iter().all(is_name) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "this must be \"table\" or \"schema.table\", of a-z, 0-9 and _, with at most {LONGEST} characters each"
        ))
    }
}

impl Default for TableName {
    fn default() -> Self {
        Self("hooksink_events".to_owned())
    }
}

impl fmt::Display for TableName {
    /// As written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TableName {
    /// The schema that is named.
    pub(super) fn schema(&self) -> Option<&str> {
        self.0.split_once('.').map(|(schema, _)| schema)
    }

    /// In quotes, for statements: a name may be a keyword.
    pub(super) fn quoted(&self) -> String {
        format!("\"{}\"", self.0.replace('.', "\".\""))
    }

    /// The name of an index on it.
    fn index(&self) -> String {
        format!("\"{}_received_at\"", self.0.rsplit('.').next().unwrap_or_default())
    }

    /// The statement that makes the table.
    pub(super) fn definition(&self) -> String {
        format!("create table {} ({COLUMNS})", self.quoted())
    }

    /// Makes the table of the version before into that of each version; the first makes it.
    fn steps(&self) -> [String; 2] {
        // For whoever reads or removes what came in a stretch of time: of a table that only grows, such an index is tiny.
        let by_time = format!("create index {} on {} using brin (received_at)", self.index(), self.quoted());
        [self.definition(), by_time]
    }

    /// The statement that inserts what arrays of columns hold, in their order. What is there already stays.
    pub(super) fn insertion(&self) -> String {
        format!(
            "insert into {} (id, source, source_type, kind, subject, occurred_at, received_at, raw, data, data_repaired, \
             note) select id, source, source_type, kind, subject, occurred_at, received_at, raw, data::jsonb, \
             data_repaired, note from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) with ordinality as row(id, \
             source, source_type, kind, subject, occurred_at, received_at, raw, data, data_repaired, note, place) order \
             by place on conflict (id) do nothing",
            self.quoted()
        )
    }
}

const COLUMNS: &str = "seq bigint generated always as identity, id uuid primary key, source text not null, source_type \
                       text not null, kind text not null, subject text, occurred_at timestamptz, received_at \
                       timestamptz not null, raw bytea not null, data jsonb, data_repaired boolean not null, note text";

/// The columns that are written: name, type, and whether null is.
const WRITTEN: [(&str, &str, bool); 11] = [
    ("id", "uuid", false),
    ("source", "text", false),
    ("source_type", "text", false),
    ("kind", "text", false),
    ("subject", "text", true),
    ("occurred_at", "timestamp with time zone", true),
    ("received_at", "timestamp with time zone", false),
    ("raw", "bytea", false),
    ("data", "jsonb", true),
    ("data_repaired", "boolean", false),
    ("note", "text", true),
];

/// With what the comment of a table of ours begins; the number of its version follows.
const OURS: &str = "Events of hooksink, version ";

/// Held while a table is made or changed, by whoever of several does it. The number is "hooksink" in ASCII.
const LOCK: i64 = 0x686f_6f6b_7369_6e6b;

/// What stands in the database under the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A table of ours, of this version.
    Ours(usize),
    /// Somebody else's.
    Theirs,
}

/// Sees to it that the table is there and will do, if it may be made.
pub(super) async fn prepare(client: &Client, table: &TableName, create: bool) -> Result<(), Failure> {
    let steps = table.steps();
    let mut again = true;
    loop {
        let made = match find(client, table).await? {
            Found::Nothing if !create => {
                return Err(Failure::about(format!("there is no table {table}; make it: {}", table.definition())));
            }
            Found::Nothing => make(client, table, &steps).await,
            Found::Ours(version) if create && version < steps.len() => make(client, table, &steps).await,
            Found::Ours(_) | Found::Theirs => return verify(client, table).await,
        };
        match made {
            // Who waited for another that made it may still believe that it is not there, until the transaction ends.
            Err(failure) if again && failure.code() == Some("42P07") => again = false,
            Err(failure) => return Err(failure),
            Ok(()) => return verify(client, table).await,
        }
    }
}

/// What `prepare` would do, without doing it: whether the table is there.
pub(super) async fn look(client: &Client, table: &TableName) -> Result<bool, Failure> {
    if find(client, table).await? == Found::Nothing {
        return Ok(false);
    }
    verify(client, table).await.map(|()| true)
}

async fn find(client: &Client, table: &TableName) -> Result<Found, Failure> {
    let question = "select to_regclass($1) is not null, obj_description(to_regclass($1), 'pg_class')";
    let rows = client.query_typed(question, &[(&table.quoted(), Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(Found::Nothing) };
    let (is_there, comment): (bool, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let version =
        comment.as_deref().and_then(|comment| comment.strip_prefix(OURS)?.split([';', ' ']).next()?.parse().ok());
    Ok(match (is_there, version) {
        (false, _) => Found::Nothing,
        (true, Some(version)) => Found::Ours(version),
        (true, None) => Found::Theirs,
    })
}

/// One statement, and so one transaction, that behind a pooler too is run by one server: whoever comes second finds what
/// the first has made.
async fn make(client: &Client, table: &TableName, steps: &[String]) -> Result<(), Failure> {
    let name = table.quoted();
    let mut body = String::new();
    for (before, step) in steps.iter().enumerate() {
        body += &format!("if version = {before} then execute $step${step}$step$; version := {}; end if; ", before + 1);
    }
    let comment = format!("{OURS}{}; see its README", steps.len());
    let statement = format!(
        "do $hooksink$ declare version int; begin perform pg_advisory_xact_lock({LOCK}); version := case when \
         to_regclass('{name}') is null then 0 else coalesce(substring(obj_description(to_regclass('{name}'), 'pg_class') \
         from '^{OURS}([0-9]+)')::int, {latest}) end; if version < {latest} then {body} comment on table {name} is \
         '{comment}'; end if; end $hooksink$",
        latest = steps.len()
    );
    match client.batch_execute(&statement).await.map_err(Failure::from) {
        Err(failure) if failure.code() == Some("42501") => {
            let must =
                "the user may not make or change the table (SQLSTATE 42501); grant it create on the schema, or run";
            Err(Failure::about(format!("{must}: {}", steps.join("; "))))
        }
        other => other,
    }
}

/// Whether the columns are there that are written, rows can be told by `id`, and no other column wants a value.
async fn verify(client: &Client, table: &TableName) -> Result<(), Failure> {
    let name = table.quoted();
    let question = "select attname::text, format_type(atttypid, null), attnotnull, atthasdef or attidentity <> '' from \
                    pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped";
    let rows = client.query_typed(question, &[(&name, Type::TEXT)]).await?;
    let mut columns: Vec<(String, String, bool, bool)> = Vec::new();
    for row in rows {
        columns.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    }
    let mut wrong = Vec::new();
    for (name, wanted, null) in WRITTEN {
        match columns.iter().find(|(other, ..)| other == name) {
            None => wrong.push(format!("the column {name} is missing")),
            Some((_, found, ..)) if found != wanted => {
                wrong.push(format!("the column {name} is {found}, not {wanted}"))
            }
            Some((_, _, true, _)) if null => wrong.push(format!("the column {name} must take null")),
            Some(_) => {}
        }
    }
    for (name, ..) in columns.iter().filter(|(_, _, not_null, default)| *not_null && !default) {
        if !WRITTEN.iter().any(|(written, ..)| written == name) {
            wrong.push(format!("the column {name} has neither null nor a default"));
        }
    }
    let question = "select count(*) from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0] where \
                    indrelid = to_regclass($1) and indisunique and indnkeyatts = 1 and indpred is null and attname = 'id'";
    let unique: i64 = client.query_typed_one(question, &[(&name, Type::TEXT)]).await?.try_get(0)?;
    if unique == 0 {
        wrong.push("id is not unique".to_owned());
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::about(format!(
        "the table {table} will not do: {}; it would be: {}",
        wrong.join(", "),
        table.definition()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_no_escapes() {
        for good in ["events", "audit.hook_events_2", "_"] {
            assert_eq!(good.parse::<TableName>().unwrap().to_string(), good);
        }
        for bad in ["", "Events", "a.b.c", "a\"b", "1a", "a.", "ä", &"x".repeat(52)] {
            assert!(bad.parse::<TableName>().is_err(), "{bad}");
        }
        assert_eq!("audit.order".parse::<TableName>().unwrap().quoted(), "\"audit\".\"order\"");
    }

    #[test]
    fn the_columns_that_are_written_are_those_of_the_table() {
        let table = TableName::default();
        for (name, ..) in WRITTEN {
            assert!(COLUMNS.contains(&format!(" {name} ")), "{name}");
            assert!(table.insertion().contains(&format!(" {name},")) || name == "note", "{name}");
        }
    }
}
