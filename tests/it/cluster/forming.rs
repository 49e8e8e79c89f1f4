//! Servers that are there and have not agreed yet who leads: no stream can be made or read. A start waits for them.

use std::time::Duration;

use hooksink::names::SourceType;

use super::{ALONE, LIMITS};
use crate::echo::{SECRET, echo};
use crate::support::nats_cluster::NatsCluster;
use crate::support::senders::SOURCE;
use crate::support::server::TestServer;
use crate::support::shell::Shell;
use crate::support::until;

const WAITS: &str = "the journal cannot be opened yet";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_servers_that_have_no_leader_yet() {
    let _alone = ALONE.lock().await;
    let test = "cluster::forming::a_start_waits_for_servers_that_have_no_leader_yet";
    let Some(mut servers) = NatsCluster::start(test, LIMITS) else { return };
    // One of three leads nothing.
    servers.kill(1);
    servers.kill(2);
    let config = |timeout: &str| {
        let urls = servers.urls();
        format!("[journal]\nengine = \"jetstream\"\nservers = {urls:?}\nstart_timeout = \"{timeout}\"\n{SOURCE}")
    };
    let ran = Shell::new().file("hooksink.toml", &config("1s")).run("serve").status(69);
    assert!(ran.err().contains("the journal cannot be opened: "), "{}", ran.err());
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("stderr.log");
    let patient = config("50s");
    let starts = tokio::task::spawn_blocking(move || TestServer::start_with(folder, &patient, &[]));
    let told = || std::fs::read_to_string(&log).unwrap_or_default().matches(WAITS).count() >= 2;
    until("it says again and again what it waits for", told).await;
    servers.restart(1);
    servers.restart(2);
    let hooksink = tokio::time::timeout(Duration::from_secs(60), starts).await.expect("it starts").expect("no panic");
    let answer = hooksink.post(SourceType::Meta, "messenger", SECRET, echo("m-1", "ann")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    hooksink.stop();
}
