//! Sentinels: they say where the master is, also after a fail-over.

use std::fs;
use std::process::{Command, Stdio};

use super::super::Server as _;
use super::RedisServer;
use crate::programs::find;
use crate::support::daemon::{Daemon, free_port};
use crate::support::senders::{SOURCE, check, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};
use crate::support::{runtime, sink_config};

#[test]
fn a_fail_over_loses_nothing_and_keeps_the_order() {
    let test = "targets::redis::sentinel::a_fail_over_loses_nothing_and_keeps_the_order";
    let Some(mut master) = RedisServer::with(test, &[]) else { return };
    let follows = ["--replicaof", "127.0.0.1", &master.port().to_string()];
    let Some(mut replica) = RedisServer::with(test, &follows) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (port, master_port) = (free_port(), master.port());
    let config = folder.path().join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\nrequirepass s3cr3t\nsentinel monitor orders 127.0.0.1 {master_port} 1\nsentinel down-after-milliseconds orders 600000\nsentinel failover-timeout orders 2000\n"
    );
    fs::write(&config, text).unwrap();
    let mut sentinel = Command::new(find("redis-server").unwrap());
    let sentinel = sentinel.current_dir(folder.path()).arg(&config).arg("--sentinel");
    let sentinel = Daemon::start(sentinel.stdout(Stdio::null()).stderr(Stdio::null()));
    let ask = |words: &[&str]| -> Option<redis::Value> {
        let client = redis::Client::open(format!("redis://:s3cr3t@127.0.0.1:{port}")).unwrap();
        redis::cmd(words[0]).arg(&words[1..]).query(&mut client.get_connection().ok()?).ok()
    };
    eventually("the Sentinel knows the replica", || match ask(&["SENTINEL", "replicas", "orders"])? {
        redis::Value::Array(replicas) if replicas.len() == 1 => Some(()),
        _ => None,
    });

    // The first of them is not there.
    let sink = |name: &str| {
        format!(
            "type = \"redis\"\nurl = [\"redis://127.0.0.1:{}\", \"redis://127.0.0.1:{port}\"]\nsentinel_master = \"{name}\"\nsentinel_password = \"s3cr3t\"\nstream = \"events\"\n",
            free_port()
        )
    };
    let config = format!("{SOURCE}[sinks.it]\n{}retry_initial = \"5ms\"\nretry_max = \"50ms\"", sink("orders"));
    let server = TestServer::start(&config);
    let mut senders = senders(4);
    let send = |senders: &mut Vec<_>, count: usize| {
        under_load(senders, server.public, |load| {
            eventually("they are answered", || (load.acknowledged() >= count).then_some(()));
        });
        owed(senders)
    };
    let before = send(&mut senders, 200);
    // What the master acknowledged and did not pass on would be lost with it.
    eventually("the replica has all", || has_all(&replica.events("events"), &before).then_some(()));
    // Until now it has missed nobody: a fail-over from a master that is only slow would lose what it acknowledged.
    ask(&["SENTINEL", "SET", "orders", "down-after-milliseconds", "300"]).unwrap();
    master.kill();
    let all = send(&mut senders, 200);
    eventually("all of it arrives at the new master", || has_all(&replica.events("events"), &all).then_some(()));
    check("it", &replica.events("events"), &all);

    let found = |name: &str| {
        let sink = sink_config(&sink(name)).kind.build(&"it".parse().unwrap(), [0; 32]).unwrap();
        runtime().block_on(sink.check()).map(|checked| checked.found).map_err(|error| error.to_string())
    };
    assert!(found("orders").unwrap().contains("XADD to events is allowed"));
    let unknown = found("others").unwrap_err();
    assert_eq!(unknown, format!("Sentinel 127.0.0.1:{port} knows no master of the name others"));
    drop(sentinel);
    assert!(found("orders").unwrap_err().starts_with("Sentinel 127.0.0.1:"));
}
