//! Targets behind TLS: nothing is sent to one that does not prove who it is, and what waits is sent when it does.

use std::collections::HashSet;
use std::net::SocketAddr;

use hooksink::names::SourceType;
use serde_json::Value;

use crate::echo::{SECRET, echo};
use crate::support::mock_target::MockTarget;
use crate::support::server::{TestServer, eventually};
use crate::support::tls_target::{Authority, TlsTarget};

const EVENTS: usize = 10;

fn sink(name: &str, at: SocketAddr) -> String {
    format!(
        r#"
        [sinks.{name}]
        type = "http"
        url = "https://localhost:{}/in"
        retry_initial = "5ms"
        retry_max = "40ms"
        max_attempts = 3
        "#,
        at.port()
    )
}

fn arrived(target: &MockTarget) -> usize {
    let id = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("a CloudEvent")["id"].to_string();
    target.taken().iter().map(|request| id(&request.body)).collect::<HashSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_to_a_target_that_cannot_prove_who_it_is() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let right = || ours.certify("localhost", false);
    let mut targets = Vec::new();
    for (name, certificate, cause) in [
        ("trusted", right(), ""),
        ("untrusted", theirs.certify("localhost", false), "UnknownIssuer"),
        ("expired", ours.certify("localhost", true), "certificate expired"),
        ("wrong-name", ours.certify("crm.example", false), "certificate not valid for name"),
    ] {
        let behind = MockTarget::start().await;
        let front = TlsTarget::start(certificate, behind.address).await;
        targets.push((name, behind, front, cause));
    }
    // One that speaks no TLS at all.
    let plain = MockTarget::start().await;
    let mut config = format!(
        r#"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        "#
    );
    targets.iter().for_each(|(name, _, front, _)| config += &sink(name, front.address));
    config += &sink("plain", plain.address);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("authority.pem"), ours.pem()).unwrap();
    // What systems have for authorities of one's own.
    let server = TestServer::start_with(folder, &config, &[("SSL_CERT_FILE", "authority.pem")]);
    for number in 0..EVENTS {
        let sent = server.post(SourceType::Meta, "messenger", SECRET, echo(&format!("m-{number}"), "ann")).await;
        assert_eq!(sent.status, 200);
    }

    eventually("the trusted target has everything", || (arrived(&targets[0].1) == EVENTS).then_some(()));
    for (name, behind, front, cause) in &targets[1..] {
        let down =
            || server.stderr().lines().find(|line| line.contains("is down") && line.contains(name)).map(str::to_owned);
        let down = eventually("it is found to be down", down);
        assert!(down.contains(cause), "{name}: {down}");
        assert_eq!(behind.requests().len(), 0, "{name}: not a byte of an event");
        front.renew(right());
        eventually("a right certificate is enough", || (arrived(behind) == EVENTS).then_some(()));
    }
    eventually("the last is down", || {
        server.stderr().lines().any(|line| line.contains("is down") && line.contains("plain")).then_some(())
    });
    assert_eq!(plain.taken().len(), 0);
    assert!(!server.stderr().contains("rustls"), "what failed is said once, by the sink:\n{}", server.stderr());
    assert_eq!(server.admin_get("/api/v1/dead-letters").await.json(), Value::Array(Vec::new()));
}
