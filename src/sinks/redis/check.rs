//! `hooksink check --connect`: whether entries can be added, and what becomes of them when the server fails.

use std::collections::HashMap;

use redis::{ErrorKind, RedisResult, Value, cmd, pipe};

use super::super::{BoxError, Checked};
use super::connection::Connection;
use super::failure::{code, describe, described, refusal};
use super::settings::{Deployment, RedisSinkConfig};

pub(super) async fn check(config: &RedisSinkConfig) -> Result<Checked, BoxError> {
    let mut connection = Connection::open(config).await?;
    let allowed = may_add(&mut connection, config).await?;
    // Of a cluster, one node stands for the others.
    let mut server = match config.deployment {
        Deployment::Cluster => any_server(config).await?,
        _ => connection,
    };
    let limit = largest_value(&mut server).await;
    let (mut found, warnings) = what_is_kept(&mut server).await;
    found.insert(1, allowed);
    Ok(Checked { found: found.join("; "), warnings, max_event_bytes: limit })
}

async fn any_server(config: &RedisSinkConfig) -> Result<Connection, BoxError> {
    let mut last: BoxError = "no node is given".into();
    for address in &config.servers {
        match Connection::to_server(config, address).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Tries to add an entry of an id that no entry can have, and to a stream that must be there: the server looks at the
/// rights, at whether it takes anything now, and then refuses the id. (ACL DRYRUN would tell only of the rights, and
/// asks for one itself.)
async fn may_add(connection: &mut Connection, config: &RedisSinkConfig) -> Result<String, BoxError> {
    let stream = config.stream.longest();
    let mut add = cmd("XADD");
    add.arg(&stream).arg("NOMKSTREAM").arg("0-0").arg("id").arg("");
    let mut pipeline = pipe();
    pipeline.ignore_errors().cmd("MULTI").add_command(add).cmd("EXEC");
    let answers = connection.run(&pipeline).await.map_err(described)?;
    let answers = answers.into_iter().flat_map(|answer| match answer {
        Value::Array(answers) => answers,
        answer => vec![answer],
    });
    let Some(error) = answers.into_iter().find_map(refusal) else {
        return Err("the server takes what no Redis takes".into());
    };
    let shown = config.stream.as_str();
    match code(&error).as_deref() {
        Some("ERR") if error.detail().is_some_and(|detail| detail.contains("0-0")) => {}
        // Rights to a key depend on its name, and those of the events to come are not known here.
        Some("NOPERM") if !config.stream.is_constant() && error.detail().is_some_and(|text| text.contains("key")) => {
            return Ok(format!("XADD is allowed, but whether to all streams {shown} cannot be told: not to {stream}"));
        }
        _ => return Err(format!("XADD to {shown}: {}", describe(&error)).into()),
    }
    if config.stream.is_constant() {
        let kind: RedisResult<String> = connection.ask(cmd("TYPE").arg(&stream)).await;
        if let Ok(kind) = kind
            && !["none", "stream"].contains(&kind.as_str())
        {
            return Err(format!("the key {stream} holds a {kind}, which is no stream").into());
        }
    }
    Ok(format!("XADD to {shown} is allowed"))
}

/// The version of the server, and what is lost of what it took, as far as the user may ask.
async fn what_is_kept(server: &mut Connection) -> (Vec<String>, Vec<String>) {
    let info: RedisResult<String> = server.ask(&cmd("INFO")).await;
    let info = match info {
        Ok(info) => info,
        Err(error) => {
            let unknown =
                "whether appendonly is on and maxmemory-policy evicts cannot be told (the user may not ask INFO)";
            let unknown = if error.kind() == ErrorKind::Server(redis::ServerErrorKind::NoPerm) {
                unknown.to_owned()
            } else {
                format!("INFO: {}", describe(&error))
            };
            return (vec!["Redis".to_owned(), unknown], Vec::new());
        }
    };
    let info: HashMap<_, _> = info.lines().filter_map(|line| line.split_once(':')).collect();
    let field = |name: &str| info.get(name).map(|value| value.trim());
    let version = field("valkey_version").map(|version| format!("Valkey {version}"));
    let version = version.or_else(|| field("redis_version").map(|version| format!("Redis {version}")));
    let mut found = vec![version.unwrap_or_else(|| "Redis".to_owned())];
    let mut warnings = Vec::new();
    match field("aof_enabled") {
        Some("1") => {
            let sync: RedisResult<HashMap<String, String>> =
                server.ask(cmd("CONFIG").arg("GET").arg("appendfsync")).await;
            found.push(match sync.ok().and_then(|mut settings| settings.remove("appendfsync")).as_deref() {
                Some("always") => "appendonly is on, with a sync for each write".to_owned(),
                Some("no") => {
                    "appendonly is on, without syncs: a power cut loses what the kernel had not written yet".to_owned()
                }
                _ => "appendonly is on, with a sync each second: a crash loses the last two seconds at most".to_owned(),
            });
        }
        _ => warnings
            .push("appendonly is off: a crash of the server loses everything since its last snapshot".to_owned()),
    }
    let limited = field("maxmemory").is_some_and(|limit| limit != "0");
    if let Some(policy) = field("maxmemory_policy").filter(|policy| limited && policy.starts_with("allkeys")) {
        warnings.push(format!("maxmemory-policy {policy} drops whole streams once maxmemory is reached"));
    }
    (found, warnings)
}

/// Bytes of the largest value that the server takes, if it tells.
pub(super) async fn largest_value(connection: &mut Connection) -> Option<u64> {
    let name = "proto-max-bulk-len";
    let answer: RedisResult<HashMap<String, String>> = connection.ask(cmd("CONFIG").arg("GET").arg(name)).await;
    answer.ok()?.remove(name)?.parse().ok()
}
