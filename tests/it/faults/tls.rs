//! Targets behind TLS: nothing is sent to one that does not prove who it is, and what waits is sent when it does.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

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
    server.no_dead_letters().await;
}

/// Through the real binary: only who is named in ca_file is trusted, what is named beside it is shown, and files that
/// were wrong and are replaced are read anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_asks_for_a_certificate_is_shown_ours() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let behind = MockTarget::start().await;
    let front = TlsTarget::start(ours.certify_among_ourselves("localhost"), behind.address).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |folder: &Path, name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let (right, wrong) = (ours.pems("client.example"), theirs.pems("client.example"));
    for (name, text) in [("ca.pem", &ours.pem()), ("theirs.pem", &theirs.pem())] {
        write(folder.path(), name, text);
    }
    for (name, (certificate, key)) in [("right", &right), ("late", &wrong)] {
        write(folder.path(), &format!("{name}.pem"), certificate);
        write(folder.path(), &format!("{name}.key"), key);
    }
    let of = |name: &str, ca: &str, shown: &str| {
        let shown = match shown {
            "" => String::new(),
            shown => format!("client_cert_file = \"{shown}.pem\"\nclient_key_file = \"{shown}.key\"\n"),
        };
        format!("{}\nca_file = \"{ca}\"\n{shown}", sink(name, front.address).trim_end())
    };
    let config =
        format!("[sources.messenger]\ntype = \"meta\"\nverify_token = \"token\"\napp_secrets = [\"{SECRET}\"]\n")
            + &of("right", "ca.pem", "right")
            + &of("late", "ca.pem", "late")
            + &of("nameless", "ca.pem", "")
            + &of("distrustful", "theirs.pem", "right");
    let server = TestServer::start_with(folder, &config, &[]);
    let sent = server.post(SourceType::Meta, "messenger", SECRET, echo("m-1", "ann")).await;
    assert_eq!(sent.status, 200);
    for name in ["late", "nameless", "distrustful"] {
        let down =
            || server.stderr().lines().find(|line| line.contains("is down") && line.contains(name)).map(str::to_owned);
        let down = eventually("it is found to be down", down);
        assert!(name != "distrustful" || down.contains("UnknownIssuer"), "{down}");
    }
    eventually("who shows a certificate is let in", || (behind.taken().len() == 1).then_some(()));
    write(server.folder(), "late.pem", &right.0);
    write(server.folder(), "late.key", &right.1);
    eventually("a renewed certificate is shown", || (behind.taken().len() == 2).then_some(()));
    assert_eq!(arrived(&behind), 1, "both sinks sent the one event there is");
}
