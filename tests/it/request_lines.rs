//! The lines that requests get in the log of the real binary, and those that they do not get under a flood.

use hooksink::names::SourceType;

use crate::echo::{SECRET, echo};
use crate::support::server::TestServer;

const CONFIG: &str = r#"
    log.request_lines = 2
    [sources.messenger]
    type = "meta"
    verify_token = "token"
    app_secrets = ["SECRET"]
    own_app_ids = ["1517776481860111"]
    [journal]
    disk_reserve = "1 MiB"
"#;

/// Lines of requests with this outcome, and how many requests others tell of that got none.
fn told(log: &str, outcome: &str) -> (u64, u64) {
    let outcome = format!("outcome=\"{outcome}\"");
    let of_outcome = || log.lines().filter(|line| line.contains(&outcome));
    let lines = of_outcome().filter(|line| line.contains(" request_id=")).count() as u64;
    let number = |line: &str| -> Option<u64> { line.split_once(" requests=")?.1.split(' ').next()?.parse().ok() };
    (lines, of_outcome().filter_map(number).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_is_a_few_lines_that_say_how_many_more_there_were() {
    let server = TestServer::start(&CONFIG.replace("SECRET", SECRET));
    let mut sent = 0;
    let untold = loop {
        for _ in 0..50 {
            let answer = server.post(SourceType::Meta, "messenger", SECRET, echo(&format!("m-{sent}"), "ann")).await;
            assert_eq!(answer.status, 200);
            sent += 1;
        }
        let (lines, untold) = told(&server.stderr(), "accepted");
        // Fifty take less than a second, at least once.
        if untold > 0 {
            assert!(lines + untold <= sent, "{lines} lines and {untold} more for {sent} requests");
            break untold;
        }
        assert!(sent < 10_000, "nothing was left untold");
    };
    // Each outcome has lines of its own: what fails is seen in a flood of what does not.
    let wrong = server.post(SourceType::Meta, "messenger", "another secret", echo("m", "ann")).await;
    assert_eq!(wrong.status, 401);
    crate::support::server::eventually("the refusal has its line", || {
        (told(&server.stderr(), "unauthorized").0 == 1).then_some(())
    });
    let counted = "hooksink_requests_total{source=\"messenger\",outcome=\"accepted\"} ";
    let metrics = server.admin_get("/metrics").await.body;
    let counted = metrics.lines().find_map(|line| line.strip_prefix(counted)).expect("a counter");
    assert_eq!(counted.parse(), Ok(sent), "metrics count those too that were left untold, {untold} of them");
}
